"""The promises of `SearchSpace`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from archgen.errors import InvalidArchitecture
from archgen.graph import Architecture, GraphBatch
from archgen.spaces import SearchSpace

SMALL_NETWORK = {
    **{"cells": 1, "channels": 4, "classes": 3, "in_channels": 2, "image_size": 8},
    **{"vocabulary": 30, "tokens": 8},
}
"""Values that `check_space` gives to those arguments of `build` that a space has."""


def check_space(
    space: SearchSpace, *, n: int = 64, rng: np.random.Generator, network: Mapping[str, int] | None = None
) -> None:
    """Check every promise of `SearchSpace` on `n` drawn architectures; networks are built for at most eight of them.

    Args:
        space: The space.
        n: Architectures to draw, at least 2.
        rng: Source of randomness.
        network: Arguments of `build` that give a small network; by default `SMALL_NETWORK`, where the space has them.
    """
    seed = int(rng.integers(2**31))
    archs = space.sample(n, np.random.default_rng(seed))
    assert len(archs) == n, f"sample({n}) gave {len(archs)} architectures"
    assert space.sample(n, np.random.default_rng(seed)) == archs, "sample: the same rng gave other architectures"
    for arch in archs:
        check_valid(space, arch, "sample")
        _check_forms(space, arch)
        _check_function(space, arch)
    _check_encoding(space, archs)
    for a, b in zip(archs, archs[1:] + archs[:1], strict=True):
        _check_variation(space, a, b, rng)
    for extreme in space.extremes or ():
        check_valid(space, extreme, "extremes")
    for arch in archs[:8]:
        _check_network(space, arch, dict(network) if network is not None else _small_network(space))


def check_valid(space: SearchSpace, arch: Architecture, origin: str) -> None:
    """Fail, naming where it came from, if an architecture is not a point of the space."""
    try:
        space.validate(arch)
    except InvalidArchitecture as error:
        raise AssertionError(f"{origin} gave an architecture that validate refuses: {error}") from error


def _check_forms(space: SearchSpace, arch: Architecture) -> None:
    text = space.format(arch)
    assert space.parse(text) == arch, f"parse(format(a)) is not a for '{text}'"
    choices = space.to_choices(arch)
    assert choices.keys() == space.variables.keys(), f"to_choices names {sorted(choices)}, not the space's variables"
    assert all(0 <= choices[name] < len(values) for name, values in space.variables.items()), (
        f"to_choices of '{text}' leaves the range of a variable: {choices}"
    )
    assert space.from_choices(choices) == arch, f"from_choices(to_choices(a)) is not a for '{text}'"
    assert Architecture.from_json(json.loads(json.dumps(arch.to_json()))) == arch, f"'{text}' does not survive JSON"


def _check_function(space: SearchSpace, arch: Architecture) -> None:
    text = space.format(arch)
    simple = space.simplify(arch)
    check_valid(space, simple, f"simplify('{text}')")
    assert space.simplify(simple) == simple, f"simplify is not idempotent for '{text}'"
    assert space.canonical(simple) == space.canonical(arch), f"simplify changes the canonical form of '{text}'"
    kept = set(space.computation(arch).ops) - {"input", "output"}
    assert kept <= set(space.computing_labels), f"computation of '{text}' keeps labels that do not compute: {kept}"


def _check_encoding(space: SearchSpace, archs: list[Architecture]) -> None:
    batch = space.encode(archs)
    n, k = space.node_domain.shape
    assert batch.ops.shape == (len(archs), n, k), f"encode: ops are {tuple(batch.ops.shape)}, expected b x {n} x {k}"
    assert batch.edges.shape == (len(archs), n, n), f"encode: edges are {tuple(batch.edges.shape)}"
    assert batch.node_mask.shape == (len(archs), n), f"encode: node_mask is {tuple(batch.node_mask.shape)}"
    assert bool((batch.ops.sum(-1) == batch.node_mask).all()), "encode: each existing node needs exactly one label"
    assert not bool((batch.ops.bool() & ~space.node_domain).any()), "encode: a label outside node_domain"
    states = torch.stack([1 - batch.edges, batch.edges], -1).bool()
    both = batch.node_mask[:, :, None] & batch.node_mask[:, None, :]
    assert not bool((states & ~space.edge_domain & both[..., None]).any()), "encode: an edge outside edge_domain"
    assert space.decode(batch) == archs, "decode(encode(archs)) is not archs"
    _check_projection(space, batch)
    assert space.decode(space.encode([])) == [], "decode(encode([])) is not empty"


def _check_projection(space: SearchSpace, batch: GraphBatch) -> None:
    """What any generator may draw inside the domains must decode after `project`; encoded graphs stay as they are."""
    noise = torch.Generator().manual_seed(0)
    b, (n, k) = len(batch), space.node_domain.shape
    uniform = GraphBatch(
        (space.node_domain / space.node_domain.sum(-1, keepdim=True)).expand(b, n, k).clone(),
        (space.edge_domain[..., 1] / space.edge_domain.sum(-1)).expand(b, n, n).triu(1).clone(),
        torch.ones(b, n, dtype=torch.bool),
    )
    ops = torch.multinomial(uniform.ops.view(b * n, k), 1, generator=noise).view(b, n)
    edges = (torch.rand(b, n, n, generator=noise) < uniform.edges).float()
    wild = GraphBatch(nn.functional.one_hot(ops, k).float(), edges, uniform.node_mask)
    repaired = space.project(wild, uniform, generator=noise)
    lost = sum(arch is None for arch in space.decode(repaired))
    assert lost == 0, f"project: {lost} of {b} graphs drawn inside the domains still do not decode"
    again = space.project(batch, uniform, generator=noise)
    same = torch.equal(again.edges, batch.edges) and torch.equal(again.ops, batch.ops)
    assert same, "project changed a graph that encode gave"
    whole = sum(arch is not None for arch in space.decode(wild))
    assert not space.free or whole == b, "free is True, but some graphs inside the domains do not decode"


def _check_variation(space: SearchSpace, a: Architecture, b: Architecture, rng: np.random.Generator) -> None:
    mutant = space.mutate(a, rng)
    check_valid(space, mutant, "mutate")
    changed = _differences(space, a, mutant)
    assert changed == 1 if space.free else changed > 0, f"mutate changed {changed} choices, not one"
    child = space.crossover(a, b, rng)
    check_valid(space, child, "crossover")
    first, second = space.to_choices(a), space.to_choices(b)
    foreign = [name for name, value in space.to_choices(child).items() if value not in (first[name], second[name])]
    assert not (space.free and foreign), f"crossover: the choice of {foreign} comes from neither parent"
    near = space.neighbours(a)
    expected = sum(len(values) - 1 for values in space.variables.values())
    assert len(set(near)) == len(near), f"neighbours: {len(near) - len(set(near))} are named twice"
    assert len(near) == expected if space.free else 0 < len(near) <= expected, (
        f"expected {expected} distinct neighbours, got {len(near)}"
    )
    for neighbour in near:
        check_valid(space, neighbour, "neighbours")
        assert neighbour != a, "neighbours: an architecture is its own neighbour"
        assert not space.free or _differences(space, a, neighbour) == 1, "a neighbour differs in more than one choice"


def _differences(space: SearchSpace, a: Architecture, b: Architecture) -> int:
    first, second = space.to_choices(a), space.to_choices(b)
    return sum(first[name] != second[name] for name in space.variables)


def _small_network(space: SearchSpace) -> dict[str, int]:
    return {name: value for name, value in SMALL_NETWORK.items() if name in space.network_defaults}


def _check_network(space: SearchSpace, arch: Architecture, network: dict[str, int]) -> None:
    text = space.format(arch)
    arguments = {**space.network_defaults, **network}
    classes = arguments.get("classes", 10)
    inputs = space.example_input(2, **network)
    if inputs.is_floating_point():
        inputs = torch.linspace(-1, 1, inputs.numel()).view_as(inputs)
    with torch.no_grad():
        logits = space.build(arch, **network).eval()(inputs)
    assert logits.shape == (2, classes), f"logits of '{text}' are {tuple(logits.shape)}, expected (2, {classes})"
    assert bool(torch.isfinite(logits).all()), f"logits of '{text}' are not finite"
    for chosen in ({}, network):
        counts = space.count(arch, **chosen)
        assert {"params", "flops"} <= counts.keys(), f"count gives {sorted(counts)}, expected params and flops"
        assert all(math.isfinite(v) and v >= 0 for v in counts.values()), f"count of '{text}' is {counts}"
        with torch.device("meta"):
            params = sum(p.numel() for p in space.build(arch, **chosen).parameters())
        assert counts["params"] == params, f"count of '{text}' says {counts['params']} params, its network has {params}"
