"""Discrete flow matching with exact posteriors in place of the network: the sampler is tested without training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from torch import Tensor

from archgen import spaces
from archgen.generators import DiscreteFlow, ParticleGuidance
from archgen.generators.base import Start
from archgen.generators.discrete_flow import DISTORTIONS
from archgen.generators.variables import draw
from archgen.graph import GraphBatch
from archgen.spaces import SearchSpace

NAN = torch.nan
STATES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 1), st.integers(0, 1)), min_size=4, max_size=4
)


class PerfectJoint(DiscreteFlow):
    """Knows the joint posterior of a few weighted graphs; draws clean graphs from it, or from its marginals.

    `p(x_0 | x_t) ~ w(x_0) prod_v p_t(x_t[v] | x_0[v])`; a factorised denoiser can only give the marginals.
    """

    def __init__(
        self, space: SearchSpace, graphs: GraphBatch, weights: Tensor, joint: bool, **arguments: float
    ) -> None:
        super().__init__(space.node_domain, space.edge_domain, width=8, layers=1, heads=2, **arguments)  # type: ignore[arg-type]
        self.known, self.log_weights, self.joint = self.variables.states(graphs), weights.log(), joint

    def posterior(self, states: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        domain = self.variables.domain
        noise = self.variables.noise
        alpha = (1 - t)[:, None, None]
        same = states[:, None, :] == self.known  # b, graphs, v
        u = noise.expand(len(states), -1, -1).gather(-1, states[..., None]).mT
        self.p = (self.log_weights + (alpha * same + (1 - alpha) * u).log().sum(-1)).softmax(-1)
        return torch.einsum(
            "bg,gvs->bvs", self.p, torch.nn.functional.one_hot(self.known, domain.shape[1]).float()
        ).log()

    def _draw_clean(self, log_p: Tensor, guidance: Any, projector: Any, generator: torch.Generator) -> Tensor:
        if self.joint:
            return self.known[draw(self.p, generator)]
        return super()._draw_clean(log_p, guidance, projector, generator)


# -- sampling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 16])
@pytest.mark.parametrize("distortion", list(DISTORTIONS))
def test_a_perfect_denoiser_gives_a_product_distribution_exactly(
    exact: Any, seeded: Any, steps: int, distortion: str
) -> None:
    flow = exact.Flow(distortion=distortion)
    batch = flow.sample(10_000, steps=steps, generator=seeded())
    exact.assert_distributed(exact.counts(flow, batch), exact.product())


def test_stochasticity_keeps_the_distribution(exact: Any, seeded: Any) -> None:
    flow = exact.Flow(eta=4.0)
    batch = flow.sample(10_000, steps=32, generator=seeded())
    exact.assert_distributed(exact.counts(flow, batch), exact.product())


def test_the_chi_square_test_would_see_a_wrong_distribution(exact: Any, seeded: Any) -> None:
    flow = exact.Flow()
    wrong = exact.product() * np.linspace(0.8, 1.2, len(exact.states))
    with pytest.raises(AssertionError):
        exact.assert_distributed(exact.counts(flow, flow.sample(10_000, steps=4, generator=seeded())), wrong)


def test_without_a_number_of_steps_the_default_is_taken(exact: Any, seeded: Any) -> None:
    flow = exact.Flow()
    default, stated = (flow.sample(50, steps=k, generator=seeded()) for k in (None, flow.default_steps))
    assert torch.equal(default.ops, stated.ops)
    assert not torch.equal(default.ops, flow.sample(50, steps=3, generator=seeded()).ops)


# -- setting out from graphs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.1, 0.6, 1.0])
def test_graphs_of_the_distribution_are_varied_to_graphs_of_the_distribution(exact: Any, seeded: Any, t: float) -> None:
    flow, n = exact.Flow(eta=1.0), 8_000
    clean = flow.variables.graph(draw(exact.weights.expand(n, -1, -1), seeded(1)))
    batch = flow.sample(n, start=Start(clean, t), steps=6, generator=seeded())
    exact.assert_distributed(exact.counts(flow, batch), exact.product())


def test_a_small_time_keeps_most_of_each_graph_and_one_forgets_it(exact: Any, seeded: Any) -> None:
    flow, n = exact.Flow(), 1_000
    clean = flow.variables.graph(draw(exact.weights.expand(n, -1, -1), seeded(1)))
    kept = []
    for t in (0.02, 0.4, 1.0):
        batch = flow.sample(n, start=Start(clean, t), steps=4, generator=seeded())
        kept.append(float((flow.variables.states(batch) == flow.variables.states(clean)).float().mean()))
    by_chance = float(exact.weights.square().sum(-1).mean())
    assert kept[0] > 0.97
    assert kept[0] > kept[1] > kept[2]
    assert kept[2] == pytest.approx(by_chance, abs=0.04)


def test_candidates_of_a_graph_set_out_from_it(exact: Any, seeded: Any) -> None:
    """Groups of particles share their start: with a small time each sample is its own start's."""
    flow = exact.Flow()
    clean = flow.variables.graph(torch.tensor(exact.states))
    rows = [tuple(row) for row in flow.variables.states(clean).tolist()]
    particles = ParticleGuidance(lambda batch: rows * 3, lambda archs: np.zeros(len(archs)), particles=3)
    batch = flow.sample(24, start=Start(clean, 1e-4), guidance=[particles], steps=2, generator=seeded())
    assert (flow.variables.states(batch) == torch.tensor(exact.states)).all(1).float().mean() > 0.9


