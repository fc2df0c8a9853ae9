"""Score-based generation of labelled DAGs by a variance-exploding SDE: DiffusionNAG (arXiv 2305.16943)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from archgen.encoders.condition import ConditionEmbedding
from archgen.encoders.dag_transformer import DAGTransformer
from archgen.errors import UnknownName
from archgen.generators.base import GENERATORS, Generator, Guidance, Projector, Start, survivors
from archgen.generators.solvers import DETERMINISTIC, SOLVERS, geometric, randn
from archgen.generators.variables import FreeVariables, draw
from archgen.graph import GraphBatch

Values: TypeAlias = Float[Tensor, "b f"]
FORMS = ("posterior", "score")
FLOOR = 1e-4
"""Least probability of an allowed state that a projector is given: a saturated denoiser must not forbid repairs."""


@GENERATORS.register("score_sde")
class ScoreSDE(Generator):
    r"""Labels and free edges are real numbers that diffuse from {-1, 1} to Gaussian noise, and back.

    With :math:`\sigma(t) = \sigma_{min} (\sigma_{max} / \sigma_{min})^t`:

    - noise: :math:`x_t = x_0 + \sigma(t) z`, the variance-exploding SDE over the entries of the
      label matrix and of the upper-triangular edges that the space leaves open; what is fixed stays as it is;
    - training: denoising score matching, :math:`E \lVert \sigma s_\theta(x_t, t) + z \rVert^2`, mean over entries;
    - sampling: any of `SOLVERS` from noise levels spaced geometrically; `pc` is the paper's.

    Graphs, in and out and as guidance sees them, are in the units of the one-hot encoding: :math:`(x + 1) / 2`.

    The network's form is either "score", its output being :math:`\sigma s`, or "posterior": its output is added to
    the log-likelihoods :math:`2 x_i / \sigma^2` of the states, and their softmax is the probability of each state, so
    that :math:`E[x_0 | x_t]` and with it the score follow (as in arXiv 2211.15089). By Bayes' rule the network then
    has to know only what the other variables say of one, which takes far less training.

    Decoding takes the most probable allowed label of each node and edges above one half; a projector is given as
    probabilities the denoised values, which estimate :math:`E[x_0 | x_t]`: cut to [0, 1], at least `FLOOR`, normalised.

    Conditions are embedded; classifier-free guidance (arXiv 2207.12598) mixes scores, :math:`s_\emptyset + w (s_c -
    s_\emptyset)`. Guidance:

    - `score` is added to the score, as the paper does with the gradient of its predictor;
    - `log_tilt` chooses among whole samples, `candidates` of them for each that is wanted, so it is the costlier way;
    - `resample` is asked at each step about the denoised graph, rounded. Because deterministic solvers would carry
      copies of a particle to copies of a graph, `dpmpp_sde` takes their place then.

    Against the original's code: decoding by argmax (it thresholds at one half and drops graphs without exactly one
    label a node); one attention mask, see `DAGTransformer`; nodes in the order of the DAG (it swaps the third and the
    fourth operation of NAS-Bench-201 between adjacency and labels); fixed entries are not noised; "score" divides the
    output by the noise level, as score SDE's own code does, and scales the input to unit variance; the start has the
    mean of the uniform distribution over the space's labels; the last step denoises fully.

    Args:
        node_domain: `n x k`, labels that each node may carry.
        edge_domain: `n x n x 2`, states that each edge may take.
        width, layers, heads, ffn: Of the transformer.
        head: Width of the two hidden layers after it.
        masked: Whether nodes attend along the paths of the DAG only.
        form: What the network gives, "posterior" or "score".
        solver: Name in `SOLVERS`; can be changed after training.
        sigma_min, sigma_max: Noise levels at `t` = 0 and 1, above 0; labels are -1 and 1.
        conditions: Number of properties it can be conditioned on.

    Raises:
        UnknownName: No such solver or form.
        ValueError: `heads` does not divide `width`, or not 0 < `sigma_min` < `sigma_max`.

    Example:
        >>> original = ScoreSDE(space.node_domain, space.edge_domain, **ScoreSDE.PRESETS["diffusionnag"])
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "diffusionnag": {
            **{"width": 64, "layers": 12, "heads": 8, "ffn": 128, "head": 1536, "masked": True},
            **{"form": "score", "solver": "pc", "sigma_min": 0.1, "sigma_max": 5.0},
        }
    }
    """Constructor arguments of published sizes; 3,989,575 parameters on NAS-Bench-201, to be sampled in 1,000 steps."""

    def __init__(
        self,
        node_domain: Bool[Tensor, "n k"],
        edge_domain: Bool[Tensor, "n n 2"],
        width: int = 64,
        layers: int = 3,
        heads: int = 4,
        ffn: int = 128,
        head: int = 128,
        masked: bool = False,
        form: str = "posterior",
        solver: str = "dpmpp",
        sigma_min: float = 0.1,
        sigma_max: float = 5.0,
        conditions: int = 0,
    ) -> None:
        for what, name, known in (("solver", solver, SOLVERS), ("form of the score network", form, FORMS)):
            if name not in known:
                raise UnknownName(what, name, known)
        if not 0 < sigma_min < sigma_max:
            raise ValueError(f"expected 0 < sigma_min < sigma_max, got {sigma_min=} and {sigma_max=}")
        sizes = {"width": width, "layers": layers, "heads": heads, "ffn": ffn, "head": head, "masked": masked}
        settings = {"form": form, "solver": solver, "sigma_min": sigma_min, "sigma_max": sigma_max}
        super().__init__(node_domain, edge_domain, {**sizes, **settings, "conditions": conditions})
        self.form, self.solver, self.sigma_min, self.sigma_max = form, solver, sigma_min, sigma_max
        self.variables = FreeVariables(node_domain, edge_domain)
        free = node_domain & (node_domain.sum(-1, keepdim=True) > 1)
        entries = free.nonzero().T  # node and label of each real number
        mean = 2 / free.sum(-1)[entries[0]] - 1  # of -1 and 1 under uniform labels; edges: 0
        self.register_buffer("entries", entries, persistent=False)
        self.register_buffer("mean", F.pad(mean, (0, len(self.variables.sources))), persistent=False)
        edges = len(self.variables.sources) > 0
        k, embedding = node_domain.shape[1], layers * width
        adjacency = edge_domain[..., 1].triu(1)
        self.encoder = DAGTransformer(k, adjacency, width, layers, heads, ffn, edge_values=edges, masked=masked)
        self.node_head = _mlp(embedding, head, k)
        self.edge_head = _mlp(2 * embedding + 1, head, 1) if edges else None
        self.condition = ConditionEmbedding(conditions, width) if conditions else None

    entries: Int[Tensor, "2 g"]
    mean: Float[Tensor, " f"]

    # The free entries of a graph are one vector of real numbers, labels before edges.

    def _values(self, graph: GraphBatch) -> Values:
        nodes, labels = self.entries
        return torch.cat(
            [graph.ops[:, nodes, labels], graph.edges[:, self.variables.sources, self.variables.targets]], 1
        )

    def _graph(self, values: Values) -> GraphBatch:
        fixed, (nodes, labels), v = self.variables, self.entries, len(values)
        ops = fixed.fixed_ops.to(values.dtype).repeat(v, 1, 1)
        edges = fixed.fixed_edges.to(values.dtype).repeat(v, 1, 1)
        ops[:, nodes, labels] = values[:, : len(nodes)]
        edges[:, fixed.sources, fixed.targets] = values[:, len(nodes) :]
        return GraphBatch(ops, edges, torch.ones(ops.shape[:2], dtype=torch.bool, device=ops.device))

    @property
    def default_steps(self) -> int:  # type: ignore[override]
        """1,000 for `pc`, as in the paper, and 20 for the others."""
        return 1000 if self.solver == "pc" else 20

    def sigma(self, t: Float[Tensor, " b"]) -> Float[Tensor, "b 1"]:
        """Noise level of each time, a column."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t[:, None]

    def time(self, sigma: float) -> float:
        """The time of a noise level."""
        return math.log(sigma / self.sigma_min) / math.log(self.sigma_max / self.sigma_min)

    def denoised(self, x: Values, t: Float[Tensor, " b"], condition: Float[Tensor, "b c"] | None = None) -> Values:
        r"""Estimates :math:`E[x_0 | x_t, c] = x_t + \sigma^2 s`.

        Args:
            x: Noised entries, of data in {-1, 1}.
            t: Their times, 1 is noise.
            condition: Normal scores of properties, NaN where open.
        """
        sigma = self.sigma(t)
        context = None
        if self.condition is not None:
            if condition is None:
                condition = x.new_full((len(x), self.conditions), torch.nan)
            context = self.condition(condition)
        graph = self._graph(x / (1 + sigma.square()).sqrt())  # the data have mean square 1
        h = self.encoder(graph, t, context)
        node_out, (nodes, labels) = self.node_head(h), self.entries
        edge_out = x[:, :0]
        if self.edge_head is not None:
            i, j = self.variables.sources, self.variables.targets
            edge_out = self.edge_head(torch.cat([h[:, i], h[:, j], graph.edges[:, i, j, None]], -1)).squeeze(-1)
        if self.form == "score":
            return x + sigma * torch.cat([node_out[:, nodes, labels], edge_out], 1)
        evidence = 2 * x / sigma.square()
        logits = node_out.masked_fill(~self.node_domain, -torch.inf)
        logits[:, nodes, labels] += evidence[:, : len(nodes)]
        p = logits.softmax(-1)[:, nodes, labels]
        return 2 * torch.cat([p, (evidence[:, len(nodes) :] + edge_out).sigmoid()], 1) - 1

    def noise(self, clean: GraphBatch, t: Float[Tensor, " b"], *, generator: torch.Generator) -> GraphBatch:
        """Noised graphs of real numbers: free entries have standard deviation `sigma(t) / 2` about 0 or 1."""
        values = self._values(clean)
        return self._graph(values + self.sigma(t.to(values.device)) / 2 * randn(values, generator))

    def loss(
        self, clean: GraphBatch, condition: Float[Tensor, "b c"] | None = None, *, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        r"""Denoising score matching weighted by :math:`\sigma^2`, mean over entries and graphs."""
        self._check_condition(len(clean), condition)
        x = 2 * self._values(clean) - 1
        t = torch.rand(len(x), generator=generator, device=generator.device).to(x.device)
        noised = x + self.sigma(t) * randn(x, generator)
        error = (self.denoised(noised, t, condition) - x) / self.sigma(t)
        return error.square().sum() / max(error.numel(), 1)

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
        candidates = max([1, *(g.candidates for g in guidance)])
        count = max([n * candidates, *(g.population(n * candidates) for g in guidance)])
        if condition is not None:
            condition = condition.repeat_interleave(count // n, 0)
        mean, sigma = self.mean.expand(count, -1), self.sigma_max
        if start is not None:
            mean = (2 * self._values(start.graph) - 1).repeat_interleave(count // n, 0)
            sigma = float(self.sigma(torch.tensor([start.t])))
        run = _Run(self, condition, weight, guidance, projector, generator)
        steered = any(type(g).resample is not Guidance.resample for g in guidance)
        solver = "dpmpp_sde" if steered and self.solver in DETERMINISTIC else self.solver
        if solver not in SOLVERS:
            raise UnknownName("solver", solver, SOLVERS)
        denoised = SOLVERS[solver](
            run.denoise,
            mean + sigma * randn(mean, generator),
            geometric(self.sigma_min, sigma, steps),
            generator=generator,
            select=run.select if steered else None,
        )
        clean = run.clean(denoised)
        rows = survivors(guidance, clean, 0.0, generator=generator)
        return run.chosen(clean if rows is None else clean[rows], n, candidates)


@dataclass
class _Run:
    """One call of `sample`: what the solver sees as a denoiser, and what happens to denoised values."""

    sde: ScoreSDE
    condition: Tensor | None
    weight: float
    guidance: Sequence[Guidance]
    projector: Projector | None
    generator: torch.Generator

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """The conditional denoiser, moved by the guidance's gradients; those are by one-hot units, half of ours."""
        t = x.new_full((len(x),), self.sde.time(sigma))
        denoised = self._mixed(x, t)
        for member in self.guidance:
            gradient = member.score(self.sde._graph((x + 1) / 2), t)
            if gradient is not None:
                denoised = denoised + sigma**2 / 2 * self.sde._values(gradient)
        return denoised

    def _mixed(self, x: Tensor, t: Tensor) -> Tensor:
        if self.condition is None or self.weight == 0.0:
            return self.sde.denoised(x, t)
        if self.weight == 1.0:
            return self.sde.denoised(x, t, self.condition)
        both = torch.cat([self.condition, torch.full_like(self.condition, torch.nan)])
        conditional, free = self.sde.denoised(x.repeat(2, 1), t.repeat(2), both).chunk(2)
        return free + self.weight * (conditional - free)

    def clean(self, denoised: Tensor) -> GraphBatch:
        """Round denoised values to graphs within the domains, and mend them if there is a projector."""
        domain, values = self.sde.node_domain, self.sde._graph((denoised + 1) / 2)
        labels = values.ops.masked_fill(~domain, -torch.inf).argmax(-1)
        one_hot = F.one_hot(labels, domain.shape[1]).to(values.ops.dtype)
        drawn = GraphBatch(one_hot, (values.edges > 0.5).to(values.edges.dtype), values.node_mask)
        if self.projector is None:
            return drawn
        p = self.sde._graph(((denoised + 1) / 2).clamp(FLOOR, 1 - FLOOR))
        probabilities = GraphBatch(p.ops / p.ops.sum(-1, keepdim=True), p.edges, p.node_mask)
        return self.projector(drawn, probabilities, generator=self.generator)

    def select(self, denoised: Tensor, sigma: float) -> Tensor | None:
        """Which particle each one goes on from; its condition goes with it."""
        t = self.sde.time(sigma)
        rows = survivors(self.guidance, self.clean(denoised), t, generator=self.generator)
        if rows is not None and self.condition is not None:
            self.condition = self.condition[rows]
        return rows

    def chosen(self, clean: GraphBatch, n: int, candidates: int) -> GraphBatch:
        """One of each `candidates` graphs in proportion to its weight; if all are forbidden, any of them."""
        if candidates == 1:
            return clean
        tilts = [tilt for g in self.guidance if (tilt := g.log_tilt(clean)) is not None]
        tilt = sum(tilts, torch.zeros(())).to(self.generator.device).expand(len(clean)).view(n, candidates)
        tilt = torch.where(tilt.isneginf().all(1, keepdim=True), torch.zeros_like(tilt), tilt)
        kept = torch.arange(n, device=tilt.device) * candidates + draw(tilt.softmax(1), self.generator)
        return clean[kept.to(clean.ops.device)]


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers; starts from 0, so that an untrained network says nothing."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU(), last)
