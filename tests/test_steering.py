"""How wishes become conditions and guidance: what is chosen, what is asked, what is counted, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from archgen import spaces
from archgen.errors import ArchgenWarning, InvalidObjective, UnknownMetric, UnknownName
from archgen.generators import (
    DiscreteFlow,
    Guidance,
    ImportanceGuidance,
    NoisedGuidance,
    NoisedPredictor,
    ParticleGuidance,
)
from archgen.graph import GraphBatch
from archgen.objectives import Objective, at_most, maximize, minimize
from archgen.predictors.counts import Count
from archgen.rewards import Reward
from archgen.spaces import SearchSpace
from archgen.steering import EXAGGERATION, REACH, WEIGHT, Drawing, Steering

SCALE = {"latency_ms": (5.7, 1.3), "energy_mj": (12.6, 2.4), "params": (7e5, 3e5), "flops": (1e8, 5e7)}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def predictors(space: SearchSpace, additive: Any) -> dict[str, Any]:
    return {**additive, "params": Count(space, "params"), "flops": Count(space, "flops")}


@pytest.fixture
def steer(space: SearchSpace, obedient: Any, predictors: dict[str, Any]) -> Any:
    def steer(
        wishes: Sequence[Objective] = (), trade_off: Any = "sum", generator: Any = None, **options: Any
    ) -> Steering:
        reward = Reward(wishes, predictors.__getitem__, SCALE.__getitem__, 4.0, trade_off)
        return Steering(space, generator or obedient, reward, steps=4, **options)

    return steer


@pytest.fixture(scope="module")
def plain(space: SearchSpace) -> DiscreteFlow:
    """An unconditional generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DiscreteFlow(space.node_domain, space.edge_domain, width=8, layers=1, heads=2).eval()


# -- what `auto` takes --------------------------------------------------------------------------------------------

KNOWN, FOREIGN = maximize("latency_ms"), maximize("params")
BOUND, FOREIGN_BOUND = at_most("energy_mj", 12.0), at_most("params", 8e5)


@pytest.mark.parametrize(
    ("wishes", "conditional", "black_box"),
    [
        ([], False, False),
        ([KNOWN], True, False),
        ([KNOWN, minimize("energy_mj")], True, False),
        ([KNOWN, BOUND], True, True),
        ([KNOWN, FOREIGN_BOUND], True, True),
        ([BOUND], False, True),
        ([FOREIGN], False, True),
        ([KNOWN, FOREIGN], False, True),
    ],
)
def test_auto_asks_for_conditions_where_every_direction_is_known_and_tilts_for_the_rest(
    steer: Any, wishes: list[Objective], conditional: bool, black_box: bool
) -> None:
    steering = steer(wishes)
    assert steering.classifier_free == conditional
    assert [type(member) for member in steering.members] == [ImportanceGuidance] * black_box


def test_auto_tilts_an_unconditional_generator(steer: Any, plain: DiscreteFlow) -> None:
    steering = steer([KNOWN], generator=plain)
    assert not steering.classifier_free
    assert [type(member) for member in steering.members] == [ImportanceGuidance]
    assert steer([], generator=plain).members == []


def test_methods_go_together_with_guidance_of_ones_own(steer: Any) -> None:
    own = Guidance()
    steering = steer([KNOWN], guidance=["classifier_free", "particles", own])
    assert steering.classifier_free
    assert [type(member) for member in steering.members] == [ParticleGuidance, Guidance]
    assert steering.width == 4
    assert steer([KNOWN], guidance=["importance", "particles"]).width == 64
    assert steer([KNOWN]).width == 1


def test_an_unknown_method_gets_a_hint(steer: Any) -> None:
    with pytest.raises(UnknownName, match="unknown guidance 'importence': did you mean 'importance'"):
        steer([KNOWN], guidance="importence")


# -- conditions ---------------------------------------------------------------------------------------------------


def asked(steering: Steering, n: int = 16, seed: int = 0) -> Tensor:
    return steering._condition(n, seeded(seed))


def test_a_direction_is_asked_for_at_its_end_of_the_scale(steer: Any, space: SearchSpace) -> None:
    alone = asked(steer([minimize("energy_mj")]))
    assert alone[:, 0].isnan().all()
    assert set(alone[:, 1].tolist()) == {-REACH}


