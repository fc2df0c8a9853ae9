"""Guidance by any function of architectures: asked once for each, undecodable graphs forbidden; particles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from archgen.generators import Generator, Guidance, ImportanceGuidance, ParticleGuidance, SideBySide
from archgen.graph import Architecture, GraphBatch
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
def flow(space: SearchSpace, exact: Any) -> Generator:
    """Knows the posterior of uniform cells."""
    return exact.product_flow(space.node_domain, space.edge_domain)  # type: ignore[no-any-return]


def test_each_graph_gets_the_weight_of_its_architecture(space: SearchSpace, rng: np.random.Generator) -> None:
    archs = space.sample(20, rng)
    tilt = ImportanceGuidance(space.decode, Counting()).log_tilt(space.encode(archs))
    assert tilt.shape == (20,)
    assert tilt.is_floating_point()
    assert tilt.tolist() == [arch.ops.count("nor_conv_3x3") for arch in archs]


def test_an_architecture_is_weighed_once_in_the_life_of_the_guidance(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    a, b, c = space.sample(3, rng)
    weigh = Counting()
    guidance = ImportanceGuidance(space.decode, weigh)
    assert guidance.evaluated == 0
    first = guidance.log_tilt(space.encode([a, b, a, a]))
    assert weigh.calls == [[a, b]]
    second = guidance.log_tilt(space.encode([b, c, a]))
    assert weigh.calls == [[a, b], [c]]
    assert guidance.evaluated == 3
    assert torch.equal(first[[1, 0]], second[[0, 2]])
    guidance.log_tilt(space.encode([a, b, c]))
    assert len(weigh.calls) == 2  # nothing new: the function is not called at all
    guidance.forget()
    guidance.log_tilt(space.encode([a, b]))
    assert weigh.calls[2:] == [[a, b]]
    assert guidance.evaluated == 3  # distinct ones


def test_what_does_not_decode_is_forbidden_and_never_weighed(space: SearchSpace, rng: np.random.Generator) -> None:
    batch = space.encode(space.sample(3, rng))
    edges = batch.edges.clone()
    edges[1] = 0.0
    weigh = Counting()
    guidance = ImportanceGuidance(space.decode, weigh)
    tilt = guidance.log_tilt(GraphBatch(batch.ops, edges, batch.node_mask))
    assert tilt.isneginf().tolist() == [False, True, False]
    assert guidance.evaluated == 2
    assert None not in weigh.calls[0]


def test_nothing_in_nothing_out(space: SearchSpace) -> None:
    weigh = Counting()
    assert ImportanceGuidance(space.decode, weigh).log_tilt(space.encode([])).shape == (0,)
    assert weigh.calls == []


def test_sampling_avoids_what_the_function_forbids(space: SearchSpace, flow: Generator) -> None:
    """74 % of uniform cells pool. Where all candidates of a step are forbidden the generator keeps one of them, so a
    few get through (about 6 %); 16 or more of 64 do with probability below `FAILS` (binomial)."""

    def no_pooling(archs: Sequence[Architecture]) -> np.ndarray:
        return np.where(["avg_pool_3x3" in arch.ops for arch in archs], -np.inf, 0.0)

    def pooling(guidance: list[ImportanceGuidance]) -> int:
        drawn = space.decode(flow.sample(64, guidance=guidance, steps=8, generator=seeded()))
        return sum(arch is not None and "avg_pool_3x3" in arch.ops for arch in drawn)

    assert pooling([]) > 32
    assert pooling([ImportanceGuidance(space.decode, no_pooling)]) < 16


def test_several_guidances_multiply(space: SearchSpace, flow: Generator) -> None:
    """A weight split over two objects draws the same architectures as in one."""

    def half(archs: Sequence[Architecture]) -> np.ndarray:
        return Counting()(archs) / 2

    whole = [ImportanceGuidance(space.decode, Counting())]
    halves = [ImportanceGuidance(space.decode, half) for _ in range(2)]
    drawn = [space.decode(flow.sample(32, guidance=g, steps=4, generator=seeded())) for g in (whole, halves)]
    assert drawn[0] == drawn[1]


def test_samples_follow_the_tilted_distribution(space: SearchSpace, flow: Generator) -> None:
    """Operations are uniform without guidance; a weight of e for each 3x3 convolution tilts its share to e / (e + 4).

    The mean number of them in 6 edges then is 2.43, 1.2 without guidance. The mean of 256 samples has a standard
    deviation of 0.075, so 0.4 is missed with probability below `FAILS` by an exact sampler.
    """

    def mean(guidance: list[ImportanceGuidance]) -> float:
        drawn = space.decode(flow.sample(256, guidance=guidance, steps=8, generator=seeded()))
        return float(np.mean([arch.ops.count("nor_conv_3x3") for arch in drawn if arch is not None]))

    assert mean([]) == pytest.approx(6 / 5, abs=0.4)
    assert mean([ImportanceGuidance(space.decode, Counting())]) == pytest.approx(6 * math.e / (math.e + 4), abs=0.4)


def test_one_candidate_is_no_choice(space: SearchSpace) -> None:
    with pytest.raises(ValueError, match="at least 2 candidates to choose among, got 1"):
        ImportanceGuidance(space.decode, Counting(), candidates=1)
    with pytest.raises(ValueError, match="at least 2 particles a sample, got 1"):
        ParticleGuidance(space.decode, Counting(), particles=1)


# -- particles --------------------------------------------------------------------------------------------------


def rows_of(flow: Any) -> Any:
    """Decodes the tiny space's graphs to tuples of states, which stand in for architectures."""
    return lambda batch: [tuple(row) for row in flow.variables.states(batch).tolist()]


