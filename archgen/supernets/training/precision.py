"""Mixed precision: what runs in 16 bits, and the scale of the losses that keeps small gradients (1710.03740)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from archgen.errors import UnknownName

PRECISIONS = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Types of what runs in 16 bits, by the names that accelerate has for them."""
LARGEST, PATIENCE = 2.0**16, 2000
"""First scale of the losses, and steps without an overflow after which it doubles; those of PyTorch."""


class Precision:
    """Operations that bear it run in 16 bits by autocast; weights, their gradients and momenta stay in 32.

    The gradients of fp16 vanish below 6e-8, so losses are multiplied by a scale and gradients divided by it. The scale
    is halved where a gradient overflows, whose step is left out, and doubled after `PATIENCE` steps without (Mixed
    Precision Training, arXiv 1710.03740, section 3.2). bf16 has the range of fp32 and needs none.

    Args:
        name: `no`, `bf16` or `fp16`.

    Raises:
        UnknownName: Another name.
    """

    def __init__(self, name: str = "no") -> None:
        if name not in PRECISIONS:
            raise UnknownName("precision", name, PRECISIONS)
        self.name, self.dtype = name, PRECISIONS[name]
        self.scale = LARGEST if name == "fp16" else 1.0
        """What losses are multiplied by."""
        self._good = 0

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Forward passes in 16 bits inside.

        Casts of weights are not remembered: one that is made without gradients (a teacher's pass) would be taken for
        one with them.
        """
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(device.type, self.dtype, cache_enabled=False)

    def overflowed(self) -> bool:
        """Tell of a gradient that is not finite; whether a smaller scale may help, so that its step is left out."""
        if self.scale <= 1:
            return False
        self.scale, self._good = self.scale / 2, 0
        return True

    def succeeded(self) -> None:
        """Tell of a step that was made."""
        if self.name != "fp16":
            return
        self._good += 1
        if self._good == PATIENCE:
            self.scale, self._good = self.scale * 2, 0

    def state(self) -> dict[str, Tensor]:
        """What a resumed training has to know."""
        return {"scale": torch.tensor([self.scale, self._good]).double()} if self.name == "fp16" else {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` gave."""
        for value in state.values() if self.name == "fp16" else ():
            self.scale, self._good = float(value[0]), int(value[1])
