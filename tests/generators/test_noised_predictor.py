"""Predictors of noised graphs: trained, they know the conditional distribution that has a closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from archgen import spaces
from archgen.generators import NoisedGuidance, NoisedPredictor, Tilt, expected_log_weight, train_noised
from archgen.generators.variables import FreeVariables, draw
from archgen.graph import GraphBatch

VALUES = torch.tensor([[0.0, 1.2, 0.0], [0.5, -0.4, -1.0], [0.0, 1.5, 0.0], [0.3, -0.6, 0.0]])
"""What each state of each variable adds to the property."""
BOUNDS = (-0.5, 0.1, 0.9, 1.3)
"""Half way between two levels, and no value of the property is nearer than those."""


def clean(exact: Any, flow: Any, n: int, generator: torch.Generator) -> tuple[GraphBatch, Tensor]:
    """Graphs of the product distribution and their two properties; the second is the first turned round."""
    states = draw(exact.weights.expand(n, -1, -1), generator)
    z = VALUES[torch.arange(4), states].sum(1)
    return flow.variables.graph(states), torch.stack([z, -z], 1)


@pytest.fixture(scope="module")
def flow(exact: Any) -> Any:
    return exact.Flow()


@pytest.fixture(scope="module")
def trained(exact: Any, flow: Any) -> NoisedPredictor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        predictor = NoisedPredictor(exact.nodes, exact.edges, ["up", "down"], width=32, layers=1)
    source = torch.Generator().manual_seed(0)
    train_noised(predictor, flow, lambda n: clean(exact, flow, n, source), steps=300, batch_size=256, lr=2e-2)
    return predictor


def moments(predictor: NoisedPredictor, noised: GraphBatch, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each predicted histogram, `b x c`."""
    with torch.no_grad():
        p = predictor(noised, t).exp()
    mean = (p * predictor.levels).sum(-1)
    return mean, ((p * predictor.levels.square()).sum(-1) - mean.square()).sqrt()


def probability(predictor: NoisedPredictor, noised: GraphBatch, t: Tensor, bound: float) -> Tensor:
    """That the first property is above the bound."""
    with torch.no_grad():
        return expected_log_weight(predictor, [Tilt("up", 1, bound=bound)])(noised, t).exp()


# -- what it learns ---------------------------------------------------------------------------------------------


