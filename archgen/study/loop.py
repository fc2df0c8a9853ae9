"""The one loop that serves every search strategy, in one process or in many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from archgen.evaluators.base import Evaluator, noted
from archgen.graph import Architecture
from archgen.study.study import Claim, Study
from archgen.study.trial import Trial
from archgen.threads import single_threaded

if TYPE_CHECKING:
    from archgen.strategies.base import SearchStrategy

POLL_SECONDS = 0.5
"""How often a process that has nothing to do looks whether others have finished or died."""


def search(
    study: Study,
    strategy: SearchStrategy,
    evaluator: Evaluator,
    *,
    budget: int,
    batch: int = 1,
    seed: int = 0,
    asynchronous: bool = False,
    on_trial: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Ask, evaluate, tell, until `budget` trials are in the study or the strategy has nothing left to propose.

    A study with trials is continued: the strategy is told those it does not know yet, and a batch that was cut off is
    finished. Several processes may call this on one study at the same time; each ends when all evaluations have. The
    strategy has one torch thread, the evaluator as many as the caller.

    Args:
        study: Where trials are kept.
        strategy: Proposes.
        evaluator: Measures; an exception of one evaluation (not Ctrl-C) becomes a failed trial.
        budget: Trials in all, those already in the study included.
        batch: Architectures asked for at a time.
        seed: Passed to the evaluator.
        asynchronous: Whether the next batch is asked for as soon as a worker of the evaluator has nothing to do, not
            when the whole last one is measured: none idles, but the same seed gives the same trials no more.
        on_trial: Called after each trial of this process.

    Returns:
        All trials of the study.
    """
    with study.working():
        study.refresh()
        told = _Told(study, strategy)
        while True:
            claims: list[Claim] = []
            feed = _claims(study, told, budget, batch, asynchronous)
            archs = (claim.arch for claim in noted(feed, claims))
            with closing(evaluator.stream(archs, seed=seed)) as results:
                for i, measured in results:
                    trial = study.finish(claims[i], measured)
                    if on_trial is not None and trial is not None:
                        on_trial(trial)
            if not claims and not study.busy:
                break
            if not claims:
                _wait(study)
    told.update()
    return study.trials


class _Told:
    """What of a study a strategy has been told.

    Args:
        study: Where trials are kept.
        strategy: Proposes; it may have been told trials before.
    """

    def __init__(self, study: Study, strategy: SearchStrategy) -> None:
        self.study, self.strategy = study, strategy
        self._known, self._read = {trial.arch for trial in strategy.trials}, 0

    def update(self) -> None:
        """Tell what is new."""
        found = self.study.finished_since(self._read)
        self._read += len(found)
        if new := [trial for trial in found if trial.arch not in self._known]:
            self._known.update(trial.arch for trial in new)
            with single_threaded():
                self.strategy.tell(new)

    def propose(self, n: int) -> list[Architecture]:
        """Up to `n` architectures that nobody has claimed."""
        self.strategy.busy = self.study.busy
        busy = set(self.strategy.busy)
        with single_threaded():
            return [arch for arch in self.strategy.ask(n) if arch not in busy]


def _wait(study: Study) -> None:
    """Until another process has finished something, or died and left work behind: till then there is nothing to do."""
    finished = len(study.trials)
    while True:
        time.sleep(POLL_SECONDS)
        study.refresh()
        if not study.busy or study.pending() or len(study.trials) > finished:
            return


def _claims(study: Study, told: _Told, budget: int, batch: int, asynchronous: bool) -> Iterator[Claim]:
    """Claims on what is pending, whoever proposed it, else on what the strategy proposes; each made when it is taken.

    It ends where the strategy has to wait for what was taken: it can be started again.
    """
    while study.claimed < budget:
        queue, proposed = study.pending(), []
        if not queue:
            if study.open_claims and not asynchronous:
                return
            study.refresh()
            told.update()
            queue = proposed = told.propose(min(batch, budget - study.claimed))
        if not queue:
            return
        for arch in queue:
            if study.claimed >= budget:
                break
            claim = study.claim(arch, budget=budget, batch=proposed)
            proposed = []  # written with the first claim
            if claim is not None:
                yield claim
