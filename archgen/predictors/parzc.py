"""ParZC: a mixer with Bayesian layers over node-wise zero-cost statistics (arXiv 2402.02105)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from archgen.encoders.side_by_side import SideBySideLinear, SideBySideNorm
from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.predictors.base import PREDICTORS, Floats
from archgen.predictors.cross_fitted import CrossFitted, descend
from archgen.predictors.node_statistics import STATISTICS, NodeStatistics
from archgen.predictors.ranking_losses import RANKING_LOSSES
from archgen.spaces import SearchSpace

BATCH = 256
_PREDICTED = 1024
"""Architectures that are predicted at once."""
_SOFT = -5.0
"""Where the softplus of a weight's standard deviation starts: at 0.007, as in the authors' code."""


@PREDICTORS.register("parzc")
class ParZC(CrossFitted):
    """Parametric zero-cost proxies: learns how much the zero-cost statistics of each node of a network matter.

    The statistics of all nodes are projected to a sequence that is cut into segments; a Bayesian linear layer embeds a
    segment, mixer blocks join them, their mean passes a second Bayesian layer and a regressor gives the score. A
    Bayesian layer has a mean and a standard deviation for each weight and draws weights by the reparameterisation
    trick. Trained by DiffKendall. Written after the authors' code: the mixer that they train on NDS. On NAS-Bench-101
    and 201 they join it to PINAT's transformer over the graph, which is left out here. Against their code:

    - nodes have places of their own by the name of their module, so that a statistic is always that of the same layer;
      the code appends zeros to shorter networks. A node that is absent has zeros and a flag that says so;
    - statistics are logarithms, standardised over the space; the code scales them to [0, 1] in each network;
    - one mixing layer of a block runs across segments, as in MLP-Mixer (arXiv 2105.01601); in the code both run within
      them. The network is smaller (32 channels, not 512), since so are few labels;
    - predictions are a mean over fixed draws of the weights, so they are the same each time; the code draws anew. As
      there, the loss has no prior (no divergence of the weights' distribution from one);
    - statistics are those of a reduced network (`NodeStatistics`); an ensemble over folds tells the error of the mean
      (`CrossFitted`), where the paper gives ranks alone.

    Args:
        space: The space.
        metric: Name of the metric.
        loss: Name in `RANKING_LOSSES`.
        width: Channels of a segment.
        depth: Mixer blocks.
        members: Number of networks, at least 2.
        steps: Batches of training; more where there are many labels.
        draws: Of the weights, for a prediction.
        reference: See `CrossFitted`; they also say which nodes there are, and what is usual of their statistics.
        seed: Of all randomness.
        network: Arguments of `space.build` for the reduced network; `node_statistics.SMALL` where not given.
        statistics: Shared with other predictors, so that an architecture is measured once; of the same space, seed and
            network.

    Raises:
        ArchgenError: Statistics of another space, seed or network.
    """

    def __init__(
        self,
        space: SearchSpace,
        metric: str,
        *,
        loss: str = "diff_kendall",
        width: int = 32,
        depth: int = 2,
        members: int = 5,
        steps: int = 200,
        draws: int = 4,
        reference: int = 200,
        seed: int = 0,
        network: dict[str, int] | None = None,
        statistics: NodeStatistics | None = None,
    ) -> None:
        super().__init__(space, metric, members=members, reference=reference, seed=seed)
        self.check_sizes(width=width, depth=depth, steps=steps, draws=draws)
        self.criterion = RANKING_LOSSES[loss]()
        self.loss, self.width, self.depth, self.steps, self.draws = loss, width, depth, steps, draws
        self.network = dict(network or {})
        own = NodeStatistics(space, seed, **self.network)
        self.statistics = own if statistics is None else statistics
        if self.statistics.setting != own.setting:
            raise ArchgenError(f"expected node statistics of {own.setting}, got those of {self.statistics.setting}")
        self._nodes: list[str] = []
        self._usual = np.zeros((2, 0, len(STATISTICS)), dtype=np.float32)
        self._mixers: _Mixers | None = None

    def _train(self, archs: Sequence[Architecture], z: Floats, folds: NDArray[np.int64]) -> None:
        rng = np.random.default_rng([self.seed, 2])
        self._learn_usual([*self._reference(), *archs])
        x, targets = self._features(archs), torch.from_numpy(z).float()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            mixers = self._make()

            def loss(rows: NDArray[np.int64]) -> Tensor:
                scores, wanted = mixers(x[rows]), targets[rows]
                used = [torch.from_numpy(folds[rows] != k) for k in range(self.members)]
                parts = [self.criterion(s[own], wanted[own]) for s, own in zip(scores, used, strict=True)]
                return torch.stack(parts).sum()

            steps = max(self.steps, self.steps * len(z) // 800)
            descend(mixers, loss, len(z), rng=rng, steps=steps, batch=BATCH, lr=3e-3, decay=1e-2)
        self._mixers = mixers.eval().double()

    def _make(self) -> _Mixers:
        inputs = len(self._nodes) * (len(STATISTICS) + 1)
        return _Mixers(self.members, inputs, self.width, self.depth)

    def _learn_usual(self, archs: Sequence[Architecture]) -> None:
        """Which nodes there are, in the order of their names' parts, and mean and spread of their statistics."""
        rows = self.statistics(list(dict.fromkeys(archs)))
        self._nodes = sorted({name for row in rows for name in row}, key=_natural)
        middle, spread = np.zeros((2, len(self._nodes), len(STATISTICS)), dtype=np.float32)
        for i, name in enumerate(self._nodes):
            values = np.stack([row[name] for row in rows if name in row]).astype(float)
            deviation = values.std(0)
            middle[i], spread[i] = values.mean(0), np.where(deviation > 1e-6, deviation, 1.0)
        self._usual = np.stack([middle, spread])

    def _features(self, archs: Sequence[Architecture]) -> Tensor:
        """Standardised statistics and presence of each node, `b x inputs`."""
        place = {name: i for i, name in enumerate(self._nodes)}
        x = np.zeros((len(archs), len(place), len(STATISTICS) + 1), dtype=np.float32)
        for i, row in enumerate(self.statistics(archs)):
            for name, values in row.items():
                if (at := place.get(name)) is not None:
                    x[i, at, :-1] = (values - self._usual[0, at]) / self._usual[1, at]
                    x[i, at, -1] = 1.0
        return torch.from_numpy(np.clip(x, -5, 5)).flatten(1)

    @torch.no_grad()
    def _scores(self, archs: Sequence[Architecture]) -> Floats:
        assert self._mixers is not None
        parts = []
        for start in range(0, len(archs), _PREDICTED):
            x = self._features(archs[start : start + _PREDICTED]).double()
            total = torch.zeros(self.members, len(x), dtype=torch.double)
            for draw in range(self.draws):
                generator = torch.Generator().manual_seed(self.seed + draw)
                total += self._mixers(x, generator)
            parts.append((total / self.draws).numpy())
        return np.concatenate(parts, 1)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        _ = self.normal  # says so where nothing is fitted
        assert self._mixers is not None
        names = ("loss", "width", "depth", "members", "steps", "draws", "reference", "seed", "network")
        config = {"arguments": {name: getattr(self, name) for name in names}, "nodes": self._nodes}
        arrays = {**self._calibration(), "usual": self._usual}
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        return config, {**tensors, **{f"mixers.{k}": v.float() for k, v in self._mixers.state_dict().items()}}

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> ParZC:
        self = cls(space, metric, **config["arguments"])
        self._nodes, self._usual = list(config["nodes"]), tensors["usual"].numpy().astype(np.float32)
        self._restore_calibration({name: tensors[name].numpy().astype(float) for name in self.CALIBRATED})
        with torch.random.fork_rng(devices=[]):
            mixers = self._make()
        mixers.load_state_dict({k.removeprefix("mixers."): v for k, v in tensors.items() if k.startswith("mixers.")})
        self._mixers = mixers.eval().double()
        return self


class _Mixers(nn.Module):
    """`m` mixers side by side: `b x inputs` to scores `m x b`."""

    def __init__(self, members: int, inputs: int, width: int, depth: int, segments: int = 16, length: int = 16) -> None:
        super().__init__()
        self.members, self.segments, self.length = members, segments, length
        self.project = SideBySideLinear(members, inputs, segments * length)
        self.embed = _BayesianLinear(members, length, width)
        self.blocks = nn.ModuleList(_Block(members, segments, width) for _ in range(depth))
        self.norm = SideBySideNorm(members, width)
        self.head = _BayesianLinear(members, width, width)
        self.hidden, self.out = SideBySideLinear(members, width, width), SideBySideLinear(members, width, 1)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        m, b = self.members, len(x)
        h = self.project(x.expand(m, -1, -1))
        h = self.embed(h.reshape(m, b * self.segments, self.length), generator)
        for block in self.blocks:
            h = block(h)
        h = self.head(self.norm(h).view(m, b, self.segments, -1).mean(2), generator)
        scores: Tensor = self.out(F.dropout(F.gelu(self.hidden(h)), 0.1, self.training))
        return scores[..., 0]


class _Block(nn.Module):
    """Mixes across segments, then within them; rows are `b * segments`."""

    def __init__(self, members: int, segments: int, width: int) -> None:
        super().__init__()
        self.segments = segments
        self.norms = nn.ModuleList(SideBySideNorm(members, width) for _ in range(2))
        self.across = _feed_forward(members, segments, 2 * segments)
        self.within = _feed_forward(members, width, 2 * width)

    def forward(self, h: Tensor) -> Tensor:
        m, rows, width = h.shape
        x = self.norms[0](h).view(m, -1, self.segments, width).transpose(2, 3)
        mixed = self.across(x.reshape(m, -1, self.segments)).view(m, -1, width, self.segments)
        h = h + mixed.transpose(2, 3).reshape(m, rows, width)
        out: Tensor = h + self.within(self.norms[1](h))
        return out


def _feed_forward(members: int, width: int, hidden: int) -> nn.Module:
    layers = SideBySideLinear(members, width, hidden), SideBySideLinear(members, hidden, width)
    return nn.Sequential(layers[0], nn.GELU(), nn.Dropout(0.1), layers[1])


class _BayesianLinear(nn.Module):
    """A linear map whose weights are drawn: mean + softplus(rho) * standard normal; `m` of them side by side."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.mean = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.rho = nn.Parameter(torch.full((members, inputs, outputs), _SOFT))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype)
        return torch.bmm(x, self.mean + F.softplus(self.rho) * noise)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts numbers in names as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
