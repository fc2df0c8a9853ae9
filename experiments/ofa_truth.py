"""The published truth of figure B8: Once-for-All's accuracy predictor and its Note10 latency table.

Both are of OFA-MobileNetV3 with 1.2 times the channels (as in the paper's tutorial). Resolutions are those of its
evolutionary search, 160 to 224 in steps of 16: the predictor knows no others.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from archgen.graph import Architecture
from archgen.spaces import SearchSpace

Floats = NDArray[np.float64]
RESOLUTIONS = (160, 176, 192, 208, 224)
KERNELS, EXPANDS = (3, 5, 7), (3, 4, 6)
WIDTHS = (24, 24, 32, 48, 96, 136, 192, 1152, 1536)
STAGES = ((2, 0, 0), (2, 1, 0), (2, 0, 1), (1, 1, 1), (2, 1, 1))
"""Stride of the first block, squeeze-and-excitation, h-swish of each stage."""


class Truth:
    """Accuracy in percent and latency in ms of architectures of `mobilenetv3`; counts the distinct ones it is asked.

    Args:
        space: The space `mobilenetv3`.
        folder: `ofa_mobilenetv3` of the published tables.
    """

    def __init__(self, space: SearchSpace, folder: Path) -> None:
        self.space = space
        self.weights = load_file(folder / "accuracy_predictor.safetensors")
        table = pd.read_parquet(folder / "block_latency_note10.parquet")
        blocks = dict(zip(zip(table["resolution"], table["block"], strict=True), table["mean_ms"], strict=True))
        self._latencies = {resolution: _additive(resolution, blocks) for resolution in RESOLUTIONS}
        self._known: dict[Architecture, float] = {}

    @property
    def calls(self) -> int:
        """Distinct architectures whose accuracy was asked."""
        return len(self._known)

    def top1(self, archs: Sequence[Architecture]) -> Floats:
        """Predicted ImageNet top-1, percent."""
        new = list(dict.fromkeys(arch for arch in archs if arch not in self._known))
        if new:
            x = torch.from_numpy(np.stack([self._features(arch) for arch in new])).float()
            for layer in (0, 2, 4):
                x = torch.relu(x @ self.weights[f"{layer}.weight"].T + self.weights[f"{layer}.bias"])
            y = x @ self.weights["6.weight"].T + self.weights["6.bias"]
            self._known.update(zip(new, (100 * y[:, 0]).double().tolist(), strict=True))
        return np.array([self._known[arch] for arch in archs])

    def note10(self, archs: Sequence[Architecture]) -> Floats:
        """Latency on a Samsung Note10, ms: the sum of the table's blocks."""
        return np.array([self.latency(arch.ops[1:-1]) for arch in archs])

    def latency(self, labels: Sequence[str]) -> float:
        """Latency, ms, of the labels of an architecture's slots: the resolution, then the 20 blocks."""
        rest, blocks = self._latencies[int(labels[0][1:])]
        return sum((block[label] for block, label in zip(blocks, labels[1:], strict=True)), rest)

    def latency_table(self) -> Floats:
        """The same as an array `resolution x slot x label` (labels as the space numbers them), to be summed over slots.

        What a network has besides its 20 blocks is in the slot of the resolution.
        """
        table = np.zeros((len(RESOLUTIONS), 21, len(self.space.labels)))
        for row, (rest, blocks) in zip(table, self._latencies.values(), strict=True):
            row[0] = rest
            for slot, block in enumerate(blocks, start=1):
                row[slot, [self.space.labels.index(label) for label in block]] = list(block.values())
        return table

    @staticmethod
    def knows(arch: Architecture) -> bool:
        """Whether the accuracy predictor was trained at the architecture's resolution."""
        return _split(arch)[0] in RESOLUTIONS

    def _features(self, arch: Architecture) -> Floats:
        resolution, blocks = _split(arch)
        kernel, expand, size = np.zeros((20, 3)), np.zeros((20, 3)), np.zeros(8)
        for i, block in enumerate(blocks):
            if block is not None:
                kernel[i, KERNELS.index(block[0])] = expand[i, EXPANDS.index(block[1])] = 1.0
        size[(resolution - 112) // 16] = 1.0
        return np.concatenate([kernel.ravel(), expand.ravel(), size])


def _additive(resolution: int, latencies: Mapping[tuple[int, str], float]) -> tuple[float, list[dict[str, float]]]:
    """Latency of what all networks of a resolution share, and that of each label of each of the 20 blocks.

    A block's shapes depend on its place alone (the first block of a stage is never skipped), so latency is a sum.
    """
    side = (resolution + 1) // 2
    first, last, mixed = WIDTHS[0], WIDTHS[7], WIDTHS[8]
    names = [
        f"Conv-input:{resolution}x{resolution}x3-output:{side}x{side}x{first}",
        _block(side, first, side, first, first, 3, 1, 1, 0, 0),
    ]
    inputs, blocks = WIDTHS[1], list[dict[str, float]]()
    for stage, (stride, se, swish) in enumerate(STAGES):
        outputs = WIDTHS[2 + stage]
        for i in range(4):
            step = stride if i == 0 else 1
            after = (side - 1) // step + 1
            block = {"skip": 0.0}
            for kernel, expand in itertools.product(KERNELS, EXPANDS):
                middle = round(inputs * expand)
                name = _block(side, inputs, after, outputs, middle, kernel, step, int(i > 0), se, swish)
                block[f"k{kernel}_e{expand}"] = latencies[(resolution, name)]
            blocks.append(block)
            side, inputs = after, outputs
    names += [
        f"Conv_1-input:{side}x{side}x{inputs}-output:{side}x{side}x{last}",
        f"AvgPool2D-input:{side}x{side}x{last}-output:1x1x{last}",
        f"Conv_2-input:1x1x{last}-output:1x1x{mixed}",
        f"Logits-input:1x1x{mixed}-output:1000",
    ]
    return sum(latencies[(resolution, name)] for name in names), blocks


def _block(
    side: int, inputs: int, after: int, outputs: int, middle: int, kernel: int, stride: int, skip: int, se: int, hs: int
) -> str:
    shape = f"expanded_conv-input:{side}x{side}x{inputs}-output:{after}x{after}x{outputs}-expand:{middle}"
    return f"{shape}-kernel:{kernel}-stride:{stride}-idskip:{skip}-se:{se}-hs:{hs}"


def _split(arch: Architecture) -> tuple[int, list[tuple[int, int] | None]]:
    """Resolution, and kernel and expansion of the 20 blocks (None where skipped)."""
    resolution, *blocks = arch.ops[1:-1]
    read = [None if b == "skip" else (int(b[1]), int(b.split("_e")[1])) for b in blocks]
    return int(resolution[1:]), read
