"""The loop goes on whatever an evaluation does, and a search that was cut off goes on as if it had not been."""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import torch

from archgen.errors import RunConflict
from archgen.evaluators import Evaluator, Measurement, Parallel
from archgen.generators import DiscreteFlow
from archgen.graph import Architecture
from archgen.objectives import Objective, maximize
from archgen.spaces import CellSpace, SearchSpace
from archgen.strategies import STRATEGIES, Random, SearchStrategy
from archgen.study import COMPLETE, FAILED, Study, Trial, loop, search

Make = Callable[[str], SearchStrategy]
Measured = Callable[..., Measurement]
OneLine = Callable[[pytest.ExceptionInfo[BaseException]], str]
Opened = Callable[[Path], optuna.Study]
Whole = Callable[[str], list[Trial]]


class Synthetic(Evaluator):
    """`acc` and `latency_ms` are sums over the choices; evaluations number `cut` and up are cut off by Ctrl-C."""

    def __init__(self, space: SearchSpace, cut: int | None = None) -> None:
        rng = np.random.default_rng(5)
        self.space, self.cut, self.paid = space, cut, 0
        self.weights = {name: rng.uniform(0, 2, (len(v), 2)) for name, v in space.variables.items()}

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("acc", "latency_ms")

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        if self.paid == self.cut:
            raise KeyboardInterrupt
        self.paid += len(archs)
        return [self.measure(arch, seed) for arch in archs]

    def measure(self, arch: Architecture, seed: int) -> Measurement:
        choices = self.space.to_choices(arch)
        if sum(choices.values()) % 3 == 0:
            return Measurement({}, 0.125, "this one does not train")
        acc, latency = np.sum([self.weights[name][i] for name, i in choices.items()], axis=0).tolist()
        return Measurement({"acc": acc + seed, "latency_ms": latency}, 0.25)


class Scripted(Evaluator):
    """Gives, or raises, one thing after the other."""

    def __init__(self, *things: Measurement | BaseException | list[Measurement]) -> None:
        self.things = iter(things)

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("acc",)

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        thing = next(self.things)
        if isinstance(thing, BaseException):
            raise thing
        return thing if isinstance(thing, list) else [thing]


@pytest.fixture(scope="module")
def strategy(space: SearchSpace, wishes: list[Objective]) -> Make:
    """Makes one that begins to learn within a few trials."""

    def strategy(name: str) -> SearchStrategy:
        extra: dict[str, Any] = {"evolution": {"population": 4, "sample": 2}}.get(name, {})
        if name == "generative":
            with torch.random.fork_rng():
                torch.manual_seed(0)
                flow = DiscreteFlow(space.node_domain, space.edge_domain, width=8, layers=1, heads=2).eval()
            extra = {"generator": flow, "initial": 3, "pool": 8, "steps": 2}
        return STRATEGIES[name](space, wishes, seed=0, **extra)

    return strategy


BAD: dict[str, Measurement | Exception | list[Measurement]] = {
    "NaN": Measurement({"acc": math.nan}, 0.5),
    "infinite": Measurement({"acc": math.inf}, 0.5),
    "minus infinite": Measurement({"acc": -math.inf}, 0.5),
    "metric missing": Measurement({"other": 1.0}, 0.5),
    "said so": Measurement({}, 0.0, "it diverged"),
    "said so with a value": Measurement({"acc": 1.0}, 0.0, "it diverged"),
    "exception": RuntimeError("it\nbroke"),
    "no answer": [],
}


@pytest.mark.parametrize("case", list(BAD))
def test_a_failed_evaluation_becomes_a_failed_trial_and_the_loop_goes_on(
    space: SearchSpace, tmp_path: Path, case: str, measured: Measured, opened: Opened
) -> None:
    study = Study(space, [maximize("acc")], storage=tmp_path / "study.db")
    evaluator = Scripted(measured(acc=1.0), BAD[case], measured(acc=2.0))
    trials = search(study, Random(space, [maximize("acc")]), evaluator, budget=3)
    assert [t.state for t in trials] == ["complete", "failed", "complete"]
    assert trials[1].values == {}
    assert trials == Study(space, [maximize("acc")], storage=tmp_path / "study.db", resume=True).trials
    theirs = opened(tmp_path / "study.db")
    assert theirs.best_value == 2.0
    assert theirs.trials[1].user_attrs["error"].count("\n") == 0


