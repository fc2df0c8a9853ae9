"""Latency of networks compiled by PyTorch, on this machine's CPU or a CUDA device."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from archgen.errors import ArchgenError
from archgen.hardware.base import RUNTIMES
from archgen.hardware.torch_latency import TorchLatency

_MANY = 2**20


@RUNTIMES.register("torch_compile")
class TorchCompileLatency(TorchLatency):
    """Measures networks compiled by `torch.compile` for the one shape of the input, under `torch.inference_mode`.

    Compiling takes seconds to minutes a network and is not part of its latency. PyTorch itself would give up compiling
    after some networks of one class and run the rest eagerly; here it may go on, and where it can not compile a
    network it says so.

    Example:
        >>> latency = TorchCompileLatency((1, 8, 8))
        >>> [measured.latency_ms for measured in latency.measure([small, large], seed=0)]  # doctest: +SKIP
        [0.035, 0.102]
    """

    runtime = "torch_compile"

    def check(self) -> None:
        super().check()
        if self.processor == "cuda":
            if importlib.util.find_spec("triton") is None:
                raise ArchgenError("torch_compile needs Triton on cuda: install triton, or use the runtime torch")
            return
        usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
        compiler = os.environ.get("CXX", usual)  # where PyTorch looks
        if shutil.which(compiler) is None:
            raise ArchgenError(
                f"torch_compile needs a C++ compiler and finds no '{compiler}': install one, name one in the "
                "environment variable CXX, or use the runtime torch"
            )

    @contextmanager
    def setting(self) -> Iterator[None]:
        limits: dict[str, Any] = {
            "recompile_limit": _MANY,
            "accumulated_recompile_limit": _MANY,
            "fail_on_recompile_limit_hit": True,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler warns of its own deprecations: none is the user's
            from torch._dynamo import config as dynamo
            from torch._inductor import config as inductor

            # One thread: compilers in processes of their own would outlive the measurement.
            with dynamo.patch(**limits), inductor.patch(compile_threads=1), super().setting():
                yield

    def ready(self, network: nn.Module) -> Callable[[Tensor], object]:
        """What is called with the inputs: the compiled network, which the first call compiles."""
        compiled: Callable[[Tensor], object] = torch.compile(network, dynamic=False)
        return compiled
