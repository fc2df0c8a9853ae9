"""FBNet's networks against the published counts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from archgen import spaces
from archgen.errors import UnknownName
from archgen.networks.fbnet import BLOCKS, STAGES, fbnet
from archgen.spaces import ChainSpace

CIFAR100 = {"head": 1504, "classes": 100, "in_channels": 3, "image_size": 32}


@pytest.fixture(scope="module")
def space() -> ChainSpace:
    loaded = spaces.load("fbnet")
    assert isinstance(loaded, ChainSpace)
    return loaded


def uncounted(labels: list[str]) -> int:
    """What NASFLAT's FLOPs leave out: the first ReLU of each block, and `2 h + 1` of the global pooling of 4 x 4."""
    inputs, size, layer, total = 16, 32, 0, 1504 * (5 * 5 - 4 * 4)
    for outputs, layers, stride in STAGES:
        for i in range(layers):
            if labels[layer] != "skip":
                total += inputs * BLOCKS[labels[layer]][1] * size * size
            size //= stride if i == 0 else 1
            inputs, layer = outputs, layer + 1
    return total


@pytest.mark.parametrize(
    ("text", "params", "flops"),
    [  # rows 0, 1 and 2 of NASFLAT's table
        ("2_8_6_3_8_4_8_4_1_8_7_8_0_6_2_5_2_6_0_2_7_7", 2447972, 72783744),
        ("1_3_3_7_8_3_4_5_1_2_1_7_4_6_4_7_7_4_8_7_6_4", 2020004, 88888960),
        ("6_4_8_4_3_1_3_0_7_5_4_5_1_8_0_5_3_1_4_0_0_4", 1305556, 55179136),
    ],
)
def test_counts_are_the_published_ones(space: ChainSpace, text: str, params: int, flops: int) -> None:
    arch = space.parse(text)
    counts = space.count(arch)
    assert counts["params"] == params
    assert counts["flops"] - uncounted(list(space.to_labels(arch).values())) == flops


def test_counts_of_a_fifth_of_the_published_table(space: ChainSpace, tables: Path) -> None:
    table = pd.read_parquet(tables / "fbnet" / "zero_cost.parquet", columns=["arch", "flops", "params"])[::5]
    archs = [space.parse(text) for text in table["arch"]]
    assert len(archs) == 1_000
    assert [space.format(arch) for arch in archs] == list(table["arch"])
    counts = pd.DataFrame([space.count(arch) for arch in archs])
    left_out = [uncounted(list(space.to_labels(arch).values())) for arch in archs]
    np.testing.assert_array_equal(counts["params"], table["params"])
    np.testing.assert_array_equal(counts["flops"] - left_out, table["flops"])


def test_operation_indices_are_those_of_the_published_names(space: ChainSpace, tables: Path) -> None:
    table = pd.read_parquet(tables / "fbnet" / "latency_ms.parquet", columns=["arch", "ops"]).head(200)
    for text, names in zip(table["arch"], table["ops"], strict=True):
        assert list(space.to_labels(space.parse(text)).values()) == names.split()


def test_skip_is_the_identity_only_where_the_shape_stays() -> None:
    segments = fbnet({f"layer{i}": "skip" for i in range(1, 23)}, **CIFAR100)
    changing = [segment.name for segment in segments if not segment.identity]
    assert changing == ["stem", *(f"layer{i}" for i in (2, 6, 10, 14, 18, 22)), "head"]


def test_large_images_are_shrunk_once_more_by_stem_and_second_stage() -> None:
    slots = {f"layer{i}": "skip" for i in range(1, 23)}
    for size, expected in ((32, 4), (224, 7)):
        x = torch.zeros(1, 3, size, size, device="meta")
        with torch.device("meta"):
            for segment in fbnet(slots, head=1984, classes=1000, in_channels=3, image_size=size)[:-1]:
                x = segment.make().eval()(x)
        assert x.shape == (1, 352, expected, expected)


def test_a_label_that_is_no_block_gets_a_suggestion() -> None:
    with pytest.raises(UnknownName, match="unknown block of fbnet 'k3_e4': did you mean 'k3_e"):
        fbnet({f"layer{i}": "k3_e4" for i in range(1, 23)}, **CIFAR100)
