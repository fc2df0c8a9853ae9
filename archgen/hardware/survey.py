"""Measuring many architectures of a space into a file, batch by batch, all for the speed of one reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.hardware.base import DeviceLost, LatencyMeter
from archgen.hardware.measurements import MeasuredDevice, MeasurementFile
from archgen.hardware.record import LatencyMeasurement
from archgen.progress import Progress
from archgen.spaces import SearchSpace

BATCH = 16
"""Networks that are timed against each other and written together: what a kill costs is one batch."""
_DRAWS = 20


@dataclass
class Survey:
    """What one session did.

    Args:
        measured: Architectures whose measurement was written.
        refused: Why the runtime refuses an architecture, by its string.
        drift: Largest relative spread of the reference in a batch.
        unsteady: Batches in which it stayed above a quarter although they were repeated.
    """

    measured: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    drift: float = 0.0
    unsteady: int = 0


def draw_distinct(space: SearchSpace, n: int, rng: np.random.Generator) -> list[Architecture]:
    """Draw random architectures that compute something, and no two of them the same; dead parts are left out.

    Args:
        space: The space.
        n: How many; fewer come where 20 times as many draws do not hold so many.
        rng: Source of randomness.
    """
    distinct: dict[str, Architecture] = {}
    for arch in space.sample(_DRAWS * n, rng):
        if len(distinct) == n:
            break
        if space.computation(arch).edges:
            distinct.setdefault(space.canonical(arch), space.simplify(arch))
    return list(distinct.values())


def measure_missing(
    meter: LatencyMeter,
    space: SearchSpace,
    archs: Sequence[Architecture],
    file: MeasurementFile,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Survey:
    """Measure the architectures that the file lacks for the meter's device, and write each batch at once.

    Networks are those of `space.build` with its defaults, without dead parts, as `archgen design` ships them. The
    reference is that of the file where it knows the device, else the architecture of middling FLOPs among those given;
    all batches and all later sessions report for the speed at which it ran first. An architecture that the runtime
    refuses is named and left out. A kill or an interrupt loses the batch at work, nothing else.

    Args:
        meter: Of the runtime, made for `space.example_input`; its reference is replaced.
        space: The space.
        archs: What to measure.
        file: Where to; appended to.
        seed: Draws weights, inputs and orders.
        progress: Told of batches, rounds and refusals.

    Returns:
        What was done; the measurements are in the file.

    Raises:
        ArchgenError: The runtime refuses every architecture, or the file's reference.
        DeviceLost: The device fails; what was measured before is in the file.
        RunConflict: Another process wrote the file meanwhile.
        OSError: The disk is full; the file holds the batches before.
    """
    texts = {space.format(arch): arch for arch in archs}

    def build(text: str, seed: int) -> nn.Module:
        return _build(space, texts[text] if text in texts else space.parse(text), seed)

    def flops(text: str) -> float:
        return space.count(texts[text])["flops"]

    return survey(meter, Subjects("architectures", tuple(texts), build, flops), file, seed=seed, progress=progress)


@dataclass(frozen=True)
class Subjects:
    """What a survey measures.

    Args:
        what: Their name, for messages.
        texts: One text each, by which the file knows them.
        build: From a text, of these or of the file's reference, and a seed to what is measured; it may raise
            `ArchgenError`.
        flops: Operations of each of the texts; the reference is the middling one.
    """

    what: str
    texts: tuple[str, ...]
    build: Callable[[str, int], nn.Module]
    flops: Callable[[str], float]


def survey(
    meter: LatencyMeter, subjects: Subjects, file: MeasurementFile, *, seed: int, progress: Progress | None = None
) -> Survey:
    """`measure_missing` of whatever the subjects are."""
    progress, done = progress or Progress(), Survey()
    record = meter.device
    known = file.measured(record.id)
    missing = [text for text in subjects.texts if text not in known]
    if not missing:
        return done
    reference = _set_reference(meter, subjects, missing, file, seed, done, progress)
    missing = [text for text in missing if text not in done.refused]
    for start in range(0, len(missing), BATCH):
        batch = missing[start : start + BATCH]
        progress.note(f"{subjects.what} {start + 1} to {start + len(batch)} of {len(missing)}")
        good: dict[str, LatencyMeasurement] = {}
        for text, outcome in _measure(meter, subjects, batch, seed + start, progress).items():
            if isinstance(outcome, ArchgenError):
                _refuse(done, text, outcome, progress)
            else:
                good[text] = outcome
        if good:
            assert meter.reference_ms is not None  # measured with the first batch
            file.append(MeasuredDevice(record, reference, meter.reference_ms), good)
            done.measured += len(good)
            done.drift = max(done.drift, meter.drift)
            done.unsteady += meter.unsteady
    return done


def _measure(
    meter: LatencyMeter, subjects: Subjects, texts: Sequence[str], seed: int, progress: Progress
) -> dict[str, LatencyMeasurement | ArchgenError]:
    """The measurement of each text, or why it can not be built or the runtime refuses it."""
    outcomes: dict[str, LatencyMeasurement | ArchgenError] = {}
    networks: dict[str, nn.Module] = {}
    for text in texts:
        try:
            networks[text] = subjects.build(text, seed)
        except ArchgenError as error:
            outcomes[text] = error
    measured = meter.attempt(list(networks.values()), seed=seed, progress=progress)
    return outcomes | dict(zip(networks, measured, strict=True))


def _set_reference(
    meter: LatencyMeter,
    subjects: Subjects,
    texts: Sequence[str],
    file: MeasurementFile,
    seed: int,
    done: Survey,
    progress: Progress,
) -> str:
    """Give the meter the file's reference, or the first around the middle that the runtime takes; its text."""
    earlier = file.devices.get(meter.device.id)
    if earlier is not None:
        meter.reference = subjects.build(earlier.reference, seed)
        meter.reference_ms = earlier.reference_ms
        meter.check_reference()
        return earlier.reference
    order = np.argsort([subjects.flops(text) for text in texts], kind="stable")
    middle = len(order) // 2
    for i in sorted(range(len(order)), key=lambda place: abs(place - middle)):
        text = texts[int(order[i])]
        meter.reference_ms = None
        try:
            meter.reference = subjects.build(text, seed)
            meter.check_reference()
        except DeviceLost:
            raise
        except ArchgenError as error:
            _refuse(done, text, error, progress)
        else:
            return text
    first = next(iter(done.refused.values()))
    raise ArchgenError(f"all {len(texts)} {subjects.what} are refused; the first: {first}")


def _refuse(done: Survey, text: str, error: ArchgenError, progress: Progress) -> None:
    done.refused[text] = str(error)
    progress.note(f"{text} is left out: {error}")


def _build(space: SearchSpace, arch: Architecture, seed: int) -> nn.Module:
    """The network without dead parts and with fresh weights; values do not change how long a network takes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return space.build(space.simplify(arch)).eval()
