"""What meters of latency share: networks timed against each other and a reference, on one runtime and processor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from archgen.errors import ArchgenError, UnknownName
from archgen.hardware.part import Part, example_of
from archgen.hardware.record import DeviceRecord, LatencyMeasurement, gpu_name
from archgen.hardware.timing import Timing, interleaved
from archgen.progress import Progress
from archgen.registry import Registry

RUNTIMES: Registry[type[LatencyMeter]] = Registry("runtime")
PROCESSORS = ("cpu", "cuda")

UNSTEADY = 0.25
"""Relative spread of the reference above which a measurement is repeated, and flagged when it stays."""

Run = Callable[[], object]
"""Runs a network once and comes back when the result is there."""


class DeviceLost(ArchgenError):
    """The device or its runtime fails, whatever the network; what was measured before stays true."""


class LatencyMeter(ABC):
    """Measures networks on one runtime: a fixed batch, a pinned number of threads.

    A member says how a network is loaded (`load`), what must be there for it (`check`) and what is set while it runs
    (`setting`, put back afterwards). The rest is written once, here: every network is timed in every round, in a new
    random order, with the reference in between (`interleaved`), the garbage collector off; a measurement on an unsteady
    machine is repeated once, and once more where all later ones are to be compared with it; intervals come from a
    bootstrap over the rounds.

    Args:
        example: What a network reads: a Tensor whose first row is one input (`SearchSpace.example_input`), or the shape
            `(channels, height, width)` of an image.
        threads: Threads a network runs on, at least 1.
        batch: Inputs a run, at least 1.
        rounds: Times each network is timed, at least 5; the interval narrows with its square root.
        block_ms: Length of one timing, ms; shorter networks run several times in it.
        reference: What the machine's speed is judged by; None takes the first network of each `measure`.
            With one given, all calls of `measure` report for the speed that the machine had in the first, so their
            results can be compared although it may be busier, or cooler, later.
        reference_ms: What the reference took in an earlier session, to report for that speed; None measures it.
        processor: Where networks run, `cpu` or `cuda`.
        processes: In which networks are made ready where that is work for the CPU, as exporting is, and there are
            many; a script that asks for more than one must do its work under `if __name__ == "__main__"`.

    Attributes:
        drift: Relative spread of the reference over the rounds of the last `measure`; 0 before.
        unsteady: Whether `drift` was above a quarter even when the measurement was repeated.
        reference_now_ms: What the reference took in the last `measure`, uncorrected, ms: beside `reference_ms` it
            tells how fast the machine was; None before, without a reference, and of a meter elsewhere.

    Raises:
        ArchgenError: A setting is out of its range, or the runtime or the processor is not there; the message names
            what is missing.
        UnknownName: The processor is none of `PROCESSORS`.

    Example:
        >>> latency = RUNTIMES["torch"]((1, 8, 8))
        >>> [measured.latency_ms for measured in latency.measure([small, large], seed=0)]  # doctest: +SKIP
        [0.031, 0.118]
    """

    runtime: ClassVar[str]
    """Registered name."""

    def __init__(
        self,
        example: Tensor | tuple[int, ...],
        threads: int = 1,
        batch: int = 1,
        rounds: int = 30,
        block_ms: float = 2.0,
        reference: nn.Module | None = None,
        reference_ms: float | None = None,
        processor: str = "cpu",
        processes: int = 1,
    ) -> None:
        least_values = (
            ("threads", threads, 1),
            ("batch", batch, 1),
            ("rounds", rounds, 5),
            ("processes", processes, 1),
        )
        for name, value, least in least_values:
            if value < least:
                raise ArchgenError(f"{name} of a latency measurement must be at least {least}, got {value}")
        if not 0 < block_ms < 1e4:
            raise ArchgenError(f"block_ms of a latency measurement must be above 0 and below 10000, got {block_ms}")
        if reference_ms is not None and not 0 < reference_ms < np.inf:
            raise ArchgenError(f"reference_ms of a latency measurement must be above 0, got {reference_ms}")
        if processor not in PROCESSORS:
            raise UnknownName("processor", processor, PROCESSORS)
        self.example = example[:1] if isinstance(example, Tensor) else torch.zeros(1, *example)
        self.shape = tuple(self.example.shape[1:])
        self.threads, self.batch, self.processor, self.processes = threads, batch, processor, processes
        self.rounds, self.block_ms, self.reference = rounds, block_ms, reference
        self.reference_ms = reference_ms
        self.drift, self.unsteady = 0.0, False
        self.reference_now_ms: float | None = None
        self._loaded: dict[str, Callable[[Tensor], Run]] = {}
        self._reference: tuple[nn.Module, Callable[[Tensor], Run]] | None = None
        self.check()

    # -- to be given by a member --------------------------------------------------------------------------------

    @abstractmethod
    def check(self) -> None:
        """Raise `ArchgenError`, naming what is missing, unless the runtime can run networks on the processor."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Version of the runtime."""

    @property
    def provider(self) -> str:
        """What the runtime computes on, in its own words."""
        return self.processor

    @abstractmethod
    def load(self, network: nn.Module) -> Callable[[Tensor], Run]:
        """Make a network ready; its mode, weights and place stay as they are.

        Returns:
            From inputs of the example's shape and type (`batch` of them, on the CPU) to the function that is timed.

        Raises:
            Exception: Whatever the runtime raises for a network that it can not run.
            DeviceLost: No network can run.
            OSError: The disk does not take the exported file.
        """

    @contextmanager
    def ahead(self, networks: Sequence[nn.Module]) -> Iterator[None]:
        """In the body networks are loaded, these among them and in this order; a member may begin with all at once."""
        yield

    @contextmanager
    def setting(self) -> Iterator[None]:
        """What must hold while networks are loaded and run; the body's end, an interrupt too, puts it back."""
        yield

    # -- the same for all -----------------------------------------------------------------------------------------

    @property
    def device(self) -> DeviceRecord:
        """This machine and the setting."""
        return DeviceRecord.here(
            runtime=self.runtime,
            version=self.version,
            provider=self.provider,
            threads=self.threads,
            batch=self.batch,
            shape=self.shape,
            gpu="none" if self.processor == "cpu" else gpu_name(),
        )

    def measure(
        self,
        networks: Sequence[nn.Module],
        *,
        seed: int,
        keys: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> list[LatencyMeasurement]:
        """Load every network, then time them all against each other; as `attempt`, but all or none.

        Raises:
            ArchgenError: As `attempt`, or the runtime refuses one of the networks.
        """
        measured = []
        for outcome in self.attempt(networks, seed=seed, keys=keys, progress=progress):
            if isinstance(outcome, ArchgenError):
                raise outcome
            measured.append(outcome)
        return measured

    def attempt(
        self,
        networks: Sequence[nn.Module],
        *,
        seed: int,
        keys: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> list[LatencyMeasurement | ArchgenError]:
        """Load every network, then time those that the runtime takes against each other.

        Args:
            networks: `n` networks that take what the example shows, or are a `Part` with an example of its own.
            seed: Draws the input, the orders of the rounds and the bootstrap.
            keys: A name for each network; a name that was measured before by this object is not loaded again
                (latency does not depend on the weights). None loads all and keeps none.
            progress: Told of networks and rounds.

        Returns:
            One entry a network, in order: its measurement, or why the runtime refuses it. Measurements are comparable
            with each other; on a shared machine those of two calls are so only as far as the machine is equally
            fast, unless there is a reference.

        Raises:
            ArchgenError: As many keys as networks were expected, or the runtime refuses the reference.
            DeviceLost: The runtime fails while networks are timed, or for the reference, which it ran before.
            OSError: The temporary folder can not be written.
        """
        if keys is not None and len(keys) != len(networks):
            raise ArchgenError(f"expected a key for each of the {len(networks)} networks, got {len(keys)}")
        if not networks:
            return []
        progress = progress or Progress()
        rng = np.random.default_rng(seed)
        inputs = self._inputs(rng)
        with self.setting():
            reference = self._load_reference(inputs)
            loaded = self._load_all(networks, keys, inputs, reference, progress)
            runs = [run for run in loaded if not isinstance(run, ArchgenError)]
            measured = iter(self._timed(runs, reference or runs[0], rng, progress) if runs else [])
        return [run if isinstance(run, ArchgenError) else next(measured) for run in loaded]

    def check_reference(self) -> None:
        """Raise `ArchgenError` when the runtime refuses the reference; it is loaded once."""
        with self.setting():
            self._load_reference(self._inputs(np.random.default_rng(0)))

    def _inputs(self, rng: np.random.Generator) -> Tensor:
        """`batch` random inputs: normal values, or the tokens 0 and 1, which every vocabulary has."""
        return self._random(self.example, rng)

    def _random(self, example: Tensor, rng: np.random.Generator) -> Tensor:
        shape = (self.batch, *example.shape[1:])
        if example.is_floating_point():
            return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).to(example.dtype)
        return torch.from_numpy(rng.integers(2, size=shape)).to(example.dtype)

    def _inputs_of(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """The inputs, or others for a part of a network."""
        if not isinstance(network, Part):
            return inputs
        return self._random(example_of(network, self.example), np.random.default_rng(0))

    def _load_reference(self, inputs: Tensor) -> Run | None:
        if self.reference is None:
            return None
        if self._reference is None or self._reference[0] is not self.reference:
            try:
                load = self.load(self.reference)
                load(self._inputs_of(self.reference, inputs))()
            except (DeviceLost, OSError):
                raise
            except Exception as error:
                raise ArchgenError(f"{self.runtime} refuses the reference network: {_reason(error)}") from None
            self._reference = self.reference, load
        return self._reference[1](self._inputs_of(self.reference, inputs))

    def _load_all(
        self,
        networks: Sequence[nn.Module],
        keys: Sequence[str] | None,
        inputs: Tensor,
        reference: Run | None,
        progress: Progress,
    ) -> list[Run | ArchgenError]:
        """A function that runs each network once, or why the runtime refuses it; each has run once."""
        loaded: list[Run | ArchgenError] = []
        new = networks
        if keys is not None:
            first = dict(zip(reversed(keys), reversed(networks), strict=True))
            new = [first[key] for key in dict.fromkeys(keys) if key not in self._loaded]
        with progress.bar("prepare", len(networks)) as bar, self.ahead(new):
            for i, network in enumerate(networks):
                key = None if keys is None else keys[i]
                try:
                    load = self._loaded[key] if key in self._loaded else self.load(network)
                    run = load(self._inputs_of(network, inputs))
                    run()
                except (DeviceLost, OSError):
                    raise
                except Exception as error:
                    if reference is not None:
                        self._still_runs(reference)
                    loaded.append(ArchgenError(f"{self.runtime} refuses the network: {_reason(error)}"))
                else:
                    loaded.append(run)
                    if key is not None:
                        self._loaded[key] = load
                bar.update()
        return loaded

    def _still_runs(self, reference: Run) -> None:
        """Tell a network that the runtime refuses from a device that is gone: then the reference fails too."""
        try:
            reference()
        except Exception as error:
            raise self._lost(error) from None

    def _timed(
        self, runs: Sequence[Run], reference: Run, rng: np.random.Generator, progress: Progress
    ) -> list[LatencyMeasurement]:
        timing = self._time(runs, reference, rng, progress)
        first = self.reference is not None and self.reference_ms is None
        for _ in range(2 if first else 1):
            if timing.drift > UNSTEADY:
                progress.note(f"the machine's speed varied by {timing.drift:.0%}; latencies are measured once more")
                timing = min(timing, self._time(runs, reference, rng, progress), key=lambda t: t.drift)
        self.drift, self.unsteady = timing.drift, timing.drift > UNSTEADY
        if self.reference is not None:
            self.reference_now_ms = float(np.median(timing.reference))
            if self.reference_ms is None:
                self.reference_ms = self.reference_now_ms
        return timing.measurements(rng, self.reference_ms)

    def _time(self, runs: Sequence[Run], reference: Run, rng: np.random.Generator, progress: Progress) -> Timing:
        with progress.bar("measure", self.rounds) as bar:
            try:
                return interleaved(runs, reference, rounds=self.rounds, block_ms=self.block_ms, rng=rng, bar=bar)
            except OSError:
                raise
            except Exception as error:
                raise self._lost(error) from None

    def _lost(self, error: Exception) -> DeviceLost:
        return DeviceLost(
            f"{self.runtime} on {self.processor} failed in the middle of a measurement ({_reason(error)}); what was "
            "measured before is kept: check the device, then run the same again"
        )


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
