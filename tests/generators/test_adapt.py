"""Few-shot adaptation: samples come to resemble the examples without becoming them; weights carry over by name."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from archgen.generators import DiscreteFlow, adapt_to_examples, adapt_to_space
from archgen.sampler import pretrained_generator
from archgen.spaces import CellSpace, SearchSpace

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}


@pytest.fixture(scope="module")
def trained(space: SearchSpace) -> DiscreteFlow:
    flow = pretrained_generator(space)
    assert isinstance(flow, DiscreteFlow)
    return flow


def drawn(flow: DiscreteFlow, n: int = 600) -> torch.Tensor:
    return flow.variables.states(flow.sample(n, steps=8, generator=torch.Generator().manual_seed(5)))


def test_samples_resemble_the_examples_and_do_not_collapse(space: SearchSpace, trained: DiscreteFlow) -> None:
    """Cells whose first three edges are 3x3 convolutions: a fifth of all edges are so by chance, many more after."""
    conv = space.variables["0->1"].index("nor_conv_3x3")
    rng = np.random.default_rng(0)
    examples = []
    for arch in space.sample(10, rng):
        choices = space.to_choices(arch)
        examples.append(space.from_choices({**choices, "0->1": conv, "0->2": conv, "1->2": conv}))
    adapted = copy.deepcopy(trained)
    losses = adapt_to_examples(adapted, space.encode(examples), steps=100, seed=0)
    assert np.mean(losses[-20:]) < np.mean(losses[:5]) - 0.3
    before, after = drawn(trained), drawn(adapted)
    label = space.labels.index("nor_conv_3x3")
    share = [float((states[:, :3] == label).float().mean()) for states in (before, after)]
    assert share[0] < 0.3
    assert share[1] > share[0] + 0.1
    assert len(torch.unique(after, dim=0)) >= 0.9 * len(after)
    frozen = trained.state_dict()
    changed = [name for name, value in adapted.state_dict().items() if not torch.equal(value, frozen[name])]
    assert changed == ["context"]
    assert all(p.requires_grad for p in adapted.parameters())


def test_the_guard_takes_back_what_would_collapse(space: SearchSpace, trained: DiscreteFlow) -> None:
    """Ten copies of one cell: without the guard most samples are that cell's relatives."""
    examples = space.encode(space.sample(1, np.random.default_rng(3)) * 10)
    free, guarded = copy.deepcopy(trained), copy.deepcopy(trained)
    adapt_to_examples(free, examples, steps=100, unique=0.0, shrink=0.0, seed=0)
    adapt_to_examples(guarded, examples, steps=100, shrink=0.0, seed=0)
    distinct = [len(torch.unique(drawn(flow), dim=0)) / 600 for flow in (free, guarded)]
    assert distinct[0] < 0.8
    assert distinct[1] > 0.9
    assert float(guarded.context.detach().norm()) < float(free.context.detach().norm())


def test_a_related_space_starts_from_what_is_common() -> None:
    old = CellSpace("old", 3, ROLES, NETWORK)
    new = CellSpace("new", 4, {**ROLES, "nor_conv_1x1": "weighted"}, NETWORK)
    torch.manual_seed(0)
    flow = DiscreteFlow(old.node_domain, old.edge_domain, width=16, layers=1, heads=2)
    fresh = adapt_to_space(flow, old.labels, new.node_domain, new.edge_domain, new.labels)
    for label in old.labels:
        i, j = old.labels.index(label), new.labels.index(label)
        assert torch.equal(flow.node_head.weight[i], fresh.node_head.weight[j])
        assert torch.equal(flow.encoder.embed.weight[:, i], fresh.encoder.embed.weight[:, j])
    assert torch.equal(flow.encoder.layers[0].qkv.weight, fresh.encoder.layers[0].qkv.weight)
    archs = new.decode(fresh.sample(8, steps=2, generator=torch.Generator().manual_seed(0)))
    assert None not in archs