@pytest.mark.parametrize("error", [MemoryError(), OSError("no space left on device"), KeyboardInterrupt()])
def test_what_the_machine_does_is_not_blamed_on_the_architecture(
    space: SearchSpace, error: BaseException, measured: Measured
) -> None:
    study = Study(space, [maximize("acc")])
    with pytest.raises(type(error)):
        search(study, Random(space, [maximize("acc")]), Scripted(measured(acc=1.0), error), budget=3)
    assert [t.state for t in study.trials] == ["complete"]


def test_the_budget_counts_the_trials_that_are_there_already(
    space: SearchSpace, tmp_path: Path, wishes: list[Objective], strategy: Make
) -> None:
    for budget in (3, 7, 5):
        study = Study(space, wishes, storage=tmp_path / "study.db", resume=True)
        trials = search(study, strategy("random"), Synthetic(space), budget=budget, batch=2)
        assert len(trials) == (3 if budget == 3 else 7)


def test_every_trial_is_reported_once_and_the_seed_reaches_the_evaluator(
    space: SearchSpace, wishes: list[Objective], strategy: Make
) -> None:
    seen: list[Trial] = []
    study = Study(space, wishes)
    trials = search(study, strategy("random"), Synthetic(space), budget=7, batch=3, seed=2, on_trial=seen.append)
    assert seen == trials == study.trials
    plain = search(Study(space, wishes), strategy("random"), Synthetic(space), budget=7, batch=3)
    shifts = [a.values["acc"] - b.values["acc"] for a, b in zip(trials, plain, strict=True) if a.state == COMPLETE]
    assert shifts == pytest.approx([2.0] * len(shifts))


def test_the_loop_ends_when_the_space_does(tiny: CellSpace, measured: Measured) -> None:
    trials = search(
        Study(tiny, [maximize("acc")]),
        Random(tiny, [maximize("acc")]),
        Scripted(*[measured(acc=float(i)) for i in range(9)]),
        budget=9,
        batch=2,
    )
    assert len(trials) == 3
    assert {t.arch for t in trials} == set(tiny.enumerate())