def test_another_number_of_graphs_than_samples_is_refused(exact: Any, seeded: Any) -> None:
    flow = exact.Flow()
    clean = flow.variables.graph(torch.tensor(exact.states))
    with pytest.raises(ValueError, match="expected 12 graphs to set out from, one a sample, got 24"):
        flow.sample(12, start=Start(clean, 0.5), generator=seeded())


# -- a joint distribution ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def five(space: SearchSpace) -> tuple[GraphBatch, Tensor]:
    """Five cells of NAS-Bench-201 whose operations depend on each other, with unequal weights."""
    texts = [
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        "|nor_conv_1x1~0|+|nor_conv_1x1~0|nor_conv_1x1~1|+|nor_conv_1x1~0|nor_conv_1x1~1|nor_conv_1x1~2|",
        "|skip_connect~0|+|nor_conv_3x3~0|none~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|",
        "|avg_pool_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|none~2|",
        "|none~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|",
    ]
    return space.encode([space.parse(text) for text in texts]), torch.tensor([0.4, 0.25, 0.2, 0.1, 0.05])


def hits(flow: PerfectJoint, batch: GraphBatch) -> np.ndarray:
    """How often each known graph was drawn."""
    return (flow.variables.states(batch)[:, None] == flow.known).all(-1).sum(0).numpy()


@pytest.mark.parametrize("eta", [0.0, 2.0])
def test_graphs_come_out_with_their_weights_when_clean_graphs_are_drawn_jointly(
    space: SearchSpace, five: tuple[GraphBatch, Tensor], exact: Any, seeded: Any, eta: float
) -> None:
    flow = PerfectJoint(space, *five, joint=True, eta=eta)
    counts = hits(flow, flow.sample(4_000, steps=8, generator=seeded()))
    assert counts.sum() == 4_000
    exact.assert_distributed(counts, five[1].numpy())


def test_steps_repair_what_a_factorised_denoiser_can_not_say_at_once(
    space: SearchSpace, five: tuple[GraphBatch, Tensor], seeded: Any
) -> None:
    flow = PerfectJoint(space, *five, joint=False)
    shares = [hits(flow, flow.sample(1_000, steps=k, generator=seeded())).sum() / 1_000 for k in (1, 2, 16)]
    assert shares[0] < 0.1
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.9


# -- the chain --------------------------------------------------------------------------------------------------


