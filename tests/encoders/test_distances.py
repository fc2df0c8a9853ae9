"""Distances of graphs in closed form, and an embedding that keeps them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from archgen import spaces
from archgen.encoders import DistanceEncoder
from archgen.encoders.distances import EDGE, edit_distance, kernel_distance
from archgen.graph import Architecture
from archgen.spaces import SearchSpace


def graph(ops: str, *edges: tuple[int, int]) -> Architecture:
    return Architecture("none", tuple(ops), edges)


CHAIN = graph("iabo", (0, 1), (1, 2), (2, 3))


@pytest.mark.parametrize(
    ("other", "cost"),
    [
        (CHAIN, 0.0),
        (graph("iaco", (0, 1), (1, 2), (2, 3)), 1.0),
        (graph("iabo", (0, 1), (1, 2)), EDGE),
        (graph("iabbo", (0, 1), (1, 2), (2, 3), (3, 4)), 1 + 3 * EDGE),
        (graph("iabo", (0, 1), (1, 2), (2, 3), (0, 3)), EDGE),
    ],
)
def test_edit_distance_counts_nodes_and_tenths_of_edges(other: Architecture, cost: float) -> None:
    assert edit_distance(CHAIN, other, attempts=None) == pytest.approx(cost)
    assert edit_distance(other, CHAIN, attempts=None) == pytest.approx(cost)


def test_few_attempts_give_an_upper_bound(space: SearchSpace, rng: np.random.Generator) -> None:
    archs = [space.computation(arch) for arch in space.sample(6, rng)]
    for a, b in zip(archs[:3], archs[3:], strict=True):
        assert edit_distance(a, b, attempts=1) >= edit_distance(a, b, attempts=None) - 1e-9


def test_kernel_distance_in_closed_form() -> None:
    """Rounds 0 and 1 of a chain i-a-o and i-b-o: labels share 2 of 3 colours; neighbourhoods share none."""
    one, other = graph("iao", (0, 1), (1, 2)), graph("ibo", (0, 1), (1, 2))
    assert kernel_distance(one, other, rounds=0) == pytest.approx(1 - 2 / 3)
    assert kernel_distance(one, other, rounds=1) == pytest.approx(1 - 2 / 6)


def test_kernel_distance_does_not_see_the_order_of_nodes_but_the_direction_of_edges() -> None:
    one, same = graph("iabo", (0, 1), (0, 2), (1, 3), (2, 3)), graph("ibao", (0, 1), (0, 2), (1, 3), (2, 3))
    assert kernel_distance(one, same) == pytest.approx(0.0)
    assert kernel_distance(CHAIN, graph("ibao", (0, 1), (1, 2), (2, 3))) > 0.1


@pytest.fixture(scope="module")
def encoder(space: SearchSpace) -> DistanceEncoder:
    encoder = DistanceEncoder(space, reference=60, pairs=250, steps=200)
    encoder([])
    return encoder


def test_euclidean_distances_of_new_architectures_are_the_graphs(encoder: DistanceEncoder, space: SearchSpace) -> None:
    """Of 100 pairs that were not trained on."""
    rng = np.random.default_rng(7)
    a, b = space.sample(100, rng), space.sample(100, rng)
    apart = (encoder(a) - encoder(b)).norm(dim=1).numpy()
    wanted = encoder.distances(a, b).numpy()
    assert spearmanr(apart, wanted).statistic > 0.8
    assert np.abs(apart - wanted).mean() < 0.5 * np.abs(wanted - wanted.mean()).mean() + 0.1


def test_architectures_that_compute_the_same_are_near(encoder: DistanceEncoder, space: SearchSpace) -> None:
    dead = space.from_operations(["nor_conv_3x3", "none", "none", "nor_conv_1x1", "none", "none"])
    simple = space.simplify(dead)
    other = space.from_operations(["nor_conv_3x3"] * 6)
    assert (encoder([dead]) - encoder([simple])).norm() < 0.1 * (encoder([dead]) - encoder([other])).norm()


def test_it_survives_its_state(encoder: DistanceEncoder, space: SearchSpace, rng: np.random.Generator) -> None:
    again = DistanceEncoder(space, reference=2, pairs=1, steps=1)
    again.load_state_dict(encoder.state_dict())
    archs = space.sample(5, rng)
    assert torch.equal(again(archs), encoder(archs))


def test_the_same_seed_gives_the_same_embedding(space: SearchSpace, rng: np.random.Generator) -> None:
    archs = space.sample(5, rng)
    before = torch.random.get_rng_state()
    one, other = (DistanceEncoder(space, reference=10, pairs=20, steps=5)(archs) for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.shape == (5, 16)


def test_large_graphs_take_the_kernel(rng: np.random.Generator) -> None:
    large = spaces.load("mobilenetv3")
    encoder = DistanceEncoder(large, reference=20, pairs=40, steps=20)
    assert encoder.distance == "kernel"
    assert encoder(large.sample(3, rng)).shape == (3, 16)


def test_no_pairs_are_refused(space: SearchSpace) -> None:
    with pytest.raises(ValueError, match="at least 2 architectures"):
        DistanceEncoder(space, reference=1)
