"""ShiftNAS: complexities are trained as often as training still gains there (arXiv 2307.08300)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from archgen.errors import InvalidOption, InvalidSpace
from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.supernets.base import Supernet
from archgen.supernets.training.base import TRAINING_STRATEGIES, Batch, Plan, TrainingStrategy, ranged

DRAWS = 512
"""Random architectures that say which FLOPs a space has."""
TRIES = 20
"""Draws of the space for one that is wanted, before a band counts as empty."""

Draw = Callable[[SearchSpace, float, float, int, int], Sequence[Architecture]]
"""At most so many architectures of a space between two numbers of FLOPs: space, lower, upper, number, seed."""


def draw_by_rejection(space: SearchSpace, low: float, high: float, n: int, seed: int) -> list[Architecture]:
    """Random architectures of the space that lie in the band, at most `n`, of `TRIES * n` draws."""
    rng, found = np.random.default_rng(seed), dict[Architecture, None]()
    for _ in range(TRIES):
        drawn = space.sample(n, rng)
        found |= dict.fromkeys(arch for arch in drawn if low <= space.count(arch)["flops"] <= high)
        if len(found) >= n:
            break
    return list(found)[:n]


@TRAINING_STRATEGIES.register("shiftnas")
class ShiftNAS(TrainingStrategy):
    r"""Single paths whose FLOPs are drawn first, and more often where training still gains.

    Uniform sampling trains what has medium FLOPs, for there the most architectures are. Here the range of FLOPs is cut
    into `bands` of equal width; a step draws a band, then an architecture of it. After each epoch

    .. math:: p_k = (1 - \epsilon) \frac{g_k}{\sum_j g_j} + \frac{\epsilon}{K}, \qquad
        g_k = \max\!\left(0, \frac{\ell_k' - \ell_k}{\ell_k'}\right),

    where :math:`\ell_k` is the mean loss of a band in the epoch, :math:`\ell_k'` that of the epoch in which it was
    trained before: the performance variation of the band. The first two epochs draw bands evenly.

    From the paper are the bands, that their probability follows their performance variation, and a generator that gives
    an architecture of the wanted complexity. The formulas are ours, and the generator is not trained beside the
    supernet: `draw` is asked for `pool` architectures of each band, in the first step, so all others cost what uniform
    ones do. The guided generator takes up to 13 s of CPU time for a band of rare FLOPs (18 s for all of NAS-Bench-201,
    27 s for DARTS), more than a short training takes, in each process that trains. They are a part of the state: a
    training that is resumed does not draw them again. FLOPs are those of the space's default network.

    Args:
        bands: Of FLOPs, at least 2; a band in which `draw` finds no architecture is left out.
        pool: Architectures of each band, at least 1.
        uniform: :math:`\epsilon`, in (0, 1].
        draw: Gives them; by rejection where None, which finds no rare ones. `archgen supernet train` asks the guided
            generator of the space.
        label_smoothing: Of the cross-entropy, in [0, 1).
        seed: Of the pools, at least 0.

    Raises:
        InvalidOption: An argument out of its range.
    """

    def __init__(
        self,
        bands: int = 8,
        pool: int = 128,
        uniform: float = 0.3,
        draw: Draw | None = None,
        label_smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        if bands < 2 or pool < 1 or not 0 < uniform <= 1:
            raise InvalidOption(
                f"expected bands >= 2, pool >= 1 and uniform in (0, 1], got {bands}, {pool} and {uniform}"
            )
        self.bands, self.pool, self.uniform, self.seed = bands, pool, uniform, ranged("seed", seed, 0)
        self.draw = draw or draw_by_rejection
        self.label_smoothing = ranged("label_smoothing", label_smoothing, 0, 1)

    def prepare(self, supernet: Supernet, plan: Plan) -> None:
        """As in the base.

        Raises:
            InvalidSpace: All architectures have the same FLOPs.
        """
        super().prepare(supernet, plan)
        space = supernet.space
        known = [*(space.extremes or ()), *space.sample(DRAWS, np.random.default_rng(self.seed))]
        flops = [space.count(arch)["flops"] for arch in known]
        edges = np.linspace(min(flops), max(flops), self.bands + 1)
        if edges[0] == edges[-1]:
            raise InvalidSpace(f"all architectures of {space.name} have {flops[0]:g} FLOPs; train it with 'uniform'")
        self._space, self._edges, self._drawn = space, edges, list[list[Architecture]]()
        self.probabilities = torch.full((self.bands,), 1 / self.bands, dtype=torch.float64)
        """Of each band; the share of empty ones goes to the others."""
        self._sum, self._count = torch.zeros(self.bands).double(), torch.zeros(self.bands).double()
        self._before = torch.zeros(self.bands).double()  # where a band was never trained
        self._steps = torch.zeros((), dtype=torch.long)

    @property
    def pools(self) -> list[list[Architecture]]:
        """The architectures of each band, by rising FLOPs; drawn when they are first wanted.

        They do not depend on the step that wants them first, nor it on them: a training that is resumed from before its
        first step, or from a state without them, draws them elsewhere.
        """
        if not self._drawn:
            exact = [torch.autocast(kind, enabled=False) for kind in ("cpu", "cuda")]
            with torch.random.fork_rng(devices=[]), exact[0], exact[1]:
                bands = pairwise(self._edges.tolist())
                self._drawn = [list(self.draw(self._space, *band, self.pool, self.seed)) for band in bands]
        return self._drawn

    def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        x, y = batch
        probabilities = self.probabilities.numpy() * np.array([len(pool) > 0 for pool in self.pools])
        band = int(rng.choice(self.bands, p=probabilities / probabilities.sum()))
        arch = self.pools[band][int(rng.integers(len(self.pools[band])))]
        losses = F.cross_entropy(supernet(x, arch), y, label_smoothing=self.label_smoothing, reduction="none")
        loss = self.descend(losses)
        self._sum[band] += loss
        self._count[band] += 1
        self._steps += 1
        if int(self._steps) % self.plan.steps == 0:
            self._update()
        return {"loss": loss}

    def _update(self) -> None:
        """The probabilities, from the epoch that ends and the one before."""
        seen = self._count > 0
        now = self._sum / self._count.clamp(min=1)
        compared = seen & (self._before > 0)
        gain = torch.where(compared, ((self._before - now) / self._before).clamp(min=0), 0.0)
        if bool(compared.any()) and float(gain[compared].sum()) > 0:
            gain = torch.where(compared, gain, gain[compared].mean())
            self.probabilities = (1 - self.uniform) * gain / gain.sum() + self.uniform / self.bands
        self._before = torch.where(seen, now, self._before)
        self._sum.zero_()
        self._count.zero_()

    def state(self) -> dict[str, Tensor]:
        return {**{name: getattr(self, name) for name in _STATE}, "pools": self._choices()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for name in _STATE:
            setattr(self, name, state[name].clone())
        names = list(self._space.variables)
        drawn = [
            [self._space.from_choices(dict(zip(names, row, strict=True))) for row in pool if row[0] >= 0]
            for pool in state["pools"].tolist()
        ]
        self._drawn = drawn if any(drawn) else []

    def _choices(self) -> Int[Tensor, "bands pool variables"]:
        """The pools as choices of the space's variables, -1 where there is no architecture (yet)."""
        choices = torch.full((self.bands, self.pool, len(self._space.variables)), -1)
        for band, pool in enumerate(self._drawn):
            for i, arch in enumerate(pool):
                choices[band, i] = torch.tensor(list(self._space.to_choices(arch).values()))
        return choices


_STATE = ("probabilities", "_sum", "_count", "_before", "_steps")
