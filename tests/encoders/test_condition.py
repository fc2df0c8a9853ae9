"""The embedding of property vectors: real-valued, continuous, and open is another thing than any value."""

from __future__ import annotations

import pytest
import torch

from archgen.encoders import ConditionEmbedding

NAN = torch.nan


@pytest.fixture
def embedding() -> ConditionEmbedding:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ConditionEmbedding(conditions=2, width=16).double().eval()


def embed(embedding: ConditionEmbedding, *rows: tuple[float, float]) -> torch.Tensor:
    with torch.no_grad():
        return embedding(torch.tensor(rows, dtype=torch.double))  # type: ignore[no-any-return]


def test_it_is_finite_whatever_is_left_open_or_absurd(embedding: ConditionEmbedding) -> None:
    rows = embed(embedding, (NAN, NAN), (0.0, NAN), (NAN, 0.0), (1e9, -1e9), (float("inf"), 0.0))
    assert rows.shape == (5, 16)
    assert bool(rows.isfinite().all())


def test_open_is_neither_zero_nor_another_value_nor_another_place(embedding: ConditionEmbedding) -> None:
    rows = embed(embedding, (NAN, NAN), (0.0, NAN), (NAN, 0.0), (0.0, 0.0), (0.3, NAN), (NAN, 0.3))
    assert len(torch.unique(rows.round(decimals=6), dim=0)) == 6


def test_an_open_property_says_nothing_of_the_value_that_was_there(embedding: ConditionEmbedding) -> None:
    condition = torch.tensor([[1.0, 2.0], [1.0, -2.0]], dtype=torch.double)
    condition[:, 1] = NAN
    one, two = embedding(condition)
    assert torch.equal(one, two)


def test_near_values_have_near_embeddings_and_all_are_told_apart(embedding: ConditionEmbedding) -> None:
    """Nothing is binned: a step of 0.001 moves the embedding, but little; and values 16 apart at most never meet."""
    grid = torch.arange(-6.0, 6.0, 0.001)
    rows = embed(embedding, *[(float(v), NAN) for v in grid])
    steps = rows.diff(dim=0).norm(dim=1)
    assert float(steps.max()) < 0.02
    assert float(steps.min()) > 1e-6
    coarse = rows[::250]
    distance = torch.cdist(coarse, coarse) + torch.eye(len(coarse)) * 9
    assert float(distance.min()) > 1e-3


def test_beyond_six_deviations_the_end_is_meant(embedding: ConditionEmbedding) -> None:
    low, high, below, above = embed(embedding, (-6.0, NAN), (6.0, NAN), (-40.0, NAN), (7.0, NAN))
    assert torch.equal(low, below)
    assert torch.equal(high, above)
    assert not torch.allclose(low, high)


def test_gradients_reach_the_given_values_and_none_the_open_ones(embedding: ConditionEmbedding) -> None:
    condition = torch.tensor([[0.5, NAN]], dtype=torch.double, requires_grad=True)
    embedding(condition).square().sum().backward()
    assert condition.grad is not None
    assert bool(condition.grad.isfinite().all())
    assert float(condition.grad[0, 0]) != 0.0
    assert float(condition.grad[0, 1]) == 0.0
