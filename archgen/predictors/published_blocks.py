"""Published tables of the blocks of Once-for-All's MobileNetV3 as latencies of this package's blocks.

Two forms are known, of tables with the columns `block` and `mean_ms`: Once-for-All's own (arXiv 1908.09791), whose rows
hold for one `resolution` of the network's input, and NSGANetV2's (arXiv 2007.10396), without that column, and without
the global pooling, which then costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from archgen.errors import InvalidTable
from archgen.networks.blocks import Resize
from archgen.networks.mbconv import MBConv, SqueezeExcite
from archgen.networks.mobilenetv3 import MobileNetV3Head
from archgen.spaces import SearchSpace
from archgen.spaces.chain_blocks import Block, ChainBlocks
from archgen.tables import read_table


def read_published(space: SearchSpace, path: Path, network: Mapping[str, int] | None = None) -> dict[str, float]:
    """Latencies, ms, as `BlockTable` takes them.

    Args:
        space: `mobilenetv3`, or a part of it.
        path: The table, `.parquet` or `.csv`.
        network: Arguments of `space.build`, `{"width_percent": 120}` for networks of 1.2 times the channels.

    Raises:
        InvalidTable: No such table, or one without a row of any of the space's blocks.
        InvalidSpace: The blocks of the space can not be listed.
    """
    frame = read_table(path, expected="a table of blocks")
    if not {"block", "mean_ms"} <= set(frame.columns) or not pd.api.types.is_numeric_dtype(frame["mean_ms"]):
        raise InvalidTable(f"{path} is no table of blocks: expected the columns block and, of numbers, mean_ms")
    rows_of = {name: _rows(block) for name, block in ChainBlocks(space, network).all().items()}
    settings = {"": frame}
    if "resolution" in frame:
        settings = {f"r{size} | ": rows for size, rows in frame.groupby("resolution")}
    found: dict[str, float] = {}
    for start, rows in settings.items():
        known = dict(zip(rows["block"].astype(str), rows["mean_ms"].astype(float), strict=True))
        for block, forms in rows_of.items():
            names = next((names for names in forms if all(name in known for name in names)), None)
            if names is not None:
                found[start + block] = sum(known[name] for name in names)
    if not any(found.values()):
        raise InvalidTable(f"{path} has no row of a block of {space.name}; check the space and the network's arguments")
    return found


def _rows(block: Block) -> list[list[str]]:
    """Names of the rows that make up a block, in each form; none where the forms have no name for it."""
    with torch.device("meta"):
        module = block.make()
    (c, h, w), out = block.example.shape[1:], "x".join(map(str, (*block.output.shape[2:], block.output.shape[1])))
    before = f"{h}x{w}x{c}"
    if isinstance(module, Resize):
        return [[]]  # images come in the network's size
    if isinstance(module, MBConv):
        return _bottleneck(module, f"input:{before}-output:{out}")
    if isinstance(module, MobileNetV3Head):
        wide, mixed = [m.out_channels for m in module.modules() if isinstance(m, nn.Conv2d)]
        classes = next(m.out_features for m in module.modules() if isinstance(m, nn.Linear))
        shape = f"{h}x{w}x{wide}"
        own = [
            f"Conv_1-input:{before}-output:{shape}",
            f"AvgPool2D-input:{shape}-output:1x1x{wide}",
            f"Conv_2-input:1x1x{wide}-output:1x1x{mixed}",
            f"Logits-input:1x1x{mixed}-output:{classes}",
        ]
        nsga = [
            f"final_expand_layer-input:{before}-output:{shape}",
            f"feature_mix_layer-input:1x1x{wide}-output:1x1x{mixed}",
            f"classifier-input:{mixed}-output:{classes}",
        ]
        return [own, nsga]
    if isinstance(module, nn.Sequential) and block.name.startswith("stem "):
        return [[f"{name}-input:{before}-output:{out}"] for name in ("Conv", "first_conv")]
    return []


def _bottleneck(module: MBConv, shapes: str) -> list[list[str]]:
    depthwise = next(m for m in module.modules() if isinstance(m, nn.Conv2d) and m.groups > 1)
    inputs = next(m for m in module.modules() if isinstance(m, nn.Conv2d)).in_channels
    hidden, kernel, stride = depthwise.in_channels, depthwise.kernel_size[0], depthwise.stride[0]
    squeeze = int(any(isinstance(m, SqueezeExcite) for m in module.modules()))
    swish = int(any(isinstance(m, nn.Hardswish) for m in module.modules()))
    end = f"kernel:{kernel}-stride:{stride}-idskip:{int(module.residual)}-se:{squeeze}"
    own = f"expanded_conv-{shapes}-expand:{hidden}-{end}-hs:{swish}"
    return [[own], [f"MBConv-{shapes}-expand:{hidden // inputs}-{end}"] if hidden % inputs == 0 else [own]]
