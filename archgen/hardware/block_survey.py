"""Measuring every block of a chain into a file, for a table whose sums predict latency (ProxylessNAS, 1812.00332)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from archgen.errors import InvalidTable
from archgen.hardware.base import LatencyMeter
from archgen.hardware.measurements import MeasurementFile
from archgen.hardware.part import Part
from archgen.hardware.survey import Subjects, Survey, survey
from archgen.progress import Progress
from archgen.spaces.chain_blocks import CALL, Block


def block_file(path: Path, space: str) -> MeasurementFile:
    """The file of a space's blocks, of which no file of its architectures can be made; errors as `MeasurementFile`."""
    return MeasurementFile(path, f"blocks of {space}")


def measure_blocks(
    meter: LatencyMeter,
    blocks: Mapping[str, Block],
    file: MeasurementFile,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Survey:
    """Measure the blocks that the file lacks for the meter's device, and an empty network, as `measure_missing` does.

    Args:
        meter: Of the runtime, made for what whole networks read; its reference is replaced.
        blocks: By name (`ChainBlocks.all`).
        file: Where to (`block_file`); appended to.
        seed: Draws weights, inputs and orders.
        progress: Told of batches, rounds and refusals.

    Raises:
        ArchgenError: As `measure_missing`.
    """

    def build(text: str, seed: int) -> nn.Module:
        if text == CALL:
            return Part(nn.ReLU(), torch.zeros(1, 1, 1, 1)).eval()
        if text not in blocks:
            raise InvalidTable(f"{file.path} compares with a block that the space has not: {text}; give another file")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            example = torch.zeros(blocks[text].example.shape, dtype=blocks[text].example.dtype, device="cpu")
            return Part(blocks[text].make(), example).eval()

    def flops(text: str) -> float:
        return blocks[text].flops if text in blocks else 0.0

    return survey(meter, Subjects("blocks", (CALL, *blocks), build, flops), file, seed=seed, progress=progress)


def block_latencies(file: MeasurementFile, device: str) -> dict[str, float]:
    """Latency of each block, ms, without what calling the runtime takes, which stands beside them as `CALL`.

    Args:
        file: Of `measure_blocks`.
        device: Id of the device.

    Raises:
        InvalidTable: Nothing was measured on the device.
    """
    measured = {text: each.latency_ms for text, each in file.measured(device).items()}
    if not measured:
        raise InvalidTable(f"{file.path} has no blocks measured on device {device}; it knows {', '.join(file.devices)}")
    call = measured.pop(CALL, 0.0)
    return {CALL: call, **{text: max(ms - call, 0.0) for text, ms in measured.items()}}