def rewarded(exact: Any, log_tilt: np.ndarray, particles: int, n: int, steps: int) -> np.ndarray:
    flow = exact.Flow(eta=1.0)
    table = dict(zip(exact.states, log_tilt, strict=True))
    guidance = ParticleGuidance(rows_of(flow), lambda rows: np.array([table[row] for row in rows]), particles)
    return exact.counts(flow, flow.sample(n, guidance=[guidance], steps=steps, generator=seeded()))


@pytest.mark.parametrize("steps", [1, 4])
def test_particles_give_the_tilted_distribution_as_they_grow(exact: Any, steps: int) -> None:
    """32 particles leave an error below the noise of 1,500 samples, 2 do not; with one step there is only the last
    weighing, with 4 there are predictions on the way, which do not matter for the limit."""
    log_tilt = np.random.default_rng(1).normal(0.0, 2.0, len(exact.states))
    expected = exact.product() * np.exp(log_tilt)
    common = expected / expected.sum() * 1_500 >= 5
    few, many = (rewarded(exact, log_tilt, particles=p, n=1_500, steps=steps) for p in (2, 32))
    exact.assert_distributed(many[common], expected[common])
    assert exact.distance(many, expected) < exact.distance(few, expected) / 2
    with pytest.raises(AssertionError):
        exact.assert_distributed(few[common], expected[common])


def weighing(weights: torch.Tensor) -> Any:
    """A decoder whose "architectures" are the rows' numbers, and the log-weights of those rows."""
    numbers: Any = list(range(weights.numel()))
    return (lambda batch: numbers), (lambda rows: weights.flatten().double().log().numpy()[list(rows)])


def batch_of(n: int) -> GraphBatch:
    return GraphBatch(torch.zeros(n, 2, 2), torch.zeros(n, 2, 2), torch.ones(n, 2, dtype=torch.bool))


def resampled(weights: torch.Tensor, t: float, seed: int = 0) -> torch.Tensor | None:
    groups, size = weights.shape
    guidance = ParticleGuidance(*weighing(weights), particles=size)
    assert guidance.population(groups) == groups * size
    return guidance.resample(batch_of(groups * size), t, generator=seeded(seed))


