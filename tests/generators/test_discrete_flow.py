"""Discrete flow matching with exact posteriors in place of the network: the sampler is tested without training."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor

from archgen.generators import DiscreteFlow
from archgen.generators.discrete_flow import DISTORTIONS, _draw
from archgen.graph import GraphBatch
from archgen.spaces import SearchSpace

FAILS = 1e-6
"""Probability with which a chi-square test here fails although the code is right; seeds are fixed besides."""

# Six variables: nodes of 2, 3 and 1 labels, then the edges (0, 1) free, (0, 2) there, (1, 2) free.
NODES = torch.tensor([[True, True, False], [True, True, True], [False, False, True]])
EDGES = torch.tensor([[[1, 0], [1, 1], [0, 1]], [[1, 0], [1, 0], [1, 1]], [[1, 0], [1, 0], [1, 0]]]).bool()
STATES = list(itertools.product([0, 1], [0, 1, 2], [2], [0, 1], [1], [0, 1]))
WEIGHTS = torch.tensor(
    [[0.7, 0.3, 0.0], [0.2, 0.5, 0.3], [0.0, 0.0, 1.0], [0.85, 0.15, 0.0], [0.0, 1.0, 0.0], [0.4, 0.6, 0.0]]
)
"""A product distribution over them."""
PRODUCT = np.array([math.prod(float(WEIGHTS[v, s]) for v, s in enumerate(state)) for state in STATES])


class PerfectProduct(DiscreteFlow):
    """Knows the posterior of `WEIGHTS`: `p(x_0 | x_t) ~ w(x_0) (alpha [x_0 = x_t] + (1 - alpha) u(x_t))`."""

    def __init__(self, **arguments: object) -> None:
        super().__init__(NODES, EDGES, width=8, layers=1, heads=2, **arguments)  # type: ignore[arg-type]

    def posterior(self, states: Tensor, t: Tensor) -> Tensor:
        domain = self._domain
        noise = domain / domain.sum(-1, keepdim=True)
        alpha = (1 - t)[:, None, None]
        same = torch.nn.functional.one_hot(states, domain.shape[1])
        u = noise.expand(len(states), -1, -1).gather(-1, states[..., None])
        return (WEIGHTS * (alpha * same + (1 - alpha) * u)).log().log_softmax(-1)


class PerfectJoint(DiscreteFlow):
    """Knows the joint posterior of a few weighted graphs; draws clean graphs from it, or from its marginals.

    `p(x_0 | x_t) ~ w(x_0) prod_v p_t(x_t[v] | x_0[v])`; a factorised denoiser can only give the marginals.
    """

    def __init__(
        self, space: SearchSpace, graphs: GraphBatch, weights: Tensor, joint: bool, **arguments: float
    ) -> None:
        super().__init__(space.node_domain, space.edge_domain, width=8, layers=1, heads=2, **arguments)  # type: ignore[arg-type]
        self.known, self.log_weights, self.joint = self._to_states(graphs), weights.log(), joint

    def posterior(self, states: Tensor, t: Tensor) -> Tensor:
        domain = self._domain
        noise = domain / domain.sum(-1, keepdim=True)
        alpha = (1 - t)[:, None, None]
        same = states[:, None, :] == self.known  # b, graphs, v
        u = noise.expand(len(states), -1, -1).gather(-1, states[..., None]).mT
        self.p = (self.log_weights + (alpha * same + (1 - alpha) * u).log().sum(-1)).softmax(-1)
        return torch.einsum(
            "bg,gvs->bvs", self.p, torch.nn.functional.one_hot(self.known, domain.shape[1]).float()
        ).log()

    def _draw_clean(self, log_p: Tensor, guidance: object, generator: torch.Generator) -> Tensor:
        if self.joint:
            return self.known[_draw(self.p, generator)]
        return super()._draw_clean(log_p, guidance, generator)  # type: ignore[arg-type]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def counts_of(flow: DiscreteFlow, batch: GraphBatch) -> np.ndarray:
    """How often each of `STATES` was drawn; every sample must be one of them."""
    index = {state: i for i, state in enumerate(STATES)}
    return np.bincount([index[tuple(row)] for row in flow._to_states(batch).tolist()], minlength=len(STATES))


def assert_distributed(counts: np.ndarray, expected: np.ndarray) -> None:
    """Pearson's chi-square test at `FAILS`; every expected count must be at least 5 for it to be valid."""
    expected = expected / expected.sum() * counts.sum()
    assert expected.min() >= 5
    assert ((counts - expected) ** 2 / expected).sum() < stats.chi2.isf(FAILS, len(counts) - 1)


