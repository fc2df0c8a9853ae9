"""What a storage holds is sorted into finished, begun and proposed, whatever the process that wrote it came to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from archgen.errors import InvalidArchitecture, RunConflict
from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.study import COMPLETE, FAILED, Trial
from archgen.study.ledger import Ledger

Written = Callable[..., FrozenTrial]


def read_ledger(found: Sequence[FrozenTrial], parse: Callable[[str], Architecture]) -> Ledger:
    ledger = Ledger(parse)
    for trial in found:
        ledger.read(trial)
    return ledger


@pytest.fixture(scope="module")
def archs(space: SearchSpace) -> list[Architecture]:
    archs = space.sample(5, np.random.default_rng(0))
    assert len(set(archs)) == 5
    return archs


@pytest.fixture(scope="module")
def written(space: SearchSpace) -> Written:
    """A trial as the storage gives it, of an architecture and, where it began one, of a batch."""

    def written(
        number: int, arch: Architecture, state: TrialState, *, batch: list[Architecture] | None = None, **attrs: Any
    ) -> FrozenTrial:
        attrs["arch"] = space.format(arch)
        if batch is not None:
            attrs["batch"] = [space.format(member) for member in batch]
        value = -1.0 if state == TrialState.COMPLETE else None  # no metric: those are attributes
        trial = create_trial(state=state, value=value, user_attrs=attrs)
        trial.number = number
        return trial

    return written


@pytest.fixture(scope="module")
def complete(written: Written) -> Written:
    """A trial that went well."""

    def complete(number: int, arch: Architecture, acc: float = 1.0, **attrs: Any) -> FrozenTrial:
        return written(number, arch, TrialState.COMPLETE, values={"acc": acc}, cost_seconds=0.5, **attrs)

    return complete


def test_a_storage_without_trials_is_an_empty_ledger(space: SearchSpace) -> None:
    ledger = Ledger(space.parse)
    ledger.update([])
    assert (ledger.known, ledger.claimed) == (0, 0)
    assert ledger.busy == ledger.pending == ledger.trials == ledger.since(0) == []


def test_a_complete_trial_has_all_metrics_and_its_cost(
    space: SearchSpace, archs: list[Architecture], written: Written
) -> None:
    values = {"acc": 0.1 + 0.2, "latency_ms": 4.0}
    trial = written(0, archs[0], TrialState.COMPLETE, values=values, cost_seconds=0.25)
    ledger = read_ledger([trial], space.parse)
    assert ledger.trials == [Trial(0, archs[0], values, 0.25, COMPLETE, None)]
    assert ledger.busy == ledger.pending == []


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.RUNNING])
def test_a_trial_with_an_error_has_failed_even_if_its_process_died_before_it_could_say_so(
    space: SearchSpace, archs: list[Architecture], written: Written, state: TrialState
) -> None:
    ledger = read_ledger([written(0, archs[0], state, cost_seconds=0.125, error="it broke")], space.parse)
    assert ledger.trials == [Trial(0, archs[0], {}, 0.125, FAILED, "it broke")]
    assert ledger.busy == ledger.pending == []


def test_what_was_given_up_is_no_trial_and_waits_for_the_next_one(
    space: SearchSpace, archs: list[Architecture], written: Written
) -> None:
    ledger = read_ledger([written(0, archs[0], TrialState.FAIL, cost_seconds=0.5)], space.parse)
    assert ledger.trials == []
    assert ledger.claimed == 0
    assert ledger.busy == []
    assert ledger.pending == [archs[0]]


@pytest.mark.parametrize("attrs", [{}, {"cost_seconds": 0.5, "values": {"acc": 1.0}}])
def test_what_runs_is_busy_until_its_state_says_that_it_ended(
    space: SearchSpace, archs: list[Architecture], written: Written, attrs: dict[str, object]
) -> None:
    ledger = read_ledger([written(0, archs[0], TrialState.RUNNING, **attrs)], space.parse)
    assert ledger.trials == []
    assert ledger.claimed == 1
    assert ledger.busy == [archs[0]]
    assert ledger.pending == []


def test_members_of_a_batch_that_nobody_began_are_pending_in_the_order_proposed(
    space: SearchSpace, archs: list[Architecture], written: Written, complete: Written
) -> None:
    a, b, c, d, e = archs
    found = [complete(0, b, batch=[d, b, c]), written(1, c, TrialState.RUNNING), complete(2, a, batch=[e, a])]
    ledger = read_ledger(found, space.parse)
    assert ledger.pending == [d, e]
    assert ledger.busy == [c]


def test_what_two_batches_propose_is_pending_once_at_its_first_place(
    space: SearchSpace, archs: list[Architecture], complete: Written
) -> None:
    a, b, c, d, _ = archs
    ledger = read_ledger([complete(0, a, batch=[a, c]), complete(1, b, batch=[b, d, c])], space.parse)
    assert ledger.pending == [c, d]


def test_numbers_of_the_storage_have_gaps_where_the_trials_count_on(
    space: SearchSpace, archs: list[Architecture], written: Written, complete: Written
) -> None:
    a, b, c, d, _ = archs
    found = [
        written(0, a, TrialState.FAIL),  # given up
        complete(1, b, 1.0),
        written(3, c, TrialState.RUNNING),
        written(4, d, TrialState.FAIL, cost_seconds=0.5, error="it broke"),
        complete(7, a, 2.0),
    ]
    ledger = read_ledger(found, space.parse)
    assert [(t.number, t.arch) for t in ledger.trials] == [(0, b), (1, d), (2, a)]
    assert [trial and trial.arch for trial in map(ledger.trial, range(8))] == [None, b, None, None, d, None, None, a]
    assert (ledger.claimed, ledger.before(4), ledger.before(8)) == (4, 2, 4)
    assert [ledger.held_before(a, number) for number in (1, 7, 8)] == [False, False, True]


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.COMPLETE])
def test_what_was_given_up_and_begun_again_is_not_pending(
    space: SearchSpace, archs: list[Architecture], written: Written, state: TrialState
) -> None:
    again = written(1, archs[0], state, values={"acc": 1.0}, cost_seconds=0.5)
    ledger = read_ledger([written(0, archs[0], TrialState.FAIL), again], space.parse)
    assert ledger.pending == []
    assert ledger.claimed == 1
    assert ledger.busy == ([archs[0]] if state == TrialState.RUNNING else [])


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.FAIL, TrialState.WAITING])
def test_a_trial_of_another_program_is_refused_by_its_number(
    space: SearchSpace, archs: list[Architecture], complete: Written, state: TrialState
) -> None:
    foreign = create_trial(state=state, user_attrs={"values": {"acc": 1.0}, "cost_seconds": 0.5})
    foreign.number = 5
    with pytest.raises(RunConflict, match=r"^trial 5 was not written by archgen; use another study$"):
        read_ledger([complete(4, archs[0]), foreign], space.parse)


@pytest.mark.parametrize(
    "damage",
    [
        {"values": {"lat": 1.0}},
        {"values": {"acc": "high"}},
        {"values": "x"},
        {"values": None},
        {"cost_seconds": None},
        {"batch": 5},
        {"batch": [5]},
    ],
)
def test_a_damaged_trial_is_refused_by_its_number(
    space: SearchSpace, archs: list[Architecture], complete: Written, damage: dict[str, Any]
) -> None:
    trial = complete(3, archs[0])
    for name, value in damage.items():
        trial.set_user_attr(name, value)
    with pytest.raises(RunConflict, match=r"^trial 3 of the study is damaged"):
        Ledger(space.parse, ["acc"]).read(trial)


def test_a_text_that_is_no_architecture_of_the_space_is_refused(
    space: SearchSpace, archs: list[Architecture], complete: Written
) -> None:
    trial = complete(0, archs[0])
    trial.set_user_attr("batch", [space.format(archs[0]), "|max_pool_3x3~0|"])
    with pytest.raises(InvalidArchitecture):
        read_ledger([trial], space.parse)


def test_reading_again_gives_what_reading_anew_does_and_says_what_has_ended_since(
    space: SearchSpace, archs: list[Architecture], written: Written, complete: Written
) -> None:
    a, b, c, d, e = archs
    running = [written(0, a, TrialState.RUNNING, batch=[a, b, c, d]), written(1, b, TrialState.RUNNING)]
    second, first = complete(1, b), complete(0, a, batch=[a, b, c, d])
    third = written(2, c, TrialState.FAIL)
    steps = [
        running,
        [running[0], second, written(2, c, TrialState.RUNNING)],  # the second ends before the first
        [first, second, third],  # the third is given up
        [first, second, third, complete(3, c, batch=[c, e])],
    ]
    ledger, read, ended = Ledger(space.parse), 0, []
    for found in steps:
        ledger.update(found)
        anew = read_ledger(found, space.parse)
        for name in ("known", "claimed", "busy", "pending", "trials"):
            assert getattr(ledger, name) == getattr(anew, name), name
        new = ledger.since(read)
        read += len(new)
        ended.append([(trial.number, trial.arch) for trial in new])
    assert ended == [[], [(0, b)], [(0, a)], [(2, c)]]
    assert ledger.pending == [d, e]


def test_a_ledger_looks_only_at_what_may_have_changed(
    space: SearchSpace, archs: list[Architecture], written: Written, complete: Written
) -> None:
    a, b, c, *_ = archs
    ledger = Ledger(space.parse)
    ledger.update([complete(0, a), written(1, b, TrialState.RUNNING)])
    untouched: Any = None  # a trial that is finished is not read again
    ledger.update([untouched, complete(1, b), complete(2, c)])
    assert [trial.arch for trial in ledger.trials] == [a, b, c]