# -- what a strategy is given ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("budget", "asked"), [(3, []), (9, [0, 3, 4, 5])], ids=["all claimed", "nothing left"])
def test_while_others_evaluate_the_strategy_is_asked_only_after_one_has_finished(
    tiny: CellSpace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    measured: Measured,
    budget: int,
    asked: list[int],
) -> None:
    """Another one evaluates all three architectures and finishes them at the third, fourth and fifth look."""
    other = Study(tiny, [maximize("acc")], storage=tmp_path / "study.db")
    looks = 0
    asks: list[int] = []

    class Asked(Random):
        def ask(self, n: int) -> list[Architecture]:
            asks.append(looks)
            return super().ask(n)

    def others_go_on(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks >= 3:
            other.finish(claims.pop(), measured(acc=float(looks)))

    monkeypatch.setattr(loop, "time", SimpleNamespace(sleep=others_go_on))
    with other.working():
        claims = [claim for arch in tiny.enumerate() if (claim := other.claim(arch)) is not None]
        study = Study(tiny, [maximize("acc")], storage=tmp_path / "study.db", resume=True)
        trials = search(study, Asked(tiny, [maximize("acc")]), Scripted(), budget=budget)
    assert (looks, asks) == (5, asked)
    assert {trial.arch for trial in trials} == set(tiny.enumerate())


def test_a_strategy_has_one_torch_thread_and_the_evaluator_those_of_the_caller(
    space: SearchSpace, wishes: list[Objective]
) -> None:
    seen: dict[str, set[int]] = {"ask": set(), "tell": set(), "evaluate": set()}

    class Strategy(Random):
        def ask(self, n: int) -> list[Architecture]:
            seen["ask"].add(torch.get_num_threads())
            return super().ask(n)

        def tell(self, trials: Sequence[Trial]) -> None:
            seen["tell"].add(torch.get_num_threads())
            super().tell(trials)

    class Measures(Synthetic):
        def measure(self, arch: Architecture, seed: int) -> Measurement:
            seen["evaluate"].add(torch.get_num_threads())
            return super().measure(arch, seed)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        search(Study(space, wishes), Strategy(space, wishes), Measures(space), budget=4, batch=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == {"ask": {1}, "tell": {1}, "evaluate": {2}}


# -- a full database, and searches that are cut off --------------------------------------------------------------


def test_a_database_that_fills_up_ends_the_search_in_one_line_and_keeps_the_trials(
    space: SearchSpace, tmp_path: Path, wishes: list[Objective], one_line: OneLine, strategy: Make
) -> None:
    study = Study(space, wishes, storage=tmp_path / "study.db")
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON trials WHEN (SELECT COUNT(*) FROM trials) >= 3 "
            "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        )
        database.commit()
    with pytest.raises(RunConflict, match=r"study can not be written: .*disk is full.*then resume") as error:
        search(study, strategy("random"), Synthetic(space), budget=8, batch=2)
    one_line(error)
    assert len(study.trials) == 3
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.execute("DROP TRIGGER full")
        database.commit()
    again = Study(space, wishes, storage=tmp_path / "study.db", resume=True)
    assert again.trials == study.trials
    resumed = search(again, strategy("random"), Synthetic(space), budget=8, batch=2)
    assert resumed == search(Study(space, wishes), strategy("random"), Synthetic(space), budget=8, batch=2)


BUDGET, BATCH = 11, 4


@pytest.fixture(scope="module")
def whole(space: SearchSpace, wishes: list[Objective], strategy: Make) -> Whole:
    """The uninterrupted search of a strategy, run once."""

    @cache
    def whole(name: str) -> list[Trial]:
        trials = search(Study(space, wishes), strategy(name), Synthetic(space), budget=BUDGET, batch=BATCH)
        assert len(trials) == BUDGET
        assert {t.state for t in trials} == {COMPLETE, FAILED}
        return trials

    return whole


@pytest.mark.parametrize("cuts", [(0, 4, 2, 4), (2, 3, 1)])
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_search_that_was_cut_off_goes_on_as_if_it_had_not_been(
    name: str,
    cuts: tuple[int, ...],
    space: SearchSpace,
    tmp_path: Path,
    wishes: list[Objective],
    strategy: Make,
    whole: Whole,
) -> None:
    """Cut off before the first batch, between two, in the middle of one, in the last; and twice in one."""
    done = 0
    for cut in cuts:
        study = Study(space, wishes, storage=tmp_path / "study.db", resume=True)
        with pytest.raises(KeyboardInterrupt):
            search(study, strategy(name), Synthetic(space, cut), budget=BUDGET, batch=BATCH)
        done = len(study.trials)
        assert study.trials == whole(name)[:done]
    assert 0 <= done < BUDGET
    study = Study(space, wishes, storage=tmp_path / "study.db", resume=True)
    assert len(study.trials) == done
    assert search(study, strategy(name), Synthetic(space), budget=BUDGET, batch=BATCH) == whole(name)


def test_nothing_is_paid_for_twice_after_a_cut(
    space: SearchSpace, tmp_path: Path, wishes: list[Objective], strategy: Make
) -> None:
    study = Study(space, wishes, storage=tmp_path / "study.db")
    with pytest.raises(KeyboardInterrupt):
        search(study, strategy("random"), Synthetic(space, 6), budget=BUDGET, batch=BATCH)
    rest = Synthetic(space)
    again = Study(space, wishes, storage=tmp_path / "study.db", resume=True)
    search(again, strategy("random"), rest, budget=BUDGET, batch=BATCH)
    assert rest.paid == BUDGET - 6


def test_a_cut_while_a_trial_is_shown_keeps_that_trial(
    space: SearchSpace, wishes: list[Objective], strategy: Make, whole: Whole
) -> None:
    study = Study(space, wishes)

    def stop(trial: Trial) -> None:
        if trial.number == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(study, strategy("random"), Synthetic(space), budget=BUDGET, batch=BATCH, on_trial=stop)
    assert len(study.trials) == 6
    trials = search(study, strategy("random"), Synthetic(space), budget=BUDGET, batch=BATCH)
    assert trials == whole("random")


def test_a_strategy_that_goes_on_is_told_each_trial_once(
    space: SearchSpace, wishes: list[Objective], strategy: Make, whole: Whole
) -> None:
    study, proposer = Study(space, wishes), strategy("evolution")
    search(study, proposer, Synthetic(space), budget=4, batch=BATCH)
    with pytest.raises(KeyboardInterrupt):
        search(study, proposer, Synthetic(space, 2), budget=BUDGET, batch=BATCH)
    trials = search(study, proposer, Synthetic(space), budget=BUDGET, batch=BATCH)
    assert trials == whole("evolution") == proposer.trials


def test_a_smaller_budget_leaves_the_rest_of_a_batch_for_later(
    space: SearchSpace, tmp_path: Path, wishes: list[Objective], strategy: Make, whole: Whole
) -> None:
    study = Study(space, wishes, storage=tmp_path / "study.db")
    with pytest.raises(KeyboardInterrupt):
        search(study, strategy("random"), Synthetic(space, 5), budget=BUDGET, batch=BATCH)
    left = study.pending()
    assert len(left) == 3
    for budget in (6, BUDGET):
        study = Study(space, wishes, storage=tmp_path / "study.db", resume=True)
        assert study.pending() == left[len(study.trials) - 5 :]
        trials = search(study, strategy("random"), Synthetic(space), budget=budget, batch=BATCH)
    assert trials == whole("random")
    assert study.pending() == []


# -- several workers ---------------------------------------------------------------------------------------------


class Straggling(Synthetic):
    """The first evaluation ends when it is let go."""

    def __init__(self, space: SearchSpace, go: threading.Event) -> None:
        super().__init__(space)
        self.go, self.first = go, threading.Lock()

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        if self.first.acquire(blocking=False):
            assert self.go.wait(60)
        return super().evaluate(archs, seed=seed)


def test_an_asynchronous_search_does_not_wait_for_the_slowest_of_a_batch(
    space: SearchSpace, wishes: list[Objective], strategy: Make
) -> None:
    go = threading.Event()
    seen: list[Trial] = []

    def note(trial: Trial) -> None:
        seen.append(trial)
        if len(seen) == 8:  # two batches and more, while the first evaluation of the first one has not ended
            go.set()

    parallel = Parallel(Straggling(space, go), workers=2, executor=ThreadPoolExecutor)
    study = Study(space, wishes)
    with closing(parallel):
        trials = search(study, strategy("random"), parallel, budget=12, batch=3, asynchronous=True, on_trial=note)
    assert len(seen) == len(trials) == len({t.arch for t in trials}) == 12
    assert seen.index(trials[0]) >= 8


def test_workers_find_what_one_evaluation_after_the_other_does(
    space: SearchSpace, wishes: list[Objective], strategy: Make, whole: Whole
) -> None:
    parallel = Parallel(Synthetic(space), workers=3, executor=ThreadPoolExecutor)
    with closing(parallel):
        trials = search(Study(space, wishes), strategy("generative"), parallel, budget=BUDGET, batch=BATCH)
    assert trials == whole("generative")


def test_a_claim_is_made_when_a_worker_is_free_for_it(
    space: SearchSpace, wishes: list[Objective], strategy: Make
) -> None:
    study, evaluator = Study(space, wishes), Synthetic(space)
    claimed: list[int] = []
    search(study, strategy("random"), evaluator, budget=6, batch=6, on_trial=lambda _: claimed.append(study.claimed))
    assert claimed == [1, 2, 3, 4, 5, 6]
