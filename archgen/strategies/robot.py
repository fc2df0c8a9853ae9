"""RoBoT (Robustifying and Boosting Training-Free Neural Architecture Search, arXiv 2403.07591)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from archgen.errors import ArchgenError, InvalidTable
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.predictors.base import Floats
from archgen.predictors.free_labels import FreeLabels
from archgen.proxies import compute_proxies
from archgen.spaces import SearchSpace
from archgen.strategies.base import LISTED, STRATEGIES, Screen, SearchStrategy
from archgen.study import Trial

KAPPA = 2.576
"""Standard deviations above the mean of the upper confidence bound, as in the published code."""
DRAWS = 4096
"""Weight vectors among which the bound is maximised."""

Merit = tuple[float, float]
ProxyTable = pd.DataFrame | Mapping[Architecture, Sequence[float]]


class Step(NamedTuple):
    """One iteration of the optimisation of the weights: a weight vector, and the candidate that it ranks first."""

    weights: Floats
    candidate: int


@STRATEGIES.register("robot")
class Robot(SearchStrategy):
    r"""Bayesian optimisation over the weights of a sum of proxies, then greedy search by the best weights.

    The robust metric of an architecture is :math:`M(A; w) = \sum_i w_i M_i(A)` with :math:`w \in [-1, 1]^d`.

    1. Exploration: a Gaussian process (Matern 5/2) over weights proposes by its upper confidence bound;
       what is observed of a weight vector is the objective of the one candidate that it ranks first, as in a game of
       partial monitoring. A vector that ranks a known candidate first is observed for free and uses up an iteration.
    2. Exploitation: evaluations that are left of the `iterations`, and all later ones, go down the
       ranking by the weights that found the best candidate.

    Against the paper: proxies enter by their ranks, scaled to [0, 1], which no outlier distorts, and NaN ranks below
    all else; observations enter the process by the normal scores of their ranks, the violation of bounds first, so
    that bounds and failures count. The paper asks for one architecture at a time; in a larger batch the ones that are
    pending have the process's mean, the path of weights is then gone over again with what came, and an evaluation
    that is not on it uses up an iteration. When all candidates are known the search goes on at random in the space.

    Args:
        proxies: A table with `arch` and a numeric column a proxy (as `compute_proxies` gives it), or a vector for each
            architecture; the candidates are its rows.
        free_labels: Without a table, the proxies that these predict; the candidates are all architectures of a space of
            up to 20,000, else `pool` random ones. With neither, `pool` random ones with their `params` and `flops`,
            which cost nothing but rank coarsely.
        pool: Candidates that are drawn.
        iterations: Of the optimisation, T in the paper: usually the budget of the search.
        space, objectives, seed, screen, key: As in `SearchStrategy`.

    Raises:
        InvalidTable: A table without architectures or without proxies, or rows of different lengths.
        ArchgenError: `pool` or `iterations` below 1.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int = 0,
        screen: Screen | None = None,
        key: Callable[[Architecture], Hashable] | None = None,
        proxies: ProxyTable | None = None,
        free_labels: FreeLabels | None = None,
        pool: int = 1000,
        iterations: int = 20,
    ) -> None:
        super().__init__(space, objectives, seed=seed, screen=screen, key=key)
        if iterations < 1 or pool < 1:
            raise ArchgenError(f"expected at least 1 iteration and a pool of 1, got {iterations} and {pool}")
        if proxies is not None:
            archs, values = _read(space, proxies)
        elif free_labels is not None:
            archs = space.enumerate() if space.size <= LISTED else _distinct(space, pool, seed)
            values = free_labels(archs)
        else:
            archs, values = _read(space, compute_proxies(space, _distinct(space, pool, seed), ["params", "flops"]))
        allowed = np.flatnonzero(np.asarray(self._screen(archs), dtype=bool))
        self.iterations = iterations
        self._archs = [archs[i] for i in allowed]
        self._keys = [self._key(arch) for arch in self._archs]
        self._metrics = _ranks(values[allowed])
        self._known: dict[Hashable, Merit] = {}
        self._path: list[Step] = []
        self._next = self._step([], []) if self._archs else None
        self._exploiting = not self._archs

    def tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials:  # one by one, in order: a search that is resumed goes the same way
            super().tell([trial])
            self._known[self._key(trial.arch)] = self.merit(trial)
            self._advance()

    def ask(self, n: int) -> list[Architecture]:
        picks = self._explored(n) if not self._exploiting else []
        if self._archs and len(picks) < n:
            picks += self._greedy(n - len(picks), picks)
        archs = [self._archs[i] for i in picks]
        return self.fresh(n, lambda m: archs, self.rng())

    def _advance(self) -> None:
        """Go on along the path of weights while what comes next is known and iterations are left."""
        while not self._exploiting and self._next is not None:
            if self._keys[self._next.candidate] in self._known:
                self._path.append(self._next)
                self._exploiting = self._used(self._path) >= self.iterations
                if not self._exploiting:
                    self._next = self._step(self._path, self._observed(self._path))
            else:
                self._exploiting = self._used(self._path) >= self.iterations
                return

    def _used(self, path: Sequence[Step]) -> int:
        """Iterations used up: those of the path, and evaluations beside it."""
        on_path = {self._keys[step.candidate] for step in path}
        return len(path) + sum(key not in on_path for key in self._known)

    def _observed(self, path: Sequence[Step]) -> list[float]:
        """Normal scores of the merits along the path."""
        merits = [self._known[self._keys[step.candidate]] for step in path]
        places = sorted(set(merits))
        ranks = rankdata([places.index(merit) for merit in merits])
        scores: list[float] = norm.ppf((ranks - 0.5) / len(ranks)).tolist()
        return scores

    def _step(self, path: Sequence[Step], observed: Sequence[float]) -> Step:
        """The next weights: the first are drawn, the others maximise the upper confidence bound."""
        rng = np.random.default_rng([self.seed, len(path)])
        drawn = rng.uniform(-1, 1, (DRAWS if path else 1, self._metrics.shape[1]))
        if path:
            best = path[int(np.argmax(observed))].weights
            near = np.clip(best + rng.normal(0, 0.1, (DRAWS // 8, len(best))), -1, 1)
            drawn = np.concatenate([drawn, near])
            mean, deviation = _predict(path, observed, drawn)
            drawn = drawn[[int(np.argmax(mean + KAPPA * deviation))]]
        return Step(drawn[0], int(np.argmax(self._metrics @ drawn[0])))

    def _explored(self, n: int) -> list[int]:
        """Candidates of the next steps; those before them that are not known yet have the process's mean."""
        assert self._next is not None
        path, observed, step = list(self._path), self._observed(self._path) if self._path else [], self._next
        scores = {self._keys[past.candidate]: score for past, score in zip(path, observed, strict=True)}
        picks: list[int] = []
        used = self._used(path)
        while len(picks) < n and used < self.iterations:
            key = self._keys[step.candidate]
            if key not in scores:
                scores[key] = float(_predict(path, observed, step.weights[None])[0][0]) if path else 0.0
                picks += [step.candidate] if key not in self._known else []
            used += 1
            path, observed = [*path, step], [*observed, scores[key]]
            if len(picks) < n and used < self.iterations:
                step = self._step(path, observed)
        return picks

    def _greedy(self, n: int, pending: Sequence[int]) -> list[int]:
        """The best `n` unknown candidates by the weights that found the best one so far."""
        if self._path:
            weights = max(self._path, key=lambda step: self._known[self._keys[step.candidate]]).weights
        else:
            assert self._next is not None
            weights = self._next.weights
        taken = {self._keys[i] for i in pending} | set(self._known)
        picks: list[int] = []
        for i in np.argsort(-(self._metrics @ weights), kind="stable"):
            if len(picks) == n:
                break
            if self._keys[i] not in taken:
                taken.add(self._keys[i])
                picks.append(int(i))
        return picks


def _predict(path: Sequence[Step], observed: Sequence[float], weights: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation at `n` weight vectors, `n d`, by the surrogate of the published code.

    A Gaussian process with a Matern 5/2 kernel and hardly any noise on standardised observations.
    """
    process = GaussianProcessRegressor(
        Matern(nu=2.5), alpha=1e-6, normalize_y=True, n_restarts_optimizer=2, random_state=len(path)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound is a usable one
        warnings.filterwarnings("ignore", "Predicted variances smaller than 0", UserWarning)  # rounding
        process.fit(np.array([step.weights for step in path]), np.array(observed))
        mean, deviation = process.predict(weights, return_std=True)
    return mean, deviation


def _read(space: SearchSpace, table: ProxyTable) -> tuple[list[Architecture], Floats]:
    """The candidates and their proxies, `m d`."""
    if isinstance(table, pd.DataFrame):
        if "arch" not in table.columns:
            raise InvalidTable(f"a table of proxies needs a column arch, got {', '.join(map(str, table.columns))}")
        archs = [space.parse(text) for text in table["arch"]]
        values = table.drop(columns="arch").select_dtypes("number").to_numpy(float)
    else:
        archs = list(table)
        if len({len(row) for row in table.values()}) > 1:
            raise InvalidTable("a table of proxies needs as many values for each architecture, got different numbers")
        values = np.array([list(row) for row in table.values()] or [[]], dtype=float)
    if values.size == 0:
        raise InvalidTable(
            f"a table of proxies needs rows and numeric columns, got {len(archs)} and {values.shape[-1]}"
        )
    return archs, values


def _distinct(space: SearchSpace, n: int, seed: int) -> list[Architecture]:
    return list(dict.fromkeys(space.sample(n, np.random.default_rng(seed))))


def _ranks(values: Floats) -> Floats:
    """Ranks of each column, scaled to [0, 1]; equal values share theirs, NaN is below all."""
    if len(values) < 2:
        return np.zeros(values.shape)
    ranks: Floats = rankdata(np.where(np.isnan(values), -np.inf, values), axis=0)
    return (ranks - 1) / (len(values) - 1)
