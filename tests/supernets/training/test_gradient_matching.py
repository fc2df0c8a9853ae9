"""Where to split: cosine distances of shared gradients, and the division with the least of them inside its groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from archgen.errors import InvalidArchitecture, InvalidSpace
from archgen.graph import Architecture
from archgen.spaces import CellSpace
from archgen.supernets import CellSupernet
from archgen.supernets.training.gradient_matching import best_cut, gradient_distances, minimum_cut

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
SPACE = CellSpace("small", 3, ROLES, NETWORK)
BATCH = (torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3)


@pytest.fixture
def supernet() -> CellSupernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CellSupernet(SPACE, NETWORK).train()


def test_distances_are_one_minus_the_cosine_of_what_is_shared(supernet: CellSupernet) -> None:
    """By hand: all weights but those of the convolutions on the edge itself."""
    got = gradient_distances(supernet, "0->2", [BATCH], np.random.default_rng(1))
    assert all(p.grad is None for p in supernet.parameters())
    (arch,) = SPACE.sample(1, np.random.default_rng(1))
    own = {n for n, _ in supernet.named_parameters() if ".edges.0-2." in n}
    assert len(own) == 3 * 2 * 3
    vectors = []
    for value in range(4):
        supernet.zero_grad()
        path = SPACE.from_choices({**SPACE.to_choices(arch), "0->2": value})
        F.cross_entropy(supernet(BATCH[0], path), BATCH[1]).backward()  # type: ignore[no-untyped-call]
        parts = [
            (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
            for n, p in supernet.named_parameters()
            if n not in own
        ]
        vectors.append(torch.cat(parts))
    cosine = F.cosine_similarity(torch.stack(vectors)[:, None], torch.stack(vectors)[None], dim=-1)
    assert got == pytest.approx(1 - cosine.numpy(), abs=1e-4)
    assert got == pytest.approx(got.T)


def test_distances_are_means_over_the_batches(supernet: CellSupernet) -> None:
    supernet.eval()  # it goes to training mode by itself, where statistics of a batch count
    each = [gradient_distances(supernet, "0->1", [BATCH], rng) for rng in (np.random.default_rng(2),)]
    rng = np.random.default_rng(2)
    both = gradient_distances(supernet, "0->1", [BATCH, BATCH], rng)
    second = np.random.default_rng(2)
    SPACE.sample(1, second)
    other = gradient_distances(supernet, "0->1", [BATCH], second)
    assert both == pytest.approx((each[0] + other) / 2, abs=1e-5)


def test_groups_have_the_least_distances_inside() -> None:
    """0, 3 and 4 agree, and so do 1 and 2."""
    distances = np.ones((5, 5))
    for group in ((0, 3, 4), (1, 2)):
        distances[np.ix_(group, group)] = 0.1
    np.fill_diagonal(distances, 0)
    groups, between = minimum_cut(distances)
    assert sorted(map(sorted, groups)) == [[0, 3, 4], [1, 2]]
    assert between == pytest.approx(1.0)
    assert minimum_cut(np.array([[0, 0.4], [0.4, 0]])) == (((0,), (1,)), pytest.approx(0.4))


def test_the_variable_with_the_largest_distance_is_split(
    supernet: CellSupernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = {"0->1": 0.5, "0->2": 2.0, "1->2": 1.0}
    monkeypatch.setattr(
        "archgen.supernets.training.gradient_matching.gradient_distances",
        lambda net, variable, batches, rng: scale[variable] * (1 - np.eye(4)),
    )
    rng = np.random.default_rng(0)
    assert best_cut(supernet, [BATCH], rng).variable == "0->2"
    cut = best_cut(supernet, [BATCH], rng, ["0->1", "1->2"])
    assert cut.variable == "1->2"
    assert cut.distance == pytest.approx(1.0)
    assert sorted(v for group in cut.groups for v in group) == [0, 1, 2, 3]


def test_many_values_are_no_reason_to_split(supernet: CellSupernet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two values that are opposed against four that nearly agree."""
    distances = {"0->1": 0.6 * (1 - np.eye(4)), "0->2": 2 * (1 - np.eye(2)), "1->2": np.zeros((4, 4))}
    monkeypatch.setattr(
        "archgen.supernets.training.gradient_matching.gradient_distances",
        lambda net, variable, batches, rng: distances[variable],
    )
    assert best_cut(supernet, [BATCH], np.random.default_rng(0)).variable == "0->2"


def test_values_that_other_choices_exclude_have_no_path(
    supernet: CellSupernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first value excludes itself: it is as far from the others as they are from each other on average."""
    whole = gradient_distances(supernet, "0->2", [BATCH], np.random.default_rng(1))
    from_choices = SPACE.from_choices

    def excluding(choices: dict[str, int]) -> Architecture:
        if choices["0->2"] == 0:
            raise InvalidArchitecture("excluded")
        return from_choices(choices)

    monkeypatch.setattr(SPACE, "from_choices", excluding)
    rest = gradient_distances(supernet, "0->2", [BATCH], np.random.default_rng(1))
    assert rest[1:, 1:] == pytest.approx(whole[1:, 1:], abs=1e-5)
    assert rest[0, 1:] == pytest.approx(whole[1:, 1:][~np.eye(3, dtype=bool)].mean(), abs=1e-5)
    assert rest[0, 0] == 0


def test_it_runs_on_a_real_supernet_and_is_deterministic(supernet: CellSupernet) -> None:
    cuts = [best_cut(supernet, [BATCH] * 3, np.random.default_rng(4)) for _ in range(2)]
    assert cuts[0] == cuts[1]
    assert cuts[0].distance > 0


def test_a_space_without_small_variables_is_refused(monkeypatch: pytest.MonkeyPatch, supernet: CellSupernet) -> None:
    monkeypatch.setattr("archgen.supernets.training.gradient_matching.MOST", 3)
    with pytest.raises(InvalidSpace, match="no variable of 2 to 3 values"):
        best_cut(supernet, [BATCH], np.random.default_rng(0))


def test_only_gradients_are_looked_at(supernet: CellSupernet) -> None:
    """No statistics move, and nothing is drawn: a training that was stopped after the split does not do it again."""
    supernet.skeleton.classifier = nn.Sequential(nn.Dropout(), supernet.skeleton.classifier)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    drawn = torch.random.get_rng_state()
    gradient_distances(supernet, "0->2", [BATCH] * 2, np.random.default_rng(1))
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), drawn)
