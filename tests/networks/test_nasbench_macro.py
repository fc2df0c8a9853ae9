"""NAS-Bench-Macro's networks against the published counts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archgen import spaces
from archgen.errors import UnknownName
from archgen.networks.nasbench_macro import nasbench_macro


@pytest.mark.parametrize(
    ("text", "params", "flops"),
    [("02012100", 890666, 47327744), ("11111221", 2181386, 65012224), ("00011110", 1118378, 31390208)],
)
def test_counts_are_the_published_ones(text: str, params: int, flops: int) -> None:
    space = spaces.load("nasbench_macro")
    assert space.count(space.parse(text)) == {"params": params, "macs": flops, "flops": flops}


def test_counts_of_the_whole_published_table(tables: Path) -> None:
    space = spaces.load("nasbench_macro")
    table = pd.read_parquet(tables / "nasbench_macro.parquet")
    archs = space.enumerate()
    assert [space.format(arch) for arch in archs] == sorted(table["arch"])
    counts = pd.DataFrame([space.count(arch) for arch in archs], index=[space.format(arch) for arch in archs])
    published = table.set_index("arch").loc[counts.index]
    np.testing.assert_array_equal(counts[["params", "flops"]], published[["params", "flops"]])


def test_networks_that_differ_only_in_where_identities_stand_are_one(tables: Path) -> None:
    """The benchmark trained each of them once: rows with the same accuracies are the same function here."""
    space = spaces.load("nasbench_macro")
    table = pd.read_parquet(tables / "nasbench_macro.parquet")
    table = table[table["arch"].str.startswith("0")]
    canonical = [space.canonical(space.parse(text)) for text in table["arch"]]
    trained = table.groupby(canonical)[["test_acc_seed0", "test_acc_seed1", "test_acc_seed2"]].nunique()
    assert bool((trained == 1).all().all())
    assert len(trained) == 3 * (3 * 7) * (3 * 7)  # beside the first layer of a stage, 1 + 2 (+ 4) chains


def test_a_label_that_is_no_block_gets_a_suggestion() -> None:
    with pytest.raises(UnknownName, match="unknown block of nasbench_macro 'mb6_k3': did you mean 'mb"):
        nasbench_macro(
            {f"layer{i}": "mb6_k3" for i in range(1, 9)}, channels=8, head=8, classes=2, in_channels=3, image_size=8
        )
