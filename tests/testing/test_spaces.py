"""The check of search spaces finds what is broken; that it passes what is whole is tested in `conformance/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archgen.graph import Architecture, GraphBatch
from archgen.spaces import CellSpace, SearchSpace
from archgen.testing import check_space
from archgen.testing.spaces import check_valid


def broken(space: SearchSpace, method: str, function: Callable[..., Any]) -> CellSpace:
    """A copy of the space with one method replaced; the function gets the whole space first."""
    assert isinstance(space, CellSpace)
    copy = CellSpace(space.name, space.nodes, space.roles, space.network_defaults)
    setattr(copy, method, lambda *arguments, **options: function(space, *arguments, **options))
    return copy


def _cleared(batch: GraphBatch) -> GraphBatch:
    return GraphBatch(0 * batch.ops, batch.edges, batch.node_mask)


def _rolled(batch: GraphBatch) -> GraphBatch:
    return GraphBatch(batch.ops.roll(1, 1), batch.edges, batch.node_mask)


def _filled(batch: GraphBatch) -> GraphBatch:
    return GraphBatch(batch.ops, torch.ones_like(batch.edges).triu(1), batch.node_mask)


SPACES: dict[str, tuple[str, Callable[..., Any], str]] = {
    "sample too few": ("sample", lambda s, n, rng: s.sample(n - 1, rng), "sample"),
    "sample ignores rng": ("sample", lambda s, n, rng: s.sample(n, np.random.default_rng()), "same rng"),
    "sample leaves the space": (
        "sample",
        lambda s, n, rng: [Architecture("other", ("input", "output"), ((0, 1),))] * n,
        "sample gave an architecture that validate refuses",
    ),
    "format loses": ("format", lambda s, a: s.format(s.enumerate()[0]), "parse"),
    "choices lose": ("to_choices", lambda s, a: dict.fromkeys(s.variables, 0), "from_choices"),
    "mutate does nothing": ("mutate", lambda s, a, rng: a, "mutate changed 0"),
    "mutate twice": ("mutate", lambda s, a, rng: s.sample(1, rng)[0], "mutate changed"),
    "crossover invents": ("crossover", lambda s, a, b, rng: s.sample(1, rng)[0], "neither parent"),
    "neighbours miss one": ("neighbours", lambda s, a: s.neighbours(a)[1:], "neighbours"),
    "neighbours twice": ("neighbours", lambda s, a: [s.neighbours(a)[0], *s.neighbours(a)[:-1]], "named twice"),
    "simplify cuts all": ("simplify", lambda s, a: s.from_operations([s.zero] * 6), "canonical form"),
    "computation keeps all": ("computation", lambda s, a: a, "keeps labels that do not compute"),
    "encode without a label": ("encode", lambda s, archs: _cleared(s.encode(archs)), "exactly one label"),
    "encode with another label": ("encode", lambda s, archs: _rolled(s.encode(archs)), "outside node_domain"),
    "encode with another edge": ("encode", lambda s, archs: _filled(s.encode(archs)), "outside edge_domain"),
    "project redraws": (
        "project",
        lambda s, drawn, p, **o: s.encode(s.sample(len(drawn), np.random.default_rng(0))),
        "project changed a graph that encode gave",
    ),
    "decode gives up": ("decode", lambda s, batch: [None] * len(batch), "decode"),
    "build misses classes": ("build", lambda s, a, **n: s.build(a, **{**n, "classes": 4}), "logits"),
    "build not finite": ("build", lambda s, a, **n: Poisoned(s.build(a, **n)), "finite"),
    "count off by one": (
        "count",
        lambda s, a, **n: {k: v + 1 for k, v in s.count(a, **n).items()},
        "params",
    ),
    "count lacks flops": (
        "count",
        lambda s, a, **n: {"params": s.count(a, **n)["params"]},
        "expected params and flops",
    ),
}


class Poisoned(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x) * torch.nan
        return out


@pytest.mark.parametrize("case", list(SPACES))
def test_check_space_finds_a_broken_promise(space: SearchSpace, case: str) -> None:
    method, function, message = SPACES[case]
    with pytest.raises(AssertionError, match=message):
        check_space(broken(space, method, function), n=8, rng=np.random.default_rng(0))


def test_check_space_finds_extremes_that_are_no_points(space: SearchSpace) -> None:
    copy = broken(space, "build", lambda s, a, **n: s.build(a, **n))
    copy.extremes = (space.enumerate()[0], Architecture("other", ("input", "output"), ((0, 1),)))
    with pytest.raises(AssertionError, match="extremes gave an architecture that validate refuses"):
        check_space(copy, n=2, rng=np.random.default_rng(0))


def test_check_space_runs_the_networks_of_eight_architectures_with_the_arguments_given(space: SearchSpace) -> None:
    run: list[dict[str, int]] = []

    def build(s: SearchSpace, arch: Architecture, **network: int) -> nn.Module:
        module = s.build(arch, **network)
        if next(module.parameters()).device.type != "meta":  # where only its parameters are counted
            run.append(network)
        return module

    small = {"cells": 1, "channels": 4, "classes": 5, "image_size": 8}
    check_space(broken(space, "build", build), n=9, rng=np.random.default_rng(0), network=small)
    assert run == [small] * 8


def test_check_valid_names_where_the_architecture_came_from(space: SearchSpace) -> None:
    arch = space.enumerate()[0]
    check_valid(space, arch, "mutate")
    with pytest.raises(AssertionError, match=r"^mutate gave an architecture that validate refuses: .* of 'other'"):
        check_valid(space, Architecture("other", arch.ops, arch.edges), "mutate")
