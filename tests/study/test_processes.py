"""Processes on one study pay for no architecture twice, and one that is killed loses what it was at, no more."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, event

from archgen.evaluators import Evaluator, Measurement
from archgen.graph import Architecture
from archgen.objectives import maximize
from archgen.spaces import CellSpace, SearchSpace
from archgen.strategies import Evolution, Random, SearchStrategy
from archgen.study import COMPLETE, Study, loop, search

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

WISHES = [maximize("acc")]
TINY = CellSpace("tiny", 3, {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}, {})
BUDGET, BATCH = 14, 4


class Logged(Evaluator):
    """A sum over the choices; writes each evaluation to a file, and dies in the one that is `fatal`."""

    def __init__(self, space: SearchSpace, log: Path, fatal: Architecture | None = None) -> None:
        rng = np.random.default_rng(5)
        self.space, self.log, self.fatal = space, log, fatal
        self.weights = {name: rng.uniform(0, 2, len(v)) for name, v in space.variables.items()}

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("acc",)

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        for arch in archs:
            with self.log.open("a") as log:  # one short write: lines of several processes do not mix
                log.write(self.space.format(arch) + "\n")
            if arch == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
        return [
            Measurement({"acc": float(sum(self.weights[n][i] for n, i in self.space.to_choices(a).items()))}, 0.25)
            for a in archs
        ]

    def paid(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


def forked(work: Callable[[], Any]) -> int:
    """Start `work` in a process; its number."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


def status(pid: int) -> int:
    """Wait for a process; how it ended, minus the signal if by one."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "POLL_SECONDS", 0.01)


@pytest.fixture(params=["sqlite", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A file, and an empty database of a server where the tests are given one."""
    if request.param == "sqlite":
        return tmp_path / "study.db"
    url = os.environ.get("ARCHGEN_TEST_DATABASE")
    if url is None:
        pytest.skip("ARCHGEN_TEST_DATABASE names no database, such as postgresql://user@host/name")
    return url


def study_at(place: Path | str, space: SearchSpace, name: str) -> Study:
    return Study(space, WISHES, storage=place, name=name, resume=True)


def proposer(space: SearchSpace, seed: int = 0) -> SearchStrategy:
    return Evolution(space, WISHES, seed=seed, population=4, sample=2)


