"""What `SearchSpace` does by itself where some settings are no points and several settings give one architecture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from archgen.errors import InvalidArchitecture
from archgen.graph import Architecture, GraphBatch
from archgen.spaces import CellSpace

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}


class Constrained(CellSpace):
    """27 settings; those without an operation on the first edge are no points, and where the second is none the third
    does not matter: it reads "none" then."""

    def __init__(self) -> None:
        super().__init__("constrained", 3, ROLES, NETWORK)
        self.free = False

    def from_choices(self, choices: Mapping[str, int]) -> Architecture:
        first, second, third = (choices[name] for name in self.variables)
        if first == 0:
            raise InvalidArchitecture("the first edge needs an operation")
        return super().from_choices(dict(zip(self.variables, (first, second, third if second else 0), strict=True)))

    def validate(self, arch: Architecture) -> None:
        super().validate(arch)
        if arch.ops[1] == "none" or (arch.ops[2] == "none" and arch.ops[3] != "none"):
            raise InvalidArchitecture("not a point")


@pytest.fixture
def constrained() -> Constrained:
    return Constrained()


def points(space: Constrained) -> set[Architecture]:
    """2 operations first; then none, or 2 second ones with 3 third ones."""
    found = set()
    for index in np.ndindex(3, 3, 3):
        try:
            found.add(space.from_choices(dict(zip(space.variables, map(int, index), strict=True))))
        except InvalidArchitecture:
            continue
    return found


def test_samples_are_points_and_reach_all_of_them(constrained: Constrained, rng: np.random.Generator) -> None:
    every = points(constrained)
    assert len(every) == 14
    archs = constrained.sample(500, rng)
    assert len(archs) == 500
    assert set(archs) == every


def test_a_mutant_is_another_point(constrained: Constrained) -> None:
    """Where the third choice does not matter, changing it gives the same architecture, so it is drawn again."""
    rng = np.random.default_rng(0)
    for arch in points(constrained):
        mutants = [constrained.mutate(arch, rng) for _ in range(120)]
        assert arch not in mutants
        for mutant in mutants:
            constrained.validate(mutant)
        assert set(mutants) == set(constrained.neighbours(arch))


def test_neighbours_are_distinct_points_and_not_the_architecture_itself(constrained: Constrained) -> None:
    for arch in points(constrained):
        near = constrained.neighbours(arch)
        assert len(set(near)) == len(near) > 0
        assert arch not in near
        for neighbour in near:
            constrained.validate(neighbour)
    open_, idle = (constrained.from_operations(ops) for ops in (["skip_connect"] * 3, ["skip_connect", "none", "none"]))
    assert len(constrained.neighbours(open_)) == 1 + 2 + 2  # one other first, two seconds, two thirds
    assert len(constrained.neighbours(idle)) == 1 + 2  # the third changes nothing


def test_children_are_points(constrained: Constrained, rng: np.random.Generator) -> None:
    every = sorted(points(constrained), key=repr)
    for a, b in zip(every, every[1:] + every[:1], strict=True):
        for _ in range(5):
            constrained.validate(constrained.crossover(a, b, rng))


def test_listing_leaves_out_what_is_no_point_and_names_each_architecture_once(constrained: Constrained) -> None:
    every = constrained.enumerate()
    assert len(every) == 14
    assert set(every) == points(constrained)


def marginals(space: Constrained, shares: list[list[float]]) -> GraphBatch:
    """Independent probabilities of the three operations' labels, for one graph."""
    ops = torch.zeros(1, *space.node_domain.shape)
    ops[0, 0, space.labels.index("input")] = ops[0, -1, space.labels.index("output")] = 1.0
    for node, row in enumerate(shares, start=1):
        for label, share in zip(ROLES, row, strict=True):
            ops[0, node, space.labels.index(label)] = share
    edges = space.encode(space.sample(1, np.random.default_rng(0))).edges
    return GraphBatch(ops, edges, torch.ones(1, len(space.node_domain), dtype=torch.bool))


def drawn_from(p: GraphBatch, n: int, seed: int) -> tuple[GraphBatch, GraphBatch]:
    """`n` graphs of these probabilities, and the probabilities of each."""
    many = GraphBatch(p.ops.expand(n, -1, -1), p.edges.expand(n, -1, -1), p.node_mask.expand(n, -1))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(many.ops.flatten(0, 1), 1, generator=generator).view(n, -1)
    ops = torch.nn.functional.one_hot(labels, many.ops.shape[-1]).float()
    return GraphBatch(ops, many.edges.clone(), many.node_mask), many


def test_mending_draws_from_the_same_probabilities_given_the_constraints(constrained: Constrained) -> None:
    """Pearson's chi-square over 14 architectures; 55 is exceeded with probability 4e-7."""
    shares = [[0.5, 0.3, 0.2], [0.4, 0.3, 0.3], [0.5, 0.25, 0.25]]
    drawn, p = drawn_from(marginals(constrained, shares), 4_000, seed=0)
    archs = constrained.decode(constrained.project(drawn, p, generator=torch.Generator().manual_seed(1)))
    assert None not in archs
    weights = {}
    for arch in points(constrained):
        chosen = [list(ROLES).index(op) for op in arch.ops[1:-1]]
        weights[arch] = float(np.prod([row[i] for row, i in zip(shares, chosen, strict=True)]))
    total = sum(weights.values())
    assert sum((archs.count(a) - 4_000 * w / total) ** 2 / (4_000 * w / total) for a, w in weights.items()) < 55
    before = constrained.decode(drawn)
    assert 0 < before.count(None) < 4_000
    assert all(new == old for new, old in zip(archs, before, strict=True) if old is not None)


def test_what_its_probabilities_can_not_mend_becomes_a_random_architecture(constrained: Constrained) -> None:
    drawn, p = drawn_from(marginals(constrained, [[1, 0, 0], [0, 1, 0], [0, 1, 0]]), 60, seed=0)
    archs = constrained.decode(constrained.project(drawn, p, generator=torch.Generator().manual_seed(1)))
    assert None not in archs
    assert len(set(archs)) > 8
    again = constrained.decode(constrained.project(drawn, p, generator=torch.Generator().manual_seed(1)))
    assert again == archs


def test_without_constraints_nothing_is_mended(rng: np.random.Generator) -> None:
    space = CellSpace("tiny", 3, ROLES, NETWORK)
    batch = space.encode(space.sample(4, rng))
    uniform = GraphBatch(torch.full_like(batch.ops, 0.2), batch.edges, batch.node_mask)
    assert space.project(batch, uniform, generator=torch.Generator()) is batch
