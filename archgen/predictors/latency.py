"""Latency from a few dozen measurements: ridge regressions on operation counts and on a look-up table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr
from torch import Tensor

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.predictors.base import PREDICTORS, Floats, Prediction, Predictor
from archgen.spaces import SearchSpace

LEAST = 5
"""Fewest measured architectures that a fit accepts; 20 to 40 are where it begins to be useful."""
_LAMBDAS = np.logspace(-3, 4, 29)
_GAUSSIAN_90 = 1.645  # standard deviations that hold 90 % of a Gaussian

Scale = Literal["log", "ms"]
Features = Literal["counts", "all"]
MEMBERS: tuple[tuple[Scale, Features], ...] = (("log", "counts"), ("log", "all"), ("ms", "counts"), ("ms", "all"))
"""What is combined. A look-up table alone was tried as a member and made it worse with 40 measurements."""


@dataclass(frozen=True)
class _Ridge:
    """A fitted member: `intercept + features @ coefficients`, in log ms or in ms and then no lower than `floor`."""

    scale: Scale
    features: Features
    intercept: float
    coefficients: Floats
    floor: float

    def log_latency(self, features: Floats) -> Floats:
        return _to_log(self.intercept + features @ self.coefficients, self.scale, self.floor)


@PREDICTORS.register("latency")
class LatencyPredictor(Predictor):
    r"""Latency of an architecture on one device, learnt from 20 to 1000 measurements on it.

    Four ridge regressions: over operation *counts* (of those that matter to the function, all and distinct ones;
    sums; longest path; whether anything is connected; labels of what was built) or over the counts and a *look-up
    table* (one-hot of the choice of each variable); each in log latency, and in latency itself with weights
    :math:`1 / y^2`, which is exact where a device runs one operation after another. Each picks its strength by its
    leave-one-out error, in closed form

    .. math:: e_i = (y_i - \hat y_i) / (1 - H_{ii}),

    and the members' log latencies are averaged with weights :math:`1 / \mathrm{MSE}^2` of these errors. What error
    the average leaves out of sample, multiplicative, gives the standard deviation and, by rank as in the jackknife,
    the intervals; no shape is assumed.

    Args:
        space: The space.
        metric: Name of the latency, ms.
        simplify: Whether the measured networks are those of `space.simplify(arch)`, as `archgen design` builds
            them. False for published tables, whose devices run operations that nothing depends on: the label counts
            and the table then tell of the architecture as it was written too.

    Example:
        >>> predictor = LatencyPredictor(space, "latency_ms").fit(archs, measured)  # doctest: +SKIP
        >>> mean, std = predictor.predict(others)  # doctest: +SKIP
    """

    def __init__(self, space: SearchSpace, metric: str = "latency_ms", simplify: bool = True) -> None:
        super().__init__(space, metric)
        self.simplify = simplify
        self._members: list[_Ridge] = []
        self._weights: Floats = np.empty(0)
        self._residuals: Floats = np.empty(0)

    def fit(self, archs: Sequence[Architecture], y: Floats) -> LatencyPredictor:
        """Learn from `b` architectures and their latencies, ms.

        Raises:
            ArchgenError: Fewer than 5 values, another number of architectures, or a value that is not above 0.
        """
        y = np.asarray(y, dtype=float)
        self.check_fit(archs, y)
        if len(y) < LEAST:
            raise ArchgenError(f"{self.metric}: expected at least {LEAST} measured architectures, got {len(y)}")
        if (y <= 0).any():
            raise ArchgenError(
                f"{self.metric} must be above 0 ms, got {int((y <= 0).sum())} values that are not; measure them again"
            )
        design = self._design(archs)
        fits = [_fit(design[features], y, scale, features) for scale, features in MEMBERS]
        left_out = np.stack([log_latency for _, log_latency in fits])
        errors = np.mean((np.log(y) - left_out) ** 2, axis=1)
        trust = 1 / np.maximum(errors, 1e-16) ** 2  # an exact member takes all, and is not divided by
        self._members = [member for member, _ in fits]
        self._weights = trust / trust.sum()
        self._residuals = np.log(y) - self._weights @ left_out
        return self

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        """Latency, ms, and its standard deviation, ms: the mean times the standard deviation in log latency."""
        mean = np.exp(self._log_latency(archs))
        return Prediction(mean, mean * self.sigma_log)

    @property
    def sigma_log(self) -> float:
        """Standard deviation of the error in log latency: 0.1 is about 10 %.

        The 90 % quantile of the absolute leave-one-out errors over that of a standard Gaussian: a few cells of
        nearly no latency, whose relative errors are huge, do not widen it for all.
        """
        return self._quantile(np.abs(self._residuals), 0.9) / _GAUSSIAN_90

    def interval(self, archs: Sequence[Architecture], level: float = 0.9) -> tuple[Floats, Floats]:
        """Bounds between which a measured latency lies with probability `level`, ms.

        They are the prediction times and divided by one factor, the rank `level * (N + 1)` of the leave-one-out
        errors. With `N` measurements no level above `N / (N + 1)` can be backed; the largest error is taken then.

        Raises:
            ArchgenError: `level` is not between 0 and 1.
        """
        log_latency = self._log_latency(archs)
        factor = self._quantile(np.abs(self._residuals), level)
        return np.exp(log_latency - factor), np.exp(log_latency + factor)

    def limit(self, archs: Sequence[Architecture], objective: Objective, confidence: float) -> Floats:
        """One-sided `interval`: the rank `confidence * (N + 1)` of the leave-one-out errors."""
        errors = -objective.sign * self._residuals
        bound: Floats = np.exp(self._log_latency(archs) - objective.sign * self._quantile(errors, confidence))
        return bound

    def holdout(
        self, archs: Sequence[Architecture], y: Floats, *, seed: int, fraction: float = 0.25
    ) -> dict[str, float]:
        """Fit a predictor like this one on a part and judge it on the rest; this one stays as it is.

        Args:
            archs: `b` measured architectures.
            y: Their latencies, ms.
            seed: Draws the part that is held out.
            fraction: Share that is held out, in (0, 1).

        Returns:
            `rho` (Spearman) and `tau` (Kendall), NaN where all values are equal; `mape` (mean absolute error in
            percent); `coverage90` (share inside the 90 % interval, in [0, 1]); `n_train` and `n_test`.

        Raises:
            ArchgenError: The held-out part would have fewer than 2 values, or the rest fewer than 5.
        """
        y = np.asarray(y, dtype=float)
        self.check_fit(archs, y)
        n_test = round(fraction * len(y))
        if n_test < 2 or len(y) - n_test < LEAST:
            raise ArchgenError(
                f"{self.metric}: holding out {fraction:g} of {len(y)} values leaves {n_test} to test and "
                f"{len(y) - n_test} to fit; expected at least 2 and {LEAST}, so measure more"
            )
        order = np.random.default_rng(seed).permutation(len(y))
        test, train = order[:n_test], order[n_test:]
        fitted = LatencyPredictor(self.space, self.metric, self.simplify).fit([archs[i] for i in train], y[train])
        held_out = [archs[i] for i in test]
        mean, (low, high) = fitted.predict(held_out).mean, fitted.interval(held_out)
        ranked = np.ptp(mean) > 0 and np.ptp(y[test]) > 0
        return {
            "rho": float(spearmanr(mean, y[test]).statistic) if ranked else math.nan,
            "tau": float(kendalltau(mean, y[test]).statistic) if ranked else math.nan,
            "mape": float(100 * np.mean(np.abs(mean / y[test] - 1))),
            "coverage90": float(np.mean((low <= y[test]) & (y[test] <= high))),
            "n_train": len(train),
            "n_test": len(test),
        }

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors = {"weights": self._weights, "residuals": self._residuals}
        for i, member in enumerate(self._members):
            tensors[f"{i}.coefficients"] = member.coefficients
            tensors[f"{i}.line"] = np.array([member.intercept, member.floor])
        config = {"simplify": self.simplify, "members": [[m.scale, m.features] for m in self._members]}
        return config, {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}

    @classmethod
    def restore(
        cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]
    ) -> LatencyPredictor:
        predictor = cls(space, metric, config["simplify"])
        arrays = {name: np.asarray(value.numpy(), dtype=float) for name, value in tensors.items()}
        first = space.from_choices(dict.fromkeys(space.variables, 0))
        width = {name: columns.shape[1] for name, columns in predictor._design([first]).items()}
        for i, (scale, features) in enumerate(config["members"]):
            if (scale, features) not in MEMBERS or arrays[f"{i}.coefficients"].shape != (width[features],):
                raise ValueError(f"member {i} ({scale}, {features}) does not fit space '{space.name}'")
            intercept, floor = map(float, arrays[f"{i}.line"])
            predictor._members.append(_Ridge(scale, features, intercept, arrays[f"{i}.coefficients"], floor))
        predictor._weights, predictor._residuals = arrays["weights"], arrays["residuals"]
        if len(predictor._weights) != len(predictor._members):
            raise ValueError(f"expected {len(predictor._members)} weights, got {len(predictor._weights)}")
        return predictor

    # -- inside ---------------------------------------------------------------------------------------------------

    def _log_latency(self, archs: Sequence[Architecture]) -> Floats:
        if not self._members:
            raise ArchgenError(f"the predictor of {self.metric} is not fitted; call fit, or load a checkpoint")
        if not archs:
            return np.empty(0)
        design = self._design(archs)
        combined: Floats = self._weights @ np.stack([m.log_latency(design[m.features]) for m in self._members])
        return combined

    def _quantile(self, errors: Floats, level: float) -> float:
        """The error of rank `level (N + 1)`, as conformal prediction takes it."""
        if not 0 < level < 1:
            raise ArchgenError(f"a probability for {self.metric} must be between 0 and 1, got {level}")
        if len(errors) == 0:
            raise ArchgenError(f"the predictor of {self.metric} is not fitted; call fit, or load a checkpoint")
        rank = min(math.ceil(level * (len(errors) + 1)), len(errors))
        return float(np.sort(errors)[rank - 1])

    def _design(self, archs: Sequence[Architecture]) -> dict[str, Floats]:
        """Features `b x p` of each kind."""
        simple = [self.space.simplify(arch) for arch in archs]
        built = simple if self.simplify else archs
        counts = np.array([self._counts(a, b) for a, b in zip(simple, built, strict=True)], dtype=float)
        tables = [
            np.array([self._table(arch) for arch in kind]) for kind in ([simple] if self.simplify else [simple, archs])
        ]
        return {"counts": counts, "all": np.hstack([counts, *tables])}

    def _counts(self, simple: Architecture, built: Architecture) -> list[int]:
        graph = self.space.computation(simple)
        reads: list[list[int]] = [[] for _ in graph.ops]
        depth = [0] * len(graph.ops)
        for i, j in sorted(graph.edges):  # by source, so a node's depth is final before it is used
            reads[j].append(i)
            depth[j] = max(depth[j], depth[i] + 1)
        # A runtime computes an equal expression once: one pooling of a value, one sum, one ReLU, however often used.
        values = {tuple(sources) for sources in reads if sources}
        distinct = Counter(op for op, _ in {(op, tuple(read)) for op, read in zip(graph.ops, reads, strict=True)})
        counts = Counter(graph.ops)
        labels = self.space.computing_labels
        return [
            *(counts[label] for label in labels),
            *(distinct[label] for label in labels),
            len(graph.edges) - len(graph.ops),  # sums: every edge into a node beyond its first is an addition
            len(values),
            sum(len(value) - 1 for value in values),
            depth[-1],
            int(bool(graph.edges)),
            *(built.ops.count(label) for label in self.space.labels),
        ]

    def _table(self, arch: Architecture) -> list[float]:
        choices = self.space.to_choices(arch)
        return [
            float(choices[name] == value)
            for name, values in self.space.variables.items()
            for value in range(len(values))
        ]


def _fit(features: Floats, y: Floats, scale: Scale, kind: Features) -> tuple[_Ridge, Floats]:
    """Weighted ridge regression with a free intercept, and the leave-one-out log latencies of the best strength."""
    n = len(y)
    target = np.log(y) if scale == "log" else y
    # Relative errors count; below a tenth of the median a latency is as good as none and shall not rule the fit.
    weight = np.ones(n) if scale == "log" else np.maximum(y, 0.1 * np.median(y)) ** -2.0
    weight = weight / weight.sum()
    root = np.sqrt(weight)
    middle, spread = weight @ features, features.std(axis=0)
    used = spread > 1e-9
    spread = np.where(used, spread, 1.0)
    centre = float(weight @ target)
    U, S, Vt = np.linalg.svd(np.sqrt(n) * root[:, None] * (features - middle) / spread * used, full_matrices=False)
    projected = U.T @ (root * (target - centre))

    best, best_error, left_out = _LAMBDAS[0], np.inf, target
    for strength in _LAMBDAS:
        shrink = S**2 / (S**2 + strength)
        leverage = weight + U**2 @ shrink
        residual = (target - centre - U @ (shrink * projected) / root) / np.maximum(1 - leverage, 1e-6)
        error = float(weight @ residual**2)
        if error < best_error:
            best, best_error, left_out = strength, error, target - residual
    slopes = Vt.T @ (S / (S**2 + best) * projected) * np.sqrt(n) / spread * used
    floor = float(y.min() / 2)
    member = _Ridge(scale, kind, centre - float(middle @ slopes), slopes, floor)
    return member, _to_log(left_out, scale, floor)


def _to_log(value: Floats, scale: Scale, floor: float) -> Floats:
    """Log latency of a member's output; a linear fit in ms may go below zero, which no latency does."""
    return value if scale == "log" else np.log(np.maximum(value, floor))
