"""One protocol for all search strategies: the same budget, batch and seeds, every label counted, every run kept.

After the best practices of Lindauer and Hutter (arXiv 1909.02453) and "NAS evaluation is frustratingly hard" (arXiv
1912.12522): many runs a strategy with the same seeds, the same budget for each, and no run left out. What the runs say
is in `comparison`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch

from archgen.artifacts import read_json, write_atomic, write_json
from archgen.errors import ArchgenError, InvalidTable, RunConflict
from archgen.evaluators import Evaluator, Measurement
from archgen.graph import Architecture
from archgen.objectives import Objective, all_met, directions
from archgen.progress import Progress
from archgen.runs import Runs, read_trials
from archgen.spaces import SearchSpace
from archgen.strategies import SearchStrategy
from archgen.study import COMPLETE, Study, Trial, search
from archgen.threads import single_threaded

SEEDS = tuple(range(30))
MakeStrategy = Callable[[int], SearchStrategy]
"""A seed to a new strategy."""
Task = Callable[[str, int], pd.DataFrame]
"""A strategy's name and a seed to the trials of that run (`Protocol.run`)."""
SPARED = "spared"
"""State of a trial that did not take place: the optimum had been found before."""
_DESCRIPTION = "protocol.json"


@dataclass(frozen=True)
class Protocol:
    """What all strategies are given, and how their runs are kept.

    Args:
        space: The search space.
        objectives: The wishes.
        budget: Evaluations of a run; every label counts, those of a strategy's random start too.
        batch: Architectures asked for at a time.
        seeds: One run each.
        optimum: The best value there is of the only direction, where it is known: a run ends when it is found, since
            no evaluation after it could change regret or incumbent. What is left of the budget stands in the table as
            trials of the state `spared`, without values.

    Raises:
        ArchgenError: A budget or batch below 1, no seeds, or one that is negative or there twice.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    budget: int
    batch: int = 1
    seeds: tuple[int, ...] = SEEDS
    optimum: float | None = None

    def __post_init__(self) -> None:
        if self.budget < 1 or self.batch < 1:
            raise ArchgenError(f"expected a budget and a batch of at least 1, got {self.budget} and {self.batch}")
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise ArchgenError(f"expected distinct seeds from 0 on, at least one, got {list(self.seeds)}")
        if self.optimum is not None and len(directions(self.objectives)) != 1:
            raise ArchgenError(f"one value is the optimum of one direction, got {list(self.objectives)}")

    def run(
        self,
        name: str,
        make: MakeStrategy,
        evaluator: Evaluator,
        *,
        seed: int,
        paid: Sequence[Architecture] = (),
    ) -> pd.DataFrame:
        """One run.

        Args:
            name: Of the strategy.
            make: Makes it.
            evaluator: Measures, one architecture at a time; the strategy never sees it.
            seed: Of the strategy and of the evaluator.
            paid: Architectures whose labels went into the strategy before it began (a predictor's training set):
                they are the first trials, so that they count.

        Returns:
            The trials in order: `strategy`, `seed`, then as `Study.to_frame`, and `overhead_seconds`: CPU seconds of
            this process since the trial before, without those of evaluating; the first of a batch carries its `ask`.

        Raises:
            ArchgenError: The strategy ends before the budget is spent.
        """
        study, timed = Study(self.space, self.objectives), _Timed(evaluator)
        overhead: list[float] = []
        start = time.process_time()

        def mark(trial: Trial) -> None:
            overhead.append(time.process_time() - start - timed.seconds - sum(overhead))
            if self._finds_all(trial):
                raise _Found

        first = list(dict.fromkeys(paid))[: self.budget]
        try:
            for trial in study.record(first, timed.evaluate(first, seed=seed)) if first else ():
                mark(trial)
            search(study, make(seed), timed, budget=self.budget, batch=self.batch, seed=seed, on_trial=mark)
        except _Found:
            pass
        else:
            self._check_spent(name, seed, len(overhead))
        frame = study.to_frame(evaluator.metrics).iloc[: len(overhead)].assign(overhead_seconds=overhead)
        frame = _filled(frame, self.budget)
        frame.insert(0, "seed", seed)
        frame.insert(0, "strategy", name)
        return frame

    def _finds_all(self, trial: Trial) -> bool:
        if self.optimum is None or trial.state != COMPLETE or not all_met(self.objectives, trial.values):
            return False
        (wish,) = directions(self.objectives)
        return wish.sign * (trial.values[wish.metric] - self.optimum) >= 0

    def _check_spent(self, name: str, seed: int, spent: int) -> None:
        if spent < self.budget:
            raise ArchgenError(
                f"'{name}' with seed {seed} had nothing left to propose after {spent} of {self.budget} "
                "evaluations; give a smaller budget"
            )

    def complete(
        self,
        folder: Path,
        strategies: Sequence[str],
        task: Task,
        *,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> Runs:
        """Do the runs that are not in a folder yet, keep each as it ends, and read all of them.

        A run is a file, `<strategy>/seed_<seed>.parquet`, so a series that was stopped goes on with what is missing,
        and more seeds or strategies can be added. A strategy whose code or arguments have changed keeps its old runs:
        remove its folder. `archgen compare` reads the files too.

        Args:
            folder: Of this protocol alone; made when absent.
            strategies: Their names.
            task: Does one run. With an executor of processes it must be picklable, as a function of a module is.
            executor: Where the runs are done; None: here, one after another. See `processes`.
            progress: Told of finished runs.

        Raises:
            RunConflict: The folder is of another protocol.
            ArchgenError: A name that can not be a folder's, or what a task raises; finished runs are kept.
        """
        self._claim(folder, strategies)
        jobs = [(n, s) for s in self.seeds for n in strategies if not _file(folder, n, s).exists()]
        with (progress or Progress()).bar("runs", len(jobs)) as bar:
            for frame in _finished(jobs, task, executor):
                name, seed = str(frame["strategy"].iloc[0]), int(frame["seed"].iloc[0])
                write_atomic(_file(folder, name, seed), partial(frame.to_parquet, index=False))
                bar.update()
        return self.read(folder, strategies)

    def read(self, folder: Path, strategies: Sequence[str]) -> Runs:
        """The runs that are in a folder.

        Raises:
            InvalidTable: A run of one of the strategies and the protocol's seeds is missing or not whole.
        """
        paths = {(name, seed): _file(folder, name, seed) for name in strategies for seed in self.seeds}
        lost = [f"seed {seed} of '{name}'" for (name, seed), path in paths.items() if not path.is_file()]
        if lost:
            more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
            raise InvalidTable(f"{folder} lacks {', '.join(lost[:5])}{more}; every run counts: do them first")
        return Runs(read_trials(list(paths.values())), budget=self.budget, seeds=self.seeds)

    def _claim(self, folder: Path, strategies: Sequence[str]) -> None:
        """Write what the folder is for, or see that it is for this."""
        for name in strategies:
            if not re.fullmatch(r"\w[\w .,+-]*", name):
                raise ArchgenError(f"'{name}' can not name a folder of runs; use letters, digits, - and _")
        mine = {
            "space": self.space.name,
            "objectives": [repr(objective) for objective in self.objectives],
            "budget": self.budget,
            "batch": self.batch,
            "optimum": self.optimum,
        }
        path = folder / _DESCRIPTION
        if not path.exists():
            write_json(path, mine)
        elif (theirs := read_json(path)) != mine:
            raise RunConflict(f"{folder} holds runs of {theirs}, asked for {mine}; use another folder")


def processes(workers: int) -> ProcessPoolExecutor:
    """Worker processes of one torch thread each, started anew, so that no lock or thread is copied."""
    return ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    )


def _finished(jobs: Sequence[tuple[str, int]], task: Task, executor: Executor | None) -> Iterator[pd.DataFrame]:
    """The trials of each job, as it ends."""
    if executor is None:
        for name, seed in jobs:
            with single_threaded():
                frame = task(name, seed)
            yield frame
        return
    futures = [executor.submit(task, name, seed) for name, seed in jobs]
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:  # an error or Ctrl-C: what has not begun never will
        for future in futures:
            future.cancel()


def _file(folder: Path, name: str, seed: int) -> Path:
    return folder / name / f"seed_{seed:03}.parquet"


class _Found(Exception):
    """The optimum is found."""


def _filled(frame: pd.DataFrame, budget: int) -> pd.DataFrame:
    """The trials, and those that were spared behind them."""
    left = range(len(frame), budget)
    spared = pd.DataFrame({"trial": left, "arch": "", "cost_seconds": 0.0, "state": SPARED}, index=left)
    return pd.concat([frame, spared.reindex(columns=frame.columns).astype(frame.dtypes)]) if left else frame


class _Timed(Evaluator):
    """Counts the CPU seconds that another evaluator takes, one architecture at a time.

    It is no `Wrapper`: that streams from the other's stream, past this clock and with as many workers as the other has.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator, self.seconds = evaluator, 0.0

    @property
    def metrics(self) -> tuple[str, ...]:
        return self.evaluator.metrics

    def can_evaluate(self, arch: Architecture) -> bool:
        return self.evaluator.can_evaluate(arch)

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        start = time.process_time()
        try:
            return self.evaluator.evaluate(archs, seed=seed)
        finally:
            self.seconds += time.process_time() - start
