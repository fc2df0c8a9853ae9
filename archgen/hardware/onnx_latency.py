"""Latency of networks by onnxruntime, on this machine's CPU or a CUDA device."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
from torch import Tensor, nn

from archgen.errors import ArchgenError
from archgen.export import open_onnx, to_onnx
from archgen.hardware.base import RUNTIMES, DeviceLost, LatencyMeter, Run
from archgen.hardware.exports import Exports
from archgen.hardware.part import example_of
from archgen.hardware.record import LatencyMeasurement
from archgen.hardware.timing import interleaved
from archgen.progress import Progress

MANY = 8
"""Networks from which on processes are started to export them, which takes as long as a few exports."""
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@RUNTIMES.register("onnxruntime")
class OnnxLatency(LatencyMeter):
    """Measures networks as they would be shipped: the exported file.

    Nothing of the process is changed: threads are set on each onnxruntime session. On a CUDA device input and output
    stay there (`IOBinding`), as with the other runtimes; a run ends when the device has finished.

    Example:
        >>> latency = OnnxLatency((1, 8, 8))
        >>> [measured.latency_ms for measured in latency.measure([small, large], seed=0)]  # doctest: +SKIP
        [0.031, 0.118]
    """

    runtime = "onnxruntime"
    _exports: Exports | None = None

    def check(self) -> None:
        known = onnxruntime.get_available_providers()
        if self.provider not in known:
            raise ArchgenError(
                f"this onnxruntime has no {self.provider} (it has {', '.join(known)}): install onnxruntime-gpu and a "
                "CUDA driver, or measure on the cpu"
            )

    @property
    def version(self) -> str:
        return str(onnxruntime.__version__)

    @property
    def provider(self) -> str:
        return PROVIDERS[self.processor]

    @contextmanager
    def ahead(self, networks: Sequence[nn.Module]) -> Iterator[None]:
        if self.processes == 1 or len(networks) < MANY:
            yield
            return
        with Exports(networks, self.example, self.processes) as exports:
            self._exports = exports
            try:
                yield
            finally:
                self._exports = None

    def load(self, network: nn.Module) -> Callable[[Tensor], Run]:
        made = None if self._exports is None else self._exports.take(network)
        with tempfile.TemporaryDirectory(prefix="archgen-") as name:
            path = Path(name) / "network.onnx"
            if made is None:
                to_onnx(network, example_of(network, self.example), path)
            else:
                path.write_bytes(made)
            return self._opened(path)

    def _opened(self, path: Path) -> Callable[[Tensor], Run]:
        session = open_onnx(path, self.threads, self.provider)
        if self.processor == "cpu":
            return lambda inputs: on_cpu(session, inputs)
        if self.provider not in session.get_providers():
            raise DeviceLost(
                f"onnxruntime could not start {self.provider} and would run on the CPU: install the CUDA and cuDNN "
                f"that onnxruntime {self.version} needs, or measure on the cpu"
            )
        session.disable_fallback()  # or a device that fails is replaced by the CPU without a word
        return lambda inputs: bound(session, inputs, "cuda")

    def measure_files(self, paths: Sequence[Path], *, seed: int) -> list[LatencyMeasurement]:
        """Latency of ONNX files, as `measure` of networks: beside the reference, for the same speed of the machine.

        Args:
            paths: Files that read what the example shows.
            seed: Draws the input, the orders of the rounds and the bootstrap.

        Raises:
            InvalidCheckpoint: One of them is no ONNX network.
            ArchgenError: The runtime refuses the reference.
            DeviceLost: The runtime fails while files are timed.
        """
        rng = np.random.default_rng(seed)
        inputs = self._inputs(rng)
        with self.setting():
            reference = self._load_reference(inputs)
            runs = [self._opened(path)(inputs) for path in paths]
            return self._timed(runs, reference or runs[0], rng, Progress())


def measure_files(
    paths: Sequence[Path], example: Tensor, *, threads: int = 1, seed: int = 0
) -> list[LatencyMeasurement]:
    """Latency of ONNX files on this machine's CPU, timed against each other, the first being the reference.

    Args:
        paths: Networks that read what the example shows.
        example: One input, `1 ...`.
        threads: Threads of an operation.
        seed: Draws the orders of the rounds and the bootstrap.

    Raises:
        InvalidCheckpoint: One of them is no ONNX network.
    """
    rng = np.random.default_rng(seed)
    runs = [on_cpu(open_onnx(path, threads), example) for path in paths]
    return interleaved(runs, runs[0], rounds=30, block_ms=2.0, rng=rng).measurements(rng)


def on_cpu(session: onnxruntime.InferenceSession, inputs: Tensor) -> Run:
    """A function that runs a session once on inputs in the CPU's memory."""
    feed = {session.get_inputs()[0].name: inputs.numpy()}
    return lambda: session.run(None, feed)


def bound(session: onnxruntime.InferenceSession, inputs: Tensor, place: str) -> Run:
    """A function that runs a session once on inputs that lie in a device's memory, and leaves the output there.

    Args:
        session: An open network.
        inputs: On the CPU; copied once.
        place: onnxruntime's name of the memory, `cuda` or `cpu`.
    """
    binding = session.io_binding()
    value = onnxruntime.OrtValue.ortvalue_from_numpy(inputs.numpy(), place, 0)
    binding.bind_ortvalue_input(session.get_inputs()[0].name, value)
    binding.bind_output(session.get_outputs()[0].name, place, 0)

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run
