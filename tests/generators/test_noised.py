"""Guidance by predictors of noised graphs: closed forms, exact ratios, and the distribution that they give."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from archgen import spaces
from archgen.generators import (
    CleanGuidance,
    DiscreteFlow,
    Guidance,
    NoisedGuidance,
    NoisedPredictor,
    OneStep,
    ParticleGuidance,
    ScoreSDE,
    Tilt,
    expected_log_weight,
)
from archgen.generators.variables import FreeVariables
from archgen.graph import GraphBatch

LogWeight = Callable[[GraphBatch, Tensor], Tensor]


def linear(ops: Tensor, edges: Tensor) -> LogWeight:
    """A log-weight that adds up over labels and edges, and grows as noise goes."""

    def log_weight(graph: GraphBatch, t: Tensor) -> Tensor:
        total: Tensor = (graph.ops * ops).sum((1, 2)) + (graph.edges * edges).sum((1, 2))
        return (2 - t) * total

    return log_weight


def curved(graph: GraphBatch, t: Tensor) -> Tensor:
    """Anything but additive."""
    total: Tensor = (graph.ops[:, 0, 1] + 0.5) * (graph.ops[:, 1] @ torch.tensor([1.0, -2.0, 0.5]))
    return total + graph.edges[:, 0, 1] * graph.edges[:, 1, 2] * (2 - t)


def every(exact: Any) -> GraphBatch:
    variables = FreeVariables(exact.nodes, exact.edges)
    return variables.graph(torch.tensor(exact.states))


# -- ratios of single changes -----------------------------------------------------------------------------------


def test_exact_changes_are_the_differences_of_the_log_weight(exact: Any) -> None:
    guidance = NoisedGuidance(curved, exact.nodes, exact.edges)
    assert guidance.exact
    graph, t = every(exact), torch.linspace(0, 1, 24)
    changes = guidance.changes(graph, t)
    before = curved(graph, t)
    for node, labels in ((0, [0, 1]), (1, [0, 1, 2])):
        for label in labels:
            ops = graph.ops.clone()
            ops[:, node] = torch.nn.functional.one_hot(torch.tensor(label), 3).float()
            after = curved(GraphBatch(ops, graph.edges, graph.node_mask), t)
            torch.testing.assert_close(changes.ops[:, node, label], after - before)
    for i, j in ((0, 1), (1, 2)):
        edges = graph.edges.clone()
        edges[:, i, j] = 1 - edges[:, i, j]
        after = curved(GraphBatch(graph.ops, edges, graph.node_mask), t)
        torch.testing.assert_close(changes.edges[:, i, j], after - before)
    assert not bool(changes.ops[:, 2].any())
    assert not bool(changes.ops[:, 0, 2].any())
    assert not bool(changes.edges[:, 0, 2].any())


def test_the_first_order_is_exact_where_the_log_weight_adds_up(exact: Any) -> None:
    log_weight = linear(torch.randn(3, 3), torch.randn(3, 3))
    graph, t = every(exact), torch.linspace(0, 1, 24)
    first = NoisedGuidance(log_weight, exact.nodes, exact.edges, exact_below=8)
    whole = NoisedGuidance(log_weight, exact.nodes, exact.edges, exact_below=9)
    assert (first.exact, whole.exact) == (False, True)  # 2 + 3 labels and two edges of 2 states
    variables = FreeVariables(exact.nodes, exact.edges)
    states = torch.tensor(exact.states)
    one, other = (variables.ratios(states, g.changes(graph, t)) for g in (first, whole))
    torch.testing.assert_close(one[:, variables.domain], other[:, variables.domain])
    assert bool(one.any())


def test_large_batches_are_evaluated_in_parts_with_the_same_result() -> None:
    space = spaces.load("nasbench201")
    sizes = []
    weights = torch.randn(8, 7)

    def counted(graph: GraphBatch, t: Tensor) -> Tensor:
        sizes.append(len(graph))
        return linear(weights, torch.zeros(8, 8))(graph, t)

    guidance = NoisedGuidance(counted, space.node_domain, space.edge_domain)
    graph = space.encode(space.sample(600, np.random.default_rng(0)))
    t = torch.rand(600)
    whole = guidance.changes(graph, t)
    assert sum(sizes) == 600 * 30
    assert max(sizes) <= 8192
    parts = [guidance.changes(graph[i : i + 200], t[i : i + 200]) for i in (0, 200, 400)]
    torch.testing.assert_close(whole.ops, torch.cat([part.ops for part in parts]))


def test_the_score_is_the_gradient_of_what_is_free(exact: Any) -> None:
    ops, edges = torch.randn(3, 3), torch.randn(3, 3)
    guidance = NoisedGuidance(linear(ops, edges), exact.nodes, exact.edges)
    noised = GraphBatch(torch.randn(5, 3, 3), torch.randn(5, 3, 3), torch.ones(5, 3, dtype=torch.bool))
    with torch.no_grad():
        score = guidance.score(noised, torch.full((5,), 0.25))
    free_ops = torch.tensor([[1.0, 1, 0], [1, 1, 1], [0, 0, 0]])
    free_edges = torch.tensor([[0.0, 1, 0], [0, 0, 1], [0, 0, 0]])
    torch.testing.assert_close(score.ops, (1.75 * ops * free_ops).expand(5, 3, 3))
    torch.testing.assert_close(score.edges, (1.75 * edges * free_edges).expand(5, 3, 3))


# -- closed forms -----------------------------------------------------------------------------------------------


class Believer(NoisedPredictor):
    """Believes the same of every graph: properties `a` ~ N(0.4, 0.7^2) and `b` ~ N(-0.2, 0.3^2), at its levels."""

    def __init__(self, exact: Any) -> None:
        super().__init__(exact.nodes, exact.edges, ["a", "b"], width=8, layers=1)
        mean, std = torch.tensor([[0.4], [-0.2]]), torch.tensor([[0.7], [0.3]])
        self.log_p = (-((self.levels - mean) / std).square() / 2).log_softmax(-1)

    def forward(self, graph: GraphBatch, t: Tensor, columns: Sequence[int] | None = None) -> Tensor:
        log_p = self.log_p if columns is None else self.log_p[list(columns)]
        return log_p.expand(len(graph), -1, -1)


def log_weight(exact: Any, *tilts: Tilt) -> float:
    value = expected_log_weight(Believer(exact), tilts)(every(exact)[:1], torch.ones(1))
    assert value.shape == (1,)
    return float(value)


@pytest.mark.parametrize(("sign", "strength"), [(1, 2.0), (-1, 2.0), (1, 0.0)])
def test_a_direction_is_the_expected_exponential_of_the_property(exact: Any, sign: int, strength: float) -> None:
    """Of levels this close a Gaussian's moments are the closed form; 1e-4 of the tilted one is beyond the last."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    expected = np.log((weights * np.exp(sign * strength * (0.4 + 0.7 * nodes))).sum() / weights.sum())
    assert log_weight(exact, Tilt("a", sign, strength)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("bound", [-3.0, -0.37, -0.2, 0.0, 0.1])
def test_a_bound_is_the_probability_to_meet_it(exact: Any, sign: int, bound: float) -> None:
    """Each level stands for what is nearest to it, and counts by the part of that which meets the bound."""
    levels = np.linspace(-4, 4, 41)
    p = np.exp(-(((levels + 0.2) / 0.3) ** 2) / 2)
    edges = np.stack([levels - 0.1, levels + 0.1])
    inside = np.clip(edges, bound, None) if sign > 0 else np.clip(edges, None, bound)
    share = np.clip((inside[1] - inside[0]) / 0.2, 1e-6, 1)
    value = log_weight(exact, Tilt("b", sign, bound=bound))
    assert value == pytest.approx(np.log((p * share).sum() / p.sum()), abs=1e-4)
    belief = stats.norm(-0.2, 0.3)
    assert np.exp(value) == pytest.approx(belief.sf(bound) if sign > 0 else belief.cdf(bound), abs=0.01)


def test_both_sides_of_a_bound_make_up_the_whole(exact: Any) -> None:
    for bound in (-0.37, 0.0, 0.55):
        above, below = (np.exp(log_weight(exact, Tilt("a", sign, bound=bound))) for sign in (1, -1))
        assert above + below == pytest.approx(1.0, abs=1e-4)


def test_wishes_add_up(exact: Any) -> None:
    wishes = [Tilt("b", -1, bound=0.0), Tilt("a", 1, 2.0), Tilt("b", 1, 0.5)]
    assert log_weight(exact, *wishes) == pytest.approx(sum(log_weight(exact, wish) for wish in wishes), rel=1e-6)


def test_no_wish_is_nothing(exact: Any) -> None:
    assert log_weight(exact) == 0.0


def test_an_unreachable_bound_stays_finite_and_the_way_back_is_uphill(exact: Any) -> None:
    """What surely misses a bound keeps a weight of 1e-6; any chance above that counts more."""
    values = [log_weight(exact, Tilt("b", 1, bound=b)) for b in (0.5, 0.8, 1.1, 1.4, 4.0, 12.0)]
    assert all(far < near for near, far in itertools.pairwise(values[:4]))
    assert values[-2:] == pytest.approx([np.log(1e-6)] * 2, abs=1e-3)


# -- clean graphs -----------------------------------------------------------------------------------------------


def test_clean_guidance_weighs_clean_graphs_as_at_the_end_of_the_noise(exact: Any) -> None:
    guidance, graph = CleanGuidance(curved), every(exact)
    assert guidance.candidates == 4
    torch.testing.assert_close(guidance.log_tilt(graph), curved(graph, torch.zeros(24)))
    assert guidance.changes(graph, torch.zeros(24)) is None


def test_candidates_of_a_one_step_student_give_the_tilted_distribution(exact: Any, seeded: Any) -> None:
    """Against its own likelihood; with 64 candidates the error is far below the noise of 4,000 samples."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        student = OneStep(exact.nodes, exact.edges, components=8)

    def half(graph: GraphBatch, t: Tensor) -> Tensor:
        return curved(graph, t) / 2

    batch = student.sample(4_000, guidance=[CleanGuidance(half, candidates=64)], generator=seeded())
    counts = exact.counts(student, batch)
    with torch.no_grad():
        p = student.log_prob(torch.tensor(exact.states), None, 0)
    tilted = (p + half(every(exact), torch.zeros(24))).exp().double().numpy()
    common = tilted / tilted.sum() * 4_000 >= 5
    exact.assert_distributed(counts[common], tilted[common])
    with pytest.raises(AssertionError):
        exact.assert_distributed(counts[common], p.exp().double().numpy()[common])


def test_only_generators_that_go_through_noise_are_steered_there() -> None:
    assert [kind.through_noise for kind in (DiscreteFlow, ScoreSDE, OneStep)] == [True, True, False]


@pytest.mark.parametrize("candidates", [1, 0])
def test_one_candidate_is_no_choice(candidates: int) -> None:
    with pytest.raises(ValueError, match=f"at least 2 candidates to choose among, got {candidates}"):
        CleanGuidance(curved, candidates)


# -- the distribution -------------------------------------------------------------------------------------------


def expected_weight(exact: Any, flow: Any, rewards: Tensor) -> LogWeight:
    r"""The exact :math:`\log E[e^{r(x_0)} | x_t]` under the flow's own posterior."""
    states = torch.tensor(exact.states)

    def log_r(graph: GraphBatch, t: Tensor) -> Tensor:
        log_p = flow.posterior(flow.variables.states(graph), t)
        return (log_p[:, torch.arange(4), states].sum(-1) + rewards).logsumexp(-1)  # type: ignore[no-any-return]

    return log_r


@pytest.mark.parametrize("eta", [0.0, 2.0])
def test_exact_ratios_and_posteriors_give_the_tilted_distribution(exact: Any, seeded: Any, eta: float) -> None:
    """16 steps leave an error below the noise of 3,000 samples; 2 steps do not."""
    rewards = np.random.default_rng(1).normal(0.0, 2.0, 24)
    expected = exact.product() * np.exp(rewards)
    flow = exact.Flow(eta=eta)
    log_r = expected_weight(exact, flow, torch.tensor(rewards).float())
    guidance = [NoisedGuidance(log_r, exact.nodes, exact.edges)]
    common = expected / expected.sum() * 3_000 >= 5
    few, many = (
        exact.counts(flow, flow.sample(3_000, guidance=guidance, steps=k, generator=seeded())) for k in (2, 16)
    )
    exact.assert_distributed(many[common], expected[common])
    with pytest.raises(AssertionError):
        exact.assert_distributed(few[common], expected[common])
    assert exact.distance(many, exact.product()) > 5 * exact.distance(many, expected)


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("labels", [2, 9])
def test_for_one_variable_the_tilted_distribution_is_exact_with_any_steps(
    exact: Any, seeded: Any, steps: int, labels: int
) -> None:
    """Nothing is known at first, all at the end; each step on the way must neither lose nor exaggerate."""
    node_domain = torch.zeros(2, labels, dtype=torch.bool)
    node_domain[0], node_domain[1, 0] = True, True
    edge_domain = torch.tensor([True, False]).expand(2, 2, 2)
    flow = exact.product_flow(node_domain, edge_domain)
    rewards = torch.linspace(-1.0, 1.5, labels)

    def log_r(graph: GraphBatch, t: Tensor) -> Tensor:
        p = (1 - t[:, None]) * graph.ops[:, 0] + t[:, None] / labels
        return (p * rewards.exp()).sum(1).log()

    guidance = [NoisedGuidance(log_r, node_domain, edge_domain)]
    batch = flow.sample(5_000, guidance=guidance, steps=steps, generator=seeded())
    exact.assert_distributed(np.bincount(batch.labels[:, 0], minlength=labels), rewards.exp().numpy())


def test_ratios_work_together_with_conditions_candidates_particles_and_a_projector(exact: Any, seeded: Any) -> None:
    """All that is additive: `p(x) e^{c s(x)} e^{r(x)}`, a part of `r` from each kind of guidance."""
    flow = exact.Flow(conditions=1)
    parts = torch.tensor([0.5, 0.3, 0.2])[:, None] * torch.randn(24, generator=seeded(3))
    table = dict(zip(exact.states, parts[1].tolist(), strict=True))
    asked = []

    def expected_under_condition(graph: GraphBatch, t: Tensor) -> Tensor:
        asked.append(float(t[0]))
        log_p = flow.posterior(flow.variables.states(graph), t, torch.full((len(graph), 1), 0.5))
        return (log_p[:, torch.arange(4), torch.tensor(exact.states)].sum(-1) + parts[0]).logsumexp(-1)  # type: ignore[no-any-return]

    guidance = [
        NoisedGuidance(expected_under_condition, exact.nodes, exact.edges),
        ParticleGuidance(
            lambda batch: [tuple(row) for row in flow.variables.states(batch).tolist()],  # type: ignore[misc]
            lambda rows: np.array([table[row] for row in rows]),  # type: ignore[index]
            particles=4,
        ),
        exact.Table(flow, parts[2].numpy(), candidates=8),
    ]

    def keep(drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        assert bool((probabilities.ops.sum(-1) - 1).abs().max() < 1e-5)
        return drawn

    condition = torch.full((1_000, 1), 0.5)
    batch = flow.sample(1_000, condition=condition, guidance=guidance, projector=keep, steps=6, generator=seeded())
    expected = exact.product(exact.weights * (0.5 * exact.slopes).exp()) * parts.sum(0).exp().numpy()
    counts, common = exact.counts(flow, batch), expected / expected.sum() * 1_000 >= 5
    exact.assert_distributed(counts[common], expected[common])
    assert asked[-1] == 0.0
    assert asked == sorted(asked, reverse=True)


def test_two_members_multiply(exact: Any, seeded: Any) -> None:
    """Half the log-ratio from each of two members is the whole from one, to rounding."""
    flow = exact.Flow()

    def half(graph: GraphBatch, t: Tensor) -> Tensor:
        return curved(graph, t) / 2

    def draw(*weights: LogWeight) -> np.ndarray:
        guidance = [NoisedGuidance(w, exact.nodes, exact.edges) for w in weights]
        return exact.counts(flow, flow.sample(500, guidance=guidance, steps=4, generator=seeded()))

    one, two, none = draw(curved), draw(half, half), draw()
    assert np.abs(one - two).sum() <= 2
    assert np.abs(one - none).sum() > 50


def test_first_order_guidance_serves_spaces_with_many_variables(seeded: Any, exact: Any) -> None:
    """vit_resnas has more than 256 single changes. The log-weight adds up, so one step is exact: the favoured label of
    `m` has the share `e^2 / (e^2 + m - 1)`."""
    space = spaces.load("vit_resnas")
    flow = exact.product_flow(space.node_domain, space.edge_domain)
    ops = torch.zeros(space.node_domain.shape)
    free = flow.variables.nodes
    favoured = space.node_domain[free].int().argmax(1)
    ops[free, favoured] = 1.0
    guidance = NoisedGuidance(linear(ops, torch.zeros(len(ops), len(ops))), space.node_domain, space.edge_domain)
    assert not guidance.exact
    batch = flow.sample(2_000, guidance=[guidance], steps=1, generator=seeded())
    for node, label in zip(free.tolist(), favoured.tolist(), strict=True):
        m, hits = int(space.node_domain[node].sum()), float(batch.ops[:, node, label].sum())
        expected = np.array([np.e**2, m - 1.0])
        exact.assert_distributed(np.array([hits, 2_000 - hits]), expected)


@pytest.mark.parametrize("ratio", [-np.inf, np.inf])
def test_infinite_ratios_forbid_and_force_without_breaking(exact: Any, seeded: Any, ratio: float) -> None:
    """The second label of the first node is forbidden, or all but it are."""

    class Absolute(Guidance):
        def changes(self, graph: GraphBatch, t: Tensor) -> GraphBatch:
            ops = torch.zeros_like(graph.ops)
            has = graph.ops[:, 0, 1] == 1
            ops[:, 0, 1] = torch.where(has, 0.0, ratio)
            ops[:, 0, 0] = torch.where(has, -ratio, 0.0)
            return GraphBatch(ops, torch.zeros_like(graph.edges), graph.node_mask)

    flow = exact.Flow()
    batch = flow.sample(500, guidance=[Absolute()], steps=4, generator=seeded())
    assert set(batch.labels[:, 0].tolist()) == {0 if ratio < 0 else 1}
    assert len(set(map(tuple, flow.variables.states(batch).tolist()))) > 6
