"""Discrete flow matching on graphs: DeFoG (arXiv 2410.04263) with per-variable domains and importance guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from archgen.encoders.graph_transformer import GraphTransformer
from archgen.errors import UnknownName
from archgen.generators.base import GENERATORS, Generator, Guidance
from archgen.graph import GraphBatch

DISTORTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda s: s,
    "polydec": lambda s: 2 * s - s**2,
    "cos": lambda s: (1 - torch.cos(torch.pi * s)) / 2,
}
"""DeFoG's time distortions (section 4.1): from uniform solver time to the fraction of data, both in [0, 1]."""


@GENERATORS.register("discrete_flow")
class DiscreteFlow(Generator):
    r"""Nodes' labels and upper-triangular edges are categorical variables that jump from noise to data.

    With :math:`\alpha = 1 - t` the fraction of data (this package's `t` is 1 at noise; the paper's is `alpha`):

    - path: :math:`p_t(x_t | x_0) = \alpha \delta(x_t, x_0) + (1 - \alpha) u(x_t)` for each variable, `u` uniform
      over what the space allows for that variable (paper, equation 2, with a limit distribution a variable);
    - training: cross-entropy of :math:`p_\theta(x_0 | x_t)` (equation 5);
    - sampling: Euler steps of the chain with rate
      :math:`R^* = \mathrm{ReLU}(\partial p(y) - \partial p(x)) / (Z p(x)) + \eta \, p_t(y | x_0)` (equations 3 and
      8), :math:`x_0` drawn from :math:`p_\theta` at every step (algorithm 2); the last step draws :math:`x_0` itself.

    Variables with one allowed state are fixed and cost nothing. Because states never leave their domain, every
    sample is valid wherever the space's domains say all there is to say.

    Guidance: the chain of the tilted distribution :math:`p(x_0) e^{r(x_0)}` has the same conditional rates and the
    posterior :math:`p(x_0 | x_t) e^{r(x_0)} / Z` (Bayes). So with guidance each step draws `candidates` of
    :math:`x_0` for a graph and keeps one with probability proportional to :math:`e^{r}`: self-normalised
    importance sampling, exact as `candidates` grows, for any black box `r`. A graph whose candidates are all
    forbidden keeps an untilted one.

    Args:
        node_domain: `n x k`, labels that each node may carry.
        edge_domain: `n x n x 2`, states that each edge may take.
        width, layers, heads: Of the denoising graph transformer.
        eta: Stochasticity of the chain, at least 0; can be changed after training.
        distortion: Name of the time distortion; can be changed after training.
        candidates: Draws of the clean graph a step under guidance.

    Raises:
        UnknownName: No such time distortion.
        ValueError: `heads` does not divide `width`.
    """

    def __init__(
        self,
        node_domain: Bool[Tensor, "n k"],
        edge_domain: Bool[Tensor, "n n 2"],
        width: int = 64,
        layers: int = 3,
        heads: int = 4,
        eta: float = 0.0,
        distortion: str = "polydec",
        candidates: int = 16,
    ) -> None:
        if distortion not in DISTORTIONS:
            raise UnknownName("time distortion", distortion, DISTORTIONS)
        config = {"width": width, "layers": layers, "heads": heads, "eta": eta}
        super().__init__(node_domain, edge_domain, {**config, "distortion": distortion, "candidates": candidates})
        n, k = node_domain.shape
        upper = torch.triu(torch.ones(n, n, dtype=torch.bool), diagonal=1)
        self.register_buffer("pairs", upper.nonzero().T, persistent=False)  # 2 x m
        self.encoder = GraphTransformer(k, n, width, layers, heads)
        self.node_head = nn.Linear(width, k)
        self.edge_head = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 2))
        self.eta, self.distortion, self.candidates = eta, distortion, candidates

    # Variables of both kinds are padded to S states and joined: v = n nodes, then m edges.

    @property
    def _domain(self) -> Bool[Tensor, "v S"]:
        k = self.node_domain.shape[1]
        pairs: Tensor = self.pairs  # type: ignore[assignment]
        edges = self.edge_domain[pairs[0], pairs[1]]
        states = max(k, 2)
        return torch.cat([F.pad(self.node_domain, (0, states - k)), F.pad(edges, (0, states - 2))])

    def _to_states(self, graph: GraphBatch) -> Int[Tensor, "b v"]:
        pairs: Tensor = self.pairs  # type: ignore[assignment]
        return torch.cat([graph.labels, (graph.edges[:, pairs[0], pairs[1]] > 0.5).long()], 1)

    def _to_graph(self, states: Int[Tensor, "b v"]) -> GraphBatch:
        n, k = self.node_domain.shape
        pairs: Tensor = self.pairs  # type: ignore[assignment]
        edges = torch.zeros(len(states), n, n, device=states.device)
        edges[:, pairs[0], pairs[1]] = states[:, n:].float()
        mask = torch.ones(len(states), n, dtype=torch.bool, device=states.device)
        return GraphBatch(F.one_hot(states[:, :n], k).float(), edges, mask)

    def posterior(self, states: Int[Tensor, "b v"], t: Float[Tensor, " b"]) -> Float[Tensor, "b v S"]:
        r"""Log-probabilities :math:`\log p_\theta(x_0 | x_t)` of each variable; forbidden states get `-inf`.

        Args:
            states: Current state of each variable.
            t: Time in [0, 1], 1 is noise.
        """
        k = self.node_domain.shape[1]
        pairs: Tensor = self.pairs  # type: ignore[assignment]
        h = self.encoder(self._to_graph(states), t)
        node_logits = self.node_head(h)
        edge_logits = self.edge_head(torch.cat([h[:, pairs[0]], h[:, pairs[1]]], -1))
        width = max(k, 2)
        logits = torch.cat([F.pad(node_logits, (0, width - k)), F.pad(edge_logits, (0, width - 2))], 1)
        return logits.masked_fill(~self._domain, -torch.inf).log_softmax(-1)

    def loss(
        self, clean: GraphBatch, condition: Float[Tensor, "b c"] | None = None, *, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Cross-entropy of the clean states given noised ones, summed over the free variables, mean over graphs.

        Raises:
            ValueError: A condition was given; this generator is trained without labels.
        """
        if condition is not None:
            raise ValueError("this generator takes no condition vector; steer it by guidance")
        target = self._to_states(clean)
        t = torch.rand(len(clean), generator=generator, device=target.device)
        noised = torch.where(
            torch.rand(target.shape, generator=generator, device=target.device) < t[:, None],
            _draw(self._domain.float().expand(len(clean), -1, -1), generator),
            target,
        )
        free = self._domain.sum(-1) > 1
        log_p = self.posterior(noised, t)[:, free]
        picked = log_p.gather(-1, target[:, free, None]).squeeze(-1)
        return -picked.sum(-1).mean()

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        condition: Float[Tensor, "b c"] | None = None,
        guidance: Sequence[Guidance] = (),
        steps: int = 16,
        generator: torch.Generator,
    ) -> GraphBatch:
        """Draw graphs by `steps` Euler steps (algorithm 2 of the paper).

        Args:
            n: How many, at least 1.
            condition: Must be None.
            guidance: Tilts of the distribution; see the class.
            steps: Solver steps, at least 1; 8 to 32 are useful.
            generator: Source of randomness.

        Returns:
            A batch of `n` graphs, one-hot.

        Raises:
            ValueError: `n` or `steps` below 1, or a condition.
        """
        if n < 1 or steps < 1 or condition is not None:
            raise ValueError(f"expected n >= 1, steps >= 1 and no condition; got n={n}, steps={steps}, {condition=}")
        domain = self._domain
        noise = domain.float() / domain.sum(-1, keepdim=True)
        states = _draw(noise.expand(n, -1, -1), generator)
        grid = DISTORTIONS[self.distortion](torch.linspace(0.0, 1.0, steps + 1))
        for alpha, after in zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True):
            log_p = self.posterior(states, torch.full((n,), 1.0 - alpha))
            clean = self._draw_clean(log_p, guidance, generator)
            if after >= 1.0:
                return self._to_graph(clean)
            states = _draw(self._step_probabilities(states, clean, noise, alpha, after - alpha), generator)
        raise AssertionError("the time grid ends at 1")

    def _draw_clean(
        self, log_p: Float[Tensor, "b v S"], guidance: Sequence[Guidance], generator: torch.Generator
    ) -> Int[Tensor, "b v"]:
        if not guidance:
            return _draw(log_p.exp(), generator)
        b, c = len(log_p), self.candidates
        drawn = _draw(log_p.exp().repeat_interleave(c, 0), generator)
        graphs = self._to_graph(drawn)
        tilt = torch.stack([g.log_tilt(graphs) for g in guidance]).sum(0).view(b, c)
        tilt = torch.where(tilt.isneginf().all(1, keepdim=True), torch.zeros_like(tilt), tilt)
        kept = _draw(tilt.softmax(1), generator)
        return drawn.view(b, c, -1)[torch.arange(b), kept]

    def _step_probabilities(
        self,
        states: Int[Tensor, "b v"],
        clean: Int[Tensor, "b v"],
        noise: Float[Tensor, "v S"],
        alpha: float,
        dt: float,
    ) -> Float[Tensor, "b v S"]:
        one_hot = F.one_hot(clean, noise.shape[-1]).float()
        p = alpha * one_hot + (1 - alpha) * noise  # p_t(. | x_0)
        dp = one_hot - noise  # its derivative
        p_here, dp_here = p.gather(-1, states[..., None]), dp.gather(-1, states[..., None])
        reachable = (p > 0).sum(-1, keepdim=True)
        rate = F.relu(dp - dp_here) / (reachable * p_here).clamp(min=1e-8) * (p > 0)
        move = ((rate + self.eta * p) * dt).scatter(-1, states[..., None], 0.0)
        move = move / move.sum(-1, keepdim=True).clamp(min=1.0)  # an Euler step can not leave with more than certainty
        return move.scatter(-1, states[..., None], (1 - move.sum(-1, keepdim=True)).clamp(min=0.0))


def _draw(probabilities: Float[Tensor, "*shape S"], generator: torch.Generator) -> Int[Tensor, "*shape"]:
    """One draw from each (unnormalised) categorical distribution of the last axis, by inversion."""
    cumulative = probabilities.cumsum(-1)
    total = cumulative[..., -1:]
    u = torch.rand(total.shape, generator=generator, device=probabilities.device) * total
    # states of probability zero are never drawn: their cumulative value equals their predecessor's
    drawn = (cumulative <= u).sum(-1)
    last = probabilities.shape[-1] - 1 - (probabilities.flip(-1) > 0).int().argmax(-1)
    return torch.minimum(drawn, last)