class Table:
    """Guidance by a log-weight for each of `STATES`."""

    def __init__(self, flow: DiscreteFlow, log_weights: np.ndarray) -> None:
        self.flow, self.weights = flow, torch.full((2, 3, 3, 2, 2, 2), torch.nan)
        for state, weight in zip(STATES, log_weights, strict=True):
            self.weights[state] = float(weight)

    def log_tilt(self, clean: GraphBatch) -> Tensor:
        return self.weights[tuple(self.flow._to_states(clean).T)]


# -- sampling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 16])
@pytest.mark.parametrize("distortion", list(DISTORTIONS))
def test_a_perfect_denoiser_gives_a_product_distribution_exactly(steps: int, distortion: str) -> None:
    flow = PerfectProduct(distortion=distortion)
    assert_distributed(counts_of(flow, flow.sample(10_000, steps=steps, generator=seeded())), PRODUCT)


def test_stochasticity_keeps_the_distribution() -> None:
    flow = PerfectProduct(eta=4.0)
    assert_distributed(counts_of(flow, flow.sample(10_000, steps=32, generator=seeded())), PRODUCT)


def test_the_chi_square_test_would_see_a_wrong_distribution() -> None:
    flow = PerfectProduct()
    wrong = PRODUCT * np.linspace(0.8, 1.2, len(PRODUCT))
    with pytest.raises(AssertionError):
        assert_distributed(counts_of(flow, flow.sample(10_000, steps=4, generator=seeded())), wrong)


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
    return (flow._to_states(batch)[:, None] == flow.known).all(-1).sum(0).numpy()


@pytest.mark.parametrize("eta", [0.0, 2.0])
def test_graphs_come_out_with_their_weights_when_clean_graphs_are_drawn_jointly(
    space: SearchSpace, five: tuple[GraphBatch, Tensor], eta: float
) -> None:
    flow = PerfectJoint(space, *five, joint=True, eta=eta)
    counts = hits(flow, flow.sample(4_000, steps=8, generator=seeded()))
    assert counts.sum() == 4_000
    assert_distributed(counts, five[1].numpy())


def test_steps_repair_what_a_factorised_denoiser_can_not_say_at_once(
    space: SearchSpace, five: tuple[GraphBatch, Tensor]
) -> None:
    flow = PerfectJoint(space, *five, joint=False)
    shares = [hits(flow, flow.sample(1_000, steps=k, generator=seeded())).sum() / 1_000 for k in (1, 8, 64)]
    assert shares[0] < 0.1
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.9


# -- guidance ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def log_tilt() -> np.ndarray:
    return np.random.default_rng(0).normal(0.0, 0.6, len(STATES))


@pytest.mark.parametrize("parts", [1, 2])
def test_guidance_gives_the_tilted_distribution(log_tilt: np.ndarray, parts: int) -> None:
    """Importance sampling is exact in the limit of many candidates; with 128 its error is far below the noise here."""
    flow = PerfectProduct(candidates=128)
    guidance = [Table(flow, log_tilt / parts) for _ in range(parts)]
    counts = counts_of(flow, flow.sample(4_000, guidance=guidance, steps=4, generator=seeded()))
    assert_distributed(counts, PRODUCT * np.exp(log_tilt))
    with pytest.raises(AssertionError):
        assert_distributed(counts, PRODUCT)


