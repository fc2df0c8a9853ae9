"""What a network asks of a device, as numbers that add up over its layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from archgen.networks.count import ShapeRun, multiply_adds, run_shapes

Floats = NDArray[np.float64]

KINDS = ("pointwise", "grouped", "depthwise", "large_depthwise", "spatial", "linear", "other")
"""Kinds of layers that a device runs at different speeds."""
WORKLOAD = (
    *(f"{kind}_{what}" for kind in KINDS for what in ("layers", "macs", "root_macs")),
    "parameters",
    "elements",
    "root_elements",
    "steps",
)
"""Of each kind the number of layers, their multiply-adds and the sum of the roots of these (small layers do not fill a
device); parameters; elements that layers read and write, and the sum of their roots; and modules that run at all."""


def trace_workload(network: nn.Module, example: Tensor) -> tuple[Floats, Tensor]:
    """The workload of a network for one input, and its output.

    Args:
        network: On the device of `example`, the `meta` device being enough.
        example: What it reads.

    Returns:
        The numbers that `WORKLOAD` names, in plain counts, and a tensor of the shape of the network's output.
    """
    total = np.zeros(len(WORKLOAD))
    return total, run_shapes(network, example, partial(_add, total, {}))


WorkloadTrace = Callable[[nn.Module, Tensor], tuple[Floats, Tensor]]
"""`trace_workload`, or what gives the same."""


class WorkloadTraces:
    """`trace_workload` of networks that read inputs of many shapes: each is made ready once, and stays so.

    Making a block ready takes longer than running it. The networks are kept, in evaluation mode and with their hooks.
    """

    def __init__(self) -> None:
        self._runs: dict[nn.Module, tuple[Floats, ShapeRun]] = {}

    def __call__(self, network: nn.Module, example: Tensor) -> tuple[Floats, Tensor]:
        if network not in self._runs:
            total = np.zeros(len(WORKLOAD))
            self._runs[network] = total, ShapeRun(network, partial(_add, total, {}))
        total, run = self._runs[network]
        total[:] = 0.0
        output = run(example)
        return total.copy(), output


def _add(
    total: Floats,
    known: dict[nn.Module, tuple[str | None, int]],
    module: nn.Module,
    inputs: tuple[Any, ...],
    output: Any,
) -> None:
    """Forward hook that adds what a module asks for; `known` keeps what does not depend on its input."""
    if isinstance(module, nn.Identity):
        return
    if module not in known:
        known[module] = _kind(module), sum(p.numel() for p in module.parameters())
    kind, parameters = known[module]
    total[-1] += 1
    if kind is None:
        return
    place = 3 * KINDS.index(kind)
    macs = float(multiply_adds(module, inputs[0], output))
    elements = float(inputs[0].numel() + output.numel())
    total[place : place + 3] += 1.0, macs, math.sqrt(macs)
    total[-4:-1] += parameters, elements, math.sqrt(elements)


def _kind(module: nn.Module) -> str | None:
    """The kind of a layer that multiplies; None of one that does not."""
    if hasattr(module, "extra_macs"):
        return "other"
    if isinstance(module, nn.Linear):
        return "linear"
    if not isinstance(module, nn.Conv1d | nn.Conv2d):
        return None
    kernel = max(module.kernel_size)
    if module.groups == module.in_channels > 1:
        return "depthwise" if kernel <= 3 else "large_depthwise"
    if kernel > 1:
        return "spatial"
    return "pointwise" if module.groups == 1 else "grouped"