def test_two_directions_ask_for_what_the_best_of_a_pilot_batch_have_together(steer: Any, space: SearchSpace) -> None:
    """Scores of real architectures: good in both as far as both can be had, not 3 and -3."""
    condition = asked(steer([KNOWN, minimize("energy_mj")]))
    assert bool(condition.isfinite().all())
    assert len(torch.unique(condition, dim=0)) > 1
    assert condition[:, 0].mean() - condition[:, 1].mean() > 1.5


def test_searching_on_goes_further_under_the_conditions_found(steer: Any, predictors: dict[str, Any]) -> None:
    steering = steer([KNOWN, BOUND])
    steering.draw(16, seeded())
    before = steering.reward(steering._best(8)).mean()
    steering.draw(16, seeded(1), idle=2)
    assert steering.reward(steering._best(8)).mean() >= before
    assert steering.calls > 0


def test_a_predictor_of_another_scale_under_a_known_name_is_not_asked_of_the_generator(
    steer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steering = steer([KNOWN])
    assert steering.known == {KNOWN.metric}
    monkeypatch.setattr(steering.reward, "scale", lambda metric: (1e9, 1.0))
    assert steering._known() == frozenset()


def test_a_condition_is_asked_for_as_given_and_directions_fill_what_is_open(steer: Any, obedient: Any) -> None:
    (score,) = obedient.properties.normalise("energy_mj", [14.0])
    for wishes, first in (([], None), ([KNOWN], REACH), ([KNOWN, BOUND], REACH)):
        condition = asked(steer(wishes, condition={"energy_mj": 14.0}))
        assert condition[:, 1].tolist() == pytest.approx([score] * 16)
        assert condition[:, 0].isnan().all() if first is None else condition[:, 0].tolist() == [first] * 16
    fixed = asked(steer([maximize("energy_mj")], condition={"energy_mj": 14.0}))
    assert fixed[:, 1].tolist() == pytest.approx([score] * 16)


def test_a_condition_and_a_direction_that_the_generator_does_not_know(steer: Any, predictors: dict[str, Any]) -> None:
    """The condition goes to the generator, the direction to importance sampling."""
    steering = steer([FOREIGN], condition={"energy_mj": 15.0})
    assert [type(member) for member in steering.members] == [ImportanceGuidance]
    archs = steering.draw(64, seeded()).archs
    free = steer([], condition={"energy_mj": 15.0}).draw(64, seeded()).archs
    energy, params = (predictors[metric].predict(archs).mean.mean() for metric in ("energy_mj", "params"))
    assert energy > 12.6 + 1.0
    assert params > predictors["params"].predict(free).mean.mean() + 1e5


def test_a_direction_that_can_not_be_a_condition_is_refused_when_that_is_what_was_asked(steer: Any) -> None:
    with pytest.raises(UnknownMetric, match="'params'"):
        steer([FOREIGN], guidance="classifier_free").draw(4, seeded())


@pytest.mark.parametrize("value", [-4.0, 99.0])
def test_a_condition_outside_the_trained_range_warns(steer: Any, value: float) -> None:
    with pytest.warns(ArchgenWarning, match=f"energy_mj = {value:g} is outside what the generator was trained on"):
        steer([], condition={"energy_mj": value})


def test_samples_have_what_was_asked_for(steer: Any, predictors: dict[str, Any]) -> None:
    """The flow's own precision: one standard deviation, in the mean of 200 a tenth of one."""
    for value in (10.0, 15.0):
        archs = steer([], condition={"energy_mj": value}, weight=1.0).draw(200, seeded()).archs
        assert predictors["energy_mj"].predict(archs).mean.mean() == pytest.approx(value, abs=0.8)


def test_a_lone_direction_is_exaggerated_unless_a_weight_is_given(steer: Any, predictors: dict[str, Any]) -> None:
    means = []
    for weight in (0.0, 1.0, None, 5.0):
        archs = steer([KNOWN], weight=weight).draw(200, seeded()).archs
        means.append(predictors["latency_ms"].predict(archs).mean.mean())
    assert means == sorted(means)
    assert means[0] == pytest.approx(5.7, abs=0.5)
    assert steer([KNOWN]).weight == EXAGGERATION == 3.0
    assert steer([KNOWN, BOUND]).weight == WEIGHT == 1.5
    assert steer([], condition={"energy_mj": 14.0}).weight == WEIGHT


# -- under bounds -------------------------------------------------------------------------------------------------


def test_under_bounds_vectors_are_those_of_the_best_feasible_architectures(steer: Any, obedient: Any) -> None:
    """Each elite meets the bound in its own vector, is asked for a little more of the direction, and is better than
    what the bound leaves on average."""
    wishes = [maximize("latency_ms"), at_most("energy_mj", 10.0)]
    steering = steer(wishes)
    vectors = steering._elite_vectors(128, seeded())
    properties = obedient.properties
    limit = float(properties.normalise("energy_mj", [10.0])[0])
    assert len(vectors) >= 8
    assert not vectors.isnan().any()
    assert float(vectors[:, 1].max()) <= limit + 1e-4
    assert float(vectors[:, 0].mean()) > 1.0
    condition = asked(steering, n=50)
    known = {tuple(row) for row in steering._elites.tolist()}
    assert {tuple(row) for row in condition.tolist()} <= known


def test_the_pilot_is_run_once_unless_the_reward_changes(steer: Any) -> None:
    wishes = [KNOWN, BOUND]
    steady = steer(wishes)
    asked(steady)
    first = steady._elites
    asked(steady)
    assert steady._elites is first
    moving = steer([KNOWN, minimize("energy_mj"), at_most("params", 9e5)], "weights", guidance=["classifier_free"])
    asked(moving)
    first = moving._elites
    asked(moving)
    assert moving._elites is not first


def test_calls_count_the_pilot_and_the_drawing(steer: Any, predictors: dict[str, Any]) -> None:
    steering = steer([KNOWN, BOUND])
    assert steering.calls == 0
    steering.draw(8, seeded())
    pilot = steering._pilot_calls
    assert pilot > 64
    assert steering.calls == pilot + steering.members[0].evaluated > pilot


# -- rewards that change ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["importance", "particles"])
def test_new_weights_of_the_directions_reach_the_guidance(steer: Any, space: SearchSpace, method: str) -> None:
    """What was weighed in one round is weighed anew in the next; each architecture counts as one call."""
    steering = steer([KNOWN, minimize("flops")], "weights", guidance=method)
    (member,) = steering.members
    archs = space.sample(30, np.random.default_rng(0))
    steering.reward.redraw(np.random.default_rng(1))
    steering.draw(8, seeded())
    first = member._weigh(space.encode(archs))
    before = steering.calls
    steering.reward.redraw(np.random.default_rng(2))
    steering.draw(8, seeded())
    again = member._weigh(space.encode(archs))
    assert again.tolist() == pytest.approx(steering.reward(archs).tolist(), rel=1e-5)
    assert float((again - first).abs().max()) > 0.1
    distinct = steering.calls
    member._weigh(space.encode(archs))
    assert steering.calls == distinct >= before


def test_a_steady_reward_is_asked_once_for_each_architecture(steer: Any) -> None:
    steering = steer([FOREIGN])
    seen: list[Any] = []
    member, weigh = steering.members[0], steering.reward.__call__

    def counted(archs: Any) -> Any:
        seen.extend(archs)
        return weigh(archs)

    member._weigh._log_tilt = counted
    for seed in range(3):
        steering.draw(16, seeded(seed))
    assert len(seen) == len(set(seen)) == steering.calls


# -- noised predictors --------------------------------------------------------------------------------------------


@pytest.fixture
def with_noised(space: SearchSpace, obedient: Any, additive: Any) -> Any:
    """The flow with a predictor that believes `z` of the noised graph itself, a little unsurely."""

    class Sees(NoisedPredictor):
        def forward(self, graph: GraphBatch, t: Tensor) -> tuple[Tensor, Tensor]:
            free = graph.ops[:, 1:-1]
            mean = torch.einsum("bvk,cvk->bc", free, obedient.slopes)
            return mean - mean.new_tensor([4.4, 5.35]), torch.full_like(mean, 0.3)

    predictor = Sees(space.node_domain, space.edge_domain, list(additive), width=8, layers=1, heads=2)
    obedient.noised = predictor
    yield obedient
    obedient.noised = None


@pytest.mark.parametrize("wish", [maximize("latency_ms"), minimize("energy_mj"), at_most("energy_mj", 10.0)])
def test_noised_guidance_follows_directions_and_bounds(
    steer: Any, with_noised: Any, predictors: dict[str, Any], wish: Objective
) -> None:
    steering = steer([wish], guidance="noised")
    assert [type(member) for member in steering.members] == [NoisedGuidance]
    assert steering.calls == 0
    archs, free = steering.draw(100, seeded()).archs, steer([]).draw(100, seeded()).archs
    guided, unguided = (predictors[wish.metric].predict(some).mean.mean() for some in (archs, free))
    assert wish.sign * (guided - unguided) > SCALE[wish.metric][1]


def test_noised_guidance_needs_its_predictor_and_its_metrics(steer: Any, with_noised: Any, plain: DiscreteFlow) -> None:
    with pytest.raises(InvalidObjective, match="no predictor of noised graphs; choose another guidance"):
        steer([KNOWN], generator=plain, guidance="noised")
    for wish in (FOREIGN, FOREIGN_BOUND):
        with pytest.raises(UnknownMetric, match="'params'"):
            steer([wish], guidance="noised")


def test_conditions_need_a_conditional_generator(steer: Any, plain: DiscreteFlow) -> None:
    with pytest.raises(InvalidObjective, match="classifier-free guidance needs a generator that was trained with cond"):
        steer([KNOWN], generator=plain, guidance="classifier_free")
    with pytest.raises(InvalidObjective, match=r"a condition \(energy_mj\) needs a generator that was trained with"):
        steer([], generator=plain, condition={"energy_mj": 1.0})
    with pytest.raises(UnknownMetric, match="'energy': did you mean 'energy_mj'"):
        steer([], condition={"energy": 1.0})


# -- counting -----------------------------------------------------------------------------------------------------


def test_in_a_free_space_all_that_is_drawn_is_valid(steer: Any) -> None:
    drawing = steer([]).draw(20, seeded())
    assert (drawing.drawn, drawing.valid_raw, drawing.valid, len(drawing.archs)) == (20, 20, 20, 20)


def test_with_constraints_what_needed_mending_is_counted() -> None:
    """One step: what is drawn before mending is the same with and without the projector."""
    space = spaces.load("nasbench101")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = DiscreteFlow(space.node_domain, space.edge_domain, width=8, layers=1, heads=2).eval()
    count = Count(space, "params")
    steering = Steering(space, flow, Reward([], lambda _: count, SCALE.__getitem__, 1.0), steps=1)
    drawing = steering.draw(200, seeded())
    assert (drawing.drawn, drawing.valid, len(drawing.archs)) == (200, 200, 200)
    raw = space.decode(flow.sample(200, steps=1, generator=seeded()))
    expected = sum(arch is not None for arch in raw)
    assert 0 < expected < 200
    assert drawing.valid_raw == pytest.approx(expected, abs=25)  # nearly decided edges are settled under a projector
    total = Drawing()
    total += drawing
    total += drawing
    assert (total.drawn, total.valid, total.archs) == (400, 400, [])


# -- variations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.1, 0.5, 1.0])
def test_varied_architectures_stay_as_near_as_t_says(steer: Any, space: SearchSpace, t: float) -> None:
    """A choice survives noising with `q = 1 - t + t / 5`, and its regeneration by a uniform flow too; or it comes back.

    1,800 choices: five standard errors are 0.06.
    """
    (parent,) = space.sample(1, np.random.default_rng(1))
    drawing = steer([], vary=[parent], t=t).draw(300, seeded())
    kept = np.mean([[a == b for a, b in zip(arch.ops, parent.ops, strict=True)][1:-1] for arch in drawing.archs])
    q = 1 - t + t / 5
    assert kept == pytest.approx(q**2 + (1 - q) ** 2 / 4, abs=0.06)


def test_each_of_several_is_varied(steer: Any, space: SearchSpace) -> None:
    parents = list(dict.fromkeys(space.sample(6, np.random.default_rng(1))))
    drawn = set(steer([], vary=parents, t=0.02).draw(200, seeded()).archs)
    assert set(parents) <= drawn
