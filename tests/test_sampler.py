"""The guided sampler keeps its bounds, follows its wishes, repeats itself by seed and says why when it can not."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from archgen import spaces
from archgen.errors import (
    ArchgenWarning,
    Infeasible,
    InvalidObjective,
    UnknownMetric,
)
from archgen.generators import DiscreteFlow
from archgen.graph import Architecture
from archgen.objectives import Objective, at_least, at_most, maximize, minimize
from archgen.predictors import Predictor
from archgen.predictors.base import Floats, Prediction
from archgen.predictors.counts import Count
from archgen.sampler import GuidedSampler
from archgen.spaces import CellSpace, SearchSpace
from archgen.steering import Steering

FAILS = 1e-6
"""Probability with which a statistical test here fails although the code is right; seeds are fixed besides."""


class Latency(Predictor):
    """Additive over the choices, with an error of 0.3 ms; mean 6 ms, spread about 1.7 ms."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space, "latency_ms")
        self.weights = np.random.default_rng(3).uniform(0, 2, (len(space.variables), 5))

    def fit(self, archs: Sequence[Architecture], y: Floats) -> Latency:
        return self

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        choices = [list(self.space.to_choices(arch).values()) for arch in archs]
        mean = np.array([sum(self.weights[v, c] for v, c in enumerate(row)) for row in choices])
        return Prediction(mean, np.full(len(mean), 0.3))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, {}

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Latency:
        return cls(space)


