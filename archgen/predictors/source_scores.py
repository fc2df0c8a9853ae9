"""What other data sets say of an architecture: labels, and a predictor where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.predictors.base import Floats, Predictor
from archgen.predictors.normal_scores import NormalScores
from archgen.row_memory import RowMemory

TRUST, RETRUST = 0.05, 0.1
"""Share of a source's own label, against what its predictor says, that is expected to carry over; its variance.

Of NAS-Bench-201's data sets, one tells another's ten best cells the better the smaller the share, where its predictor
reads free labels (`experiments/transfer_labels.py --nested`). At 0, cells that look the same would have no order.
"""
DISAGREEMENT = 0.1
"""Variance in normal scores of a data set around what data sets have in common, where a single source is known."""
LEAST = 0.01
"""Disagreement below which sources are taken for copies of each other rather than for proof that all agree."""
COMPARED = 512
"""Architectures on which sources are compared."""


@dataclass(frozen=True, eq=False)
class Source:
    """Labels of one other data set.

    Args:
        archs: `b` architectures.
        y: Their values, in the unit of the metric that is predicted, larger where the target's are.
        embedding: Of the data set, by the same encoder as the target's (`archgen.encoders.DataSetEncoder`).
    """

    archs: Sequence[Architecture]
    y: Floats
    embedding: Floats | None = None


class SourceScores:
    """Normal scores of architectures on each of `s` sources.

    Args:
        sources: The sources.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        self.maps = [NormalScores(source.y) for source in self.sources]
        """Between each source's values and scores."""
        self.predictors: list[Predictor] = []
        """Of each source's values."""
        self.disagreement = DISAGREEMENT
        """Variance of a data set's score around what the sources have in common."""
        self._known = [
            dict(zip(source.archs, own.scores, strict=True))
            for source, own in zip(self.sources, self.maps, strict=True)
        ]
        self._memory = RowMemory(self._rows, 3 * len(self.sources))

    def learn(self, predictors: Sequence[Predictor]) -> None:
        """Take predictors fitted to the sources' labels, in order, and see how far the sources agree."""
        self.predictors = list(predictors)
        self._memory.forget()
        everything = list(dict.fromkeys(arch for source in self.sources for arch in source.archs))
        some = [everything[i] for i in np.random.default_rng(0).permutation(len(everything))[:COMPARED]]
        if len(self.sources) > 1:
            # the mean over pairs of half their squared difference
            self.disagreement = max(float(self(some)[0].var(1, ddof=1).mean()), LEAST)
        elif self.sources:
            self.disagreement = DISAGREEMENT + float(np.mean(self._predicted(0, some)[1]))

    def __call__(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats, Floats]:
        """What the sources say of `b` architectures, `b x s` each.

        Returns:
            Scores, `TRUST` of the way from what the predictor says to the label, where there is one; by how much the
            label differs from what the predictor says, 0 without one; the variance of how much it would differ, 0 with
            one.
        """
        found = self._memory(archs).reshape(len(archs), 3, len(self.sources))
        return found[:, 0], found[:, 1], found[:, 2]

    def _rows(self, archs: Sequence[Architecture]) -> Floats:
        rows = np.zeros((len(archs), 3, len(self.sources)))
        for s, known in enumerate(self._known):
            predicted, variance = self._predicted(s, archs)
            label = np.array([known.get(arch, np.nan) for arch in archs], dtype=float)
            there = np.isfinite(label)
            rows[:, 1, s] = np.where(there, label - predicted, 0.0)
            rows[:, 0, s] = predicted + TRUST * rows[:, 1, s]
            rows[:, 2, s] = np.where(there, 0.0, variance)
        return rows.reshape(len(archs), -1)

    def _predicted(self, s: int, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Score that a source's predictor gives, and the variance of its error."""
        mean, std = self.maps[s].belief(self.predictors[s].predict(archs))
        return mean, std**2


def similarity(target: Floats | None, sources: Sequence[Floats | None]) -> Floats:
    """Weights of sum 1: softmax of the negative distances over their mean; equal where there are no embeddings.

    A sharpness that is chosen on the other tasks, or distances that are learnt there, were no better
    (`experiments/meta_transfer.py`; the figures are with `archgen.encoders.DataSetEncoder`).

    Raises:
        ArchgenError: Only some of the embeddings are given.
    """
    given = [embedding is not None for embedding in (target, *sources)]
    if any(given) and not all(given):
        raise ArchgenError(f"expected embeddings of the target and of all {len(sources)} sources, or of none")
    if target is None or not sources:
        return np.full(len(sources), 1 / max(len(sources), 1))
    distance = np.array([np.linalg.norm(np.asarray(target) - np.asarray(source)) for source in sources])
    share = np.exp(-distance / distance.mean()) if distance.any() else np.ones(len(sources))
    weights: Floats = share / share.sum()
    return weights
