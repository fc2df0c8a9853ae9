"""Once-for-All's MobileNetV3 against the published measurements and latency table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from archgen import spaces
from archgen.errors import InvalidSpace
from archgen.networks.count import count_network
from archgen.networks.mobilenetv3 import mobilenetv3
from archgen.networks.skeleton import SegmentNetwork
from archgen.spaces import ChainSpace

PUBLISHED = {"width_percent": 100, "classes": 1000, "in_channels": 3, "image_size": 224}


@pytest.fixture(scope="module")
def space() -> ChainSpace:
    loaded = spaces.load("mobilenetv3")
    assert isinstance(loaded, ChainSpace)
    return loaded


def once_for_all(row: pd.Series) -> str:
    """The published dictionary of a row of the tables."""
    ks, e, d = ([int(n) for n in row[column].split()] for column in ("kernel_sizes", "expand_ratios", "depths"))
    return f'{{"ks": {ks}, "e": {e}, "d": {d}, "r": [{row["resolution"]}]}}'


@pytest.mark.parametrize(
    ("ks", "e", "d", "params", "macs"),
    [  # rows 0, 1 and 2 of DyNAS-T's table
        (
            "5 7 5 5 3 3 3 7 5 5 3 7 7 3 3 3 5 5 5 5",
            "4 3 4 4 4 6 3 4 4 3 4 3 3 6 6 6 4 3 4 4",
            "2 3 2 4 3",
            5029656,
            255502624,
        ),
        (
            "5 5 5 5 3 7 7 7 7 5 7 3 3 3 5 5 5 7 5 5",
            "4 3 6 3 6 6 3 3 6 4 4 6 3 4 3 6 4 4 3 4",
            "3 3 3 4 3",
            4761632,
            297261792,
        ),
        (
            "3 5 7 5 7 5 5 5 3 3 3 5 5 5 7 3 5 7 3 3",
            "4 3 6 6 4 6 6 3 6 4 6 6 4 3 3 4 6 6 3 4",
            "3 2 2 3 4",
            5215592,
            261675008,
        ),
    ],
)
def test_counts_are_the_published_ones(space: ChainSpace, ks: str, e: str, d: str, params: int, macs: int) -> None:
    row = pd.Series({"kernel_sizes": ks, "expand_ratios": e, "depths": d, "resolution": 224})
    arch = space.parse(once_for_all(row))
    assert list(space.depths(arch).values()) == [int(n) for n in d.split()]
    assert space.count(arch) == {"params": params, "macs": macs, "flops": macs}


def test_counts_of_a_quarter_of_the_measured_networks(space: ChainSpace, tables: Path) -> None:
    table = pd.read_parquet(tables / "ofa_mobilenetv3" / "imagenet_measured.parquet")[::4]
    counts = pd.DataFrame([space.count(space.parse(once_for_all(row))) for _, row in table.iterrows()])
    assert len(table) > 500
    np.testing.assert_array_equal(counts["params"], table["params"])
    np.testing.assert_array_equal(counts["flops"], table["macs"])


def note10_blocks(space: ChainSpace, arch: object) -> list[str]:
    """Names that Once-for-All's latency table gives to the blocks of a network of width 1.2."""
    names = []
    shape = [3, int(space.to_labels(arch)["resolution"][1:])]  # type: ignore[arg-type]

    def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        _, c, h, w = inputs[0].shape
        _, d, i, j = output.shape
        depthwise = next(m for m in module.modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1)
        squeeze = any(type(m).__name__ == "SqueezeExcite" for m in module.modules())
        swish = any(isinstance(m, torch.nn.Hardswish) for m in module.modules())
        names.append(
            f"expanded_conv-input:{h}x{w}x{c}-output:{i}x{j}x{d}-expand:{depthwise.in_channels}-"
            f"kernel:{depthwise.kernel_size[0]}-stride:{depthwise.stride[0]}-idskip:{int(module.residual)}-"  # type: ignore[arg-type]
            f"se:{int(squeeze)}-hs:{int(swish)}"
        )

    with torch.device("meta"):
        network = space.build(arch, width_percent=120).eval()  # type: ignore[arg-type]
        for module in network.modules():
            if type(module).__name__ == "MBConv":
                module.register_forward_hook(hook)
        network(torch.zeros(1, shape[0], shape[1], shape[1]))
    return names


def test_blocks_of_the_wider_network_are_those_of_the_published_latency_table(space: ChainSpace, tables: Path) -> None:
    table = pd.read_parquet(tables / "ofa_mobilenetv3" / "block_latency_note10.parquet")
    known = {r: set(group["block"]) for r, group in table.groupby("resolution")}
    tried = 0
    for arch in space.sample(10, np.random.default_rng(0)):
        resolution = int(space.to_labels(arch)["resolution"][1:])
        if resolution in known:
            names = note10_blocks(space, arch)
            assert len(names) == 1 + sum(space.depths(arch).values())
            assert set(names) <= known[resolution]
            tried += 1
    assert tried > 3


def test_the_network_resizes_images_to_its_resolution(space: ChainSpace) -> None:
    arch = space.sample(1, np.random.default_rng(0))[0]
    size = int(space.to_labels(arch)["resolution"][1:])
    network = space.build(arch, classes=7)
    assert isinstance(network, SegmentNetwork)
    resize = network.segments["resolution"]
    assert resize(torch.zeros(1, 3, 40, 40)).shape == (1, 3, size, size)
    x = torch.rand(1, 3, size, size)
    assert resize(x) is x


def test_the_resolution_changes_macs_but_no_parameters(space: ChainSpace) -> None:
    labels = space.to_labels(space.sample(1, np.random.default_rng(0))[0])
    small, large = (space.count(space.from_labels({**labels, "resolution": r})) for r in ("r128", "r224"))
    assert small["params"] == large["params"]
    assert small["macs"] < large["macs"] / 2


def test_slots_and_labels_that_it_can_not_read_are_named() -> None:
    with pytest.raises(InvalidSpace, match=r"unknown slot 'stage6.block1': did you mean 'stage1.block1'"):
        mobilenetv3({"resolution": "r32", "stage1.block1": "k3_e3", "stage6.block1": "k3_e3"}, **PUBLISHED)
    with pytest.raises(InvalidSpace, match="needs a slot 'resolution'"):
        mobilenetv3({"stage1.block1": "k3_e3"}, **PUBLISHED)
    with pytest.raises(InvalidSpace, match=r"'k3e3' is no label .* expected 'k<n>_e<n>'"):
        mobilenetv3({"resolution": "r32", "stage1.block1": "k3e3"}, **PUBLISHED)
    count = count_network(SegmentNetwork(mobilenetv3({"resolution": "r32"}, **PUBLISHED)), (3, 32, 32))
    assert count["params"] > 1000 * 1280
