"""The one loop that serves every search strategy, in one process or in many."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from archgen.evaluators.base import Evaluator
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
        on_trial: Called after each trial of this process.

    Returns:
        All trials of the study.
    """
    with study.working():
        study.refresh()
        while True:
            claims = _claims(study, strategy, budget, batch, evaluator.workers)
            if claims:
                archs = [claim.arch for claim in claims]
                with closing(evaluator.stream(archs, seed=seed)) as results:
                    for i, measured in results:
                        trial = study.finish(claims[i], measured)
                        if on_trial is not None and trial is not None:
                            on_trial(trial)
            elif study.busy:
                _wait(study)
            else:
                break
    _tell(study, strategy)
    return study.trials


def _wait(study: Study) -> None:
    """Until another process has finished something, or died and left work behind: till then there is nothing to do."""
    finished = len(study.trials)
    while True:
        time.sleep(POLL_SECONDS)
        study.refresh()
        if not study.busy or study.pending() or len(study.trials) > finished:
            return


def _claims(study: Study, strategy: SearchStrategy, budget: int, batch: int, most: int) -> list[Claim]:
    """Up to `most` claims: on what is pending, whoever proposed it, else on what the strategy proposes."""
    claims: list[Claim] = []
    while not claims and study.claimed < budget:  # again where other processes were quicker
        queue, proposed = study.pending(), []
        if not queue:
            _tell(study, strategy)
            queue = proposed = _propose(study, strategy, min(batch, budget - study.claimed))
        if not queue:
            break
        for arch in queue:
            if len(claims) == most or study.claimed >= budget:
                break
            claim = study.claim(arch, budget=budget, batch=proposed)
            proposed = []  # written with the first claim
            claims += [] if claim is None else [claim]
    return claims


def _propose(study: Study, strategy: SearchStrategy, n: int) -> list[Architecture]:
    """Up to `n` architectures that nobody has claimed.

    A strategy knows finished trials only, so it may propose what is being evaluated: it is asked for as many more.
    """
    busy = set(study.busy)
    with single_threaded():
        return [arch for arch in strategy.ask(n + len(busy)) if arch not in busy][:n]


def _tell(study: Study, strategy: SearchStrategy) -> None:
    known = {trial.arch for trial in strategy.trials}
    new = [trial for trial in study.trials if trial.arch not in known]
    if new:
        with single_threaded():
            strategy.tell(new)
