"""Runs of search strategies, one a seed, as tables of trials: what `archgen search` and `protocol` write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from archgen.errors import InvalidTable, UnknownMetric
from archgen.objectives import Objective, bounds
from archgen.tables import NOT_METRICS, read_table

Floats = NDArray[np.float64]
_SEED = re.compile(r"(?P<strategy>.*?)(?:[-_. ]?seed[-_. ]?|[-_. ]|^)(?P<seed>[0-9]+)")


class Runs:
    """Trials of several strategies: all of them with the same seeds, each run with as many trials.

    No run is left out: one that is missing or was cut off is an error, for an average over those that
    happen to be there says something else (the checklist of Lindauer and Hutter, arXiv 1909.02453).

    Args:
        trials: A row a trial: `strategy`, `seed`, `trial` (counted from 0 in each run), columns of metrics, and, where
            known, `state` (`complete`, `failed` or `spared`: the optimum had been found before) and `overhead_seconds`.
        budget: Compare the first so many trials of each run; None: all, which must be equally many.
        seeds: That each strategy must have; None: all that any strategy has.

    Raises:
        InvalidTable: A column, a run or a trial is missing or there twice.
    """

    def __init__(self, trials: pd.DataFrame, *, budget: int | None = None, seeds: Iterable[int] | None = None) -> None:
        absent = [name for name in ("strategy", "seed", "trial") if name not in trials.columns]
        if absent or trials.empty:
            what = f"a column '{absent[0]}'" if absent else "at least one trial"
            raise InvalidTable(f"expected trials with {what}; give tables that `archgen search` wrote")
        frame = trials.assign(strategy=trials["strategy"].astype(str))
        self.strategies: tuple[str, ...] = tuple(dict.fromkeys(frame["strategy"]))
        self.seeds: tuple[int, ...] = tuple(sorted(set(frame["seed"] if seeds is None else seeds)))
        grouped = frame.groupby(["strategy", "seed"], sort=False)
        runs = {(str(run["strategy"].iloc[0]), int(run["seed"].iloc[0])): run for _, run in grouped}
        for name in self.strategies:
            lost = [str(seed) for seed in self.seeds if (name, seed) not in runs]
            if lost:
                raise InvalidTable(
                    f"'{name}' has no run of seed {', '.join(lost[:10])}; each strategy needs the same seeds: run them"
                )
        self.budget = max(map(len, runs.values())) if budget is None else budget
        parts = [self._cut(*key, runs[key]) for key in ((n, s) for n in self.strategies for s in self.seeds)]
        self.trials = pd.concat(parts, ignore_index=True)

    def _cut(self, name: str, seed: int, run: pd.DataFrame) -> pd.DataFrame:
        """The first `budget` trials of a run, in order."""
        ordered = run.sort_values("trial").iloc[: self.budget]
        if len(ordered) < self.budget:
            raise InvalidTable(
                f"'{name}' with seed {seed} has {len(ordered)} trials where {self.budget} were expected; "
                "finish the run, or compare fewer trials of all"
            )
        if not np.array_equal(ordered["trial"].to_numpy(), np.arange(self.budget)):
            raise InvalidTable(f"'{name}' with seed {seed} has trials missing or twice; each has a number, from 0 on")
        return ordered

    @property
    def metrics(self) -> tuple[str, ...]:
        """Columns of numbers."""
        numbers = self.trials.select_dtypes("number").columns
        return tuple(str(name) for name in numbers if name not in NOT_METRICS)

    def values(self, metric: str, wishes: Sequence[Objective] = ()) -> dict[str, Floats]:
        """Of each strategy the values, `seeds x budget`; NaN where a trial failed or breaks a bound among the wishes.

        Raises:
            UnknownMetric: Not a column of numbers.
            InvalidTable: A run has no value of a metric.
        """
        frame, limits = self.trials, bounds(wishes)
        for name in (metric, *(wish.metric for wish in limits)):
            if name not in self.metrics:
                raise UnknownMetric(name, self.metrics)
        good = np.ones(len(frame), dtype=bool)
        if "state" in frame.columns:
            good &= (frame["state"].fillna("complete") == "complete").to_numpy()  # where a file does not say, all are
        for name in (metric, *(wish.metric for wish in limits)):
            for (strategy, seed), run in frame[good].groupby(["strategy", "seed"], sort=False):
                if run[name].isna().all():
                    raise InvalidTable(
                        f"'{strategy}' with seed {seed} has no value of '{name}'; name a metric of all runs"
                    )
        for wish in limits:
            good &= np.array([wish.met(value) for value in frame[wish.metric].tolist()])
        return self._split(np.where(good, frame[metric].to_numpy(dtype=np.float64), np.nan))

    def overhead_seconds(self) -> dict[str, Floats] | None:
        """Seconds a trial besides evaluating, of each strategy a mean for each seed; None where they are not known."""
        if "overhead_seconds" not in self.trials.columns:
            return None
        spared = (self.trials["state"] == "spared").to_numpy() if "state" in self.trials.columns else False
        if (self.trials["overhead_seconds"].isna() & ~np.asarray(spared)).any():
            return None
        seconds = self._split(self.trials["overhead_seconds"].to_numpy(dtype=np.float64))
        return {name: np.nanmean(values, 1) for name, values in seconds.items()}

    def _split(self, column: Floats) -> dict[str, Floats]:
        shaped = column.reshape(len(self.strategies), len(self.seeds), self.budget)
        return dict(zip(self.strategies, shaped, strict=True))


def read_trials(paths: Sequence[Path]) -> pd.DataFrame:
    """Trials of one or more runs from files, with their strategy and seed.

    These are columns `strategy` and `seed` where a file has them. Otherwise they are read from its name:
    `bayes-3.parquet`, `bayes_seed3.csv` and `bayes/seed_003.parquet` are seed 3 of `bayes`; without a number behind a
    hyphen, an underscore or a dot (`nsga2.parquet`) the seed is 0.

    Raises:
        InvalidTable: A file can not be read, is not a table of trials, or holds a run that another file holds too.
    """
    frames: list[pd.DataFrame] = []
    origin: dict[tuple[str, int], Path] = {}
    for path in paths:
        frame = _named(path, _read(path))
        for run in frame[["strategy", "seed"]].drop_duplicates().itertuples(index=False, name=None):
            if run in origin:
                raise InvalidTable(f"{path} and {origin[run]} both hold seed {run[1]} of '{run[0]}'; give one of them")
            origin[run] = path
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _named(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The table with the strategy and the seed that it says or its name says."""
    match = _SEED.fullmatch(path.stem)
    name, seed = (match["strategy"], int(match["seed"])) if match else (path.stem, 0)
    said = {"strategy": name or path.resolve().parent.name, "seed": seed}
    frame = frame.assign(**{column: value for column, value in said.items() if column not in frame.columns})
    if not pd.api.types.is_integer_dtype(frame["seed"]) or frame["strategy"].isna().any():
        raise InvalidTable(f"{path}: 'seed' must hold whole numbers and 'strategy' names, without gaps; mend them")
    return frame


def _read(path: Path) -> pd.DataFrame:
    expected = "trials that `archgen search` wrote"
    frame = read_table(path, expected=expected)
    if "trial" not in frame.columns or frame.empty:
        what = "no rows" if frame.empty else "no column 'trial'"
        raise InvalidTable(f"{path} has {what}: expected {expected}")
    return frame
