"""Processes that `accelerate launch` started, and DeepSpeed ZeRO where its configuration says so."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from archgen.errors import ArchgenError, InvalidOption, MissingExtra
from archgen.launch import launched
from archgen.supernets.training.processes import Processes
from archgen.supernets.training.updates import Updates

STAGES = (1, 2)
"""Of ZeRO that train supernets; see `ZeroUpdates`."""


class Accelerated(Processes):
    """What accelerate's configuration asks for: several processes, GPUs, DeepSpeed.

    On GPUs messages go by NCCL, on CPUs by gloo. It was run with two processes on CPUs; on GPUs never. DeepSpeed has
    to be installed by hand, and transformers, which accelerate looks for beside it.

    Raises:
        MissingExtra: accelerate, or the DeepSpeed that the configuration names, is not installed.
        InvalidOption: The configuration is of a ZeRO stage that trains no supernets.
    """

    def __init__(self) -> None:
        try:
            from accelerate import Accelerator
            from accelerate.utils import InitProcessGroupKwargs
        except ImportError:
            raise MissingExtra("several processes need accelerate: pip install 'archgen[distributed]'") from None
        # unless it is told that there are no GPUs, accelerate leaves each process to itself where there are none; and
        # with DeepSpeed it must be told what they talk by instead
        cpu = not torch.accelerator.is_available()
        zero = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"
        handlers = [InitProcessGroupKwargs(backend="gloo")] if cpu and zero else []
        try:
            self.accelerator: Any = Accelerator(mixed_precision="no", cpu=cpu and not zero, kwargs_handlers=handlers)
        except (ImportError, RuntimeError, ValueError) as error:
            raise MissingExtra(
                f"accelerate's configuration does not work here ({' '.join(str(error).split())})"
            ) from None
        self.rank, self.count = self.accelerator.process_index, self.accelerator.num_processes
        self.device = self.accelerator.device
        self.zero = zero
        """Whether weights are moved by DeepSpeed ZeRO."""
        if zero:
            stage = self.accelerator.state.deepspeed_plugin.zero_stage
            if stage not in STAGES:
                raise InvalidOption(f"ZeRO stage {stage} can not train a supernet; set zero_stage to 1 or 2")

    def check(self, size: int, precision: str = "no") -> None:
        super().check(size, precision)
        if self.zero and precision == "fp16":
            raise InvalidOption("fp16 is not supported with DeepSpeed; give --precision bf16")

    def sum(self, values: Tensor) -> Tensor:
        return self._together(lambda: self.accelerator.reduce(values, "sum"))  # type: ignore[no-any-return]

    def wait(self) -> None:
        self._together(self.accelerator.wait_for_everyone)

    def close(self) -> None:
        self.accelerator.end_training()

    def _together(self, message: Callable[[], Any]) -> Any:
        try:
            return message()
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:160]
            raise ArchgenError(f"another process of the training has ended, so this one does too ({reason})") from None


def launched_processes() -> Processes:
    """Those that `accelerate launch` started with this one; this one alone where it did not."""
    return Accelerated() if launched() else Processes()


def make_updates(
    module: nn.Module, optimizer: torch.optim.Optimizer, clip: float, processes: Processes, **options: Any
) -> Updates:
    """As the configuration of the processes wants them; see `Updates` for `options`."""
    if not isinstance(processes, Accelerated) or not processes.zero:
        return Updates(module, optimizer, processes=processes, **options)
    from archgen.supernets.training.zero import ZeroUpdates

    return ZeroUpdates(module, optimizer, processes.accelerator, clip, processes=processes, **options)