@pytest.fixture(scope="module")
def uniform(space: SearchSpace) -> DiscreteFlow:
    """Knows the posterior of uniform cells and takes no condition."""

    class Uniform(DiscreteFlow):
        def posterior(self, states: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
            domain, noise = self.variables.domain, self.variables.noise
            same = torch.nn.functional.one_hot(states, domain.shape[1])
            return ((1 - t)[:, None, None] * same + t[:, None, None] * noise).log()

    return Uniform(space.node_domain, space.edge_domain, width=8, layers=1, heads=2).eval()


@pytest.fixture(scope="module")
def sampler(space: SearchSpace, uniform: DiscreteFlow) -> GuidedSampler:
    return GuidedSampler(space, uniform, {"latency_ms": Latency(space)})


@pytest.fixture(scope="module")
def conditional(space: SearchSpace, obedient: DiscreteFlow, additive: dict[str, Any]) -> GuidedSampler:
    """Its generator takes conditions on `latency_ms` and `energy_mj`."""
    return GuidedSampler(space, obedient, additive)


@pytest.fixture(scope="module")
def tiny() -> GuidedSampler:
    """A space of 27 and an untrained generator."""
    roles = {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}
    network = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
    space = CellSpace("tiny", 3, roles, network)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = DiscreteFlow(space.node_domain, space.edge_domain, width=8, layers=1, heads=2)
    return GuidedSampler(space, flow.eval())


# -- wishes ------------------------------------------------------------------------------------------------------


BOUNDS: dict[str, list[Objective]] = {
    "one": [at_most("latency_ms", 4.5)],
    "exact count": [at_most("params", 3e5)],
    "both sides": [at_least("latency_ms", 5.0), at_most("latency_ms", 5.5)],
    "two metrics": [at_most("latency_ms", 6.0), at_least("params", 6e5)],
    "against the wish": [maximize("params"), at_most("latency_ms", 5.0)],
}


@pytest.mark.parametrize("case", list(BOUNDS))
def test_bounds_are_always_met_as_predicted(sampler: GuidedSampler, case: str) -> None:
    wishes = BOUNDS[case]
    samples = sampler.sample(24, wishes, steps=8, seed=1)
    assert len(samples) == 24
    frame = samples.to_frame()
    for wish in wishes:
        assert all(wish.met(value) for value in frame[wish.metric])
        assert frame[wish.metric].tolist() == sampler.predictor(wish.metric).predict(samples.archs).mean.tolist()


def test_an_exact_bound_that_a_single_architecture_meets_is_reached(sampler: GuidedSampler) -> None:
    """Of 15,625 only the cell of six 3x3 convolutions has the most parameters; the bound alone must show the way."""
    most = sampler.space.parse(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
        + "|".join(["", *(f"nor_conv_3x3~{i}" for i in range(3)), ""])
    )
    (params,) = Count(sampler.space, "params").predict([most]).mean
    assert sampler.sample(1, [at_least("params", float(params))], steps=8).archs == [most]


@pytest.mark.parametrize("wish", [maximize("latency_ms"), minimize("latency_ms"), maximize("flops")])
def test_a_direction_moves_the_predicted_metric_clearly(sampler: GuidedSampler, wish: Objective) -> None:
    """By more than a standard deviation of the space in the mean of 48.

    Two unguided means differ by 0.2 standard deviations, one of theirs, so luck reaches 1 with probability below
    `FAILS`.
    """
    free = sampler.predictor(wish.metric).predict(sampler.sample(48, steps=8, unique=False).archs).mean
    guided = sampler.sample(48, [wish], steps=8, unique=False).predicted[wish.metric]
    assert wish.sign * (guided.mean() - free.mean()) > free.std()


def test_a_stronger_pull_goes_further_and_none_goes_nowhere(space: SearchSpace, uniform: DiscreteFlow) -> None:
    """Standard deviations above the space's mean: strength 0 stays (missed by 0.8 with probability below `FAILS`)."""
    reached = []
    for strength in (0.0, 1.0, 6.0):
        sampler = GuidedSampler(space, uniform, {"latency_ms": Latency(space)}, strength)
        latency = sampler.sample(48, [maximize("latency_ms")], steps=8, unique=False).predicted["latency_ms"]
        everywhere = Latency(space).predict(space.enumerate()).mean
        reached.append((latency.mean() - everywhere.mean()) / everywhere.std())
    assert abs(reached[0]) < 0.8
    assert reached[0] + 0.4 < reached[1] < reached[2] - 0.4


def test_without_wishes_the_generator_is_sampled_as_it_is(sampler: GuidedSampler) -> None:
    noise = torch.Generator().manual_seed(5)
    batch = sampler.generator.sample(40, steps=4, generator=noise)
    assert sampler.sample(40, steps=4, seed=5, unique=False).archs == sampler.space.decode(batch)


# -- conditions, several directions, variations ------------------------------------------------------------------


def test_a_condition_gives_architectures_that_have_the_property(conditional: GuidedSampler) -> None:
    """The flow's own spread is one standard deviation (2.4), that of a mean of 64 an eighth of it."""
    samples = conditional.sample(64, condition={"energy_mj": 15.0}, weight=1.0, steps=4)
    assert list(samples.predicted) == ["energy_mj", "params", "flops"]
    assert samples.predicted["energy_mj"].mean() == pytest.approx(15.0, abs=1.2)


def test_a_condition_outside_the_trained_range_warns_and_names_it(conditional: GuidedSampler) -> None:
    with pytest.warns(
        ArchgenWarning, match=r"energy_mj = 500 is outside what the generator was trained on, 4\.7.* to 19"
    ):
        assert len(conditional.sample(4, condition={"energy_mj": 500.0}, steps=2)) == 4


def test_an_unknown_property_gets_a_hint(conditional: GuidedSampler) -> None:
    with pytest.raises(UnknownMetric, match="'energy_mj@pixel3': did you mean 'energy_mj'"):
        conditional.sample(4, condition={"energy_mj@pixel3": 1.0})


@pytest.mark.parametrize(
    ("guidance", "gain"), [("auto", 1.3), ("classifier_free", 1.3), ("importance", 0.7), ("particles", 0.0)]
)
def test_every_way_of_guiding_keeps_the_bound_and_follows_the_direction(
    conditional: GuidedSampler, guidance: str, gain: float
) -> None:
    """The bound leaves 16 % of the space; within it latency is 5.7 on average, with a standard deviation of 1.3. Four
    particles are hardly more than it takes to meet the bound, and little is left for the direction."""
    wishes = [maximize("latency_ms"), at_most("energy_mj", 10.2)]
    samples = conditional.sample(48, wishes, guidance=guidance, steps=6)
    assert len(samples) == 48
    assert (samples.predicted["energy_mj"] <= 10.2).all()
    assert samples.predicted["latency_ms"].mean() > 5.7 + gain


def test_weights_spread_over_the_front_where_a_sum_stays_in_its_middle(conditional: GuidedSampler) -> None:
    """Two metrics of which each has its own best end: weights drawn anew each round go to both."""
    wishes = [maximize("latency_ms"), minimize("energy_mj")]
    spreads, sums = {}, {}
    for trade_off in ("sum", "weights", "hypervolume"):
        samples = conditional.sample(96, wishes, trade_off=trade_off, guidance="importance", steps=4, seed=1)  # type: ignore[arg-type]
        z = (samples.predicted["latency_ms"] - 5.7) / 1.3, -(samples.predicted["energy_mj"] - 12.6) / 2.4
        spreads[trade_off], sums[trade_off] = np.std(z[0] - z[1]), np.mean(z[0] + z[1])
    assert spreads["weights"] > 1.3 * spreads["sum"]
    assert min(sums.values()) > 1.0  # of random architectures: 0 with a standard deviation of 1.4


def test_varied_architectures_are_like_their_parents_and_better(conditional: GuidedSampler) -> None:
    parents = conditional.space.sample(8, np.random.default_rng(0))
    wish = maximize("energy_mj")
    samples = conditional.sample(40, [wish], vary=parents, t=0.3, guidance="importance", steps=4)

    def nearest(arch: Architecture) -> int:
        return max(sum(a == b for a, b in zip(arch.ops, parent.ops, strict=True)) - 2 for parent in parents)

    assert np.mean([nearest(arch) for arch in samples.archs]) > 3.0  # a random one shares 2.6 of 6 with its nearest
    before = conditional.predictor("energy_mj").predict(parents).mean.mean()
    assert samples.predicted["energy_mj"].mean() > before + 2.0


def test_another_generator_can_be_passed(conditional: GuidedSampler, uniform: DiscreteFlow) -> None:
    samples = conditional.sample(20, generator=uniform, steps=4, seed=5, unique=False)
    batch = uniform.sample(20, steps=4, generator=torch.Generator().manual_seed(5))
    assert samples.archs == conditional.space.decode(batch)
    with pytest.raises(InvalidObjective, match="needs a generator that was trained with conditions"):
        conditional.sample(4, condition={"energy_mj": 12.0}, generator=uniform)


@pytest.mark.parametrize("confidence", [0.6, 0.95])
def test_with_a_confidence_only_architectures_whose_limit_meets_the_bound_are_kept(
    sampler: GuidedSampler, confidence: float
) -> None:
    """Errors are Gaussian with 0.3 ms: the mean must lie below the bound by the quantile."""
    wish = at_most("latency_ms", 4.5)
    samples = sampler.sample(40, [wish], confidence=confidence, steps=6)
    latency = samples.predicted["latency_ms"]
    margin = 0.3 * norm.ppf(confidence)
    assert (latency <= 4.5 - margin + 1e-9).all()
    assert latency.max() > 4.5 - margin - 0.5  # and no more is asked than that
    assert (sampler.predictor("latency_ms").limit(samples.archs, wish, confidence) <= 4.5 + 1e-9).all()


def test_a_bound_that_no_confidence_backs_says_so(sampler: GuidedSampler) -> None:
    """The fastest cell is met by its mean, but not surely."""
    fastest = sampler.predictor("latency_ms").predict(sampler.space.enumerate()).mean.min()
    with pytest.raises(
        Infeasible, match=r"latency_ms at most .* \(reachable: .*\) with confidence 0.999; move a bound"
    ):
        sampler.sample(2, [at_most("latency_ms", float(fastest) + 0.01)], confidence=0.999, steps=4)


# -- memory, streams ---------------------------------------------------------------------------------------------


class Chunks(DiscreteFlow):
    """Notes how many graphs it is asked for."""

    def sample(self, n: int, **options: Any) -> Any:
        self.asked = [*getattr(self, "asked", []), n]
        return super().sample(n, **options)


@pytest.mark.parametrize("guidance", ["auto", "particles"])
def test_memory_is_bounded_by_the_batch(space: SearchSpace, monkeypatch: pytest.MonkeyPatch, guidance: str) -> None:
    """With room for `CELLS` numbers, 64 graphs of 8 nodes and 7 labels fit, and a sixteenth or fourth of it when each
    is drawn from as many candidates or particles; at least 16 are drawn at once."""
    monkeypatch.setattr("archgen.sampler.CELLS", 64 * space.node_domain.numel())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = Chunks(space.node_domain, space.edge_domain, width=8, layers=1, heads=2).eval()
    sampler = GuidedSampler(space, flow)
    assert len(sampler.sample(300, steps=2, unique=False)) == 300
    assert max(flow.asked) == 64
    assert sum(flow.asked) < 300 + 64
    flow.asked = []
    wishes = [maximize("params")]
    assert len(sampler.sample(40, wishes, steps=2, unique=False, guidance=guidance)) == 40
    assert set(flow.asked) == {16}
    monkeypatch.undo()
    flow.asked = []
    assert len(sampler.sample(300, steps=2, unique=False)) == 300
    assert flow.asked == [300]


def test_a_stream_goes_on_with_new_architectures_and_repeats_itself_by_seed(sampler: GuidedSampler) -> None:
    def first(seed: int) -> list[list[Architecture]]:
        stream = sampler.stream([at_most("latency_ms", 6.0)], batch=12, seed=seed, steps=3)
        return [next(stream).archs for _ in range(3)]

    one, again, other = first(0), first(0), first(1)
    assert one == again != other
    assert [len(batch) for batch in one] == [12, 12, 12]
    assert len({arch for batch in one for arch in batch}) > 30
    assert one[0] != one[1]


# -- what comes back ---------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_architectures_whatever_was_drawn_before(sampler: GuidedSampler) -> None:
    wishes = [maximize("params"), at_most("latency_ms", 5.0)]
    fresh = GuidedSampler(sampler.space, sampler.generator, {"latency_ms": Latency(sampler.space)})
    first = fresh.sample(16, wishes, steps=4, seed=3)
    fresh.sample(16, [minimize("flops")], steps=4, seed=9)
    again = fresh.sample(16, wishes, steps=4, seed=3)
    other = fresh.sample(16, wishes, steps=4, seed=4)
    assert first.archs == again.archs != other.archs
    pd.testing.assert_frame_equal(first.to_frame(), again.to_frame())


def test_sampling_leaves_the_global_generators_alone(sampler: GuidedSampler) -> None:
    before, legacy = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002  the state that must not move
    sampler.sample(4, [maximize("params")], steps=2)
    assert torch.equal(before, torch.get_rng_state())
    assert (legacy == np.random.get_state()[1]).all()  # noqa: NPY002


def test_architectures_differ_unless_repetition_is_wanted(tiny: GuidedSampler) -> None:
    samples = tiny.sample(12, steps=4)
    assert len(set(samples.archs)) == 12
    repeated = tiny.sample(60, steps=4, unique=False)
    assert len(repeated) == 60
    assert len(set(repeated.archs)) <= 27


@pytest.mark.parametrize(("unique", "different"), [(True, 7), (False, 1)])
def test_steering_is_told_how_many_different_ones_are_wanted(
    tiny: GuidedSampler, monkeypatch: pytest.MonkeyPatch, unique: bool, different: int
) -> None:
    told = []

    class Spied(Steering):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            told.append(inspect.signature(Steering).bind(*arguments, **options).arguments["different"])
            super().__init__(*arguments, **options)

    monkeypatch.setattr("archgen.sampler.Steering", Spied)
    tiny.sample(7, steps=2, unique=unique)
    assert told == [different]


def test_fewer_come_back_with_a_warning_when_fewer_exist(tiny: GuidedSampler) -> None:
    with pytest.warns(ArchgenWarning, match=r"only \d+ of 40 architectures were found that differ") as caught:
        samples = tiny.sample(40, steps=4)
    assert len(caught) == 1
    assert len(set(samples.archs)) == len(samples) <= 27
    assert f"only {len(samples)} of 40" in str(caught[0].message)


def test_the_warning_names_the_bounds_and_all_that_meet_them_are_distinct(tiny: GuidedSampler) -> None:
    count = Count(tiny.space, "params")
    values = count.predict(tiny.space.enumerate()).mean
    largest = values.max()
    with pytest.warns(ArchgenWarning, match=r"at_least\('params'"):
        samples = tiny.sample(20, [at_least("params", float(largest))], steps=8)
    assert set(samples.predicted["params"]) == {largest}
    assert 1 <= len(samples) <= (values == largest).sum()


def test_no_warning_when_all_were_found(sampler: GuidedSampler) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sampler.sample(8, [at_most("params", 1e6)], steps=4)
    assert caught == []


def test_diagnostics_are_shares_in_percent(sampler: GuidedSampler) -> None:
    free = sampler.sample(32, steps=4, unique=False).diagnostics
    assert {k: free[k] for k in ("drawn", "valid", "accepted")} == {"drawn": 32.0, "valid": 100.0, "accepted": 100.0}
    bounded = sampler.sample(16, [at_most("latency_ms", 3.0)], steps=4).diagnostics
    assert bounded["accepted"] == pytest.approx(100 * 16 / bounded["drawn"])
    assert 0 < bounded["unique"] <= 100
    assert bounded["seconds"] >= 0
    assert list(free) == ["drawn", "valid_raw", "valid", "unique", "accepted", "calls", "seconds"]
    assert (free["calls"], free["valid_raw"]) == (0.0, 100.0)
    assert bounded["calls"] > 16


def test_novel_is_what_is_not_among_the_known(sampler: GuidedSampler) -> None:
    first = sampler.sample(40, steps=4, seed=2)
    again = sampler.sample(40, steps=4, seed=2, known=first.archs[:10])
    assert again.archs == first.archs
    assert again.diagnostics["novel"] == 75.0
    assert "novel" not in first.diagnostics


def test_in_a_space_with_constraints_the_raw_share_is_told_and_all_are_valid() -> None:
    space = spaces.load("nasbench101")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = DiscreteFlow(space.node_domain, space.edge_domain, width=8, layers=1, heads=2).eval()
    samples = GuidedSampler(space, flow).sample(40, [at_most("params", 1e7)], steps=2, unique=False)
    for arch in samples.archs:
        space.validate(arch)
    assert samples.diagnostics["valid"] == 100.0
    assert 0 < samples.diagnostics["valid_raw"] < 100.0
    assert (samples.predicted["params"] <= 1e7).all()


def test_the_table_has_the_wishes_first_then_the_counts(sampler: GuidedSampler) -> None:
    wishes = [at_most("latency_ms", 6.0), maximize("flops")]
    samples = sampler.sample(5, wishes, steps=4)
    frame = samples.to_frame()
    assert list(frame) == ["arch", "latency_ms", "flops", "params", "valid"]
    assert [sampler.space.parse(text) for text in frame["arch"]] == samples.archs
    assert frame["valid"].tolist() == [True] * 5
    assert list(sampler.sample(2, steps=2).to_frame()) == ["arch", "params", "flops", "valid"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_table_is_saved_whole_and_alone(sampler: GuidedSampler, tmp_path: Path, suffix: str) -> None:
    samples = sampler.sample(5, [maximize("latency_ms")], steps=2)
    path = tmp_path / "new" / f"samples{suffix}"
    samples.save(path)
    read = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    pd.testing.assert_frame_equal(read, samples.to_frame())
    assert [p.name for p in path.parent.iterdir()] == [path.name]


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "best"),
    [(at_most("params", 1_000), min), (at_most("latency_ms", -1.0), None), (at_least("latency_ms", 99.0), None)],
)
def test_a_bound_that_nothing_meets_names_what_can_be_reached(
    sampler: GuidedSampler, wish: Objective, best: Callable[[Floats], float] | None
) -> None:
    """What is reached lies in the outermost per cent of the space; the least count is met exactly (1 in 20 has it)."""
    with pytest.raises(Infeasible, match=r"no architecture of nasbench201 was found with .*; move a bound") as error:
        sampler.sample(4, [wish], steps=8)
    text = str(error.value)
    assert "\n" not in text
    assert f"{wish.metric} {'at most' if wish.sign < 0 else 'at least'} {wish.bound:g} (reachable: " in text
    reached = float(text.split("reachable: ")[1].split(")")[0])
    values = sampler.predictor(wish.metric).predict(sampler.space.enumerate()).mean
    if best is not None:
        assert reached == pytest.approx(best(values), rel=1e-3)
    assert values.min() * 0.999 <= reached <= values.max() * 1.001
    assert np.mean(wish.sign * values > wish.sign * reached + 1e-3 * abs(reached)) < 0.01


