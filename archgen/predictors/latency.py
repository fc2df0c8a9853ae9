"""Latency of a device from a few measurements of it: regressions on what networks ask of a device, and on others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.special import softmax
from scipy.stats import kendalltau, spearmanr
from scipy.stats import t as student
from torch import Tensor

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.predictors.base import PREDICTORS, Floats, Prediction, Predictor
from archgen.predictors.grouped_regression import BROAD, GroupedFit, fit_groups
from archgen.predictors.latency_features import LatencyFeatures
from archgen.spaces import SearchSpace

LEAST = 5
"""Fewest measured architectures that a fit accepts; 10 to 40 are where it begins to be useful."""
_ROUNDING = 1e-4
"""Half width of the narrowest interval, in log latency: even an exact law is only known to a table's digits."""
FOLDS, FEW = 10, 80
"""Up to `FEW` measurements errors are those of fits to the others, `FOLDS` at most. Those that one fit leaves, whose
variances and weights have seen all, are too small by what they learnt of each: on published source devices it matters
from 10 or 20 measurements, hardly from 160."""
TAILS = 2.0
"""Degrees of freedom of the noise: on some phones one error in ten is over five times the median (a Gaussian: 2.4)."""
_GAUSSIAN_90 = 1.645  # standard deviations that hold 90 % of a Gaussian

Scale = Literal["log", "ms"]
SCALES: tuple[Scale, ...] = ("ms", "log")
MAIN_ALONE, MAIN, DETAIL = (0.0, 1.5), (-1.0, 3.0), (-4.0, 1.5)
"""Modes and widths of the hyperpriors of log variances (`fit_groups`): of the workload or the counts without and with
sources, and of labels and table. Fits to 20 to 300 measurements of the published source devices put them, in both
spaces, near 0.5, from -4 to -2, and from -5 to -3. Beside sources the first is broad: where these are like the device
it has little to say, where they are not, as much as alone. Chosen by source devices held out."""
PRIOR_LOG_ODDS = 5.0
"""Before any measurement, of latencies of layers adding up rather than multiplying: odds of about 150."""


@dataclass(frozen=True)
class _Line:
    """A fitted member: `intercept + features @ coefficients`, in log ms or in ms and then no lower than `floor`."""

    scale: Scale
    intercept: float
    coefficients: Floats
    floor: float

    def log_latency(self, features: Floats) -> Floats:
        return _to_log(self.intercept + features @ self.coefficients, self.scale, self.floor)


