"""Discrete flow matching on graphs: DeFoG (arXiv 2410.04263) with per-variable domains, conditions and guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from archgen.encoders.condition import ConditionEmbedding
from archgen.encoders.graph_transformer import GraphTransformer
from archgen.errors import UnknownName
from archgen.generators.base import GENERATORS, Generator, Guidance, Projector, Start, chosen, survivors
from archgen.generators.variables import FreeVariables, Probabilities, States, draw
from archgen.graph import GraphBatch

DISTORTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda s: s,
    "polydec": lambda s: 2 * s - s**2,
    "cubic": lambda s: 1 - (1 - s) ** 3,
    "cos": lambda s: (1 - torch.cos(torch.pi * s)) / 2,
}
"""From uniform solver time to the fraction of data, both in [0, 1]: DeFoG's time distortions (section 4.1), and
`cubic`, which slows down further than `polydec`, to a last step so short that hardly two edges are open in it."""

SETTLED = 0.9
"""Probability above which a free edge counts as nearly decided; with few steps there are others, and they are drawn."""


@GENERATORS.register("discrete_flow")
class DiscreteFlow(Generator):
    r"""Nodes' labels and upper-triangular edges are categorical variables that jump from noise to data.

    With :math:`\alpha = 1 - t` the fraction of data (this package's `t` is 1 at noise; the paper's is `alpha`):

    - path: :math:`p_t(x_t | x_0) = \alpha \delta(x_t, x_0) + (1 - \alpha) u(x_t)` for each variable, `u` uniform
      over the labels that the space allows for a node, and "absent" for an edge (paper, equation 2, with a limit
      distribution a variable; see `FreeVariables.noise`);
    - training: cross-entropy of :math:`p_\theta(x_0 | x_t)` (equation 5);
    - sampling: Euler steps of the chain with rate
      :math:`R^* = \mathrm{ReLU}(\partial p(y) - \partial p(x)) / (Z p(x)) + \eta \, p_t(y | x_0)` (equations 3 and
      8), :math:`x_0` drawn from :math:`p_\theta` at every step (algorithm 2); the last step draws :math:`x_0` itself.

    Variables with one allowed state are fixed and cost nothing. Because states never leave their domain, every
    sample is valid wherever the space's domains say all there is to say; elsewhere the projector mends the clean
    graph of each step, and in the last step free edges that are nearly decided take their more probable state instead
    of being drawn: what is uncertain there is of the order of that step, and edges drawn from it would mostly break a
    budget. No variable is ever frozen, so from any noised state every valid graph can be reached.

    Conditions are embedded and added to the embedding of time; with classifier-free guidance (arXiv 2207.12598) the
    posterior of each variable is :math:`p(x_0|x_t, c)^w p(x_0|x_t)^{1-w}`, normalised. Guidance:

    - `log_tilt`: the chain of the tilted distribution :math:`p(x_0) e^{r(x_0)}` has the same conditional rates and
      the posterior :math:`p(x_0 | x_t) e^{r(x_0)} / Z` (Bayes). So each step draws several :math:`x_0` for a graph
      and keeps one with probability proportional to :math:`e^{r}`: self-normalised importance sampling, exact as
      the candidates grow. A graph whose candidates are all forbidden keeps an untilted one.
    - `changes`: jumps from `x` to `y` are multiplied by :math:`r_s(y) / r_s(x)`, `s` the time that they lead to
      (Nisonoff et al., arXiv 2406.01572, equation 2). That gives the tilted distribution only if the unguided chain
      is the reversal of the noising, which :math:`R^*` is not for uniform noise; so such steps are drawn from the
      reversal itself (D3PM, arXiv 2107.03006, equation 3) instead, with :math:`x_0` drawn in proportion to how much
      weight the jumps have that it leads to. `eta` has no part in them. For one variable this is exact with any steps.
    - `resample`: the noised graphs are particles, resampled before each jump.

    Args:
        node_domain: `n x k`, labels that each node may carry.
        edge_domain: `n x n x 2`, states that each edge may take.
        width, layers, heads: Of the denoising graph transformer.
        eta: Stochasticity of the chain, at least 0; can be changed after training.
        distortion: Name of the time distortion; can be changed after training.
        conditions: Number of properties it can be conditioned on.

    Raises:
        UnknownName: No such time distortion.
        ValueError: `heads` does not divide `width`.
    """

    default_steps = 16

    def __init__(
        self,
        node_domain: Bool[Tensor, "n k"],
        edge_domain: Bool[Tensor, "n n 2"],
        width: int = 64,
        layers: int = 3,
        heads: int = 4,
        eta: float = 0.0,
        distortion: str = "cubic",
        conditions: int = 0,
    ) -> None:
        if distortion not in DISTORTIONS:
            raise UnknownName("time distortion", distortion, DISTORTIONS)
        config = {"width": width, "layers": layers, "heads": heads, "eta": eta}
        super().__init__(node_domain, edge_domain, {**config, "distortion": distortion, "conditions": conditions})
        n, k = node_domain.shape
        self.variables = FreeVariables(node_domain, edge_domain)
        self.encoder = GraphTransformer(k, n, width, layers, heads, structure=len(self.variables.sources) > 0)
        self.node_head = nn.Linear(width, k)
        self.edge_head = _edge_head(width) if len(self.variables.sources) else None
        self.condition = ConditionEmbedding(conditions, width) if conditions else None
        self.context = nn.Parameter(torch.zeros(width))  # what `adapt_to_examples` learns
        self.eta, self.distortion = eta, distortion

    def posterior(
        self, states: States, t: Float[Tensor, " b"], condition: Float[Tensor, "b c"] | None = None
    ) -> Probabilities:
        r"""Log-probabilities :math:`\log p_\theta(x_0 | x_t, c)` of each variable; forbidden states get `-inf`.

        Args:
            states: Current state of each free variable.
            t: Time in [0, 1], 1 is noise.
            condition: Normal scores of properties, NaN where open.
        """
        variables = self.variables
        context = self.context.expand(len(states), -1)
        if self.condition is not None:
            if condition is None:
                condition = torch.full((len(states), self.conditions), torch.nan, device=states.device)
            context = context + self.condition(condition)
        h = self.encoder(variables.graph(states), t, context)
        edges = h.new_zeros(len(h), 0, 2)
        if self.edge_head is not None:
            here = states[:, len(variables.nodes) :, None].float()
            edges = self.edge_head(torch.cat([h[:, variables.sources], h[:, variables.targets], here], -1))
        log_p = variables.join(self.node_head(h[:, variables.nodes]), edges).log_softmax(-1)
        return torch.where(variables.certain(states)[..., None], variables.log_one_hot(states), log_p)

    def noise(self, clean: GraphBatch, t: Float[Tensor, " b"], *, generator: torch.Generator) -> GraphBatch:
        return self.variables.graph(self.variables.noised(self.variables.states(clean), t, generator))

    def loss(
        self, clean: GraphBatch, condition: Float[Tensor, "b c"] | None = None, *, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Cross-entropy of the clean states given noised ones, summed over the free variables, mean over graphs."""
        self._check_condition(len(clean), condition)
        target = self.variables.states(clean)
        b, device = len(clean), target.device
        t = torch.rand(b, generator=generator, device=device)
        noised = self.variables.noised(target, t, generator)
        log_p = self.posterior(noised, t, condition)
        return -log_p.gather(-1, target[..., None]).squeeze(-1).sum(-1).mean()

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        condition: Float[Tensor, "b c"] | None = None,
        weight: float = 1.0,
        guidance: Sequence[Guidance] = (),
        projector: Projector | None = None,
        start: Start | None = None,
        steps: int | None = None,
        generator: torch.Generator,
    ) -> GraphBatch:
        steps = self._check_sample(n, steps, condition, start)
        count = max([n, *(g.population(n) for g in guidance)])
        if condition is not None:
            condition = condition.repeat_interleave(count // n, 0)
        noise = self.variables.noise
        first, t0 = (None, 1.0) if start is None else (self.variables.states(start.graph), start.t)
        if first is None:
            states = draw(noise.expand(count, -1, -1), generator)
        else:
            first = first.repeat_interleave(count // n, 0)
            states = self.variables.noised(first, torch.full((count,), t0), generator)
        grid = 1 - t0 + t0 * DISTORTIONS[self.distortion](torch.linspace(0.0, 1.0, steps + 1))
        for alpha, after in zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True):
            t = torch.full((count,), 1.0 - alpha)
            log_p = self._weighted(states, t, condition, weight)
            log_ratio = self._log_ratio(states, torch.full((count,), 1.0 - after), guidance)
            if log_ratio is not None:
                log_p = (log_p + _log_reach(states, log_ratio, noise, alpha, after)).log_softmax(-1)
            if after >= 1.0 and projector is not None:
                log_p = self._settled(log_p)
            clean = self._draw_clean(log_p, guidance, projector, generator)
            time = 0.0 if after >= 1.0 else 1.0 - alpha
            rows = survivors(guidance, self.variables.graph(clean), time, generator=generator)
            if rows is not None:
                states, clean = states[rows], clean[rows]
                log_ratio = None if log_ratio is None else log_ratio[rows]
                condition = None if condition is None else condition[rows]
            if after >= 1.0:
                return self.variables.graph(clean)
            if log_ratio is None:
                p = self._step(states, clean, noise, alpha, after - alpha)
            else:
                p = _tilted_step(states, clean, log_ratio, noise, alpha, after)
            states = draw(p, generator)
        raise AssertionError("the time grid ends at 1")

    def _settled(self, log_p: Probabilities) -> Probabilities:
        """Free edges that are nearly decided take their more probable state."""
        f, p = len(self.variables.nodes), log_p[:, len(self.variables.nodes) :].exp()
        likely = F.one_hot(p.argmax(-1), p.shape[-1]).to(p.dtype)
        return torch.cat([log_p[:, :f], torch.where(p.amax(-1, keepdim=True) > SETTLED, likely, p).log()], 1)

    def _weighted(self, states: States, t: Tensor, condition: Tensor | None, weight: float) -> Probabilities:
        if condition is None or weight == 0.0:
            return self.posterior(states, t)
        conditional = self.posterior(states, t, condition)
        if weight == 1.0:
            return conditional
        free = self.posterior(states, t)
        mixed = weight * conditional + (1 - weight) * free
        return mixed.masked_fill(conditional.isneginf(), -torch.inf).log_softmax(-1)

    def _log_ratio(self, states: States, t: Tensor, guidance: Sequence[Guidance]) -> Tensor | None:
        given = [g.changes(self.variables.graph(states), t) for g in guidance]
        ratios = [self.variables.ratios(states, changes) for changes in given if changes is not None]
        return torch.stack(ratios).sum(0).clamp(-60.0, 60.0) if ratios else None  # what `exp` can take

    def _draw_clean(
        self,
        log_p: Probabilities,
        guidance: Sequence[Guidance],
        projector: Projector | None,
        generator: torch.Generator,
    ) -> States:
        candidates = max([1, *(g.candidates for g in guidance)])
        p = log_p.exp()
        if candidates > 1:
            p = p.repeat_interleave(candidates, 0)
        clean = draw(p, generator)
        if projector is not None:
            mended = projector(self.variables.graph(clean), self.variables.probabilities(p), generator=generator)
            clean = self.variables.states(mended)
        if candidates == 1:
            return clean
        return clean[chosen(guidance, self.variables.graph(clean), candidates, generator=generator)]

    def _step(
        self,
        states: States,
        clean: States,
        noise: Float[Tensor, "v S"],
        alpha: float,
        dt: float,
    ) -> Probabilities:
        one_hot = F.one_hot(clean, noise.shape[-1]).float()
        p = alpha * one_hot + (1 - alpha) * noise  # p_t(. | x_0)
        dp = one_hot - noise  # its derivative
        p_here, dp_here = p.gather(-1, states[..., None]), dp.gather(-1, states[..., None])
        support = (one_hot + noise) > 0  # of p_t at any time between noise and data, and so also just after noise
        rate = F.relu(dp - dp_here) / (support.sum(-1, keepdim=True) * p_here).clamp(min=1e-8) * support
        move = (rate + self.eta * p) * dt
        move = move.scatter(-1, states[..., None], 0.0)
        move = move / move.sum(-1, keepdim=True).clamp(min=1.0)  # an Euler step can not leave with more than certainty
        return move.scatter(-1, states[..., None], (1 - move.sum(-1, keepdim=True)).clamp(min=0.0))


def _likelihood(states: States, noise: Float[Tensor, "v S"], alpha: float, after: float) -> Probabilities:
    """Of the present states, given each state after the step: noising keeps a state or draws it anew."""
    kept = alpha / after
    here = F.one_hot(states, noise.shape[-1]).float()
    return kept * here + (1 - kept) * noise.expand(len(states), -1, -1).gather(-1, states[..., None])


def _log_reach(
    states: States, log_ratio: Probabilities, noise: Float[Tensor, "v S"], alpha: float, after: float
) -> Probabilities:
    """Log of the mean ratio over the jumps that each clean state leads to."""
    likelihood, ratio = _likelihood(states, noise, alpha, after), log_ratio.exp()
    anywhere = likelihood * noise
    tilted = after * likelihood * ratio + (1 - after) * (anywhere * ratio).sum(-1, keepdim=True)
    plain = after * likelihood + (1 - after) * anywhere.sum(-1, keepdim=True)
    return torch.where(plain > 0, tilted / plain, 1.0).log()  # 0: a clean state that does not lead here


def _tilted_step(
    states: States, clean: States, log_ratio: Probabilities, noise: Float[Tensor, "v S"], alpha: float, after: float
) -> Probabilities:
    """The noising reversed from its present to the next state, given the clean one, times the ratios; unnormalised."""
    following = after * F.one_hot(clean, noise.shape[-1]).float() + (1 - after) * noise
    p = _likelihood(states, noise, alpha, after) * following * log_ratio.exp()
    stay = F.one_hot(states, noise.shape[-1]).float()
    return torch.where(p.sum(-1, keepdim=True) > 0, p, stay)  # a clean state that does not lead here says nothing


def _edge_head(width: int) -> nn.Sequential:
    """From the embeddings of both ends and the state that the edge has now."""
    return nn.Sequential(nn.Linear(2 * width + 1, width), nn.GELU(), nn.Linear(width, 2))