@given(
    states=STATES,
    clean=STATES,
    alpha=st.floats(0.0, 0.999),
    share=st.floats(0.001, 1.0),
    eta=st.floats(0.0, 100.0),
)
def test_step_probabilities_are_a_distribution_within_the_domain(
    exact: Any, states: Any, clean: Any, alpha: float, share: float, eta: float
) -> None:
    flow = exact.Flow(eta=eta)
    domain = flow.variables.domain
    noise = flow.variables.noise
    p = flow._step(torch.tensor(states), torch.tensor(clean), noise, alpha, share * (1 - alpha))
    assert p.shape == (4, 4, 3)
    assert bool((p >= 0).all())
    torch.testing.assert_close(p.sum(-1), torch.ones(4, 4))
    assert not bool(p[:, ~domain].any())


@pytest.mark.parametrize("eta", [0.0, 1.5])
@pytest.mark.parametrize(("alpha", "dt"), [(0.0, 0.1), (0.3, 0.2), (0.6, 0.04)])
def test_one_step_carries_the_path_from_one_time_to_the_next(exact: Any, eta: float, alpha: float, dt: float) -> None:
    """`sum_x p_t(x | x_0) P(x -> y) = p_{t + dt}(y | x_0)`, for every clean state: Euler is exact on this path."""
    flow = exact.Flow(eta=eta)
    noise = flow.variables.noise
    every = torch.tensor(exact.states)
    for state in exact.states:
        clean = torch.tensor([state]).expand(len(every), -1)
        p = flow._step(every, clean, noise, alpha, dt)
        one_hot = torch.nn.functional.one_hot(clean[0], 3)
        for v in range(4):
            before, after = ((a * one_hot + (1 - a) * noise)[v] for a in (alpha, alpha + dt))
            transition = torch.zeros(3, 3)
            transition[every[:, v]] = p[:, v]
            torch.testing.assert_close(before @ transition, after)


@pytest.mark.parametrize("distortion", list(DISTORTIONS))
def test_time_distortions_rise_from_zero_to_one(distortion: str) -> None:
    grid = DISTORTIONS[distortion](torch.linspace(0, 1, 33))
    assert grid[0] == 0.0
    assert grid[-1] == 1.0
    assert bool((grid.diff() > 0).all())


def test_the_default_distortion_slows_down_to_a_last_step_of_a_cubed_one(exact: Any, seeded: Any) -> None:
    """With 16 steps less than 1 / 4,000 of the noise is left for the last; `polydec` leaves 1 / 256."""
    s = torch.linspace(0, 1, 17)
    torch.testing.assert_close(DISTORTIONS["cubic"](s), 3 * s - 3 * s**2 + s**3)
    left = {name: 1 - float(rise(s)[-2]) for name, rise in DISTORTIONS.items()}
    assert left["cubic"] == pytest.approx(1 / 4096, rel=1e-3)
    assert left["polydec"] == pytest.approx(1 / 256, rel=1e-3)
    plain, cubic = (exact.Flow(**options).sample(50, generator=seeded()) for options in ({}, {"distortion": "cubic"}))
    assert exact.Flow().config["distortion"] == "cubic"
    assert torch.equal(plain.ops, cubic.ops)


# -- the loss ---------------------------------------------------------------------------------------------------


def expected_loss(exact: Any) -> float:
    r""":math:`\sum_v \int_0^1 H(X_0^v | X_t^v) dt` of the product: what no denoiser can go below."""
    total, variables = 0.0, exact.Flow().variables
    for v, allowed in enumerate(variables.domain):
        w, u = (table[v, allowed].double().numpy() for table in (exact.weights, variables.noise))

        def entropy(t: float, w: np.ndarray = w, u: np.ndarray = u) -> float:
            joint = w[:, None] * ((1 - t) * np.eye(len(w)) + t * u)  # x_0, x_t
            posterior = joint / np.maximum(joint.sum(0), 1e-300)
            return float(-(joint * np.log(np.where(posterior > 0, posterior, 1.0))).sum())

        total += integrate.quad(entropy, 0, 1)[0]
    return total


def test_the_loss_of_a_perfect_denoiser_is_the_conditional_entropy(exact: Any, seeded: Any) -> None:
    """Mean of 50 batches against the closed form; off by five standard errors with probability 1e-5."""
    flow, generator = exact.Flow(), seeded()
    losses = []
    for _ in range(50):
        states = draw(exact.weights.expand(1_000, -1, -1), generator)
        losses.append(float(flow.loss(flow.variables.graph(states), generator=generator)))
    assert abs(np.mean(losses) - expected_loss(exact)) < 5 * np.std(losses, ddof=1) / 50**0.5


