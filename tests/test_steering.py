"""How wishes become conditions and guidance: what is chosen, what is asked, what is counted, what is refused."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from archgen import spaces
from archgen.errors import ArchgenWarning, InvalidObjective, UnknownMetric, UnknownName
from archgen.generators import (
    CleanGuidance,
    DiscreteFlow,
    Guidance,
    ImportanceGuidance,
    NoisedGuidance,
    NoisedPredictor,
    OneStep,
    ParticleGuidance,
)
from archgen.graph import GraphBatch
from archgen.objectives import Objective, at_most, maximize, minimize
from archgen.predictors.counts import Count
from archgen.rewards import Reward
from archgen.spaces import SearchSpace
from archgen.steering import EXAGGERATION, WEIGHT, CountedProjector, Drawing, Steering

SCALE = {"latency_ms": (5.7, 1.3), "energy_mj": (12.6, 2.4), "params": (7e5, 3e5), "flops": (1e8, 5e7)}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def predictors(space: SearchSpace, additive: Any) -> dict[str, Any]:
    return {**additive, "params": Count(space, "params"), "flops": Count(space, "flops")}


@pytest.fixture
def steer(space: SearchSpace, obedient: Any, predictors: dict[str, Any]) -> Any:
    def steer(
        wishes: Sequence[Objective] = (),
        trade_off: Any = "sum",
        generator: Any = None,
        strength: float = 4.0,
        **options: Any,
    ) -> Steering:
        reward = Reward(wishes, predictors.__getitem__, SCALE.__getitem__, strength, trade_off)
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


@pytest.mark.parametrize(
    ("wishes", "strength", "different", "both"),
    [
        ([KNOWN], 4.0, 1, True),
        ([minimize("energy_mj")], 1.0, 1, True),
        ([KNOWN], 4.0, 143, True),  # of 15,625, whose best e^-4 are 286: half of them
        ([KNOWN], 4.0, 144, False),
        ([KNOWN], 0.0, 1, False),  # nothing to pull with
        ([KNOWN, minimize("energy_mj")], 4.0, 1, False),
    ],
)
def test_auto_pulls_at_a_lone_direction_with_the_noised_predictor_too_while_few_are_wanted(
    steer: Any, with_noised: Any, wishes: list[Objective], strength: float, different: int, both: bool
) -> None:
    steering = steer(wishes, strength=strength, different=different)
    assert steering.classifier_free
    assert [type(member) for member in steering.members] == [NoisedGuidance] * both


def test_auto_weighs_bounds_and_unknown_metrics_by_importance_with_a_noised_predictor_too(
    steer: Any, with_noised: Any
) -> None:
    for wishes in ([KNOWN, BOUND], [FOREIGN], [BOUND]):
        assert [type(member) for member in steer(wishes).members] == [ImportanceGuidance]
    assert steer([], condition={"energy_mj": 14.0}).members == []


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


def ends(obedient: Any, metric: str) -> tuple[float, float]:
    """The normal scores that the generator was trained on reach from one to the other."""
    scores = obedient.properties.scores[obedient.properties.row(metric)]
    return float(scores[0]), float(scores[-1])


@pytest.mark.parametrize("wish", [minimize("energy_mj"), maximize("energy_mj")])
@pytest.mark.parametrize(
    ("strength", "different", "share"),
    [(0.0, 1, 1.0), (1.0, 1, np.exp(-1)), (4.0, 1, np.exp(-4)), (4.0, 1_000, 2_000 / 15_625), (1.0, 9_000, 1.0)],
)
def test_a_direction_asks_each_sample_for_another_of_the_best_share_of_architectures(
    steer: Any, obedient: Any, wish: Objective, strength: float, different: int, share: float
) -> None:
    """That of the strength, or more where more different ones are wanted than half of these are. Ranks among the best
    are uniform: with 4,000, Kolmogorov's distance is above 0.044 with probability below 1e-6."""
    condition = asked(steer([wish], strength=strength, different=different), n=4_000)
    assert condition[:, 0].isnan().all()
    scores = wish.sign * condition[:, 1].double().numpy()
    rank = stats.norm.sf(scores) / share
    assert rank.max() <= 1 + 1e-4
    low, high = ends(obedient, "energy_mj")
    highest = high if wish.sign > 0 else -low
    assert scores.max() <= highest + 1e-6
    inside = scores < highest - 1e-6  # the very best are asked for what there is
    assert np.mean(~inside) < 0.01
    assert stats.kstest(rank, "uniform").statistic < 0.044


