"""Accuracy on a new data set from labels of others (after MetaD2A, arXiv 2107.00860)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from archgen.encoders.paths import PathEncoder
from archgen.encoders.weisfeiler_lehman import WeisfeilerLehmanEncoder
from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.predictors.base import PREDICTORS, Floats, Prediction, Predictor
from archgen.predictors.free_labels import FreeLabels, drop_free_labels, join_free_labels, split_free_labels
from archgen.predictors.normal_scores import NormalScorePredictor, NormalScores, plotting_positions
from archgen.predictors.source_scores import RETRUST, TRUST, Source, SourceScores, similarity
from archgen.predictors.variance_components import VarianceComponents, condition, fit_variances
from archgen.spaces import SearchSpace

NOISE = 0.05
"""Expected variance of a label's noise in normal scores where there is no source."""
SHRINK = 10
"""Labels after which the spread of the target's values counts as much as that of the sources'."""
FITTED = 512
"""Most labels that the variances are fitted to; inference is exact, on all."""
CHUNK = 1024
GRID = np.linspace(-5.0, 5.0, 201)


@PREDICTORS.register("meta")
class MetaPredictor(NormalScorePredictor):
    r"""A Gaussian process whose prior mean is what other data sets say: it needs few labels of a new one, or none.

    With :math:`f_s` the normal score that source `s` gives an architecture, the target's score is

    .. math:: z = a + \sum_s w_s f_s + r + \epsilon, \qquad w_s = m_s (1 + b) + d_s,

    all of `a`, `b`, `d`, `r`, `epsilon` Gaussian of mean zero. `r` is a process with a Matern-5/2 kernel of length 1 on
    each block of features of `GaussianProcess`. Without labels the mean is :math:`\sum_s m_s f_s`; with labels the
    posterior is exact given the labels' scores and the variances, which have the greatest marginal likelihood
    (`fit_variances`). The prior weights `m` are the softmax of the negative distances between the embeddings of target
    and sources, over their mean; equal without embeddings. :math:`f_s` is what a predictor fitted to the labels of the
    source says and, where there is one, a little of the way on to it (`TRUST`): most of what a label has beyond that is
    luck of that training. Labels of the target may tell otherwise: the share is a Gaussian coefficient like the others.

    Ranks among a few labels say little of the rank in the space, least when those were the best that the sources
    promised. So the score of the label of rank `r` is the quantile of that rank in the mixture of what the prior
    expects of the labelled architectures, which is the usual normal score where no source says anything. Before the
    first label the sources' mean quantile function gives values their unit; beyond the labels' range it goes on.

    MetaD2A and the meta-predictor of DiffusionNAG (arXiv 2305.16943) instead train one network on tuples (images of a
    data set, architecture, accuracy) of thousands of data sets, so that it can be asked for any; here each source is a
    data set of its own, and only the weights of the sources hang on the images.

    Args:
        space: A space that `PathEncoder` takes.
        metric: Name of the metric.
        sources: Other data sets; none: a plain Gaussian process.
        embedding: Of the target's data set; it, and that of every source, or none of them, must be given.
        kind: Registered name of the predictor that is fitted to each source's labels, on the first `fit`.
        free_labels: Given to the predictors of the sources, where they take them.

    Raises:
        ArchgenError: Embeddings of some data sets only, or labels of a source that can not be learnt from.
    """

    takes_free_labels = True

    def __init__(
        self,
        space: SearchSpace,
        metric: str,
        sources: Sequence[Source] = (),
        embedding: Floats | None = None,
        kind: str = "gbdt",
        free_labels: FreeLabels | None = None,
    ) -> None:
        super().__init__(space, metric)
        self.sources, self.kind, self.free_labels = tuple(sources), kind, free_labels
        for source in self.sources:
            self.check_fit(source.archs, np.asarray(source.y, dtype=float))
        self.said = SourceScores(self.sources)
        self.prior_weights = similarity(embedding, [source.embedding for source in self.sources])
        """Weight of each source before any label."""
        self.paths, self.neighbourhoods = PathEncoder(space), WeisfeilerLehmanEncoder(space)
        self._archs: list[Architecture] = []
        self._y: Floats = np.zeros(0)
        self._posterior: VarianceComponents | None = None

    @property
    def needs_labels(self) -> bool:
        return not self.sources

    def fit(self, archs: Sequence[Architecture], y: Floats) -> MetaPredictor:
        """Condition on labels of the target; with sources, none at all will do.

        Raises:
            ArchgenError: No values and no sources, or a value is not finite.
        """
        y = np.asarray(y, dtype=float)
        if len(archs) or len(y) or self.needs_labels:
            self.check_fit(archs, y)
        if len(self.said.predictors) < len(self.sources):
            kind = PREDICTORS[self.kind]
            extra: dict[str, Any] = {"free_labels": self.free_labels} if kind.takes_free_labels else {}
            unfitted = [kind(self.space, self.metric, **extra) for _ in self.sources]
            pairs = zip(unfitted, self.sources, strict=True)
            self.said.learn([predictor.fit(source.archs, source.y) for predictor, source in pairs])
        self._archs, self._y = list(archs), y.copy()
        self._condition(None)
        return self

    def _condition(self, variances: Floats | None) -> None:
        """Infer from the labels, with given variances (that of the noise last) or those that the labels suggest."""
        prior, extra = self._prior(self._archs)
        scores = self._scores(prior, extra)
        self._normal = self._map(scores)
        z = scores - prior
        if variances is None:
            some = np.sort(np.random.default_rng(0).permutation(len(z))[:FITTED])
            chosen = [self._archs[i] for i in some]
            grams = np.stack([cross for cross, _ in self._kernels(chosen, chosen)])
            variances = fit_variances(grams, z[some], extra[some], self._modes())
        covariance, _ = self._covariance(self._archs, self._archs, variances)
        self._posterior = condition(covariance, z, extra, variances)

    def _prior(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Mean score before any label, and the variance for want of the sources' labels."""
        said, _, variance = self.said(archs)
        return said @ self.prior_weights, (TRUST**2 + RETRUST) * (variance @ self.prior_weights**2)

    def _scores(self, prior: Floats, extra: Floats) -> Floats:
        """Scores of the labels: quantiles of the mixture of what the prior expects of these architectures."""
        if not self.sources:
            scores: Floats = norm.ppf(plotting_positions(self._y))
            return scores
        if not len(prior):
            return prior
        std = np.sqrt(self.said.disagreement + extra)
        grid = np.linspace((prior - 6 * std).min(), (prior + 6 * std).max(), 2001)
        below = np.zeros(len(grid))
        for mean, deviation in zip(prior, std, strict=True):
            below += norm.cdf(grid, mean, deviation) / len(prior)
        return np.interp(plotting_positions(self._y), below, grid)

    def _map(self, scores: Floats) -> NormalScores:
        """Between scores and the metric's unit: through the labels, beyond them as the sources' quantiles go on."""
        if not self.sources:
            return NormalScores(self._y)
        values = sum(w * own.values(GRID) for w, own in zip(self.prior_weights, self.said.maps, strict=True))
        if not len(scores):
            return NormalScores(np.asarray(values), GRID)
        low, high = (int(i) for i in (scores.argmin(), scores.argmax()))
        ends = np.interp(scores[[low, high]], GRID, values)
        rise, expected = self._y[high] - self._y[low], ends[1] - ends[0]
        n = len(scores)
        stretch = (rise / expected) ** (n / (n + SHRINK)) if rise > 0 and expected > 0 else 1.0
        under, over = scores[low] > GRID, scores[high] < GRID
        return NormalScores(
            np.concatenate(
                [
                    self._y[low] + stretch * (values[under] - ends[0]),
                    self._y,
                    self._y[high] + stretch * (values[over] - ends[1]),
                ]
            ),
            np.concatenate([GRID[under], scores, GRID[over]]),
        )

    def _modes(self) -> Floats:
        """Expected variances of the kernels, in order, and of the noise."""
        blocks = len(self.paths.blocks) + 1
        if not self.sources:
            return np.array([1.0, *np.full(blocks, 1 / blocks), NOISE])
        half = self.said.disagreement / 2
        return np.array([half, 2 * half, 2 * half, RETRUST, *np.full(blocks, half / blocks), half])

    def _kernels(
        self, archs: Sequence[Architecture], others: Sequence[Architecture]
    ) -> Iterator[tuple[Floats, Floats]]:
        """Each kernel between `b` and `n` architectures, `b x n`, and of each of the `b` with itself, `b`.

        The intercept; where there are sources the common slope, each source's, its labels'; the blocks.
        """
        ones = np.ones(len(archs))
        yield np.ones((len(archs), len(others))), ones
        if self.sources:
            (left, left_own, _), (right, right_own, _) = self.said(archs), self.said(others)
            joint = left @ self.prior_weights
            yield np.outer(joint, right @ self.prior_weights), joint**2
            yield left @ right.T, (left**2).sum(1)
            yield left_own @ right_own.T, (left_own**2).sum(1)
        for one, other in zip(self._blocks(archs), self._blocks(others), strict=True):
            yield matern(one, other), ones

    def _covariance(
        self, archs: Sequence[Architecture], others: Sequence[Architecture], variances: Floats
    ) -> tuple[Floats, Floats]:
        """The kernels' sum, each times its variance, `b x n`, and its diagonal, `b`."""
        cross, own = np.zeros((len(archs), len(others))), np.zeros(len(archs))
        for v, (more, diagonal) in zip(variances[:-1], self._kernels(archs, others), strict=True):
            cross += v * more
            own += v * diagonal
        return cross, own

    def _blocks(self, archs: Sequence[Architecture]) -> list[Floats]:
        """Each block of features, scaled as those of `GaussianProcess`."""
        widths = self.paths.blocks
        parts: list[Floats] = np.split(self.paths(archs).numpy(), np.cumsum(list(widths.values()))[:-1], axis=1)
        near: Floats = self.neighbourhoods(archs).numpy() / np.sqrt(len(self.space.node_domain))
        return [*(part / np.sqrt(width) for part, width in zip(parts, widths.values(), strict=True)), near]

    @property
    def posterior(self) -> VarianceComponents:
        """The belief in scores, about what the prior mean leaves over; raises `ArchgenError` before `fit`."""
        if self._posterior is None:
            raise ArchgenError(f"the predictor of {self.metric} has seen no values yet; call fit first")
        return self._posterior

    @property
    def weights(self) -> Floats:
        """Mean weight of each source, the labels considered."""
        posterior, said = self.posterior, self.said(self._archs)[0]
        slope = posterior.alpha @ said
        common, each = posterior.variances[1:3] if self.sources else (0.0, 0.0)
        weights: Floats = self.prior_weights * (1 + common * float(self.prior_weights @ slope)) + each * slope
        return weights

    def predict_scores(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        posterior = self.posterior
        mean, variance = np.zeros((2, len(archs)))
        for start in range(0, len(archs), CHUNK):
            rows = slice(start, start + CHUNK)
            prior, extra = self._prior(archs[rows])
            more, mean_variance = posterior.predict(*self._covariance(archs[rows], self._archs, posterior.variances))
            mean[rows], variance[rows] = prior + more, mean_variance + extra + posterior.noise
        return mean, np.sqrt(variance)

    # Before the first label the level of the target is not known, and scores have none: in the metric's unit the belief
    # is then Gaussian, and as wide as the sources differ there.

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        """In the metric's unit; of a single source and no labels, as if the target had the level of the source."""
        scores, deviation = self.predict_scores(archs)
        mean, std = self.normal.prediction(scores, deviation)
        if len(self._y) == 0 and len(self.sources) > 1:
            levels = np.stack([own.values(scores) for own in self.said.maps])
            std = np.sqrt(std**2 + levels.var(0, ddof=1) * (1 + 1 / len(levels)))
        return Prediction(mean, std)

    def log_probability(self, archs: Sequence[Architecture], objective: Objective) -> Floats:
        base = NormalScorePredictor if len(self._y) else Predictor
        return base.log_probability(self, archs, objective)

    def limit(self, archs: Sequence[Architecture], objective: Objective, confidence: float) -> Floats:
        base = NormalScorePredictor if len(self._y) else Predictor
        return base.limit(self, archs, objective, confidence)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        posterior = self.posterior
        tensors = {
            "y": torch.from_numpy(self._y.copy()),
            "architectures": self._text(self._archs),
            "variances": torch.from_numpy(posterior.variances.copy()),
            "prior_weights": torch.from_numpy(self.prior_weights.copy()),
        }
        states = []
        for i, (source, predictor) in enumerate(zip(self.sources, self.said.predictors, strict=True)):
            config, weights = drop_free_labels(*predictor.state())  # stored once
            states.append(config)
            tensors |= {f"{i}/{name}": tensor for name, tensor in weights.items()}
            tensors |= {f"source.{i}.y": torch.from_numpy(np.array(source.y, dtype=float))}
            tensors |= {f"source.{i}.architectures": self._text(source.archs)}
        return join_free_labels(self.free_labels, {"kind": self.kind, "sources": states}, tensors)

    @classmethod
    def restore(
        cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]
    ) -> MetaPredictor:
        def archs(name: str) -> list[Architecture]:
            return [space.parse(text) for text in bytes(tensors[name].tolist()).decode().splitlines()]

        states = config["sources"]
        sources = [
            Source(archs(f"source.{i}.architectures"), tensors[f"source.{i}.y"].numpy()) for i in range(len(states))
        ]
        free_labels, kind = split_free_labels(space, config, tensors), PREDICTORS[config["kind"]]
        self = cls(space, metric, sources, kind=config["kind"], free_labels=free_labels)
        self.prior_weights = tensors["prior_weights"].numpy()
        predictors = []
        for i, state in enumerate(states):
            own = {name.removeprefix(f"{i}/"): t for name, t in tensors.items() if name.startswith(f"{i}/")}
            given = free_labels if kind.takes_free_labels else None
            predictors.append(kind.restore(space, metric, *join_free_labels(given, state, own)))
        self.said.learn(predictors)
        self._archs, self._y = archs("architectures"), tensors["y"].numpy().astype(float)
        self._condition(tensors["variances"].numpy())
        return self

    def _text(self, archs: Sequence[Architecture]) -> Tensor:
        """Architectures as the bytes of lines: a config of tens of thousands would be slow to read."""
        lines = "\n".join(self.space.format(arch) for arch in archs)
        return torch.tensor(bytearray(lines.encode()), dtype=torch.uint8)


def matern(a: Floats, b: Floats) -> Floats:
    """Matern-5/2 kernel of length 1 between the rows of `a`, `b x p`, and of `b`, `n x p`."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    d = np.sqrt(5 * np.maximum(squares, 0.0))
    kernel: Floats = (1 + d + d**2 / 3) * np.exp(-d)
    return kernel
