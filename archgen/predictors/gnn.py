"""A graph network, pre-trained on what is known of any architecture for nothing, then trained to rank."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from archgen.encoders.side_by_side import SideBySideLinear
from archgen.graph import Architecture
from archgen.predictors.base import PREDICTORS, Floats
from archgen.predictors.cross_fitted import CrossFitted, descend
from archgen.predictors.free_labels import FreeLabels, join_free_labels, split_free_labels
from archgen.predictors.normal_scores import NormalScores
from archgen.predictors.ranking_losses import RANKING_LOSSES
from archgen.spaces import SearchSpace

if TYPE_CHECKING:
    from archgen.encoders.dag_gnn import DAG, DAGBatch

REMEMBERED = 50_000
"""Architectures whose graphs are kept."""
BATCH = 256
COUNTED = ("params", "flops")
"""What `SearchSpace.count` knows of any architecture."""
_PREDICTED = 1024
"""Architectures that are predicted at once; more needs memory, fewer time."""
_LEARNING_RATE, _DECAY = 3e-3, 1e-2
_ASKED = 10

Inputs = tuple["DAGBatch", Tensor]
"""Graphs, and what else is known of each, `b x f`."""


@PREDICTORS.register("gnn")
class GraphNetwork(CrossFitted):
    """Graph networks (`DAGNetwork`) over the DAG of the operations that matter (`SearchSpace.computation`).

    `fit` first trains them, without a label, to predict what is free (parameters, FLOPs and the free labels that are
    given) of random architectures of the space, by the mean squared error of normal scores; then all weights, with new
    heads, to rank the labelled ones. Pre-training on architecture statistics is that of FBNetV3 (arXiv 2006.02049),
    whose predictor is a perceptron over one-hot choices. The ensemble over folds is `CrossFitted`.

    Heads also read the free labels, as NASFLAT (arXiv 2403.02446) adds zero-cost proxies to its embedding, and in some
    spaces the one-hot choices of the simplified architecture: a DAG whose identities are contracted has lost where in a
    chain its blocks stand.

    Args:
        space: The space.
        metric: Name of the metric.
        free_labels: Gives zero-cost proxies of any architecture.
        loss: Name in `RANKING_LOSSES`.
        width, layers: Of `DAGNetwork`.
        members: Number of networks, at least 2.
        choices: Whether heads read the choices; without, architectures of one DAG have one prediction. By default they
            do where the DAG does not tell all (`tells_all`); on NAS-Bench-201, where it does, they cost 0.017 of tau.
        unlabelled: Architectures that are drawn for pre-training.
        pretraining: Batches of 256 of pre-training; 0 goes without.
        steps: Batches of training; in proportion more from 800 labels on.
        reference: See `CrossFitted`.
        seed: Of all randomness.
    """

    takes_free_labels = True

    def __init__(
        self,
        space: SearchSpace,
        metric: str,
        *,
        free_labels: FreeLabels | None = None,
        loss: str = "hinge",
        width: int = 32,
        layers: int = 3,
        members: int = 5,
        choices: bool | None = None,
        unlabelled: int = 2000,
        pretraining: int = 100,
        steps: int = 200,
        reference: int = 200,
        seed: int = 0,
    ) -> None:
        super().__init__(space, metric, members=members, reference=reference, seed=seed)
        self.check_sizes(width=width, layers=layers, unlabelled=unlabelled)
        self.criterion = RANKING_LOSSES[loss]()
        self.free_labels, self.loss, self.width, self.layers = free_labels, loss, width, layers
        self.choices = not tells_all(space) if choices is None else choices
        self.unlabelled, self.pretraining, self.steps = unlabelled, pretraining, steps
        from archgen.encoders.dag_gnn import vocabulary

        self._vocabulary = vocabulary(space)
        self._known: dict[Architecture, tuple[DAG, NDArray[np.float32]]] = {}
        self._pretrained: tuple[_Networks, np.random.Generator, Tensor] | None = None
        self._networks: _Networks | None = None

    def _train(self, archs: Sequence[Architecture], z: Floats, folds: NDArray[np.int64]) -> None:
        targets = torch.from_numpy(z).float()
        with torch.random.fork_rng(devices=[]):
            networks, rng = self._begin()

            def loss(rows: NDArray[np.int64]) -> Tensor:
                scores = networks.score(networks.embed(self._inputs([archs[i] for i in rows])))[..., 0]
                wanted = targets[rows]
                used = [torch.from_numpy(folds[rows] != k) for k in range(self.members)]
                parts = [self.criterion(s[own], wanted[own]) for s, own in zip(scores, used, strict=True)]
                return torch.stack(parts).sum()

            steps = max(self.steps, self.steps * len(z) // 800)
            descend(networks, loss, len(z), rng=rng, steps=steps, batch=BATCH, lr=_LEARNING_RATE, decay=_DECAY)
        self._networks = networks.eval().double()

    def _begin(self) -> tuple[_Networks, np.random.Generator]:
        """Networks before their first label, and the randomness to go on with: the same for any labels, so kept."""
        if self._pretrained is None:
            rng = np.random.default_rng([self.seed, 1])
            torch.manual_seed(self.seed)
            networks = self._make()
            if self.pretraining:
                self._pretrain(networks, rng)
            self._pretrained = networks, rng, torch.get_rng_state()
        networks, rng, state = copy.deepcopy(self._pretrained)
        torch.set_rng_state(state)
        return networks, rng

    def _pretrain(self, networks: _Networks, rng: np.random.Generator) -> None:
        pool = list(dict.fromkeys(self.space.simplify(arch) for arch in self.space.sample(self.unlabelled, rng)))
        counts = [self.space.count(arch) for arch in pool]
        columns = [NormalScores(np.array([count[name] for count in counts])).scores for name in COUNTED]
        targets = torch.from_numpy(np.column_stack([*columns, self._proxies(pool)])).float()

        def loss(rows: NDArray[np.int64]) -> Tensor:
            graphs, known = self._inputs([pool[i] for i in rows])
            known[:, known.shape[1] - self._free :] = 0.0  # else the answers would be among the inputs
            guessed = networks.free(networks.embed((graphs, known)))
            return F.mse_loss(guessed, targets[rows].expand_as(guessed)) * self.members

        descend(
            networks, loss, len(pool), rng=rng, steps=self.pretraining, batch=BATCH, lr=_LEARNING_RATE, decay=_DECAY
        )

    @torch.no_grad()
    def _scores(self, archs: Sequence[Architecture]) -> Floats:
        assert self._networks is not None
        parts = []
        for start in range(0, len(archs), _PREDICTED):
            part = archs[start : start + _PREDICTED]
            first: dict[bytes, int] = {}  # of equal inputs one is enough: half of random cells repeat another's DAG
            keys = [dag.labels.tobytes() + dag.edges.tobytes() + known.tobytes() for dag, known in self._rows(part)]
            which = [first.setdefault(key, len(first)) for key in keys]
            distinct = [part[keys.index(key)] for key in first]
            scores = self._networks.score(self._networks.embed(self._inputs(distinct)))[..., 0].numpy()
            parts.append(scores[:, which])
        return np.concatenate(parts, 1)

    # -- inputs -------------------------------------------------------------------------------------------------

    @property
    def _free(self) -> int:
        return len(self.free_labels.names) if self.free_labels else 0

    def _make(self) -> _Networks:
        width = sum(len(values) for values in self.space.variables.values()) if self.choices else 0
        sizes = {"known": width + self._free, "free": len(COUNTED) + self._free}
        return _Networks(self.members, len(self._vocabulary), width=self.width, layers=self.layers, **sizes)

    def _inputs(self, archs: Sequence[Architecture]) -> Inputs:
        from archgen.encoders.dag_gnn import DAGBatch

        rows = self._rows(archs)
        return DAGBatch.of([dag for dag, _ in rows]), torch.from_numpy(np.stack([known for _, known in rows]))

    def _rows(self, archs: Sequence[Architecture]) -> list[tuple[DAG, NDArray[np.float32]]]:
        if len(self._known) + len(archs) > REMEMBERED:  # memory must not grow with the samples
            self._known.clear()
        new = [arch for arch in dict.fromkeys(archs) if arch not in self._known]
        if new:
            self._known.update(zip(new, self._read(new), strict=True))
        return [self._known[arch] for arch in archs]

    def _read(self, archs: Sequence[Architecture]) -> list[tuple[DAG, NDArray[np.float32]]]:
        from archgen.encoders.dag_gnn import DAG

        simple = [self.space.simplify(arch) for arch in archs]
        known = [self._proxies(simple)]
        if self.choices:
            chosen = self.space.choices(simple)
            widths = [len(values) for values in self.space.variables.values()]
            known = [*(np.eye(width)[column] for width, column in zip(widths, chosen.T, strict=True)), *known]
        rows = np.hstack(known).astype(np.float32)
        dags = [DAG.of(self.space.computation(arch), self._vocabulary) for arch in simple]
        return list(zip(dags, rows, strict=True))

    def _proxies(self, archs: Sequence[Architecture]) -> Floats:
        return self.free_labels(archs) if self.free_labels else np.zeros((len(archs), 0))

    # -- checkpoint ---------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        _ = self.normal  # says so where nothing is fitted
        assert self._networks is not None
        names = (
            "loss",
            "width",
            "layers",
            "members",
            "choices",
            "unlabelled",
            "pretraining",
            "steps",
            "reference",
            "seed",
        )
        tensors = {name: torch.from_numpy(value.copy()) for name, value in self._calibration().items()}
        tensors |= {f"networks.{name}": value.float() for name, value in self._networks.state_dict().items()}
        config: dict[str, Any] = {"arguments": {name: getattr(self, name) for name in names}}
        return join_free_labels(self.free_labels, config, tensors)

    @classmethod
    def restore(
        cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]
    ) -> GraphNetwork:
        free_labels = split_free_labels(space, config, tensors)
        self = cls(space, metric, free_labels=free_labels, **config["arguments"])
        self._restore_calibration({name: tensors[name].numpy().astype(float) for name in self.CALIBRATED})
        with torch.random.fork_rng(devices=[]):
            networks = self._make()
        own = {name.removeprefix("networks."): v for name, v in tensors.items() if name.startswith("networks.")}
        networks.load_state_dict(own)
        self._networks = networks.eval().double()
        return self


def tells_all(space: SearchSpace) -> bool:
    """Whether architectures of one `computation` compute one function, as far as ten of them and their neighbours show.

    Two neighbours of one architecture have the same DAG, for example, when one block of two equal ones is left out.
    """
    for arch in space.sample(_ASKED, np.random.default_rng(0)):
        forms: dict[Architecture, str] = {}
        for near in space.neighbours(arch):
            form = space.canonical(near)
            if forms.setdefault(space.computation(space.simplify(near)), form) != form:
                return False
    return True


class _Networks(nn.Module):
    """`m` encoders side by side, the heads that are pre-trained with them, and those of the metric."""

    def __init__(self, members: int, labels: int, *, known: int, free: int, width: int, layers: int) -> None:
        from archgen.encoders.dag_gnn import DAGNetwork

        super().__init__()
        self.encoder = DAGNetwork(labels, width, layers, members=members)
        self.known = SideBySideLinear(members, known, width) if known else None
        joint = self.encoder.width + (width if known else 0)
        self.free, self.score = _Head(members, joint, width, free), _Head(members, joint, width, 1)

    def embed(self, inputs: Inputs) -> Tensor:
        graphs, known = inputs
        embedding: Tensor = self.encoder(graphs)
        if self.known is None:
            return embedding
        return torch.cat([embedding, self.known(known.to(embedding.dtype).expand(len(embedding), -1, -1))], -1)


class _Head(nn.Module):
    def __init__(self, members: int, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.hidden = SideBySideLinear(members, inputs, 2 * width)
        self.out = SideBySideLinear(members, 2 * width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(F.dropout(F.gelu(self.hidden(x)), 0.1, self.training))
        return out