def test_resampling_is_systematic_and_unbiased() -> None:
    """Of weight `w` a particle has `N w` copies in the mean, rounded up or down in each group; never from another one.

    Off by five standard errors (at most 0.5 / sqrt(20,000) each) with probability 1e-5.
    """
    w = torch.tensor([0.72, 0.16, 0.09, 0.03])
    chosen = resampled(w.expand(20_000, 4), t=1e-9)
    assert chosen is not None
    groups = chosen.view(-1, 4)
    assert bool((groups // 4 == torch.arange(20_000)[:, None]).all())
    copies = torch.nn.functional.one_hot(groups % 4, 4).sum(1).float()
    assert bool(((copies == (4 * w).floor()) | (copies == (4 * w).ceil())).all())
    assert copies.mean(0).tolist() == pytest.approx((4 * w).tolist(), abs=5 * 0.5 / 20_000**0.5)


def test_only_groups_of_few_effective_particles_are_resampled() -> None:
    even, poor = torch.tensor([0.3, 0.25, 0.25, 0.2]), torch.tensor([0.94, 0.02, 0.02, 0.02])
    assert resampled(even.expand(3, 4), t=1e-9) is None
    chosen = resampled(torch.stack([even, poor, even]), t=1e-9)
    assert chosen is not None
    assert chosen.view(3, 4)[[0, 2]].tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert chosen.view(3, 4)[1].tolist().count(4) >= 3


def test_a_group_does_not_depend_on_the_others() -> None:
    """Scaling all weights of one group, and changing those of another, leaves the choice in each as it was."""
    first = torch.tensor([[0.9, 0.05, 0.03, 0.02], [0.1, 0.7, 0.1, 0.1], [0.01, 0.01, 0.97, 0.01]])
    other = torch.stack([first[0], 50 * first[1], first[2].flip(0)])
    for t in (1e-9, 0.0):
        one, two = resampled(first, t), resampled(other, t)
        assert one is not None
        assert two is not None
        assert one.view(3, -1)[:2].tolist() == two.view(3, -1)[:2].tolist()


def test_at_noise_rewards_say_nothing_and_at_the_end_one_of_each_group_is_drawn_by_its_weight() -> None:
    w = torch.tensor([0.62, 0.21, 0.12, 0.05])
    assert resampled(w.expand(3, 4) ** 9, t=1.0) is None
    last = resampled(w.expand(20_000, 4), t=0.0)
    assert last is not None
    assert last.shape == (20_000,)
    assert bool((last // 4 == torch.arange(20_000)).all())
    shares = torch.bincount(last % 4).float() / 20_000
    assert shares.tolist() == pytest.approx(w.tolist(), abs=5 * 0.5 / 20_000**0.5)


def test_weights_add_up_over_steps_until_a_group_is_resampled() -> None:
    """Differences of tempered rewards telescope: whatever was predicted before, the last weight is `e^r`."""
    w = torch.tensor([[0.6, 0.2, 0.1, 0.1]]).expand(20_000, 4)
    guidance = ParticleGuidance(*weighing(w), particles=4)
    guidance.population(20_000)
    for t in (1.0, 0.7, 0.6):
        assert guidance.resample(batch_of(80_000), t, generator=seeded()) is None
    last = guidance.resample(batch_of(80_000), 0.0, generator=seeded())
    assert last is not None
    shares = torch.bincount(last % 4).float() / 20_000
    assert shares.tolist() == pytest.approx(w[0].tolist(), abs=5 * 0.5 / 20_000**0.5)


def test_forbidden_predictions_break_nothing(space: SearchSpace, flow: Generator) -> None:
    """Everything forbidden is like nothing; one that is allowed in a group survives."""
    guidance = ParticleGuidance(space.decode, lambda archs: np.full(len(archs), -np.inf))
    archs = space.decode(flow.sample(32, guidance=[guidance], steps=5, generator=seeded()))
    assert None not in archs
    assert len(set(archs)) > 16
    assert bool(guidance._log_weight.isfinite().all())
    weights = torch.zeros(50, 4)
    weights[torch.arange(50), torch.arange(50) % 4] = 1.0
    for t in (0.5, 0.0):
        chosen = resampled(weights, t)
        assert chosen is not None
        assert bool((chosen.view(50, -1) % 4 == (torch.arange(50) % 4)[:, None]).all())


def test_particles_follow_a_wish_and_a_second_run_starts_afresh(space: SearchSpace, flow: Generator) -> None:
    guidance = ParticleGuidance(space.decode, Counting(), particles=8)

    def mean(members: list[Guidance]) -> float:
        drawn = space.decode(flow.sample(128, guidance=members, steps=8, generator=seeded()))
        assert len(drawn) == 128
        return float(np.mean([arch.ops.count("nor_conv_3x3") for arch in drawn if arch is not None]))

    first = mean([guidance])
    assert first > mean([]) + 0.6
    assert mean([guidance]) == first


def test_particles_and_candidates_go_together(space: SearchSpace, flow: Generator) -> None:
    """Half of the log-weight each, as much as all of it in one; 0.6 is five standard deviations of a mean of 96."""

    def half(archs: Sequence[Architecture]) -> np.ndarray:
        return Counting()(archs) / 2

    both = [ParticleGuidance(space.decode, half, particles=4), ImportanceGuidance(space.decode, half, 8)]
    drawn = space.decode(flow.sample(96, guidance=both, steps=6, generator=seeded()))
    assert len(drawn) == 96
    mean = np.mean([arch.ops.count("nor_conv_3x3") for arch in drawn if arch is not None])
    assert mean == pytest.approx(6 * math.e / (math.e + 4), abs=0.6)


def test_two_members_that_resample_are_refused(space: SearchSpace, flow: Generator) -> None:
    pair = [ParticleGuidance(space.decode, Counting()) for _ in range(2)]
    with pytest.raises(ValueError, match="only one member of the guidance may resample; put all potentials into it"):
        flow.sample(4, guidance=pair, steps=2, generator=seeded())


def test_the_base_class_abstains_from_everything(space: SearchSpace, flow: Generator) -> None:
    batch, member = space.encode(space.sample(3, np.random.default_rng(0))), Guidance()
    t = torch.full((3,), 0.5)
    opinions = (member.log_tilt(batch), member.changes(batch, t), member.score(batch, t))
    assert opinions == (None, None, None)
    assert member.resample(batch, 0.5, generator=seeded()) is None
    assert (member.candidates, member.population(3)) == (1, 3)
    plain, guided = (flow.sample(8, guidance=g, steps=3, generator=seeded()) for g in ([], [member]))
    assert torch.equal(plain.ops, guided.ops)


# -- several conditions in one run --------------------------------------------------------------------------------


def test_each_part_of_the_samples_is_drawn_under_its_own_condition(space: SearchSpace, flow: Generator) -> None:
    """One condition wants convolutions, the other none: of 40 samples each, 6 edges with 1 of 5 labels at first."""
    pulls = SideBySide(
        space.decode,
        [lambda archs: 4.0 * Counting()(archs), lambda archs: -4.0 * Counting()(archs)],
    )
    archs = space.decode(flow.sample(80, guidance=[pulls], steps=4, generator=seeded()))
    counts = [arch.ops.count("nor_conv_3x3") for arch in archs if arch is not None]
    assert len(counts) == 80
    assert np.mean(counts[:40]) > 2.5  # 1.2 without a condition
    assert np.mean(counts[40:]) < 0.3


def test_the_heaviest_of_each_condition_are_remembered(space: SearchSpace, rng: np.random.Generator) -> None:
    archs = list(dict.fromkeys(space.sample(40, rng)))[:32]
    pulls = SideBySide(space.decode, [Counting(), lambda archs: -Counting()(archs)], candidates=4)
    tilts = pulls.log_tilt(space.encode(archs))
    first, second = archs[:16], archs[16:]
    assert tilts.tolist() == [*Counting()(first), *(-Counting()(second))]
    many, few = pulls.heaviest(3)[:3], pulls.heaviest(3)[3:]
    assert set(many) <= set(first)
    assert set(few) <= set(second)
    assert sorted(Counting()(many)) == sorted(Counting()(first))[-3:]
    assert sorted(Counting()(few)) == sorted(Counting()(second))[:3]


def test_samples_that_conditions_can_not_share_are_refused(space: SearchSpace, rng: np.random.Generator) -> None:
    pulls = SideBySide(space.decode, [Counting(), Counting()], candidates=4)
    with pytest.raises(ValueError, match="for each of 2 conditions"):
        pulls.log_tilt(space.encode(space.sample(12, rng)))
