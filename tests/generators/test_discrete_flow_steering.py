"""Discrete flow matching under conditions, guidance and a projector, with exact posteriors in place of the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from archgen import spaces
from archgen.generators import DiscreteFlow, Guidance
from archgen.generators.variables import draw
from archgen.graph import GraphBatch

# -- conditions -------------------------------------------------------------------------------------------------


def conditioned(exact: Any, seeded: Any, c: float, weight: float, steps: int = 4) -> np.ndarray:
    flow = exact.Flow(conditions=1)
    condition = torch.full((10_000, 1), c)
    return exact.counts(flow, flow.sample(10_000, condition=condition, weight=weight, steps=steps, generator=seeded()))


@pytest.mark.parametrize(("c", "weight"), [(1.0, 1.0), (-0.5, 1.0), (0.7, 1.5), (0.5, 3.0), (1.0, 0.4)])
def test_classifier_free_guidance_with_exact_posteriors_is_the_power_of_the_two_distributions(
    exact: Any, seeded: Any, c: float, weight: float
) -> None:
    """`p(x|c)^w p(x)^(1-w)`; here, where `p(x|c) ~ p(x) e^{c s(x)}`, that is `p(x) e^{w c s(x)}`, for any steps."""
    expected = exact.product(exact.weights * (weight * c * exact.slopes).exp())
    exact.assert_distributed(conditioned(exact, seeded, c, weight), expected)
    if weight != 1.0:
        with pytest.raises(AssertionError):
            exact.assert_distributed(
                conditioned(exact, seeded, c, weight), exact.product(exact.weights * (c * exact.slopes).exp())
            )


def test_weight_zero_and_an_open_condition_are_no_condition(exact: Any, seeded: Any) -> None:
    flow = exact.Flow(conditions=1)
    given, open_ = torch.ones(200, 1), torch.full((200, 1), torch.nan)
    free = flow.sample(200, steps=3, generator=seeded())
    for condition, weight in ((given, 0.0), (open_, 1.0), (open_, 2.0)):
        batch = flow.sample(200, condition=condition, weight=weight, steps=3, generator=seeded())
        assert torch.equal(batch.ops, free.ops)
        assert torch.equal(batch.edges, free.edges)


@pytest.mark.parametrize(("weight", "asked"), [(0.0, [None]), (1.0, ["c"]), (1.5, ["c", None])])
def test_the_network_is_asked_no_more_often_than_the_weight_needs(
    exact: Any, seeded: Any, weight: float, asked: list[str | None]
) -> None:
    seen = []

    class Spy(exact.Flow):  # type: ignore[misc,name-defined]
        def posterior(self, states: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
            seen.append(None if condition is None else "c")
            return super().posterior(states, t, condition)  # type: ignore[no-any-return]

    Spy(conditions=1).sample(4, condition=torch.ones(4, 1), weight=weight, steps=2, generator=seeded())
    assert seen == 2 * asked


def test_each_graph_keeps_its_own_condition_among_candidates_and_particles(exact: Any, seeded: Any) -> None:
    """Every second graph is asked for the other extreme: which one it got shows in the first node."""

    class Reversed(Guidance):
        """Two particles a graph that swap their places in each step; a condition that stayed behind would mix."""

        candidates = 3

        def population(self, n: int) -> int:
            return 2 * n

        def resample(self, clean: GraphBatch, t: float, *, generator: torch.Generator) -> Tensor:
            pairs = torch.arange(len(clean)).view(-1, 2)
            return pairs[:, 0] if t == 0.0 else pairs.flip(1).flatten()

        def log_tilt(self, clean: GraphBatch) -> Tensor:
            return torch.zeros(len(clean))

    class Obedient(exact.Flow):  # type: ignore[misc,name-defined]
        def posterior(self, states: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
            assert condition is not None
            log_p = super().posterior(states, t).clone()
            chosen = torch.nn.functional.one_hot((condition[:, 0] > 0).long(), 3).bool()
            log_p[:, 0] = torch.where(chosen, 0.0, -torch.inf)
            return log_p  # type: ignore[no-any-return]

    condition = torch.tensor([[1.0], [-1.0]]).repeat(20, 1)
    batch = Obedient(conditions=1).sample(40, condition=condition, guidance=[Reversed()], steps=4, generator=seeded())
    assert batch.labels[:, 0].tolist() == [1, 0] * 20


# -- guidance ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def log_tilt(exact: Any) -> np.ndarray:
    return np.random.default_rng(0).normal(0.0, 0.6, len(exact.states))


@pytest.mark.parametrize("parts", [1, 2])
def test_candidates_give_the_tilted_distribution(exact: Any, seeded: Any, log_tilt: np.ndarray, parts: int) -> None:
    """Importance sampling is exact in the limit of many candidates; with 128 its error is far below the noise here."""
    flow = exact.Flow()
    guidance = [exact.Table(flow, log_tilt / parts, candidates=128) for _ in range(parts)]
    counts = exact.counts(flow, flow.sample(4_000, guidance=guidance, steps=4, generator=seeded()))
    exact.assert_distributed(counts, exact.product() * np.exp(log_tilt))
    with pytest.raises(AssertionError):
        exact.assert_distributed(counts, exact.product())


def test_candidates_and_conditions_multiply(exact: Any, seeded: Any, log_tilt: np.ndarray) -> None:
    flow = exact.Flow(conditions=1)
    guidance = [exact.Table(flow, log_tilt, candidates=128)]
    condition = torch.full((4_000, 1), 0.5)
    batch = flow.sample(4_000, condition=condition, weight=2.0, guidance=guidance, steps=3, generator=seeded())
    expected = exact.product(exact.weights * exact.slopes.exp()) * np.exp(log_tilt)
    exact.assert_distributed(exact.counts(flow, batch), expected)


def test_a_constant_tilt_changes_nothing(exact: Any, seeded: Any) -> None:
    flow = exact.Flow()
    guidance = [exact.Table(flow, np.full(len(exact.states), 7.0))]
    batch = flow.sample(5_000, guidance=guidance, steps=4, generator=seeded())
    exact.assert_distributed(exact.counts(flow, batch), exact.product())


@pytest.mark.parametrize(("steps", "most"), [(1, 0), (4, 9)])
def test_forbidden_graphs_are_hardly_drawn(
    exact: Any, seeded: Any, log_tilt: np.ndarray, steps: int, most: int
) -> None:
    """A third of the mass is forbidden: all 64 candidates of one step are so with probability 1e-30. With more steps a
    forbidden state of the noised graph can make it near certain; then about 1 in 1,000 graphs is let through, and 10
    are with probability 1e-7."""
    forbidden = np.arange(len(exact.states)) % 4 == 0
    tilt = np.where(forbidden, -np.inf, log_tilt)
    flow = exact.Flow()
    guidance = [exact.Table(flow, tilt, candidates=64)]
    counts = exact.counts(flow, flow.sample(1_000, guidance=guidance, steps=steps, generator=seeded()))
    assert counts[forbidden].sum() <= most
    assert (counts[~forbidden] > 0).any()


def test_when_everything_is_forbidden_graphs_are_drawn_as_without_guidance(exact: Any, seeded: Any) -> None:
    flow = exact.Flow()
    guidance = [exact.Table(flow, np.full(len(exact.states), -np.inf))]
    batch = flow.sample(5_000, guidance=guidance, steps=4, generator=seeded())
    exact.assert_distributed(exact.counts(flow, batch), exact.product())


def test_a_member_that_abstains_from_everything_changes_no_distribution(exact: Any, seeded: Any) -> None:
    class Silent(Guidance):
        candidates = 4

    flow = exact.Flow()
    batch = flow.sample(5_000, guidance=[Silent()], steps=2, generator=seeded())
    assert len(batch) == 5_000
    exact.assert_distributed(exact.counts(flow, batch), exact.product())


# -- the projector ----------------------------------------------------------------------------------------------


class Mended:
    """Where `broken` (a `2 x 3` table of the first two labels) holds, both labels are drawn again, given the others."""

    broken = torch.tensor([[False, True, False], [True, False, True]])

    def __init__(self) -> None:
        self.calls, self.mended = 0, 0

    def __call__(self, drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        self.calls += 1
        broken = self.broken[drawn.labels[:, 0], drawn.labels[:, 1]]
        self.mended += int(broken.sum())
        joint = probabilities.ops[:, 0, :2, None] * probabilities.ops[:, 1, None, :]
        pairs = draw(joint.masked_fill(self.broken, 0.0).flatten(1), generator)
        ops = drawn.ops.clone()
        ops[broken, 0] = torch.nn.functional.one_hot(pairs // 3, 3).float()[broken]
        ops[broken, 1] = torch.nn.functional.one_hot(pairs % 3, 3).float()[broken]
        return GraphBatch(ops, drawn.edges, drawn.node_mask)


@pytest.mark.parametrize(("candidates", "steps"), [(1, 40), (8, 30)])
def test_with_an_exact_projector_the_distribution_is_the_one_given_the_constraint(
    exact: Any, seeded: Any, candidates: int, steps: int
) -> None:
    """A posterior drawn given the constraint is the posterior of the constrained distribution, whatever the steps.

    For labels; nearly decided edges take their likelier state in the last step, so there must be enough of these.
    """
    flow, projector = exact.Flow(), Mended()
    guidance = [exact.Table(flow, np.zeros(24), candidates=candidates)] if candidates > 1 else []
    n = 4_000
    batch = flow.sample(n, guidance=guidance, projector=projector, steps=steps, generator=seeded())
    counts = exact.counts(flow, batch)
    allowed = np.array([not Mended.broken[first, second] for first, second, *_ in exact.states])
    assert counts[~allowed].sum() == 0
    exact.assert_distributed(counts[allowed], exact.product()[allowed])
    assert projector.calls == steps
    assert projector.mended > 0.01 * steps * n * candidates


def test_labels_follow_the_constrained_distribution_with_few_steps_too(exact: Any, seeded: Any) -> None:
    flow = exact.Flow()
    batch = flow.sample(8_000, projector=Mended(), steps=3, generator=seeded())
    labels = torch.bincount(batch.labels[:, 0] * 3 + batch.labels[:, 1], minlength=6).view(2, 3)
    expected = (exact.weights[0, :2, None] * exact.weights[1]).masked_fill(Mended.broken, 0.0)
    assert not bool(labels[Mended.broken].any())
    exact.assert_distributed(labels[~Mended.broken].numpy(), expected[~Mended.broken].double().numpy())


def test_nearly_decided_edges_are_settled_in_the_last_step_under_a_projector(exact: Any, seeded: Any) -> None:
    """After two steps an absent first edge is there with probability 0.02, an absent second one with 0.16."""
    flow, asked = exact.Flow(), []

    def seen(drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        asked.append((drawn, probabilities))
        return drawn

    flow.sample(500, projector=seen, steps=2, generator=seeded())
    (_, before), (drawn, last) = asked
    assert 0.01 < float(before.edges[:, 0, 1].min()) < 0.2
    assert set(last.edges[:, 0, 1].tolist()) == {0.0, 1.0}
    assert torch.equal(drawn.edges[:, 0, 1], last.edges[:, 0, 1])
    second = last.edges[:, 1, 2]
    assert bool(((second == 1) | ((second - 0.158).abs() < 0.001)).all())
    open_ = second < 1
    assert 0.03 < float(drawn.edges[open_, 1, 2].mean()) < 0.3
    asked.clear()
    flow.sample(500, steps=2, generator=seeded())
    assert asked == []  # and without a projector all are drawn


def test_one_step_under_a_projector_still_draws_many_topologies() -> None:
    space = spaces.load("nasbench101")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = DiscreteFlow(space.node_domain, space.edge_domain, width=8, layers=1, heads=2).eval()
    for steps in (1, 3):
        batch = flow.sample(100, projector=space.project, steps=steps, generator=torch.Generator().manual_seed(0))
        archs = space.decode(batch)
        assert None not in archs
        assert len({arch.edges for arch in archs if arch is not None}) > 20
