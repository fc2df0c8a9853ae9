"""Ensembles whose members leave a fold out each, so that what they say of it tells how wrong they are elsewhere."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor, nn

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.predictors.base import Floats
from archgen.predictors.normal_scores import NormalScorePredictor, NormalScores
from archgen.spaces import SearchSpace
from archgen.threads import single_threaded

_LEVEL = 0.9
_SHRINK = 0.5
"""Least standard deviation of the ensemble's error over that of a member's."""


class LeftOut(NamedTuple):
    """What is said of `b` labels by the member that has not seen them, as normal scores."""

    mean: Floats
    """`b` scores."""
    std: Floats
    """`b` standard deviations of the error of the *ensemble*, where its members disagree as they usually do."""
    excess: float
    """By how much the mean squared error of `mean` is more than the ensemble's: a member errs more than their mean."""


class CrossFitted(NormalScorePredictor):
    r"""`m` members, each trained without one of `m` folds of the labels; their mean predicts.

    Members give scores of any scale: a ranking loss knows none. Those of a member are standardised over the labelled
    architectures; pooled, what the members say of the folds that they have not seen gives the slope of targets on
    scores. The error of a member is known from the same folds. That of their mean is less by the members'
    disagreement, :math:`(1 - 1/m)` times its variance (the ambiguity decomposition: Krogh and Vedelsby, "Neural
    network ensembles, cross validation, and active learning", NIPS 1994); disagreement is measured on architectures
    that no member has seen. Intervals have the 90 % quantile of the left-out errors, so that 90 % intervals cover about
    90 %, and are wider where members disagree more than usual.

    Targets are normal scores (`NormalScores`), and so are beliefs about them.

    Args:
        space: The space.
        metric: Name of the metric.
        members: Number `m` of members, at least 2.
        reference: Random architectures that show how much members disagree, at least 2.
        seed: Of all that is drawn in `fit`.

    Raises:
        ArchgenError: Fewer than two members or reference architectures.
    """

    CALIBRATED: ClassVar = ("y", "middle", "spread", "line")
    """Names of the arrays of a calibration, in a checkpoint."""

    def __init__(
        self, space: SearchSpace, metric: str, *, members: int = 5, reference: int = 200, seed: int = 0
    ) -> None:
        super().__init__(space, metric)
        if members < 2:
            raise ArchgenError(f"an ensemble needs at least 2 members, got {members}")
        if reference < 2:
            raise ArchgenError(f"disagreement is measured on at least 2 architectures, got reference={reference}")
        self.members, self.reference, self.seed = members, reference, seed
        self._middle, self._spread = np.zeros(members), np.ones(members)
        self._line: Floats = np.array([0.0, 1.0, 1.0, 1.0])
        """Intercept, slope, standard deviation of the error, usual disagreement."""
        self.left_out: LeftOut | None = None
        """Of the labels of the last `fit`, in their order; checkpoints do not keep it."""

    def check_sizes(self, **sizes: int) -> None:
        """Raise `ArchgenError` unless all are at least 1."""
        for name, size in sizes.items():
            if size < 1:
                raise ArchgenError(f"{name} of a predictor must be at least 1, got {size}")

    # -- to be given by a member of the family ------------------------------------------------------------------

    @abstractmethod
    def _train(self, archs: Sequence[Architecture], z: Floats, folds: NDArray[np.int64]) -> None:
        """Train member `k` on the targets `z` of `b` architectures whose fold is not `k`."""

    @abstractmethod
    def _scores(self, archs: Sequence[Architecture]) -> Floats:
        """What each member says, `m x b`; in any unit, larger is better."""

    # -- the same for all ---------------------------------------------------------------------------------------

    def fit(self, archs: Sequence[Architecture], y: Floats) -> CrossFitted:
        """Train the members and calibrate their mean.

        Raises:
            ArchgenError: No values, or a value is not finite.
        """
        y = np.array(y, dtype=float)
        self.check_fit(archs, y)
        normal = NormalScores(y)
        rng = np.random.default_rng([self.seed, len(y)])
        # fold by rank: every fold spans all that is known, whatever the distribution
        order = np.argsort(y, kind="stable")
        folds = np.empty(len(y), dtype=np.int64)
        for start in range(0, len(y), self.members):
            block = order[start : start + self.members]
            folds[block] = rng.permutation(self.members)[: len(block)]
        with single_threaded():
            self._train(archs, normal.scores, folds)
            self._calibrate(archs, normal.scores, folds)
        self._normal = normal
        return self

    def _reference(self) -> list[Architecture]:
        """Random architectures of the space, which show how the members differ where they know nothing."""
        return self.space.sample(self.reference, np.random.default_rng([self.seed, self.reference]))

    def _calibrate(self, archs: Sequence[Architecture], z: Floats, folds: NDArray[np.int64]) -> None:
        n, m = len(z), self.members
        scores = self._scores(archs)
        unseen = self._scores(self._reference())
        self._middle = scores.mean(1)
        self._spread = np.where(scores.std(1) > 1e-9, scores.std(1), 1.0)
        left_out = ((scores - self._middle[:, None]) / self._spread[:, None])[folds, np.arange(n)]
        unseen = (unseen - self._middle[:, None]) / self._spread[:, None]
        ambiguity = float(unseen.var(0, ddof=1).mean())
        usual = max(math.sqrt(ambiguity), 1e-9)
        if n < 3 or left_out.std() < 1e-9:
            self._line = np.array([0.0, 1.0 if n > 1 else 0.0, 1.0, usual])
            self.left_out = LeftOut(np.full(n, z.mean()), np.ones(n), 0.0)
            return
        # one pseudo-observation of slope 1 keeps a handful of labels from turning the ranking round
        centred = left_out - left_out.mean()
        slope = max(float((centred @ z + 1.0) / (centred @ centred + 1.0)), 0.05)
        said = z.mean() + slope * centred
        errors = np.abs(z - said)
        rank = min(math.ceil(_LEVEL * (n + 1)), n)
        sigma = np.sort(errors)[rank - 1] / norm.ppf((1 + _LEVEL) / 2)
        # The mean of the members covaries with the targets as one of them does and varies less: its slope is larger by
        # the ratio of the variances, and its squared error less by what the ambiguity explains with that slope.
        less = (1 - 1 / m) * ambiguity
        ratio = max(1 - less / max(float(unseen.var(1).mean()), 1e-9), 0.25)
        squared = float((errors**2).mean())
        rest = max(1 - slope**2 * less / ratio / max(squared, 1e-9), _SHRINK**2)
        sigma = max(sigma * math.sqrt(rest), 1e-3)
        self.left_out = LeftOut(said, np.full(n, sigma), squared * (1 - rest))
        slope /= ratio
        self._line = np.array([z.mean() - slope * left_out.mean(), slope, sigma, usual])

    def predict_scores(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the error, `b` each, as normal scores of the targets."""
        _ = self.normal  # says so where nothing is fitted
        if not archs:
            return np.zeros(0), np.zeros(0)
        with single_threaded():
            scores = (self._scores(archs) - self._middle[:, None]) / self._spread[:, None]
        intercept, slope, sigma, usual = self._line
        disagreement = scores.std(0, ddof=1) / usual
        return intercept + slope * scores.mean(0), sigma * np.sqrt((1 + disagreement**2) / 2)

    def _calibration(self) -> dict[str, Floats]:
        """What `_restore_calibration` needs, as arrays."""
        arrays = (self.normal.y, self._middle, self._spread, self._line)
        return dict(zip(self.CALIBRATED, arrays, strict=True))

    def _restore_calibration(self, arrays: dict[str, Floats]) -> None:
        if arrays["middle"].shape != (self.members,) or arrays["line"].shape != self._line.shape:
            raise ValueError(f"expected the calibration of {self.members} members")
        self._normal = NormalScores(arrays["y"])
        self._middle, self._spread, self._line = arrays["middle"], arrays["spread"], arrays["line"]


def descend(
    network: nn.Module,
    loss: Callable[[NDArray[np.int64]], Tensor],
    n: int,
    *,
    rng: np.random.Generator,
    steps: int,
    batch: int,
    lr: float,
    decay: float,
) -> None:
    """Train a network by AdamW, its learning rate rising over a tenth of the steps and falling to zero by a cosine.

    Args:
        network: What is trained; in training mode afterwards.
        loss: Of some of `n` rows, given by index.
        n: Rows that there are.
        rng: Draws the batches, each row as often as any other.
        steps: Batches.
        batch: Rows of one, at most.
        lr: Largest learning rate.
        decay: Weight decay.
    """
    if steps < 1:
        return
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=decay, fused=True)
    order: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    for step in range(steps):
        if len(order) < min(batch, n):
            order = rng.permutation(n)
        rows, order = order[:batch], order[batch:]
        rate = min((step + 1) / max(steps / 10, 1), (1 + math.cos(math.pi * step / steps)) / 2)
        optimizer.param_groups[0]["lr"] = lr * rate
        optimizer.zero_grad()
        loss(rows).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
