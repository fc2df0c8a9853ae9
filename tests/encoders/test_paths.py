"""Path features: a cell worked out by hand, and what must not change them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from archgen import config, spaces
from archgen.encoders import PathEncoder
from archgen.graph import Architecture
from archgen.spaces import SearchSpace


def blocks_of(encoder: PathEncoder, arch: Architecture) -> dict[str, list[float]]:
    parts = encoder([arch])[0].split(list(encoder.blocks.values()))
    return {name: part.tolist() for name, part in zip(encoder.blocks, parts, strict=True)}


def path_index(*sequence: str) -> int:
    """Place of a label sequence among the sequences of 0 to 3 of the three labels, shorter ones first."""
    labels = ["nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
    start = sum(3**length for length in range(len(sequence)))
    return start + sum(labels.index(label) * 3 ** (len(sequence) - 1 - i) for i, label in enumerate(sequence))


def listed_paths(dag: Architecture) -> list[tuple[str, ...]]:
    """Labels along every path from input to output."""
    last = len(dag.ops) - 1

    def walk(node: int) -> list[tuple[str, ...]]:
        if node == last:
            return [()]
        rests = [(j, rest) for i, j in dag.edges if i == node for rest in walk(j)]
        return [rest if j == last else (dag.ops[j], *rest) for j, rest in rests]

    return walk(0)


def test_widths_of_the_blocks_for_nasbench201(space: SearchSpace) -> None:
    assert PathEncoder(space).blocks == {"choices": 30, "counts": 3, "longest": 4, "paths": 40}


def test_features_of_a_cell_worked_out_by_hand(space: SearchSpace) -> None:
    # 0->1 conv3, 0->2 skip, 1->2 conv1, 0->3 skip, 1->3 pool, 2->3 conv3
    encoder = PathEncoder(space)
    arch = space.parse(
        "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
    )
    features = blocks_of(encoder, arch)
    # none, skip, conv1, conv3, pool: index 3, 1, 2, 1, 4, 3
    assert torch.tensor(features["choices"]).view(6, 5).argmax(1).tolist() == [3, 1, 2, 1, 4, 3]
    assert sum(features["choices"]) == 6
    assert features["counts"] == [1, 2, 1]
    # paths: conv3 conv1 conv3; conv3 (through 0->2); nothing (0->3); conv3 pool
    assert features["longest"] == [1, 2, 1, 3]
    c1, c3, pool = "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"
    expected = np.zeros(40)
    for sequence in ((c3, c1, c3), (c3,), (), (c3, pool)):
        expected[path_index(*sequence)] = math.log(2)
    assert features["paths"] == pytest.approx(expected.tolist())


def test_equal_paths_are_counted(space: SearchSpace) -> None:
    arch = space.parse(
        "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|nor_conv_1x1~0|nor_conv_1x1~1|nor_conv_1x1~2|"
    )
    features = blocks_of(PathEncoder(space), arch)
    # node 2 is twice the input, so there are four paths through the three convolutions
    assert features["counts"] == [3, 0, 0]
    assert features["paths"][path_index("nor_conv_1x1")] == pytest.approx(math.log1p(4))
    assert sum(value > 0 for value in features["paths"]) == 1


def test_a_cell_without_a_path_has_a_row_of_its_own(space: SearchSpace) -> None:
    encoder = PathEncoder(space)
    cut = blocks_of(encoder, space.parse("|none~0|+|none~0|nor_conv_3x3~1|+|none~0|skip_connect~1|nor_conv_3x3~2|"))
    skip = blocks_of(encoder, space.parse("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"))
    assert cut["longest"] == [0, 0, 0, -1]
    assert cut["paths"] == [0.0] * 40
    assert skip["longest"] == [0, 0, 0, 0]
    assert skip["paths"][0] == pytest.approx(math.log(2))


def test_dead_edges_do_not_change_the_features(space: SearchSpace, rng: np.random.Generator) -> None:
    encoder = PathEncoder(space)
    archs = [arch for arch in space.sample(500, rng) if space.simplify(arch) != arch]
    assert len(archs) > 100
    torch.testing.assert_close(encoder(archs), encoder([space.simplify(a) for a in archs]), rtol=0, atol=0)


def test_all_but_the_choices_agree_within_a_canonical_class_when_identities_move(space: SearchSpace) -> None:
    """A convolution of the input reaches the output directly, before an identity or after one."""
    encoder = PathEncoder(space)
    texts = [
        "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|",
        "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|",
        "|skip_connect~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|",
        "|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|skip_connect~2|",
    ]
    archs = [space.parse(text) for text in texts]
    assert len({space.canonical(arch) for arch in archs}) == 1
    rows = encoder(archs)[:, encoder.blocks["choices"] :]
    assert torch.equal(rows, rows[:1].expand_as(rows))


def test_features_do_not_depend_on_what_was_encoded_before(space: SearchSpace, rng: np.random.Generator) -> None:
    archs, encoder = space.sample(20, rng), PathEncoder(space)
    whole = encoder(archs)
    assert torch.equal(whole, torch.cat([PathEncoder(space)([arch]) for arch in archs]))
    assert torch.equal(whole, encoder(archs))
    assert whole.dtype == torch.double
    assert encoder([]).shape == (0, 77)


def test_a_space_with_too_many_sequences_goes_without_their_counts(tmp_path: Path, rng: np.random.Generator) -> None:
    text = (config.spaces_dir() / "nasbench201.toml").read_text(encoding="utf-8")
    (tmp_path / "deep.toml").write_text(text.replace("nodes = 4", "nodes = 9"), encoding="utf-8")
    deep = spaces.read(tmp_path / "deep.toml")
    encoder = PathEncoder(deep)
    assert "paths" not in encoder.blocks
    features = encoder(deep.sample(5, rng))
    assert features.shape == (5, sum(encoder.blocks.values()))
    assert bool(features.isfinite().all())


def test_longest_paths_are_those_of_all_paths_listed(space: SearchSpace, rng: np.random.Generator) -> None:
    encoder = PathEncoder(space)
    for arch in space.sample(200, rng):
        ends = listed_paths(space.computation(arch))
        longest = [max((path.count(label) for path in ends), default=0) for label in encoder.labels]
        features = blocks_of(encoder, arch)
        assert features["longest"] == [*longest, max((len(path) for path in ends), default=-1)]
        times = np.zeros(40)
        for path in ends:
            times[path_index(*path)] += 1
        assert features["paths"] == np.log1p(times).tolist()


def test_an_architecture_is_recognised_by_value(space: SearchSpace, rng: np.random.Generator) -> None:
    (arch,) = space.sample(1, rng)
    encoder = PathEncoder(space)
    assert torch.equal(encoder([arch]), encoder([replace(arch)]))


@pytest.mark.parametrize("name", ["darts", "fbnet", "mobilenetv3", "nasbench101", "nasbench_macro"])
def test_counts_and_longest_paths_are_those_of_the_computation(name: str, rng: np.random.Generator) -> None:
    other = spaces.load(name)
    encoder = PathEncoder(other)
    archs = other.sample(30, rng)
    start = encoder.blocks["choices"]
    k = len(encoder.labels)
    for arch, row in zip(archs, encoder(archs)[:, start : start + 2 * k + 1].tolist(), strict=True):
        dag = other.computation(arch)
        ends = listed_paths(dag)
        longest = [max((path.count(label) for path in ends), default=0) for label in encoder.labels]
        counts = [dag.ops.count(label) for label in encoder.labels]
        assert row == [*counts, *longest, max((len(path) for path in ends), default=-1)]
