"""Distances between data sets that are learnt: weights of sources for a target whose labels nobody knows.

MetaD2A (arXiv 2107.00860) trains its set encoder with its predictor. With a dozen tasks there is little to train: how
sharply the weights fall with the distance, and how much each block of `DataSetEncoder` counts. What is learnt is learnt
from the sources of a target alone: each of them in turn is ordered by those of other groups, and the better it is, the
better the metric (mean correlation with the normal scores of its labels).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, nnls
from scipy.stats import kendalltau

Floats = np.ndarray
SHARPNESS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Factors of the distances over their mean; 1 is that of `similarity`, 0 gives equal weights."""
PULL = 0.02
"""Penalty of `direct` for each squared log of a factor, in units of correlation."""


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of the `s` sources of a target.

    Args:
        between: Squared distances between sources, `k x s x s`, one matrix a block of the encoder.
        target: Squared distances of the target to the sources, `k x s`.
        said: Scores of `n` architectures on the sources, as their predictors say, `n x s`.
        scores: Normal scores of the sources' labels, `n x s`.
        groups: Of each source; those of one group are never a source of each other.
    """

    between: Floats
    target: Floats
    said: Floats
    scores: Floats
    groups: Sequence[str]

    def others(self, i: int) -> Floats:
        """Sources of the `i`-th source, when that is taken for the target."""
        return np.flatnonzero(np.array(self.groups) != self.groups[i])

    def merit(self, weigh: Callable[[Floats], Floats]) -> float:
        """Mean correlation of the sources' labels with what their sources say, weighed by squared distances."""
        each = []
        for i in range(self.scores.shape[1]):
            others = self.others(i)
            said = self.said[:, others] @ weigh(self.between[:, i, others])
            each.append(np.corrcoef(said, self.scores[:, i])[0, 1])
        return float(np.mean(each))


def weights(squares: Floats, factors: Floats, sharpness: float) -> Floats:
    """Softmax of the negative distances over their mean, times the sharpness; squares `k x s`, factors `k`."""
    distance = np.sqrt(np.maximum(factors @ squares, 0.0))
    share = np.exp(-sharpness * (distance - distance.min()) / max(distance.mean(), 1e-12))
    result: Floats = share / share.sum()
    return result


def _best(known: Known, candidates: Sequence[tuple[Floats, float]]) -> Floats:
    factors, sharp = max(candidates, key=lambda c: known.merit(lambda squares: weights(squares, *c)))
    return weights(known.target, factors, sharp)


def sharpness(known: Known) -> Floats:
    """All blocks as they are; the sharpness is chosen."""
    return _best(known, [(np.ones(len(known.target)), s) for s in SHARPNESS])


def one_block(known: Known) -> Floats:
    """The best single block, or all, and the sharpness."""
    blocks = [*np.eye(len(known.target)), np.ones(len(known.target))]
    return _best(known, [(block, s) for block in blocks for s in SHARPNESS])


def disagreement(known: Known) -> Floats:
    """Non-negative factors of the blocks that tell 1 - tau of two sources' labels best; the sharpness is chosen."""
    pairs = [(i, j) for i in range(len(known.groups)) for j in known.others(i) if i < j]
    apart = np.array([1 - kendalltau(known.scores[:, i], known.scores[:, j]).statistic for i, j in pairs])
    squares = np.array([known.between[:, i, j] for i, j in pairs])
    factors, _ = nnls(np.column_stack([squares, np.ones(len(pairs))]), apart)
    return _best(known, [(factors[:-1], s) for s in SHARPNESS])


def direct(known: Known) -> Floats:
    """Factors of the blocks and the sharpness by gradient, held near those of `similarity`."""

    def loss(logs: Floats) -> float:
        factors, sharp = np.exp(logs[:-1]), float(np.exp(logs[-1]))
        return PULL * float(logs @ logs) - known.merit(lambda squares: weights(squares, factors, sharp))

    logs = minimize(loss, np.zeros(len(known.target) + 1), method="L-BFGS-B", bounds=[(-5, 5)] * 6).x
    return weights(known.target, np.exp(logs[:-1]), float(np.exp(logs[-1])))


METRICS: dict[str, Callable[[Known], Floats]] = {
    "sharpness": sharpness,
    "one_block": one_block,
    "disagreement": disagreement,
    "direct": direct,
}
