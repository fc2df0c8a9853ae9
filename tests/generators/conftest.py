"""Exact posteriors in place of networks: what samplers and guidance are tested with, without training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from archgen.generators import DiscreteFlow, Guidance
from archgen.graph import GraphBatch

FAILS = 1e-6
"""Probability with which a chi-square test here fails although the code is right; seeds are fixed besides."""

# Four free variables: nodes of 2 and 3 labels, the edges (0, 1) and (1, 2). Fixed: the last node, the other edges.
NODES = torch.tensor([[True, True, False], [True, True, True], [False, False, True]])
EDGES = torch.tensor([[[1, 0], [1, 1], [0, 1]], [[1, 0], [1, 0], [1, 1]], [[1, 0], [1, 0], [1, 0]]]).bool()
STATES = list(itertools.product([0, 1], [0, 1, 2], [0, 1], [0, 1]))
WEIGHTS = torch.tensor([[0.7, 0.3, 0.0], [0.2, 0.5, 0.3], [0.85, 0.15, 0.0], [0.4, 0.6, 0.0]])
"""A product distribution over them."""
SLOPES = torch.tensor([[0.0, 0.8, 0.0], [0.5, 0.0, -0.7], [0.0, 1.1, 0.0], [0.3, -0.3, 0.0]])
"""What one unit of the condition adds to the log-weight of each state."""


class Product(DiscreteFlow):
    """Knows the posterior of a product distribution, uniform over the domains unless `weights` (`v S`) are given:
    `p(x_0 | x_t, c) ~ w(x_0) e^{c s(x_0)} (alpha [x_0 = x_t] + t u(x_t))`, `u` the noise."""

    def __init__(
        self,
        node_domain: Tensor,
        edge_domain: Tensor,
        weights: Tensor | None = None,
        slopes: Tensor | None = None,
        **arguments: object,
    ) -> None:
        super().__init__(node_domain, edge_domain, width=8, layers=1, heads=2, **arguments)  # type: ignore[arg-type]
        self.weights = self.variables.domain.float() if weights is None else weights
        self.slopes = torch.zeros_like(self.weights) if slopes is None else slopes

    def posterior(self, states: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        domain, noise = self.variables.domain, self.variables.noise
        alpha = (1 - t)[:, None, None]
        same = torch.nn.functional.one_hot(states, domain.shape[1])
        u = noise.expand(len(states), -1, -1).gather(-1, states[..., None])
        p = (self.weights * (alpha * same + (1 - alpha) * u)).clamp(min=1e-30)  # as networks, never quite sure
        log_p = p.log().masked_fill(~domain, -torch.inf)
        if condition is not None:
            log_p = log_p + condition.nan_to_num()[:, :, None] * self.slopes
        return log_p.log_softmax(-1)


class Exact:
    """The tiny space, a flow that knows its posterior, and what is to come out."""

    fails, nodes, edges, states, weights, slopes = FAILS, NODES, EDGES, STATES, WEIGHTS, SLOPES

    product_flow = Product

    class Flow(Product):
        """`Product` with `WEIGHTS` and `SLOPES`."""

        def __init__(self, **arguments: object) -> None:
            super().__init__(NODES, EDGES, WEIGHTS, SLOPES, **arguments)

    class Table(Guidance):
        """Chooses among candidates by a log-weight for each of `STATES`."""

        def __init__(self, flow: DiscreteFlow, log_weights: np.ndarray, candidates: int = 16) -> None:
            self.flow, self.candidates = flow, candidates
            self.weights = torch.full((2, 3, 2, 2), torch.nan)
            for state, weight in zip(STATES, log_weights, strict=True):
                self.weights[state] = float(weight)

        def log_tilt(self, clean: GraphBatch) -> Tensor:
            return self.weights[tuple(self.flow.variables.states(clean).T)]

    @staticmethod
    def product(weights: Tensor = WEIGHTS) -> np.ndarray:
        """Probability of each of `STATES`, not normalised."""
        return np.array([math.prod(float(weights[v, s]) for v, s in enumerate(state)) for state in STATES])

    @staticmethod
    def counts(flow: DiscreteFlow, batch: GraphBatch) -> np.ndarray:
        """How often each of `STATES` was drawn; every sample must be one of them."""
        index = {state: i for i, state in enumerate(STATES)}
        rows = flow.variables.states(batch).tolist()
        return np.bincount([index[tuple(row)] for row in rows], minlength=len(STATES))

    @staticmethod
    def assert_distributed(counts: np.ndarray, expected: np.ndarray) -> None:
        """Pearson's chi-square test at `FAILS`; every expected count must be at least 5 for it to be valid."""
        expected = expected / expected.sum() * counts.sum()
        assert expected.min() >= 5
        assert ((counts - expected) ** 2 / expected).sum() < stats.chi2.isf(FAILS, len(counts) - 1)

    @staticmethod
    def distance(counts: np.ndarray, expected: np.ndarray) -> float:
        """Total variation between what was drawn and what should be."""
        return float(np.abs(counts / counts.sum() - expected / expected.sum()).sum() / 2)


@pytest.fixture(scope="session")
def exact() -> type[Exact]:
    return Exact


@pytest.fixture(scope="session")
def seeded() -> Callable[..., torch.Generator]:
    """Seed to a torch generator."""
    return lambda seed=0: torch.Generator().manual_seed(seed)