def test_a_generator_or_predictor_of_another_space_is_refused(
    space: SearchSpace, uniform: DiscreteFlow, tiny: GuidedSampler
) -> None:
    with pytest.raises(InvalidObjective, match="the predictor of ms is for tiny, expected one for nasbench201"):
        GuidedSampler(space, uniform, {"ms": Count(tiny.space, "params")})
    with pytest.raises(InvalidObjective, match="the generator was made for another space than nasbench201"):
        GuidedSampler(space, tiny.generator)
    with pytest.raises(InvalidObjective, match="the generator was made for another space than tiny"):
        tiny.sample(4, generator=uniform)


def test_bounds_that_only_together_can_not_be_met_are_all_named(sampler: GuidedSampler) -> None:
    values = Count(sampler.space, "params").predict(sampler.space.enumerate()).mean
    wishes = [at_least("params", float(values.max())), at_most("flops", 1e7)]
    with pytest.raises(Infeasible, match=r"params at least .*\(reachable: .* and flops at most .*\(reachable: "):
        sampler.sample(4, wishes, steps=4)


def test_an_unknown_metric_gets_a_hint_and_the_known_ones(sampler: GuidedSampler) -> None:
    with pytest.raises(UnknownMetric, match=r"'latency': did you mean 'latency_ms'\? known are: flops, latency_ms, pa"):
        sampler.sample(4, [at_most("latency", 1.0)])
    assert sampler.metrics == ("params", "flops", "latency_ms")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "expected 1 to 10,000,000 samples, got n=0"),
        ({"n": -3}, "n=-3"),
        ({"n": 10_000_001}, "n=10000001; for more, go through `stream`"),
        ({"n": 4, "steps": 0}, "expected at least one solver step and at most 10,000, got steps=0"),
        ({"n": 4, "confidence": 0.0}, "a confidence must be between 0 and 1, got 0"),
        ({"n": 4, "confidence": 1.0}, "a confidence must be between 0 and 1, got 1"),
        ({"n": 4, "trade_off": "pareto"}, "a trade-off out of sum, weights, hypervolume, got 'pareto'"),
        ({"n": 4, "t": 0.0}, r"a share t in \(0, 1\] of each graph to be forgotten, got 0"),
        ({"n": 4, "condition": {"params": 1e6}}, r"a condition \(params\) needs a generator that was trained with"),
        ({"n": 4, "guidance": "classifier_free"}, "needs a generator that was trained with conditions"),
        ({"n": 4, "guidance": "noised"}, "no predictor of noised graphs"),
        ({"n": 4, "generator": "one_step"}, "'one_step' can not be named: this sampler came from no checkpoints"),
        ({"n": 4, "objectives": [maximize("params"), minimize("params")]}, "both maximized and minimized"),
        ({"n": 4, "objectives": [at_least("flops", 2.0), at_most("flops", 1.0)]}, "at least 2 and at most 1"),
    ],
)
def test_what_makes_no_sense_is_refused(sampler: GuidedSampler, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidObjective, match=message):
        sampler.sample(**arguments)
