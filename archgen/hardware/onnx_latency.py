"""Latency of networks on this machine's CPU, by onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from torch import nn

from archgen.errors import ArchgenError
from archgen.export import open_onnx, to_onnx
from archgen.hardware.record import DeviceRecord, LatencyMeasurement
from archgen.hardware.timing import Timing, interleaved
from archgen.progress import Progress

UNSTEADY = 0.25
"""Relative spread of the reference above which a measurement is repeated, and flagged when it stays."""


class OnnxLatency:
    """Measures networks as they would be shipped: the exported file, a fixed batch, a pinned number of threads.

    Nothing of the process is changed: threads are set on each onnxruntime session.

    Args:
        shape: `(channels, height, width)` of an image.
        threads: Threads a network runs on, at least 1.
        batch: Images a run, at least 1.
        rounds: Times each network is timed, at least 5; the interval narrows with its square root.
        block_ms: Length of one timing, ms; shorter networks run several times in it.
        reference: What the machine's speed is judged by; None takes the first network of each `measure`.
            With one given, all calls of `measure` report for the speed that the machine had in the first, so their
            results can be compared although it may be busier, or cooler, later.
        reference_ms: What the reference took in an earlier session, to report for that speed; None measures it.

    Attributes:
        drift: Relative spread of the reference over the rounds of the last `measure`; 0 before.
        unsteady: Whether `drift` was above a quarter even when the measurement was repeated.

    Raises:
        ArchgenError: A setting is out of its range.

    Example:
        >>> latency = OnnxLatency((1, 8, 8))
        >>> [measured.latency_ms for measured in latency.measure([small, large], seed=0)]  # doctest: +SKIP
        [0.031, 0.118]
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        threads: int = 1,
        batch: int = 1,
        rounds: int = 30,
        block_ms: float = 2.0,
        reference: nn.Module | None = None,
        reference_ms: float | None = None,
    ) -> None:
        for name, value, least in (("threads", threads, 1), ("batch", batch, 1), ("rounds", rounds, 5)):
            if value < least:
                raise ArchgenError(f"{name} of a latency measurement must be at least {least}, got {value}")
        if not 0 < block_ms < 1e4:
            raise ArchgenError(f"block_ms of a latency measurement must be above 0 and below 10000, got {block_ms}")
        self.shape, self.threads, self.batch = shape, threads, batch
        self.rounds, self.block_ms, self.reference = rounds, block_ms, reference
        self.drift, self.unsteady = 0.0, False
        self.reference_ms = reference_ms
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._reference_session: onnxruntime.InferenceSession | None = None

    @property
    def device(self) -> DeviceRecord:
        """This machine and the setting."""
        return DeviceRecord.here(
            runtime="onnxruntime",
            version=onnxruntime.__version__,
            provider="CPUExecutionProvider",
            threads=self.threads,
            batch=self.batch,
            shape=self.shape,
        )

    def measure(
        self,
        networks: Sequence[nn.Module],
        *,
        seed: int,
        keys: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> list[LatencyMeasurement]:
        """Export every network, then time them all against each other.

        Args:
            networks: `n` networks that take images of `shape`.
            seed: Draws the input, the orders of the rounds and the bootstrap.
            keys: A name for each network; a name that was measured before by this object is not exported again
                (latency does not depend on the weights). None exports all.
            progress: Told of exports and rounds.

        Returns:
            One measurement a network, in order. They are comparable with each other; on a shared machine those of
            two calls are so only as far as the machine is equally fast.

        Raises:
            ArchgenError: As many keys as networks were expected, or a network can not be exported.
            OSError: The temporary folder can not be written.
        """
        if keys is not None and len(keys) != len(networks):
            raise ArchgenError(f"expected a key for each of the {len(networks)} networks, got {len(keys)}")
        if not networks:
            return []
        progress = progress or Progress()
        rng = np.random.default_rng(seed)
        images = rng.standard_normal((self.batch, *self.shape)).astype(np.float32)
        with tempfile.TemporaryDirectory(prefix="archgen-") as name:
            runs = self._prepare(networks, keys, images, Path(name), progress)
        timing = self._time(runs[:-1], runs[-1], rng, progress)
        if timing.drift > UNSTEADY:
            progress.note(f"the machine's speed varied by {timing.drift:.0%}; latencies are measured once more")
            timing = min(timing, self._time(runs[:-1], runs[-1], rng, progress), key=lambda t: t.drift)
        self.drift, self.unsteady = timing.drift, timing.drift > UNSTEADY
        if self.reference is not None and self.reference_ms is None:
            self.reference_ms = float(np.median(timing.reference))
        return timing.measurements(rng, self.reference_ms)

    def _prepare(
        self,
        networks: Sequence[nn.Module],
        keys: Sequence[str] | None,
        images: NDArray[np.float32],
        folder: Path,
        progress: Progress,
    ) -> list[Callable[[], object]]:
        """A function that runs each network once, and one for the reference at the end."""
        feed = {"image": images}

        def session(network: nn.Module) -> onnxruntime.InferenceSession:
            to_onnx(network, self.shape, folder / "network.onnx")
            return open_onnx(folder / "network.onnx", self.threads)

        sessions = []
        with progress.bar("export", len(networks)) as bar:
            for i, network in enumerate(networks):
                if keys is None:
                    sessions.append(session(network))
                else:
                    if keys[i] not in self._sessions:
                        self._sessions[keys[i]] = session(network)
                    sessions.append(self._sessions[keys[i]])
                bar.update()
        if self.reference is not None and self._reference_session is None:
            self._reference_session = session(self.reference)
        sessions.append(self._reference_session or sessions[0])
        return [lambda s=s: s.run(None, feed) for s in sessions]  # type: ignore[misc]

    def _time(
        self,
        candidates: Sequence[Callable[[], object]],
        reference: Callable[[], object],
        rng: np.random.Generator,
        progress: Progress,
    ) -> Timing:
        with progress.bar("measure", self.rounds) as bar:
            return interleaved(candidates, reference, rounds=self.rounds, block_ms=self.block_ms, rng=rng, bar=bar)