@PREDICTORS.register("latency")
class LatencyPredictor(Predictor):
    r"""Latency of an architecture on one device, learnt from 5 to 1000 measurements on it.

    A regression (`fit_groups`) over three groups of linear features (`LatencyFeatures`): the workload of the layers or
    the counts of operations, the labels, and a look-up table of the choices. With `sources`, predictors of other
    devices, what these would say are features too: each source a group, and their mean another. Each group's share is
    found by the marginal likelihood, so that a dozen measurements fit the few numbers of the workload and a thousand
    the table, and sources that mislead are left aside (what holds on phones may be wrong about a GPU). Hyperpriors say
    what share each group has on known devices (empirical Bayes), and the noise has the tails of Student's t.

    Two members: latency itself with noise in proportion to it, which is exact where a device runs one layer after
    another, and log latency. Their log latencies are averaged with weights in proportion to the density that each gives
    the measured latencies, each left out in turn (pseudo Bayesian model averaging, Geisser and Eddy, JASA 1979), the
    first being 150 times as likely beforehand. What error the average leaves out of sample, multiplicative, gives the
    standard deviation and, by rank as in the jackknife, the intervals; no shape is assumed. A fit to few measurements
    is repeated without each of them, or each tenth of them, its variances and weights chosen anew as jackknife+ and CV+
    do (Barber et al., arXiv 1905.02928), and tells what it has not seen. Limits stay centred on the fit to all: those
    around each of these fits were wider and held about as much of the source devices.

    Everything is linear in the features, so the fitted predictor needs no source any more and predicts fast.

    A graph network of NASFLAT's kind (arXiv 2403.02446), pre-trained on the sources, is no third member: weighed by
    left-out density it changes no rank correlation by more than .0012 on average; at a fixed share of a fifth it adds
    .003 / .001 on FBNet's held-out sources at 10 / 20 measurements, as much as a regression on the sources without a
    network does, and takes .004 / .006 from its targets (`experiments/latency_network.py`).

    Args:
        space: The space.
        metric: Name of the latency, ms.
        simplify: Whether the measured networks are those of `space.simplify(arch)`, as `archgen design` builds
            them. False for published tables, whose devices run operations that nothing depends on: the label counts
            and the table then tell of the architecture as it was written too, and the counts of what is used of it.
        sources: Fitted predictors of other devices, of the same space and `simplify`.

    Raises:
        ArchgenError: A source of another space or kind, or one that is not fitted.

    Example:
        >>> predictor = LatencyPredictor(space, "latency_ms").fit(archs, measured)  # doctest: +SKIP
        >>> mean, std = predictor.predict(others)  # doctest: +SKIP
    """

    def __init__(
        self,
        space: SearchSpace,
        metric: str = "latency_ms",
        simplify: bool = True,
        sources: Sequence[LatencyPredictor] = (),
    ) -> None:
        super().__init__(space, metric)
        self.simplify, self.sources = simplify, tuple(sources)
        for source in self.sources:
            if (source.space.name, source.simplify) != (space.name, simplify) or not source._members:
                raise ArchgenError(
                    f"a source of {metric} must be fitted, for space {space.name} and with simplify={simplify}; "
                    f"got {source.metric} of {source.space.name} with simplify={source.simplify}"
                )
            if source._features.widths != self.sources[0]._features.widths:
                raise ArchgenError(
                    f"{source.metric} has other features than {sources[0].metric}: an older archgen fitted one of "
                    "them; fit both again"
                )
        self._features: LatencyFeatures = (
            self.sources[0]._features if self.sources else LatencyFeatures(space, simplify, used=True)
        )
        self._members: list[_Line] = []
        self._weights: Floats = np.empty(0)
        self._residuals: Floats = np.empty(0)

    def fit(self, archs: Sequence[Architecture], y: Floats) -> LatencyPredictor:
        """Learn from `b` architectures and their latencies, ms; cost grows as `b^3`.

        Raises:
            ArchgenError: Fewer than 5 values, another number of architectures, a value that is not above 0, or a
                source whose predictions do not differ.
        """
        y = np.asarray(y, dtype=float)
        self.check_fit(archs, y)
        if len(y) < LEAST:
            raise ArchgenError(f"{self.metric}: expected at least {LEAST} measured architectures, got {len(y)}")
        if (y <= 0).any():
            raise ArchgenError(
                f"{self.metric} must be above 0 ms, got {int((y <= 0).sum())} values that are not; measure them again"
            )
        features = self._features(archs)
        self._members, self._weights, left_out = self._combine(features, y)
        if len(y) <= FEW:
            left_out = self._cross_fitted(features, y)
        self._residuals = np.log(y) - left_out
        return self

    def _combine(self, features: Floats, y: Floats) -> tuple[list[_Line], Floats, Floats]:
        """The members, their weights, and the log latency that their average leaves each of `b` measurements."""
        fits = [self._fit(features, y, scale) for scale in SCALES]
        density = np.array([fit.left_out_density.sum() for _, fit in fits])
        density += (PRIOR_LOG_ODDS, -np.log(y).sum())
        weights: Floats = softmax(density)
        left_out = [_to_log(fit.left_out, line.scale, line.floor) for line, fit in fits]
        return [line for line, _ in fits], weights, weights @ np.stack(left_out)

    def _cross_fitted(self, features: Floats, y: Floats) -> Floats:
        """Log latency of each of `b` measurements by a fit to others that chose its variances and weights anew."""
        found, order = np.empty(len(y)), np.argsort(y, kind="stable")
        for first in range(min(FOLDS, len(y))):
            held = order[first::FOLDS]  # every tenth by latency: each part has slow ones and fast ones
            kept = np.setdiff1d(order, held)
            members, weights, _ = self._combine(features[kept], y[kept])
            found[held] = weights @ np.stack([member.log_latency(features[held]) for member in members])
        return found

    def _fit(self, features: Floats, y: Floats, scale: Scale) -> tuple[_Line, GroupedFit]:
        """One member, and its regression."""
        middle, spread = self._features.usual
        inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
        groups = self._features.split((features - middle) * inverse)
        slopes = np.empty((len(spread), 0))  # of the sources, by standardised feature
        if self.sources:
            slopes = np.stack([source._slopes(scale) for source in self.sources], 1) * spread[:, None]
            norms = np.sqrt(np.mean((self._features.standardised @ slopes) ** 2, axis=0))
            for source, norm in zip(self.sources, norms, strict=True):
                if not 0 < norm < np.inf:
                    raise ArchgenError(
                        f"{source.metric} tells no architectures apart, so it is no source; leave it out"
                    )
            slopes = slopes / norms
            mean = slopes.mean(1, keepdims=True)
            mean = mean / np.sqrt(np.mean((self._features.standardised @ mean) ** 2))
            slopes = np.hstack([slopes, mean])
            seen = np.hstack(groups) @ slopes
            groups = [*groups, *np.split(seen, seen.shape[1], axis=1)]
        # Relative errors count; below a tenth of the median a latency is as good as none and shall not rule the fit.
        noise = None if scale == "log" else np.maximum(y, 0.1 * np.median(y))
        details = [DETAIL] * (len(self._features.widths) - 1)
        of_sources = [(-math.log(len(groups)), BROAD)] * slopes.shape[1]
        expected = [MAIN if self.sources else MAIN_ALONE, *details, *of_sources]
        fit = fit_groups(groups, np.log(y) if scale == "log" else y, noise, TAILS, expected)
        own, other = np.split(fit.coefficients, [len(spread)])
        coefficients = (own + slopes @ other) * inverse
        return _Line(scale, fit.intercept - float(middle @ coefficients), coefficients, float(y.min() / 2)), fit

    def _slopes(self, scale: Scale) -> Floats:
        """Coefficients of the member of a scale."""
        (slopes,) = (member.coefficients for member in self._members if member.scale == scale)
        return slopes

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
        return self._quantile(np.abs(self._residuals), 0.9, sides=2) / _GAUSSIAN_90

    @property
    def left_out_errors(self) -> Floats:
        """Logarithm of measured over predicted latency of each fitted architecture, left out of its fit, `b`."""
        return self._residuals.copy()

    def interval(self, archs: Sequence[Architecture], level: float = 0.9) -> tuple[Floats, Floats]:
        """Bounds between which a measured latency lies with probability `level`, ms.

        They are the prediction times and divided by one factor, the rank `level * (N + 1)` of the leave-one-out
        errors. `N` measurements back no level above `N / (N + 1)`; beyond it the largest error is stretched as the
        tail of the noise, Student's t, is between the two levels.

        Raises:
            ArchgenError: `level` is not between 0 and 1.
        """
        log_latency = self._log_latency(archs)
        factor = self._quantile(np.abs(self._residuals), level, sides=2) + _ROUNDING
        return np.exp(log_latency - factor), np.exp(log_latency + factor)

    def limit(self, archs: Sequence[Architecture], objective: Objective, confidence: float) -> Floats:
        """One-sided `interval`: the rank `confidence * (N + 1)` of the leave-one-out errors."""
        beyond = self._quantile(-objective.sign * self._residuals, confidence, sides=1) + _ROUNDING
        bound: Floats = np.exp(self._log_latency(archs) - objective.sign * beyond)
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
        fitted = LatencyPredictor(self.space, self.metric, self.simplify, self.sources).fit(
            [archs[i] for i in train], y[train]
        )
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
        config = {
            "simplify": self.simplify,
            "used": self._features.used,
            "members": [member.scale for member in self._members],
        }
        return config, {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}

    @classmethod
    def restore(
        cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]
    ) -> LatencyPredictor:
        predictor = cls(space, metric, config["simplify"])
        # checkpoints that do not say were fitted before what is used was counted
        predictor._features = LatencyFeatures(space, predictor.simplify, config.get("used", False))
        arrays = {name: np.asarray(value.numpy(), dtype=float) for name, value in tensors.items()}
        width = sum(predictor._features.widths)
        for i, scale in enumerate(config["members"]):
            if scale not in SCALES or arrays[f"{i}.coefficients"].shape != (width,):
                raise ValueError(f"member {i} ({scale}) does not fit space '{space.name}'")
            intercept, floor = map(float, arrays[f"{i}.line"])
            predictor._members.append(_Line(scale, intercept, arrays[f"{i}.coefficients"], floor))
        predictor._weights, predictor._residuals = arrays["weights"], arrays["residuals"]
        if len(predictor._weights) != len(predictor._members):
            raise ValueError(f"expected {len(predictor._members)} weights, got {len(predictor._weights)}")
        return predictor

    # -- inside ---------------------------------------------------------------------------------------------------

    def _log_latency(self, archs: Sequence[Architecture]) -> Floats:
        if not self._members:
            raise ArchgenError(f"the predictor of {self.metric} is not fitted; call fit, or load a checkpoint")
        features = self._features(archs)
        combined: Floats = self._weights @ np.stack([member.log_latency(features) for member in self._members])
        return combined

    def _quantile(self, errors: Floats, level: float, sides: Literal[1, 2]) -> float:
        """The error of rank `level (N + 1)`, as conformal prediction takes it; of `sides` tails, see `interval`."""
        if not 0 < level < 1:
            raise ArchgenError(f"a probability for {self.metric} must be between 0 and 1, got {level}")
        if len(errors) == 0:
            raise ArchgenError(f"the predictor of {self.metric} is not fitted; call fit, or load a checkpoint")
        n = len(errors)
        rank, largest = math.ceil(level * (n + 1)), float(errors.max())
        if rank <= n or largest <= 0:
            return float(np.sort(errors)[min(rank, n) - 1])
        wanted, backed = (student.ppf(1 - (1 - p) / sides, TAILS) for p in (level, n / (n + 1)))
        return largest * float(wanted / backed)


def _to_log(value: Floats, scale: Scale, floor: float) -> Floats:
    """Log latency of a member's output; a linear fit in ms may go below zero, which no latency does."""
    return value if scale == "log" else np.log(np.maximum(value, floor))
