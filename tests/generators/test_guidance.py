"""Guidance from a function of architectures: asked once for each, undecodable graphs forbidden."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from archgen.generators import ArchitectureGuidance, Generator
from archgen.graph import Architecture, GraphBatch
from archgen.sampler import pretrained_generator
from archgen.spaces import SearchSpace

FAILS = 1e-6
"""Probability with which the statistical test fails although the code is right; seeds are fixed besides."""


class Counting:
    """Weighs by the number of 3x3 convolutions and notes what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[Architecture]] = []

    def __call__(self, archs: Sequence[Architecture]) -> np.ndarray:
        self.calls.append(list(archs))
        return np.array([float(arch.ops.count("nor_conv_3x3")) for arch in archs])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def flow(space: SearchSpace) -> Generator:
    """The trained generator: about uniform over the space."""
    return pretrained_generator(space)


def test_each_graph_gets_the_weight_of_its_architecture(space: SearchSpace, rng: np.random.Generator) -> None:
    archs = space.sample(20, rng)
    tilt = ArchitectureGuidance(space.decode, Counting()).log_tilt(space.encode(archs))
    assert tilt.shape == (20,)
    assert tilt.is_floating_point()
    assert tilt.tolist() == [arch.ops.count("nor_conv_3x3") for arch in archs]


def test_an_architecture_is_weighed_once_in_the_life_of_the_guidance(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    a, b, c = space.sample(3, rng)
    weigh = Counting()
    guidance = ArchitectureGuidance(space.decode, weigh)
    assert guidance.evaluated == 0
    first = guidance.log_tilt(space.encode([a, b, a, a]))
    assert weigh.calls == [[a, b]]
    second = guidance.log_tilt(space.encode([b, c, a]))
    assert weigh.calls == [[a, b], [c]]
    assert guidance.evaluated == 3
    assert torch.equal(first[[1, 0]], second[[0, 2]])
    guidance.log_tilt(space.encode([a, b, c]))
    assert len(weigh.calls) == 2  # nothing new: the function is not called at all


def test_what_does_not_decode_is_forbidden_and_never_weighed(space: SearchSpace, rng: np.random.Generator) -> None:
    batch = space.encode(space.sample(3, rng))
    edges = batch.edges.clone()
    edges[1] = 0.0
    weigh = Counting()
    guidance = ArchitectureGuidance(space.decode, weigh)
    tilt = guidance.log_tilt(GraphBatch(batch.ops, edges, batch.node_mask))
    assert tilt.isneginf().tolist() == [False, True, False]
    assert guidance.evaluated == 2
    assert None not in weigh.calls[0]


def test_nothing_in_nothing_out(space: SearchSpace) -> None:
    weigh = Counting()
    assert ArchitectureGuidance(space.decode, weigh).log_tilt(space.encode([])).shape == (0,)
    assert weigh.calls == []


def test_sampling_avoids_what_the_function_forbids(space: SearchSpace, flow: Generator) -> None:
    """74 % of uniform cells pool. Where all candidates of a step are forbidden the generator keeps one of them, so a
    few get through (about 6 %); 16 or more of 64 do with probability below `FAILS` (binomial)."""

    def no_pooling(archs: Sequence[Architecture]) -> np.ndarray:
        return np.where(["avg_pool_3x3" in arch.ops for arch in archs], -np.inf, 0.0)

    def pooling(guidance: list[ArchitectureGuidance]) -> int:
        drawn = space.decode(flow.sample(64, guidance=guidance, steps=8, generator=seeded()))
        return sum(arch is not None and "avg_pool_3x3" in arch.ops for arch in drawn)

    assert pooling([]) > 32
    assert pooling([ArchitectureGuidance(space.decode, no_pooling)]) < 16


def test_several_guidances_multiply(space: SearchSpace, flow: Generator) -> None:
    """A weight split over two objects draws the same architectures as in one."""

    def half(archs: Sequence[Architecture]) -> np.ndarray:
        return Counting()(archs) / 2

    whole = [ArchitectureGuidance(space.decode, Counting())]
    halves = [ArchitectureGuidance(space.decode, half) for _ in range(2)]
    drawn = [space.decode(flow.sample(32, guidance=g, steps=4, generator=seeded())) for g in (whole, halves)]
    assert drawn[0] == drawn[1]


def test_samples_follow_the_tilted_distribution(space: SearchSpace, flow: Generator) -> None:
    """Operations are uniform without guidance; a weight of e for each 3x3 convolution tilts its share to e / (e + 4).

    The mean number of them in 6 edges then is 2.43, 1.2 without guidance. The mean of 256 samples has a standard
    deviation of 0.075, so 0.4 is missed with probability below `FAILS` by an exact sampler.
    """

    def mean(guidance: list[ArchitectureGuidance]) -> float:
        drawn = space.decode(flow.sample(256, guidance=guidance, steps=8, generator=seeded()))
        return float(np.mean([arch.ops.count("nor_conv_3x3") for arch in drawn if arch is not None]))

    assert mean([]) == pytest.approx(6 / 5, abs=0.4)
    assert mean([ArchitectureGuidance(space.decode, Counting())]) == pytest.approx(6 * math.e / (math.e + 4), abs=0.4)
