"""Training: it learns, it repeats itself, and it stops when the loss breaks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import integrate

from archgen.generators import DiscreteFlow, train_generator
from archgen.graph import GraphBatch
from archgen.spaces import SearchSpace


def make(space: SearchSpace, seed: int = 0) -> DiscreteFlow:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DiscreteFlow(space.node_domain, space.edge_domain, width=16, layers=1, heads=2)


@pytest.fixture(scope="module")
def data(space: SearchSpace) -> GraphBatch:
    return space.encode(space.sample(2_000, np.random.default_rng(0)))


def mean_loss(generator: DiscreteFlow, data: GraphBatch) -> float:
    with torch.no_grad():
        return float(generator.loss(data, generator=torch.Generator().manual_seed(1)))


def uniform_floor(variables: int, states: int) -> float:
    """Least expected loss when data and noise are uniform: `variables` times the mean of `H(x_0 | x_t)` over t."""

    def entropy(t: float) -> float:
        same, other = 1 - t + t / states, t / states
        return -same * math.log(same) - ((states - 1) * other * math.log(other) if other > 0 else 0.0)

    return variables * float(integrate.quad(entropy, 0, 1)[0])


def test_training_approaches_the_entropy_from_above(space: SearchSpace, data: GraphBatch) -> None:
    """The operations of random cells are uniform and independent, so the least possible loss has a closed form.

    The last loss is a mean over 2,000 graphs whose standard deviation is below 3, so it is noisy by 0.07.
    """
    floor = uniform_floor(variables=6, states=5)
    generator = make(space)
    before = mean_loss(generator, data)
    losses = train_generator(generator, data, steps=150, batch_size=128, lr=1e-2, ema=0.9)
    after = mean_loss(generator, data)
    assert len(losses) == 150
    assert before > floor + 2
    assert floor - 0.3 < after < floor + 0.5
    assert np.mean(losses[-20:]) < np.mean(losses[:20])


def test_the_same_seed_gives_the_same_weights_to_the_bit(space: SearchSpace, data: GraphBatch) -> None:
    runs = []
    for seed in (3, 3, 4):
        generator = make(space)
        runs.append((train_generator(generator, data, steps=5, batch_size=16, seed=seed), generator.state_dict()))
    assert runs[0][0] == runs[1][0] != runs[2][0]
    assert all(torch.equal(value, runs[1][1][name]) for name, value in runs[0][1].items())


def test_training_does_not_touch_the_global_generators(space: SearchSpace, data: GraphBatch) -> None:
    generator = make(space)
    before = torch.get_rng_state()
    train_generator(generator, data, steps=2, batch_size=8)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_averaged_weights_are_kept_and_the_mode_is_evaluation(space: SearchSpace, data: GraphBatch) -> None:
    slow, plain = make(space), make(space)
    train_generator(slow, data, steps=6, batch_size=8, ema=1.0)
    train_generator(plain, data, steps=6, batch_size=8, ema=0.0)
    first = make(space)
    train_generator(first, data, steps=6, batch_size=8, ema=0.1)  # below the warm-up's own
    weights = [g.node_head.weight for g in (slow, first, plain)]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert not any(g.training for g in (slow, plain, first))


def test_fresh_graphs_can_come_from_a_function_and_progress_is_shown(space: SearchSpace) -> None:
    rng, sizes, shown = np.random.default_rng(0), [], []

    def fresh(n: int) -> tuple[GraphBatch, None]:
        sizes.append(n)
        return space.encode(space.sample(n, rng)), None

    def progress(steps: Iterator[int]) -> Iterator[int]:
        for step in steps:
            shown.append(step)
            yield step

    train_generator(make(space), fresh, steps=3, batch_size=7, progress=progress)
    assert sizes == [7, 7, 7]
    assert shown == [0, 1, 2]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_training(space: SearchSpace, data: GraphBatch, broken: float) -> None:
    class Broken(DiscreteFlow):
        calls = 0

        def loss(self, clean: GraphBatch, condition: object = None, *, generator: torch.Generator) -> torch.Tensor:
            self.calls += 1
            value = super().loss(clean, generator=generator)
            return value * broken if self.calls == 3 else value

    generator = Broken(space.node_domain, space.edge_domain, width=8, layers=1, heads=2)
    with pytest.raises(FloatingPointError, match=rf"the loss became {broken} at step 2; lower lr \(now 0\.002\)"):
        train_generator(generator, data, steps=5, batch_size=8)
    assert all(bool(p.isfinite().all()) for p in generator.parameters())


def test_conditions_come_with_their_graphs_and_are_learnt(space: SearchSpace) -> None:
    """Told the share of 3x3 convolutions, the flow knows more of the labels than the entropy of uniform cells."""
    rng = np.random.default_rng(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = DiscreteFlow(space.node_domain, space.edge_domain, width=16, layers=1, heads=2, conditions=1)
    convolution = space.labels.index("nor_conv_3x3")

    def data(n: int) -> tuple[GraphBatch, torch.Tensor]:
        graphs = space.encode(space.sample(n, rng))
        return graphs, graphs.ops[:, :, convolution].sum(1, keepdim=True) - 1.2

    train_generator(flow, data, steps=120, batch_size=128, lr=1e-2, ema=0.9)
    counts = []
    for wanted in (-1.2, 3.8):
        batch = flow.sample(
            200, condition=torch.full((200, 1), wanted), steps=4, generator=torch.Generator().manual_seed(0)
        )
        counts.append(float(batch.ops[:, :, convolution].sum(1).mean()))
    assert counts[0] < 0.5
    assert counts[1] > 3.5  # uniform cells have 1.2 of 6