@pytest.mark.parametrize("wish", [minimize("energy_mj"), maximize("energy_mj")])
def test_no_direction_asks_for_more_than_the_generator_has_seen(steer: Any, obedient: Any, wish: Objective) -> None:
    """The best e^-20 of 15,625 are none."""
    steering = steer([wish], strength=20.0, different=0)
    low, high = ends(obedient, "energy_mj")
    assert asked(steering)[:, 1].tolist() == pytest.approx([high if wish.sign > 0 else low] * 16)


def test_the_same_seed_asks_for_the_same(steer: Any) -> None:
    steering = steer([KNOWN])
    first, again, other = (asked(steering, seed=seed)[:, 0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique()) == 16


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


@pytest.mark.parametrize(("factor", "known"), [(0.1, False), (0.5, True), (1.0, True), (2.5, True), (3.5, False)])
def test_a_known_metric_spreads_about_as_the_generators_property_does(
    steer: Any, monkeypatch: pytest.MonkeyPatch, factor: float, known: bool
) -> None:
    """Two normal scores from one standard deviation below to one above; up to six, for accuracies are skewed."""
    steering = steer([KNOWN])
    centre, spread = SCALE[KNOWN.metric]
    monkeypatch.setattr(steering.reward, "scale", lambda metric: (centre, factor * spread))
    assert steering._known() == ({KNOWN.metric} if known else frozenset())


def test_a_condition_is_asked_for_as_given_and_directions_fill_what_is_open(steer: Any, obedient: Any) -> None:
    (score,) = obedient.properties.normalise("energy_mj", [14.0])
    worst = stats.norm.isf(np.exp(-4))  # of the best share
    for wishes in ([], [KNOWN], [KNOWN, BOUND]):
        condition = asked(steer(wishes, condition={"energy_mj": 14.0}))
        assert condition[:, 1].tolist() == pytest.approx([score] * 16)
        assert condition[:, 0].isnan().all() if not wishes else float(condition[:, 0].min()) >= worst - 1e-4
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
    assert steer([KNOWN]).weight == EXAGGERATION == 2.0
    assert steer([KNOWN, BOUND]).weight == WEIGHT == 1.5
    assert steer([], condition={"energy_mj": 14.0}).weight == WEIGHT
    assert steer([KNOWN], condition={"energy_mj": 14.0}).weight == WEIGHT


def test_a_lone_direction_is_exaggerated_by_one_method_only(steer: Any, with_noised: Any) -> None:
    """Nor where more different ones are wanted than half of the best are."""
    assert steer([KNOWN]).weight == 1.0  # auto: by the noised predictor
    assert steer([KNOWN], guidance=["classifier_free", "noised"]).weight == 1.0
    assert steer([KNOWN], guidance="classifier_free").weight == EXAGGERATION
    assert steer([KNOWN], guidance=["classifier_free", "particles"]).weight == EXAGGERATION
    assert steer([KNOWN], guidance="classifier_free", different=144).weight == 1.0
    assert steer([KNOWN, BOUND], guidance=["classifier_free", "noised"]).weight == WEIGHT
    assert steer([KNOWN], guidance=["classifier_free", "noised"], weight=2.5).weight == 2.5


def test_a_stronger_wish_is_followed_further(steer: Any, predictors: dict[str, Any]) -> None:
    means = []
    for strength in (0.0, 1.0, 4.0):
        archs = steer([KNOWN], strength=strength, weight=1.0).draw(200, seeded()).archs
        means.append(predictors["latency_ms"].predict(archs).mean.mean())
    assert means[0] == pytest.approx(5.7, abs=0.5)
    assert means[0] + 0.5 < means[1] < means[2] - 0.5


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
        def forward(self, graph: GraphBatch, t: Tensor, columns: Sequence[int] | None = None) -> Tensor:
            free = graph.ops[:, 1:-1]
            mean = torch.einsum("bvk,cvk->bc", free, obedient.slopes)
            mean = mean - mean.new_tensor([4.4, 5.35])
            mean = mean if columns is None else mean[:, list(columns)]
            return (-((self.levels - mean[..., None]) / 0.3).square() / 2).log_softmax(-1)

    predictor = Sees(space.node_domain, space.edge_domain, list(additive), width=8, layers=1)
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


@pytest.mark.parametrize("wish", [maximize("latency_ms"), minimize("energy_mj"), at_most("energy_mj", 10.0)])
def test_a_one_step_student_chooses_among_clean_graphs_by_the_noised_predictor(
    steer: Any, space: SearchSpace, with_noised: Any, predictors: dict[str, Any], wish: Objective
) -> None:
    """An untrained one draws near the whole space; the best of four is a standard deviation beyond it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        student = OneStep(space.node_domain, space.edge_domain, components=64, conditions=2).eval()
    student.properties, student.noised = with_noised.properties, with_noised.noised
    steering = steer([wish], generator=student, guidance="noised")
    assert [type(member) for member in steering.members] == [CleanGuidance]
    assert (steering.width, steering.calls) == (4, 0)
    archs = steering.draw(200, seeded()).archs
    free = steer([], generator=student).draw(200, seeded()).archs
    guided, unguided = (predictors[wish.metric].predict(some).mean.mean() for some in (archs, free))
    assert wish.sign * (guided - unguided) > 0.5 * SCALE[wish.metric][1]
    assert [type(member) for member in steer([KNOWN], generator=student).members] == [CleanGuidance]  # auto


def test_both_methods_together_follow_a_lone_direction_further_than_either(
    steer: Any, with_noised: Any, predictors: dict[str, Any]
) -> None:
    means = []
    for guidance in ("classifier_free", "noised", "auto"):
        archs = steer([KNOWN], guidance=guidance, strength=1.0, weight=1.0).draw(200, seeded()).archs
        means.append(predictors["latency_ms"].predict(archs).mean.mean())
    assert max(means[:2]) < means[2]


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


def test_the_share_that_decodes_as_drawn_is_counted_when_asked_for(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoded modules are left alone; valid ones with a dead edge are mended but decode; cut ones do not."""
    space, decoded = copy.copy(spaces.load("nasbench101")), []
    decode = space.decode

    def counted(batch: GraphBatch) -> Any:
        decoded.append(len(batch))
        return decode(batch)

    archs = [arch for arch in space.sample(200, rng) if len(arch.ops) < 7][:30]
    clean = space.encode(archs)
    edges = clean.edges.clone()
    edges[:10, 0, 5] = 1.0  # the last slot before the output is dead
    edges[20:, 0] = 0.0  # nothing leaves the input
    drawn = GraphBatch(clean.ops, edges, clean.node_mask)
    assert [arch is None for arch in decode(drawn)] == [False] * 20 + [True] * 10
    monkeypatch.setattr(space, "decode", counted)
    projector = CountedProjector(space)
    assert projector.share == 1.0
    likely = GraphBatch(clean.ops, edges.clamp(0.02, 0.98).triu(1), clean.node_mask)
    mended = projector(drawn, likely, generator=seeded())
    assert decoded == []
    assert projector.share == pytest.approx(2 / 3)
    assert decoded == [20]  # only what was mended
    assert not bool((mended.edges[:10] == edges[:10]).flatten(1).all(1).any())
    projector(clean, clean, generator=seeded())
    assert projector.share == 1.0


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
