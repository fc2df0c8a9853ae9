"""Latency of networks by PyTorch itself, one operation after the other, on this machine's CPU or a CUDA device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from archgen.errors import ArchgenError
from archgen.hardware.base import RUNTIMES, LatencyMeter, Run


@RUNTIMES.register("torch")
class TorchLatency(LatencyMeter):
    """Measures networks in PyTorch's eager mode, under `torch.inference_mode`.

    A copy of each network runs, in evaluation mode. PyTorch's number of threads belongs to the process: it is set while
    networks run and put back. On a CUDA device weights and input lie there before, and a run ends when the device has
    finished (`torch.cuda.synchronize`).

    Example:
        >>> latency = TorchLatency((1, 8, 8))
        >>> [measured.latency_ms for measured in latency.measure([small, large], seed=0)]  # doctest: +SKIP
        [0.044, 0.131]
    """

    runtime = "torch"

    def check(self) -> None:
        if self.processor == "cuda" and not torch.cuda.is_available():
            built = torch.version.cuda is not None
            missing = "finds no CUDA device or driver" if built else "was built without CUDA"
            raise ArchgenError(
                f"PyTorch {torch.__version__} {missing}: "
                f"{'check nvidia-smi' if built else 'install a build with CUDA'}, or measure on the cpu"
            )

    @property
    def version(self) -> str:
        return str(torch.__version__)

    @contextmanager
    def setting(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(before)

    def load(self, network: nn.Module) -> Callable[[Tensor], Run]:
        with torch.inference_mode(False):  # weights that are made in it are of a kind that compilers do not all take
            twin = copy.deepcopy(network).to(self.processor).eval()
        forward = self.ready(twin)

        def bind(inputs: Tensor) -> Run:
            there = inputs.to(self.processor)
            if self.processor == "cpu":
                return lambda: forward(there)

            def run() -> None:
                forward(there)
                torch.cuda.synchronize()

            return run

        return bind

    def ready(self, network: nn.Module) -> Callable[[Tensor], object]:
        """What is called with the inputs: the network itself."""
        return network