def test_the_loss_tells_the_network_the_condition_as_it_is_given(exact: Any, seeded: Any) -> None:
    """What is left open is for the training data to say."""
    seen = []

    class Spy(exact.Flow):  # type: ignore[misc,name-defined]
        def posterior(self, states: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
            seen.append(condition)
            return super().posterior(states, t)  # type: ignore[no-any-return]

    flow = Spy(conditions=2)
    clean = flow.variables.graph(torch.tensor(exact.states))
    condition = torch.rand(24, 2, generator=seeded(1)).masked_fill(torch.rand(24, 2, generator=seeded(2)) < 0.3, NAN)
    flow.loss(clean, condition, generator=seeded())
    flow.loss(clean, generator=seeded())
    given, none = seen
    torch.testing.assert_close(given, condition, rtol=0, atol=0, equal_nan=True)
    assert none is None


def test_fixed_variables_cost_nothing(seeded: Any) -> None:
    node_domain = torch.eye(3, dtype=torch.bool)
    edge_domain = torch.tensor([True, False]).expand(3, 3, 2)
    flow = DiscreteFlow(node_domain, edge_domain, width=8, layers=1, heads=2)
    graph = GraphBatch(torch.eye(3)[None], torch.zeros(1, 3, 3), torch.ones(1, 3, dtype=torch.bool))
    assert flow.loss(graph, generator=seeded()).item() == 0.0
    drawn = flow.sample(2, steps=3, generator=seeded())
    assert torch.equal(drawn.ops, torch.eye(3).expand(2, 3, 3))
    assert not bool(drawn.edges.any())


# -- the network ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditions", [0, 2])
@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_the_denoiser_gives_log_probabilities_within_the_domain(space: SearchSpace, t: float, conditions: int) -> None:
    flow = DiscreteFlow(space.node_domain, space.edge_domain, width=16, layers=1, heads=2, conditions=conditions)
    states = flow.variables.states(space.encode(space.sample(3, np.random.default_rng(0))))
    condition = torch.tensor([[0.0, 3.0], [torch.nan, -9.0], [torch.nan, torch.nan]]) if conditions else None
    log_p = flow.posterior(states, torch.full((3,), t), condition)
    domain = flow.variables.domain
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(3, states.shape[1]))
    assert bool(log_p[:, ~domain].isneginf().all())
    assert bool(log_p[:, domain].isfinite().all())


@pytest.fixture(scope="module")
def modules() -> tuple[DiscreteFlow, Tensor, Tensor]:
    """A conditional flow of nasbench101, noised graphs and their times."""
    space = spaces.load("nasbench101")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = DiscreteFlow(space.node_domain, space.edge_domain, width=16, layers=1, heads=2, conditions=1).eval()
    t, generator = torch.linspace(0.0, 1.0, 40), torch.Generator().manual_seed(0)
    states = flow.variables.states(space.encode(space.sample(40, np.random.default_rng(0))))
    return flow, flow.variables.noised(states, t, generator), t


def test_an_edge_that_is_there_was_there_for_certain_and_an_absent_one_is_open(
    modules: tuple[DiscreteFlow, Tensor, Tensor],
) -> None:
    """Noise only removes edges."""
    flow, states, t = modules
    f = len(flow.variables.nodes)
    with torch.no_grad():
        log_p = flow.posterior(states, t)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(states.shape))
    there = states[:, f:] == 1
    assert 0.05 < float(there.float().mean()) < 0.5
    certain = torch.tensor([-torch.inf, 0.0]).expand(int(there.sum()), 2)
    assert torch.equal(log_p[:, f:, :2][there], certain)
    assert bool(log_p[:, f:, :2][~there].isfinite().all())
    assert bool((log_p[:, f:, :2][~there] < 0).all())
    domain = flow.variables.domain[:f]
    assert bool(log_p[:, :f][:, domain].isfinite().all())
    assert bool((log_p[:, :f][:, domain] < 0).all())


