"""Predictors of noised graphs: trained, they know the conditional mean and spread that have a closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from archgen.generators import NoisedGuidance, NoisedPredictor, Tilt, expected_log_weight, train_noised
from archgen.generators.variables import draw
from archgen.graph import GraphBatch

VALUES = torch.tensor([[0.0, 1.2, 0.0], [0.5, -0.4, -1.0], [0.0, 1.5, 0.0], [0.3, -0.6, 0.0]])
"""What each state of each variable adds to the property."""


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
        predictor = NoisedPredictor(exact.nodes, exact.edges, ["up", "down"], width=32, layers=1, heads=2)
    source = torch.Generator().manual_seed(0)
    train_noised(predictor, flow, lambda n: clean(exact, flow, n, source), steps=300, batch_size=256, lr=5e-3)
    return predictor


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
    """300 steps of training leave 0.05 to 0.15; the property's own standard deviation is 0.98."""
    times = torch.full((2_000,), t)
    graphs, _ = clean(exact, flow, 2_000, seeded(5))
    noised = flow.noise(graphs, times, generator=seeded(6))
    expected_mean, expected_std = closed_form(flow, noised, times)
    with torch.no_grad():
        mean, std = trained(noised, times)
    assert float((mean[:, 0] - expected_mean).square().mean().sqrt()) < 0.2
    assert float((mean[:, 1] + expected_mean).square().mean().sqrt()) < 0.2
    assert float((std[:, 0] / expected_std).log().abs().mean()) < 0.15


def test_its_intervals_hold_what_they_promise(exact: Any, flow: Any, seeded: Any, trained: NoisedPredictor) -> None:
    """On fresh graphs of all times; 4,000 of them have a standard error of half a per cent."""
    graphs, z = clean(exact, flow, 4_000, seeded(7))
    t = torch.rand(4_000, generator=seeded(8))
    with torch.no_grad():
        mean, std = trained(flow.noise(graphs, t, generator=seeded(9)), t)
    residual = ((z - mean) / std).numpy()
    assert np.abs(residual[:, 0].mean()) < 0.1
    assert residual.std(0) == pytest.approx([1.0, 1.0], abs=0.12)
    for level in (0.5, 0.9):
        assert np.mean(np.abs(residual[:, 0]) < stats.norm.ppf(0.5 + level / 2)) == pytest.approx(level, abs=0.1)


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


def test_the_loss_is_the_negative_log_likelihood_of_noised_graphs(exact: Any, flow: Any, seeded: Any) -> None:
    seen = []

    class Constant(NoisedPredictor):
        def forward(self, graph: GraphBatch, t: Tensor) -> tuple[Tensor, Tensor]:
            seen.append((graph, t))
            return torch.full((len(graph), 2), 0.3), torch.full((len(graph), 2), 0.5)

    graphs, z = clean(exact, flow, 4_000, seeded())
    predictor = Constant(exact.nodes, exact.edges, ["up", "down"], width=8, layers=1, heads=2)
    loss = float(predictor.loss(graphs, z, flow.noise, generator=seeded(1)))
    nll = -stats.norm(0.3, 0.5).logpdf(z.numpy()).sum(1).mean()
    assert loss == pytest.approx(nll - np.log(2 * np.pi), rel=1e-5)  # a constant a property is left out
    ((noised, t),) = seen
    assert float(t.mean()) == pytest.approx(0.5, abs=0.03)  # uniform: six standard errors
    same = (flow.variables.states(noised) == flow.variables.states(graphs)).float().mean(1)
    assert float(same[t < 0.1].mean()) > 0.9 > float(same[t > 0.9].mean())


def test_absent_nodes_do_not_change_a_prediction(exact: Any) -> None:
    predictor = NoisedPredictor(exact.nodes, exact.edges, ["up"], width=8, layers=1, heads=2)
    ops, edges = torch.rand(2, 3, 3), torch.rand(2, 3, 3).triu(1)
    mask = torch.tensor([True, True, False]).expand(2, 3)
    other_ops, other_edges = ops.clone(), edges.clone()
    other_ops[:, 2], other_edges[:, :, 2] = 7.0, 0.5
    t = torch.full((2,), 0.4)
    with torch.no_grad():
        one, _ = predictor(GraphBatch(ops, edges, mask), t)
        two, _ = predictor(GraphBatch(other_ops, other_edges, mask), t)
    torch.testing.assert_close(one, two)
    assert not torch.equal(one[0], one[1])


def test_training_without_properties_is_refused(exact: Any, flow: Any) -> None:
    predictor = NoisedPredictor(exact.nodes, exact.edges, ["up"], width=8, layers=1, heads=2)
    graphs = flow.variables.graph(torch.tensor(exact.states))
    with pytest.raises(ValueError, match="needs the properties of its training graphs"):
        train_noised(predictor, flow, lambda n: (graphs, None), steps=1)


def test_training_leaves_the_generator_alone_and_repeats_itself(exact: Any, seeded: Any) -> None:
    torch.manual_seed(0)
    flow = exact.Flow()
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    weights = []
    for _ in range(2):
        torch.manual_seed(1)
        predictor = NoisedPredictor(exact.nodes, exact.edges, ["up", "down"], width=8, layers=1, heads=2)
        source = seeded(2)
        state = torch.get_rng_state()
        train_noised(predictor, flow, lambda n: clean(exact, flow, n, source), steps=3, batch_size=8)  # noqa: B023
        assert torch.equal(torch.get_rng_state(), state)
        assert not predictor.training
        weights.append(predictor.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert all(torch.equal(value, before[name]) for name, value in flow.state_dict().items())