def closed_form(flow: Any, noised: GraphBatch, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the first property given noised graphs."""
    p = flow.posterior(flow.variables.states(noised), t).exp()
    mean = (p * VALUES).sum(-1)
    variance = (p * VALUES.square()).sum(-1) - mean.square()
    return mean.sum(-1), variance.sum(-1).sqrt()


@pytest.mark.parametrize("t", [0.15, 0.5, 0.85, 1.0])
def test_mean_and_spread_are_those_of_the_closed_form(
    exact: Any, flow: Any, seeded: Any, trained: NoisedPredictor, t: float
) -> None:
    """300 steps of training leave 0.02 to 0.13; the property's own standard deviation is 0.98."""
    times = torch.full((2_000,), t)
    graphs, _ = clean(exact, flow, 2_000, seeded(5))
    noised = flow.noise(graphs, times, generator=seeded(6))
    expected_mean, expected_std = closed_form(flow, noised, times)
    mean, std = moments(trained, noised, times)
    assert float((mean[:, 0] - expected_mean).square().mean().sqrt()) < 0.2
    assert float((mean[:, 1] + expected_mean).square().mean().sqrt()) < 0.2
    assert float((std[:, 0] / expected_std).log().abs().mean()) < 0.15


@pytest.mark.parametrize("t", [0.15, 0.5, 1.0])
def test_probabilities_of_bounds_are_those_of_the_closed_form(
    exact: Any, flow: Any, seeded: Any, trained: NoisedPredictor, t: float
) -> None:
    """300 steps of training leave 0.02 to 0.06."""
    times = torch.full((1_000,), t)
    graphs, _ = clean(exact, flow, 1_000, seeded(5))
    noised = flow.noise(graphs, times, generator=seeded(6))
    states = torch.tensor(exact.states)
    z = VALUES[torch.arange(4), states].sum(1)
    p = flow.posterior(flow.variables.states(noised), times)[:, torch.arange(4), states].sum(-1).exp()
    for bound in BOUNDS:
        error = probability(trained, noised, times, bound) - p[:, z > bound].sum(1)
        assert float(error.square().mean().sqrt()) < 0.1


def test_what_it_calls_so_probable_happens_so_often(
    exact: Any, flow: Any, seeded: Any, trained: NoisedPredictor
) -> None:
    """On fresh graphs of all times; each of five groups has over 2,000, four from one at most: five standard errors."""
    graphs, z = clean(exact, flow, 8_000, seeded(7))
    t = torch.rand(8_000, generator=seeded(8))
    noised = flow.noise(graphs, t, generator=seeded(9))
    p = torch.cat([probability(trained, noised, t, bound) for bound in BOUNDS])
    met = torch.cat([z[:, 0] > bound for bound in BOUNDS]).float()
    group = (p * 5).long().clamp(max=4)
    assert int(torch.bincount(group).min()) > 2_000
    for i in range(5):
        assert float(met[group == i].mean()) == pytest.approx(float(p[group == i].mean()), abs=0.05)


@pytest.mark.parametrize(("metric", "sign", "gamma"), [("up", 1, 1.0), ("up", -1, 0.7), ("down", -1, 1.0)])
def test_guided_by_it_the_flow_draws_the_tilted_distribution(
    exact: Any, flow: Any, seeded: Any, trained: NoisedPredictor, metric: str, sign: int, gamma: float
) -> None:
    """The property adds up, so `p(x) e^{gamma z(x)}` is a product; what the predictor has learnt leaves a tenth."""
    direction = sign * (1 if metric == "up" else -1)
    expected = exact.product(exact.weights * (direction * gamma * VALUES).exp())
    weight = expected_log_weight(trained, [Tilt(metric, sign, gamma)])
    batch = flow.sample(2_000, guidance=[NoisedGuidance(weight, exact.nodes, exact.edges)], steps=8, generator=seeded())
    counts = exact.counts(flow, batch)
    assert exact.distance(counts, expected) < 0.1 < exact.distance(counts, exact.product())


# -- the loss ---------------------------------------------------------------------------------------------------


class Constant(NoisedPredictor):
    """The same histograms for every graph, the second of two as given, the first reversed."""

    def __init__(self, exact: Any, logits: Tensor) -> None:
        super().__init__(exact.nodes, exact.edges, ["up", "down"], width=8, layers=1)
        self.logits, self.seen = nn.Parameter(torch.stack([logits.flip(0), logits])), []  # type: ignore[var-annotated]

    def forward(self, graph: GraphBatch, t: Tensor, columns: Sequence[int] | None = None) -> Tensor:
        self.seen.append((graph, t))
        return self.logits.log_softmax(-1).expand(len(graph), -1, -1)


def test_the_loss_is_the_cross_entropy_of_both_neighbouring_levels(exact: Any, flow: Any, seeded: Any) -> None:
    """In proportion to their nearness, so the log-probability is interpolated; beyond the levels the last one counts.

    With 4,000 times a share is off by 0.04, and Kolmogorov's distance by 0.044, with probability below 1e-6.
    """
    graphs, z = clean(exact, flow, 4_000, seeded())
    z = 1.7 * z  # up to 5.95, and down to -5.95
    predictor = Constant(exact, torch.randn(41, generator=seeded(2)))
    loss = float(predictor.loss(graphs, z, flow.noise, generator=seeded(1)).detach())
    levels, log_p = np.linspace(-4, 4, 41), predictor.logits.detach().log_softmax(-1).numpy()
    nll = -sum(np.interp(z[:, i].numpy(), levels, log_p[i]).mean() for i in range(2))
    assert loss == pytest.approx(nll, rel=1e-4)
    assert float(z.abs().max()) > 4.5
    ((noised, t),) = predictor.seen
    assert stats.kstest(t.sqrt().numpy(), "uniform").statistic < 0.044  # little noise is met more often
    same = (flow.variables.states(noised) == flow.variables.states(graphs)).float().mean(1)
    assert float(same[t < 0.1].mean()) > 0.9 > float(same[t > 0.9].mean())


def test_the_histogram_of_least_loss_has_the_mean_of_the_scores(exact: Any, flow: Any, seeded: Any) -> None:
    """At equal logits the gradient is the uniform histogram less the best one."""
    graphs, z = clean(exact, flow, 500, seeded())
    predictor = Constant(exact, torch.zeros(41))
    predictor.loss(graphs, z, flow.noise, generator=seeded(1)).backward()
    assert predictor.logits.grad is not None
    best = 1 / 41 - predictor.logits.grad
    assert float(best.min()) > -1e-6
    torch.testing.assert_close(best.sum(-1), torch.ones(2))
    torch.testing.assert_close((best * predictor.levels).sum(-1), z.mean(0))


# -- the network ------------------------------------------------------------------------------------------------


def test_levels_are_normal_scores_and_no_weights(exact: Any) -> None:
    predictor = NoisedPredictor(exact.nodes, exact.edges, ["up"])
    torch.testing.assert_close(predictor.levels, torch.linspace(-4.0, 4.0, 41))
    assert "levels" not in predictor.state_dict()
    assert predictor.config == {"metrics": ["up"], "width": 128, "layers": 3}


@pytest.mark.parametrize("name", ["nasbench101", "mobilenetv3"])
def test_it_gives_log_probabilities_and_only_of_the_columns_asked_for(name: str, rng: np.random.Generator) -> None:
    space = spaces.load(name)
    predictor = NoisedPredictor(space.node_domain, space.edge_domain, ["a", "b", "c"], width=16, layers=2)
    graphs, t = space.encode(space.sample(5, rng)), torch.linspace(0, 1, 5)
    with torch.no_grad():
        log_p = predictor(graphs, t)
        some = predictor(graphs, t, [2, 0])
    assert log_p.shape == (5, 3, 41)
    torch.testing.assert_close(log_p.logsumexp(-1), torch.zeros(5, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(some, log_p[:, [2, 0]])
    assert not torch.equal(log_p[:, 0], log_p[:, 1])


def test_what_is_the_same_in_every_graph_does_not_change_a_prediction(exact: Any, seeded: Any) -> None:
    """And every free variable and the time do."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        predictor = NoisedPredictor(exact.nodes, exact.edges, ["up"], width=8, layers=1)
    graph = FreeVariables(exact.nodes, exact.edges).graph(torch.tensor(exact.states))
    ops, edges = graph.ops.clone(), graph.edges.clone()
    ops[:, 2], edges[:, 0, 2], edges[:, 2, 0] = 7.0, 0.5, 3.0  # the fixed node and edge, and below the diagonal
    t = torch.full((24,), 0.4)
    with torch.no_grad():
        one = predictor(graph, t)
        torch.testing.assert_close(predictor(GraphBatch(ops, edges, graph.node_mask), t), one)
        assert len(torch.unique(one.flatten(1).round(decimals=5), dim=0)) == 24
        assert not torch.allclose(predictor(graph, t / 2), one)


# -- training ---------------------------------------------------------------------------------------------------


def test_training_without_properties_is_refused(exact: Any, flow: Any) -> None:
    predictor = NoisedPredictor(exact.nodes, exact.edges, ["up"], width=8, layers=1)
    graphs = flow.variables.graph(torch.tensor(exact.states))
    with pytest.raises(ValueError, match="needs the properties of its training graphs"):
        train_noised(predictor, flow, lambda n: (graphs, None), steps=1)


def test_training_takes_large_batches_and_a_high_rate_by_default(exact: Any, flow: Any, seeded: Any) -> None:
    class Broken(NoisedPredictor):
        def loss(self, *arguments: Any, **options: Any) -> Tensor:
            return super().loss(*arguments, **options) * torch.nan

    sizes, source = [], seeded()

    def data(n: int) -> tuple[GraphBatch, Tensor]:
        sizes.append(n)
        return clean(exact, flow, n, source)

    with pytest.raises(FloatingPointError, match=r"lower lr \(now 0\.004\)"):
        train_noised(Broken(exact.nodes, exact.edges, ["up", "down"], width=8, layers=1), flow, data, steps=3)
    assert sizes == [1024]


def test_training_leaves_the_generator_alone_and_repeats_itself(exact: Any, seeded: Any) -> None:
    torch.manual_seed(0)
    flow = exact.Flow()
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    weights = []
    for _ in range(2):
        torch.manual_seed(1)
        predictor = NoisedPredictor(exact.nodes, exact.edges, ["up", "down"], width=8, layers=1)
        source = seeded(2)
        state = torch.get_rng_state()
        train_noised(predictor, flow, lambda n: clean(exact, flow, n, source), steps=3, batch_size=8)  # noqa: B023
        assert torch.equal(torch.get_rng_state(), state)
        assert not predictor.training
        weights.append(predictor.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert all(torch.equal(value, before[name]) for name, value in flow.state_dict().items())