def test_a_constant_tilt_changes_nothing() -> None:
    flow = PerfectProduct()
    guidance = [Table(flow, np.full(len(STATES), 7.0))]
    assert_distributed(counts_of(flow, flow.sample(5_000, guidance=guidance, steps=4, generator=seeded())), PRODUCT)


def test_forbidden_graphs_are_not_drawn(log_tilt: np.ndarray) -> None:
    """A fifth of the mass is forbidden: all 64 candidates of a graph are so with probability 1e-45."""
    forbidden = np.arange(len(STATES)) % 4 == 0
    tilt = np.where(forbidden, -np.inf, log_tilt)
    flow = PerfectProduct(candidates=64)
    counts = counts_of(flow, flow.sample(1_000, guidance=[Table(flow, tilt)], steps=4, generator=seeded()))
    assert counts[forbidden].sum() == 0
    assert (counts[~forbidden] > 0).any()


def test_when_everything_is_forbidden_graphs_are_drawn_as_without_guidance() -> None:
    flow = PerfectProduct()
    guidance = [Table(flow, np.full(len(STATES), -np.inf))]
    assert_distributed(counts_of(flow, flow.sample(5_000, guidance=guidance, steps=4, generator=seeded())), PRODUCT)


# -- the chain --------------------------------------------------------------------------------------------------


@given(data=st.data(), alpha=st.floats(0.0, 0.999), share=st.floats(0.001, 1.0), eta=st.floats(0.0, 100.0))
def test_step_probabilities_are_a_distribution_within_the_domain(
    data: st.DataObject, alpha: float, share: float, eta: float
) -> None:
    flow = PerfectProduct(eta=eta)
    rows = st.lists(st.sampled_from(STATES), min_size=4, max_size=4)
    states, clean = torch.tensor(data.draw(rows)), torch.tensor(data.draw(rows))
    noise = flow._domain / flow._domain.sum(-1, keepdim=True)
    p = flow._step_probabilities(states, clean, noise, alpha, share * (1 - alpha))
    assert p.shape == (4, 6, 3)
    assert bool((p >= 0).all())
    torch.testing.assert_close(p.sum(-1), torch.ones(4, 6))
    assert not bool(p[:, ~flow._domain].any())


@pytest.mark.parametrize("eta", [0.0, 1.5])
@pytest.mark.parametrize(("alpha", "dt"), [(0.0, 0.1), (0.3, 0.2), (0.6, 0.04)])
def test_one_step_carries_the_path_from_one_time_to_the_next(eta: float, alpha: float, dt: float) -> None:
    """`sum_x p_t(x | x_0) P(x -> y) = p_{t + dt}(y | x_0)`, for every clean state: Euler is exact on this path."""
    flow = PerfectProduct(eta=eta)
    noise = flow._domain / flow._domain.sum(-1, keepdim=True)
    every = torch.tensor(STATES)
    for state in STATES:
        clean = torch.tensor([state]).expand(len(every), -1)
        p = flow._step_probabilities(every, clean, noise, alpha, dt)
        one_hot = torch.nn.functional.one_hot(clean[0], 3)
        for v in range(6):
            before, after = ((a * one_hot + (1 - a) * noise)[v] for a in (alpha, alpha + dt))
            transition = torch.zeros(3, 3)
            transition[every[:, v]] = p[:, v]
            torch.testing.assert_close(before @ transition, after)


@given(st.lists(st.floats(0.0, 10.0), min_size=2, max_size=6).filter(any), st.integers(0, 1000))
def test_draw_never_gives_a_state_of_probability_zero(weights: list[float], seed: int) -> None:
    p = torch.tensor(weights)
    if not bool(p.any()):
        return  # too small for single precision
    drawn = _draw(p.expand(50, -1), seeded(seed))
    assert bool((p[drawn] > 0).all())


