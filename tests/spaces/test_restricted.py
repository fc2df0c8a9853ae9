"""Parts of spaces: every family can be restricted, and what is left keeps the promises of a space."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from archgen import config, spaces
from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.graph import GraphBatch
from archgen.spaces import SearchSpace
from archgen.testing import check_space

CONVOLUTIONS = ("nor_conv_1x1", "nor_conv_3x3")


def part(folder: Path, base: str, values: dict[str, Sequence[str]], name: str = "part") -> SearchSpace:
    lines = [f'"{variable}" = {list(kept)}' for variable, kept in values.items()]
    path = folder / f"{name}.toml"
    path.write_text(
        f'name = "{name}"\nfamily = "restricted"\nbase = "{base}"\n[values]\n' + "\n".join(lines), encoding="utf-8"
    )
    return spaces.load(path)


def half(space: SearchSpace, rng: np.random.Generator) -> dict[str, tuple[str, ...]]:
    """A random half of the values of every variable, those of a random architecture among them."""
    (arch,) = space.sample(1, rng)
    chosen = space.to_choices(arch)
    kept = {}
    for name, values in space.variables.items():
        others = rng.permutation(len(values))[: len(values) // 2].tolist()
        kept[name] = tuple(values[i] for i in sorted({chosen[name], *others}))
    return kept


@pytest.mark.parametrize("name", spaces.available())
def test_a_random_half_of_every_space_is_a_space(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    base = spaces.load(name)
    kept = half(base, rng)
    space = part(tmp_path, name, kept)
    check_space(space, n=8, rng=rng)
    for arch in space.sample(20, rng):
        assert base.parse(space.format(arch)) is not None
        assert {v: space.variables[v][i] for v, i in space.to_choices(arch).items()}.items() <= {
            (v, value) for v, values in kept.items() for value in values
        }


def test_what_the_output_is_not_reached_from_is_what_the_base_says(space: SearchSpace, tmp_path: Path) -> None:
    small = part(tmp_path, "nasbench201", {"0->1": CONVOLUTIONS, "1->3": ("none",)})
    archs = small.sample(50, np.random.default_rng(0))
    kept = small.without_unused(archs)
    assert [arch.ops for arch in kept] == [arch.ops for arch in space.without_unused(archs)]
    assert kept != archs


def test_the_part_has_exactly_the_architectures_with_allowed_choices(space: SearchSpace, tmp_path: Path) -> None:
    kept = {"0->1": CONVOLUTIONS, "1->3": ("skip_connect",)}
    small = part(tmp_path, "nasbench201", kept)
    expected = {
        space.format(arch)
        for arch in space.enumerate()
        if arch.ops[1] in CONVOLUTIONS and arch.ops[5] == "skip_connect"
    }
    assert {small.format(arch) for arch in small.enumerate()} == expected
    assert small.size == len(expected) == 2 * 5**4
    assert "1->3" not in small.variables
    assert small.variables["0->1"] == CONVOLUTIONS
    assert small.free


@pytest.mark.parametrize(
    ("base", "kept"),
    [
        ("nasbench_macro", {"layer1": ["identity", "mb6_k5"], "layer8": ["mb3_k3"]}),
        ("five", {"1->2": ["present"], "operation 2": ["maxpool3x3"], "operation 3": ["conv1x1-bn-relu"]}),
    ],
)
def test_sizes_are_those_of_the_lists(base: str, kept: dict[str, list[str]], tmp_path: Path) -> None:
    text = (config.spaces_dir() / "nasbench101.toml").read_text(encoding="utf-8")
    text = text.replace("vertices = 7", "vertices = 5").replace('name = "nasbench101"', 'name = "five"')
    (tmp_path / "five.toml").write_text(text, encoding="utf-8")
    reference = "five.toml" if base == "five" else base
    whole = spaces.load(tmp_path / "five.toml" if base == "five" else base)
    small = part(tmp_path, reference, kept)
    listed = small.enumerate()
    assert 0 < len(listed) == small.size < whole.size
    assert {small.format(arch) for arch in listed} == {
        whole.format(arch)
        for arch in whole.enumerate()
        if all(
            whole.variables[name][choice] in kept.get(name, whole.variables[name])
            or whole._changed(whole.to_choices(arch), name, whole.variables[name].index(kept[name][0])) == arch
            for name, choice in whole.to_choices(arch).items()
        )
    }


def test_the_size_of_a_chain_counts_the_depths_that_are_left(tmp_path: Path) -> None:
    fixture = Path(__file__).parent / "fixtures" / "my_chain.toml"
    base = spaces.load(fixture)
    optional = next(slot for slot, values in base.variables.items() if values[-1] == "skip")
    for kept in (["skip"], list(base.variables[optional][:-1]), [base.variables[optional][0], "skip"]):
        small = part(tmp_path, str(fixture.resolve()), {optional: kept})
        listed = {arch.ops for arch in small.enumerate()}
        at = base.variable_nodes[optional]
        assert listed == {arch.ops for arch in base.enumerate() if arch.ops[at] in kept}
        assert small.size == len(listed)


def test_the_size_of_a_genotype_counts_sorted_pairs_by_brute_force(tmp_path: Path) -> None:
    base = spaces.load("darts")
    kept = {name: values[:1] for name, values in base.variables.items()}
    kept |= {f"normal 3.{i} operation": ("none", "skip_connect", "sep_conv_3x3") for i in (0, 1)}
    kept |= {"normal 3.0 source": ("0", "1"), "normal 3.1 source": ("1", "2")}
    small = part(tmp_path, "darts", kept)
    inputs = [list(itertools.product(s, (0, 3, 4))) for s in ((0, 1), (1, 2))]
    assert small.size == sum(a <= b for a in inputs[0] for b in inputs[1])
    assert len({small.format(arch) for arch in small.sample(1000, np.random.default_rng(0))}) == small.size


def test_draws_of_a_part_are_uniform(tmp_path: Path) -> None:
    small = part(tmp_path, "nasbench201", {"0->1": CONVOLUTIONS, "0->2": ("none", "skip_connect", "avg_pool_3x3")})
    n = 6000
    archs = small.sample(n, np.random.default_rng(0))
    shares = (
        np.bincount([small.to_choices(a)["0->1"] * 3 + small.to_choices(a)["0->2"] for a in archs], minlength=6) / n
    )
    # each share has a standard deviation of 0.0048: 5 of them fail with a chance below 4e-6
    assert np.abs(shares - 1 / 6).max() < 5 * 0.0048


def test_graphs_are_drawn_inside_the_part(tmp_path: Path, rng: np.random.Generator) -> None:
    small = part(tmp_path, "nasbench201", {"0->1": CONVOLUTIONS})
    node = 1
    assert {small.labels[i] for i in small.node_domain[node].nonzero().flatten()} == set(CONVOLUTIONS)
    batch = small.encode(small.sample(4, rng))
    ops = batch.ops.clone()
    ops[:, node] = torch.tensor([0.0, 0.9, 0.0, 0.02, 0.03, 0.05, 0.0])  # the most probable label is outside
    decoded = small.decode(GraphBatch(ops, batch.edges, batch.node_mask))
    assert [arch and arch.ops[node] for arch in decoded] == ["nor_conv_3x3"] * 4


def test_a_part_of_a_part(tmp_path: Path) -> None:
    part(tmp_path, "nasbench201", {"0->1": CONVOLUTIONS}, name="first")
    second = part(tmp_path, "first.toml", {"0->2": CONVOLUTIONS}, name="second")
    assert second.size == 4 * 5**4
    assert second.whole.family == "cell"
    assert {arch.space for arch in second.enumerate()} == {"second"}
    with pytest.raises(UnknownName, match="nor_conv_3x3"):
        spaces.restricted.RestrictedSpace(second, {"0->1": ["none"]})


def test_what_is_outside_is_refused_in_words(space: SearchSpace, tmp_path: Path) -> None:
    small = part(tmp_path, "nasbench201", {"0->1": CONVOLUTIONS})
    outside = space.format(space.from_choices(dict.fromkeys(space.variables, 1)))
    with pytest.raises(InvalidArchitecture, match=r"'0->1' of part must be one of nor_conv_1x1, .* got 'skip_connect'"):
        small.parse(outside)


@pytest.mark.parametrize(
    ("base", "kept", "message"),
    [
        ("nasbench21", {}, "unknown search space 'nasbench21': did you mean 'nasbench201'"),
        ("nasbench201", {"0->9": ["none"]}, r"unknown variable in \[values\] '0->9'"),
        ("nasbench201", {"0->1": ["nun"]}, r"unknown value of '0->1' in \[values\] 'nun': did you mean 'none'"),
        ("nasbench201", {"0->1": []}, r"\[values\]: 0->1 is empty"),
        ("nasbench201", {"0->1": ["none", "none"]}, "names one twice"),
        ("missing.toml", {}, "can not be read as TOML"),
    ],
)
def test_mistakes_get_one_line_that_names_the_place(
    base: str, kept: dict[str, list[str]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidSpace, match=message) as caught:
        part(tmp_path, base, kept)
    assert str(caught.value).startswith(str(tmp_path / "part.toml"))
    assert "\n" not in str(caught.value)


def test_a_part_of_one_architecture_is_refused(space: SearchSpace, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpace, match="no two architectures"):
        part(tmp_path, "nasbench201", {name: ["skip_connect"] for name in space.variables})
