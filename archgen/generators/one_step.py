"""One-step students of a generator: multi-student distillation (arXiv 2410.23274) with a tractable likelihood."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from archgen.encoders.condition import ConditionEmbedding
from archgen.generators.base import GENERATORS, Generator, Guidance, Projector, Start, chosen, survivors
from archgen.generators.variables import FreeVariables, States, draw
from archgen.graph import GraphBatch

SHARPNESS = 2.0
"""Logit of its own state in each variable of a component that starts from a training graph."""


@GENERATORS.register("one_step")
class OneStep(Generator):
    r"""`k` students, each for a band of one property; a sample costs one forward pass of one of them.

    A student draws a latent component :math:`m`, then every variable at once,

    .. math:: p(x | c) = \sum_{m=1}^{K} \pi_m(c) \prod_i p_{m i}(x_i),

    a mixture of products, which can say any distribution over finitely many states as `K` grows. It learns from samples
    of its teacher by maximum likelihood, which minimises :math:`KL(p_{teacher} \| p)` in closed form.

    As in multi-student distillation, the condition's range is cut into bands and every student serves one
    (section 3.1); students may be smaller than the teacher. A graph whose banded property is open goes to a student
    drawn by the bands' shares of the training graphs. Against the paper: its students are denoisers of images, whose
    likelihood is intractable, so it matches scores and trains an adversary; graphs are finite and need neither.

    Guidance: `log_tilt` chooses among candidates, and `resample` among a group; there is no noised graph to steer.

    Args:
        node_domain: `n x k`, labels that each node may carry.
        edge_domain: `n x n x 2`, states that each edge may take.
        width: Of the network from the condition to the components' probabilities.
        components: `K` of each student.
        conditions: Number of properties.
        band: Index of the property whose bands the students serve.
        cuts: Normal scores between the bands, ascending; one student more than cuts.

    Raises:
        ValueError: Cuts that do not ascend, or cuts without a property to cut.
    """

    through_noise = False

    def __init__(
        self,
        node_domain: Bool[Tensor, "n k"],
        edge_domain: Bool[Tensor, "n n 2"],
        width: int = 64,
        components: int = 512,
        conditions: int = 0,
        band: int = 0,
        cuts: Sequence[float] = (),
    ) -> None:
        cuts = list(map(float, cuts))
        if cuts != sorted(set(cuts)) or (cuts and not 0 <= band < conditions):
            raise ValueError(f"expected ascending cuts of one of {conditions} properties, got {cuts} of {band}")
        config = {"width": width, "components": components, "conditions": conditions, "band": band, "cuts": cuts}
        super().__init__(node_domain, edge_domain, config)
        self.variables = FreeVariables(node_domain, edge_domain)
        self.band = band
        self.register_buffer("cuts", torch.tensor(cuts), persistent=False)
        v, S = self.variables.domain.shape
        students = len(cuts) + 1
        self.register_buffer("shares", torch.full((students,), 1 / students))
        self.condition = nn.ModuleList(
            ConditionEmbedding(conditions, width) if conditions else nn.Identity() for _ in range(students)
        )
        self.mixing = nn.ModuleList(nn.Linear(width if conditions else 1, components) for _ in range(students))
        self.tables = nn.ParameterList(nn.Parameter(torch.randn(components, v, S)) for _ in range(students))

    cuts: Float[Tensor, " cuts"]
    shares: Float[Tensor, " students"]

    def start_from(
        self, graphs: GraphBatch, condition: Float[Tensor, "b c"] | None, *, generator: torch.Generator
    ) -> None:
        """Let each component start near one of the training graphs of its student, and count the bands' shares.

        Args:
            graphs: Training graphs, samples of the teacher.
            condition: What they were drawn under.
            generator: Source of randomness.
        """
        states = self.variables.states(graphs)
        students = self._students(condition, len(states), generator)
        given = torch.bincount(students, minlength=len(self.tables)).float()
        self.shares.copy_(given / given.sum())
        with torch.no_grad():
            for i, table in enumerate(self.tables):
                own = states[students == i]
                own = own if len(own) else states
                picked = own[torch.randint(len(own), (len(table),), generator=generator)]
                table.normal_(0.0, 0.1, generator=generator)
                table.scatter_add_(-1, picked[..., None], torch.full((*picked.shape, 1), SHARPNESS))

    def _students(self, condition: Tensor | None, n: int, generator: torch.Generator) -> Int[Tensor, " b"]:
        """Which student serves each graph."""
        drawn = draw(self.shares.expand(n, -1), generator)
        if condition is None or not len(self.cuts):
            return drawn
        value = condition[:, self.band]
        return torch.where(value.isnan(), drawn, torch.bucketize(value.nan_to_num(), self.cuts))

    def _log_mixing(self, student: int, condition: Tensor | None, n: int) -> Float[Tensor, "b K"]:
        context = torch.ones(n, 1)
        if self.conditions:
            open_ = torch.full((n, self.conditions), torch.nan)
            context = self.condition[student](open_ if condition is None else condition)
        logits: Tensor = self.mixing[student](context)
        return logits.log_softmax(-1)

    def _log_tables(self, student: int) -> Float[Tensor, "K v S"]:
        table: Tensor = self.tables[student]
        return table.masked_fill(~self.variables.domain, -torch.inf).log_softmax(-1)

    def log_prob(self, states: States, condition: Float[Tensor, "b c"] | None, student: int) -> Float[Tensor, " b"]:
        r"""Log-likelihood :math:`\log p(x|c)` of graphs under one student, nats."""
        log_tables = self._log_tables(student).clamp(min=-60.0)  # a forbidden state times zero must not be NaN
        one_hot = F.one_hot(states, log_tables.shape[-1]).float().flatten(1)
        each = one_hot @ log_tables.flatten(1).T  # b K
        return (self._log_mixing(student, condition, len(states)) + each).logsumexp(-1)

    def noise(self, clean: GraphBatch, t: Float[Tensor, " b"], *, generator: torch.Generator) -> GraphBatch:
        """The path of `DiscreteFlow`: each variable is uniform with probability `t`."""
        return self.variables.graph(self.variables.noised(self.variables.states(clean), t, generator))

    def loss(
        self, clean: GraphBatch, condition: Float[Tensor, "b c"] | None = None, *, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Negative log-likelihood of the teacher's samples, mean over graphs, nats."""
        self._check_condition(len(clean), condition)
        states = self.variables.states(clean)
        students = self._students(condition, len(states), generator)
        total = torch.zeros(())
        for i in range(len(self.tables)):
            own = students == i
            if bool(own.any()):
                total = total - self.log_prob(states[own], None if condition is None else condition[own], i).sum()
        return total / len(states)

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
        """One pass, whatever `steps`; the teacher's classifier-free weight was distilled, so only 0 counts here."""
        self._check_sample(n, steps, condition)
        if start is not None:
            raise ValueError("a one-step student sets out from noise only; vary graphs with its teacher")
        if weight == 0.0:
            condition = None
        repeats = max([1, *(g.candidates for g in guidance)]), max([n, *(g.population(n) for g in guidance)]) // n
        each = repeats[0] * repeats[1]
        if condition is not None:
            condition = condition.repeat_interleave(each, 0)
        students = self._students(condition, n * each, generator)
        p = torch.zeros(n * each, *self.variables.domain.shape)
        for i in range(len(self.tables)):
            own = (students == i).nonzero()[:, 0]
            if len(own):
                mixing = self._log_mixing(i, None if condition is None else condition[own], len(own)).exp()
                p[own] = self._log_tables(i).exp()[draw(mixing, generator)]
        clean = draw(p, generator)
        if projector is not None:
            mended = projector(self.variables.graph(clean), self.variables.probabilities(p), generator=generator)
            clean = self.variables.states(mended)
        if repeats[0] > 1:
            clean = clean[chosen(guidance, self.variables.graph(clean), repeats[0], generator=generator)]
        graph = self.variables.graph(clean)
        rows = survivors(guidance, graph, 0.0, generator=generator)
        return graph if rows is None else graph[rows]