@pytest.mark.parametrize("distortion", list(DISTORTIONS))
def test_time_distortions_rise_from_zero_to_one(distortion: str) -> None:
    grid = DISTORTIONS[distortion](torch.linspace(0, 1, 33))
    assert grid[0] == 0.0
    assert grid[-1] == 1.0
    assert bool((grid.diff() > 0).all())


# -- the loss ---------------------------------------------------------------------------------------------------


def expected_loss() -> float:
    r""":math:`\sum_v \int_0^1 H(X_0^v | X_t^v) dt` of `WEIGHTS`: what no denoiser can go below."""
    total = 0.0
    for weights, allowed in zip(WEIGHTS.double().numpy(), PerfectProduct()._domain.numpy(), strict=True):

        def entropy(t: float, w: np.ndarray = weights[allowed]) -> float:
            joint = w[:, None] * ((1 - t) * np.eye(len(w)) + t / len(w))  # x_0, x_t
            posterior = joint / joint.sum(0)
            return float(-(joint * np.log(np.where(posterior > 0, posterior, 1.0))).sum())

        total += integrate.quad(entropy, 0, 1)[0]
    return total


def test_the_loss_of_a_perfect_denoiser_is_the_conditional_entropy() -> None:
    """Mean of 50 batches against the closed form; off by five standard errors with probability 1e-5."""
    flow, generator = PerfectProduct(), seeded()
    losses = []
    for _ in range(50):
        states = _draw(WEIGHTS.expand(1_000, -1, -1), generator)
        losses.append(float(flow.loss(flow._to_graph(states), generator=generator)))
    assert abs(np.mean(losses) - expected_loss()) < 5 * np.std(losses, ddof=1) / 50**0.5


def test_fixed_variables_cost_nothing() -> None:
    node_domain = torch.eye(3, dtype=torch.bool)
    edge_domain = torch.tensor([True, False]).expand(3, 3, 2)
    flow = DiscreteFlow(node_domain, edge_domain, width=8, layers=1, heads=2)
    graph = GraphBatch(torch.eye(3)[None], torch.zeros(1, 3, 3), torch.ones(1, 3, dtype=torch.bool))
    assert flow.loss(graph, generator=seeded()).item() == 0.0
    drawn = flow.sample(2, steps=3, generator=seeded())
    assert torch.equal(drawn.ops, torch.eye(3).expand(2, 3, 3))
    assert not bool(drawn.edges.any())


# -- the network ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_the_denoiser_gives_log_probabilities_within_the_domain(space: SearchSpace, t: float) -> None:
    flow = DiscreteFlow(space.node_domain, space.edge_domain, width=16, layers=1, heads=2)
    states = flow._to_states(space.encode(space.sample(3, np.random.default_rng(0))))
    log_p = flow.posterior(states, torch.full((3,), t))
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(3, states.shape[1]))
    assert bool(log_p[:, ~flow._domain].isneginf().all())
    assert bool(log_p[:, flow._domain].isfinite().all())


def test_states_and_graphs_convert_both_ways(space: SearchSpace) -> None:
    flow = DiscreteFlow(space.node_domain, space.edge_domain, width=16, layers=1, heads=2)
    archs = space.sample(5, np.random.default_rng(0))
    assert space.decode(flow._to_graph(flow._to_states(space.encode(archs)))) == archs


@pytest.mark.parametrize("bad", [{"n": 0}, {"steps": 0}, {"condition": torch.zeros(1, 2)}])
def test_bad_arguments_are_refused(bad: dict[str, object]) -> None:
    arguments = {"n": 2, "steps": 2, **bad}
    with pytest.raises(ValueError, match="expected n >= 1, steps >= 1 and no condition"):
        PerfectProduct().sample(**arguments, generator=seeded())  # type: ignore[arg-type]


def test_the_loss_refuses_a_condition() -> None:
    flow = PerfectProduct()
    with pytest.raises(ValueError, match="takes no condition vector"):
        flow.loss(flow._to_graph(torch.tensor(STATES[:2])), torch.zeros(2, 1), generator=seeded())
