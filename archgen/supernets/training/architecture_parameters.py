"""The architecture parameters of differentiable searches, and the Adam that trains them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ArchitectureParameters:
    """A number for each operation of each edge, whose softmax is how much of the edge it is.

    They begin at 0, where all operations of an edge are equal (the published codes of DARTS and ProxylessNAS draw them
    with a deviation of 0.001). Thresholds are such numbers too, of which no softmax is taken.

    Args:
        edges: Operations of each edge.
        lr: Learning rate of Adam.
        betas: Its decays of the first and second moment, in [0, 1).
        weight_decay: L2 penalty, added to the gradient.
        device: Where the numbers are.
    """

    def __init__(
        self,
        edges: Mapping[str, tuple[str, ...]],
        *,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        device: torch.device | None = None,
    ) -> None:
        self.edges = dict(edges)
        self.values = nn.Parameter(torch.zeros(sum(map(len, self.edges.values())), device=device))
        """All of them, edge after edge."""
        self._optimizer = torch.optim.Adam([self.values], lr=lr, betas=betas, weight_decay=weight_decay)
        # made now, so that the state has the same tensors before the first step
        moments = {name: torch.zeros_like(self.values.data) for name in ("exp_avg", "exp_avg_sq")}
        self._optimizer.state[self.values] = {"step": torch.zeros(()), **moments}

    def by_edge(self) -> dict[str, Float[Tensor, " k"]]:
        """The numbers of the `k` operations of each edge."""
        return self.split(self.values)

    def split(self, values: Float[Tensor, " n"]) -> dict[str, Float[Tensor, " k"]]:
        """Views of what belongs to the operations of each edge, for a tensor that is as long as `values`."""
        parts = values.split([len(operations) for operations in self.edges.values()])  # type: ignore[no-untyped-call]
        return dict(zip(self.edges, parts, strict=True))

    def probabilities(self) -> dict[str, Float[Tensor, " k"]]:
        """Softmax over the operations of each edge."""
        return {edge: alpha.softmax(-1) for edge, alpha in self.by_edge().items()}

    def scores(self) -> dict[str, list[float]]:
        """The probabilities as numbers, for `RelaxedSupernet.strongest`."""
        return {edge: p.tolist() for edge, p in self.probabilities().items()}

    def descend(self, gradient: Float[Tensor, " n"]) -> None:
        """One step of Adam against a gradient of all numbers; none where that is not finite, as it may be in fp16."""
        if bool(gradient.isfinite().all()):  # the moments would never be rid of it
            self.values.grad = gradient
            self._optimizer.step()
        self.values.grad = None

    def state(self) -> dict[str, Tensor]:
        """The numbers and Adam's moments."""
        return {"alpha": self.values.detach(), **self._optimizer.state[self.values]}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` gave."""
        for name, value in self.state().items():
            value.copy_(state[name])