def kill_after(statements: int) -> None:
    """This process dies just before that many more statements or commits have reached the database."""
    left = statements

    def count(*_: Any, **__: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", count)
    event.listen(Engine, "commit", count)


def test_a_search_killed_at_twenty_random_moments_is_the_search_that_was_not(
    space: SearchSpace, tmp_path: Path, rng: np.random.Generator
) -> None:
    quiet = Logged(space, tmp_path / "whole.log")
    whole = search(Study(space, WISHES), proposer(space), quiet, budget=BUDGET, batch=BATCH)
    evaluator = Logged(space, tmp_path / "paid.log")

    def life(statements: int) -> None:
        study = study_at(tmp_path / "study.db", space, "killed")
        kill_after(statements)
        search(study, proposer(space), evaluator, budget=BUDGET, batch=BATCH)

    for kills in range(1, 21):
        before, known = len(evaluator.paid()), len(study_at(tmp_path / "study.db", space, "killed").trials)
        ended = status(forked(partial(life, int(rng.integers(1, 90)))))
        assert ended == -signal.SIGKILL, "the budget was used up before twenty kills: let lives be shorter"
        study = study_at(tmp_path / "study.db", space, "killed")
        assert study.trials == whole[: len(study.trials)], f"after {kills} kills"
        lost = len(evaluator.paid()) - before - (len(study.trials) - known)
        assert lost in (0, 1), "more was lost than the evaluation in flight"
    assert 0 < len(study.trials) < BUDGET, "some lives must have come further, and none to the end"
    assert search(study, proposer(space), evaluator, budget=BUDGET, batch=BATCH) == whole


def test_processes_share_the_work_and_pay_for_nothing_twice(
    place: Path | str, space: SearchSpace, tmp_path: Path
) -> None:
    evaluator, name = Logged(space, tmp_path / "paid.log"), f"shared {tmp_path}"
    ready, go = os.pipe()

    def work() -> None:
        os.close(go)
        os.read(ready, 1)  # all begin at the same moment
        search(study_at(place, space, name), proposer(space), evaluator, budget=24, batch=3)

    workers = [forked(work) for _ in range(3)]
    os.close(go)
    assert [status(pid) for pid in workers] == [0, 0, 0]
    os.close(ready)
    study = study_at(place, space, name)
    assert len(study.trials) == 24
    assert {t.state for t in study.trials} == {COMPLETE}
    assert [t.number for t in study.trials] == list(range(24))
    assert len(evaluator.paid()) == len(set(evaluator.paid())) == 24
    assert set(evaluator.paid()) == {space.format(t.arch) for t in study.trials}


def test_a_process_that_dies_leaves_its_evaluation_to_the_others(
    place: Path | str, space: SearchSpace, tmp_path: Path
) -> None:
    name, log = f"dies {tmp_path}", tmp_path / "paid.log"
    fatal = proposer(space).ask(BATCH)[1]

    def work() -> None:
        search(study_at(place, space, name), proposer(space), Logged(space, log, fatal), budget=6, batch=BATCH)

    assert status(forked(work)) == -signal.SIGKILL
    assert study_at(place, space, name).claimed == 1
    evaluator = Logged(space, log)
    trials = search(study_at(place, space, name), proposer(space), evaluator, budget=6, batch=BATCH)
    assert trials == search(Study(space, WISHES), proposer(space), evaluator, budget=6, batch=BATCH)
    assert log.read_text().splitlines()[:7].count(space.format(fatal)) == 2


def test_processes_end_when_the_space_does(tmp_path: Path) -> None:
    evaluator = Logged(TINY, tmp_path / "paid.log")

    def work() -> None:
        study = study_at(tmp_path / "study.db", TINY, "tiny")
        assert len(search(study, Random(TINY, WISHES), evaluator, budget=1000, batch=5)) == TINY.size

    workers = [forked(work) for _ in range(2)]
    assert [status(pid) for pid in workers] == [0, 0]
    assert len(evaluator.paid()) == len(set(evaluator.paid())) == TINY.size == 27


# -- claims in one process -------------------------------------------------------------------------------------------


def test_of_two_claims_the_first_wins_and_the_second_leaves_no_trial(space: SearchSpace, tmp_path: Path) -> None:
    first, second = (study_at(tmp_path / "study.db", space, "x") for _ in range(2))
    a, b = space.sample(2, np.random.default_rng(0))
    with first.working(), second.working():
        claim = first.claim(a)
        assert claim is not None
        assert second.claim(a) is None
        assert second.busy == [a]
        assert second.claim(b, budget=1) is None, "the budget is claimed"
        other = second.claim(b, budget=2)
        assert other is not None
        assert second.finish(other, Measurement({"acc": 2.0}, 0.0)) is not None
        assert first.finish(claim, Measurement({"acc": 1.0}, 0.0)) is not None
        for study in (first, second):
            study.refresh()
        assert second.trials == first.trials
        assert [(t.number, t.arch, t.values["acc"]) for t in first.trials] == [(0, a, 1.0), (1, b, 2.0)]
    assert first.busy == first.pending() == []


def test_a_claim_that_was_given_up_is_pending_and_its_result_comes_too_late(space: SearchSpace, tmp_path: Path) -> None:
    slow, other = (study_at(tmp_path / "study.db", space, "x") for _ in range(2))
    (arch,) = space.sample(1, np.random.default_rng(0))
    claim = slow.claim(arch)  # not at work in this process, as the other one sees it: dead
    assert claim is not None
    other.refresh()
    assert other.pending() == [arch]
    with other.working():
        again = other.claim(arch)
        assert again is not None
        assert slow.finish(claim, Measurement({"acc": 1.0}, 0.0)) is None
        other.finish(again, Measurement({"acc": 2.0}, 0.0))
    slow.refresh()
    assert [t.values for t in slow.trials] == [{"acc": 2.0}]


def test_what_other_processes_evaluate_is_not_proposed_again(space: SearchSpace, tmp_path: Path) -> None:
    first, second = (study_at(tmp_path / "study.db", space, "x") for _ in range(2))
    with first.working():
        asked = Random(space, WISHES).ask(1)
        assert first.claim(asked[0]) is not None
        second.refresh()
        with second.working():
            told = loop._Told(second, Random(space, WISHES))
            claims = list(loop._claims(second, told, 3, 2, asynchronous=False))
        assert len({claim.arch for claim in claims} | set(asked)) == 3