@pytest.mark.parametrize("weight", [-1.0, 0.5, 1.5, 4.0])
def test_classifier_free_mixing_keeps_what_is_certain(
    modules: tuple[DiscreteFlow, Tensor, Tensor], weight: float
) -> None:
    """Minus infinity twice, with weights of either sign, would be NaN; the rest is the power of the two, normalised."""
    flow, states, t = modules
    f, condition = len(flow.variables.nodes), torch.full((len(states), 1), 2.0)
    with torch.no_grad():
        mixed = flow._weighted(states, t, condition, weight)
        conditional, free = flow.posterior(states, t, condition).exp(), flow.posterior(states, t).exp()
    assert not bool(mixed.isnan().any())
    there = states[:, f:] == 1
    assert torch.equal(mixed[:, f:, :2][there], torch.tensor([-torch.inf, 0.0]).expand(int(there.sum()), 2))
    power = torch.where(free > 0, conditional**weight * free.clamp(min=1e-30) ** (1 - weight), 0.0).nan_to_num()
    torch.testing.assert_close(mixed.exp(), power / power.sum(-1, keepdim=True), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(mixed.exp(), conditional, atol=1e-4)


def test_a_loss_with_certain_edges_is_finite_and_has_gradients(modules: tuple[DiscreteFlow, Tensor, Tensor]) -> None:
    flow, states, _ = modules
    flow.zero_grad()
    flow.loss(flow.variables.graph(states), generator=torch.Generator().manual_seed(0)).backward()
    gradients = [p.grad for p in flow.parameters() if p.grad is not None]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert any(bool(gradient.any()) for gradient in gradients)


def test_conditional_samples_of_a_space_with_free_edges_are_drawn_at_any_weight(
    modules: tuple[DiscreteFlow, Tensor, Tensor],
) -> None:
    flow, states, _ = modules
    for weight in (0.0, 1.0, 3.0):
        batch = flow.sample(
            20, condition=torch.ones(20, 1), weight=weight, steps=3, generator=torch.Generator().manual_seed(0)
        )
        drawn = flow.variables.states(batch)
        assert bool(flow.variables.domain[torch.arange(states.shape[1]), drawn].all())


def test_the_condition_reaches_the_network_and_openness_is_no_value(space: SearchSpace) -> None:
    torch.manual_seed(0)
    flow = DiscreteFlow(space.node_domain, space.edge_domain, width=16, layers=1, heads=2, conditions=2).eval()
    states = flow.variables.states(space.encode(space.sample(1, np.random.default_rng(0)))).expand(4, -1)
    condition = torch.tensor([[0.0, torch.nan], [torch.nan, 0.0], [1.0, torch.nan], [torch.nan, torch.nan]])
    with torch.no_grad():
        log_p = flow.posterior(states, torch.full((4,), 0.5), condition).exp()
        free = flow.posterior(states[:1], torch.full((1,), 0.5)).exp()
    torch.testing.assert_close(log_p[3:], free)
    assert len(torch.unique(log_p.flatten(1).round(decimals=5), dim=0)) == 4


@pytest.mark.parametrize("bad", [{"n": 0}, {"steps": 0}, {"steps": -1}])
def test_nothing_to_draw_is_refused(exact: Any, seeded: Any, bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected n >= 1 and steps >= 1, got"):
        exact.Flow().sample(**{"n": 2, "steps": 2, **bad}, generator=seeded())


@pytest.mark.parametrize(("conditions", "shape"), [(0, (2, 2)), (2, (2, 1)), (2, (1, 2)), (2, (3, 2))])
def test_a_condition_of_another_shape_is_refused(
    exact: Any, seeded: Any, conditions: int, shape: tuple[int, int]
) -> None:
    flow = exact.Flow(conditions=conditions)
    message = rf"a condition of shape \(2, {conditions}\), got \({shape[0]}, {shape[1]}\)"
    with pytest.raises(ValueError, match=message):
        flow.sample(2, condition=torch.zeros(shape), generator=seeded())
    with pytest.raises(ValueError, match=message):
        flow.loss(flow.variables.graph(torch.tensor(exact.states[:2])), torch.zeros(shape), generator=seeded())
