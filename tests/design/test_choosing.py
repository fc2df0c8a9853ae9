"""Which trials are fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest

from archgen.design import Design, DesignRequest
from archgen.design.choosing import MEASURED_AT_MOST, MEASURED_AT_ONCE, choose, choose_set, ranked
from archgen.errors import Infeasible
from archgen.evaluators.base import Measurement
from archgen.graph import Architecture
from archgen.hardware import LatencyMeasurement
from archgen.objectives import maximize, minimize
from archgen.spaces import SearchSpace
from archgen.study import Study, Trial


@dataclass
class Bench:
    """Stands for a design whose measurements are made up: `(median, upper end)` in ms by architecture, exact MB."""

    bound: float | None
    latency: dict[Architecture, tuple[float, float]]
    asked: list[list[Architecture]] = field(default_factory=list)
    exact: dict[Architecture, float] | None = None
    """Memory, which is then bounded by 1 MB."""

    @property
    def request(self) -> DesignRequest:
        at_most = {} if self.bound is None else {"latency_ms": self.bound}
        return DesignRequest("digits", "nasbench201", at_most if self.exact is None else {**at_most, "memory_mb": 1.0})

    def memory(self, archs: list[Architecture]) -> list[float]:
        assert self.exact is not None
        return [self.exact[arch] for arch in archs]

    def measure(self, archs: list[Architecture]) -> list[LatencyMeasurement]:
        self.asked.append(list(archs))
        return [LatencyMeasurement(m, m - (high - m), high, 0.0, 1) for m, high in (self.latency[a] for a in archs)]


class SetBench(Bench):
    """One that asks for three networks, accurate and fast."""

    @property
    def request(self) -> DesignRequest:
        return replace(super().request, minimize=("latency_ms",), networks=3)


def study_of(space: SearchSpace, figures: list[tuple[float, float] | None]) -> tuple[Study, list[Architecture]]:
    """A study of `(val_acc, val_loss)`, None for a failed evaluation."""
    archs = list(dict.fromkeys(space.sample(3 * len(figures) + 3, np.random.default_rng(0))))[: len(figures)]
    study = Study(space, [maximize("val_acc")])
    measured = [
        Measurement({}, 0.1, "diverged") if f is None else Measurement({"val_acc": f[0], "val_loss": f[1]}, 0.1)
        for f in figures
    ]
    study.record(archs, measured)
    return study, archs


def winner(
    space: SearchSpace,
    figures: list[tuple[float, float] | None],
    latency: list[tuple[float, float]],
    bound: float | None,
) -> tuple[int, Bench]:
    """Number of the trial that is chosen, and the bench."""
    study, archs = study_of(space, figures)
    bench = Bench(bound, dict(zip(archs, latency, strict=True)))
    ((trial, measured),) = choose(cast(Design, bench), study)
    assert measured.latency_ms == bench.latency[trial.arch][0], "another trial's measurement"
    return trial.number, bench


FAST, SLOW, UNSURE = (1.0, 1.1), (3.0, 3.1), (1.9, 2.1)  # against a bound of 2 ms


def test_the_most_accurate_trial_wins(space: SearchSpace) -> None:
    assert winner(space, [(80, 1.0), (95, 0.3), (90, 0.1)], [FAST] * 3, 2.0)[0] == 1


def test_the_loss_breaks_ties(space: SearchSpace) -> None:
    assert winner(space, [(95, 0.4), (95, 0.2), (95, 0.3), (90, 0.1)], [FAST] * 4, 2.0)[0] == 1


def test_what_is_slower_than_the_bound_is_passed_over(space: SearchSpace) -> None:
    assert winner(space, [(80, 1.0), (95, 0.3), (90, 0.1)], [FAST, SLOW, FAST], 2.0)[0] == 2


def test_the_whole_interval_must_be_within_the_bound(space: SearchSpace) -> None:
    assert winner(space, [(80, 1.0), (95, 0.3)], [FAST, UNSURE], 2.0)[0] == 0


def test_an_interval_that_ends_at_the_bound_is_within(space: SearchSpace) -> None:
    assert winner(space, [(80, 1.0), (95, 0.3)], [FAST, (1.9, 2.0)], 2.0)[0] == 1


def test_with_none_for_sure_the_best_whose_median_is_within_wins(space: SearchSpace) -> None:
    assert winner(space, [(99, 0.1), (80, 1.0), (85, 1.0)], [SLOW, UNSURE, UNSURE], 2.0)[0] == 2


def test_with_none_within_the_fastest_is_handed_back(space: SearchSpace) -> None:
    assert winner(space, [(99, 0.1), (80, 1.0), (85, 1.0)], [(4.0, 5.0), (3.0, 3.1), (3.5, 3.6)], 2.0)[0] == 1


def test_without_a_bound_on_latency_accuracy_alone_decides(space: SearchSpace) -> None:
    assert winner(space, [(80, 1.0), (95, 0.3)], [FAST, (900.0, 950.0)], None)[0] == 1


def test_failed_trials_are_not_measured(space: SearchSpace) -> None:
    number, bench = winner(space, [None, (80, 1.0), None], [FAST] * 3, 2.0)
    assert number == 1
    assert [len(batch) for batch in bench.asked] == [1]


def test_the_best_are_measured_a_few_at_a_time_and_no_more_than_needed(space: SearchSpace) -> None:
    accuracies: list[tuple[float, float] | None] = [(float(i), 1.0) for i in range(40)]
    latency = [SLOW] * 40
    latency[40 - MEASURED_AT_ONCE - 2] = FAST  # in the second handful
    number, bench = winner(space, accuracies, latency, 2.0)
    assert number == 40 - MEASURED_AT_ONCE - 2
    assert [len(batch) for batch in bench.asked] == [MEASURED_AT_ONCE] * 2


def test_measuring_ends_after_the_first_thirty(space: SearchSpace) -> None:
    accuracies: list[tuple[float, float] | None] = [(float(i), 1.0) for i in range(40)]
    latency = [SLOW] * 10 + [(9.0, 9.1)] * 30  # the faster ones are the least accurate ten
    number, bench = winner(space, accuracies, latency, 2.0)
    assert number >= 10
    assert sum(map(len, bench.asked)) == MEASURED_AT_MOST == 30


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ([], "no architecture is predicted to meet the bounds, so none was evaluated; raise the bound"),
        ([None, None], "no evaluation gave a finite accuracy; look at trials.parquet"),
    ],
    ids=["nothing evaluated", "all failed"],
)
def test_without_a_complete_trial_it_says_why(space: SearchSpace, figures: list[Any], message: str) -> None:
    study, _ = study_of(space, figures)
    with pytest.raises(Infeasible, match=message):
        choose(cast(Design, Bench(2.0, {})), study)


# -- several


def test_finalists_are_the_most_promising_of_those_within_the_bound(space: SearchSpace) -> None:
    study, archs = study_of(space, [(80.0, 0.5), (90.0, 0.3), (95.0, 0.2), (70.0, 0.9)])
    bench = Bench(2.0, dict(zip(archs, [FAST, FAST, SLOW, FAST], strict=True)))
    assert [trial.number for trial, _ in choose(cast(Design, bench), study, 2)] == [1, 0]
    assert [trial.number for trial, _ in choose(cast(Design, bench), study, 9)] == [1, 0, 3], "there are no more"


@pytest.mark.parametrize(
    ("exact", "latency", "chosen"),
    [
        ([0.9, 1.1, 1.1, 0.8], [FAST] * 4, 0),  # the most accurate need more than was predicted
        ([1.1, 1.2, 1.3, 1.05], [FAST] * 4, 3),  # all do: the smallest
        ([0.9, 1.1, 1.1, 0.8], [SLOW, FAST, FAST, UNSURE], 3),
        ([0.9, 1.1, 1.1, 0.8], [(5.0, 5.1), FAST, FAST, SLOW], 3),  # the fastest of those within the memory
    ],
)
def test_what_needs_more_memory_than_the_bound_is_passed_over(
    space: SearchSpace, exact: list[float], latency: list[tuple[float, float]], chosen: int
) -> None:
    study, archs = study_of(space, [(80.0, 0.5), (90.0, 0.3), (95.0, 0.2), (70.0, 0.9)])
    bench = Bench(2.0, dict(zip(archs, latency, strict=True)), exact=dict(zip(archs, exact, strict=True)))
    ((trial, _),) = choose(cast(Design, bench), study)
    assert trial.number == chosen
    assert trial.values["memory_mb"] == exact[chosen]


def test_a_network_of_a_set_that_needs_more_memory_than_the_bound_is_replaced(space: SearchSpace) -> None:
    archs = list(dict.fromkeys(space.sample(40, np.random.default_rng(0))))[:10]
    study = Study(space, [maximize("val_acc"), minimize("latency_ms")])
    values = [{"val_acc": 90.0 - i, "val_loss": 1.0, "latency_ms": 10.0 - i, "memory_mb": 0.9} for i in range(10)]
    study.record(archs, [Measurement(each, 0.1) for each in values])
    exact = {arch: 1.1 if i == 0 else 0.9 for i, arch in enumerate(archs)}
    bench = SetBench(10.0, dict(zip(archs, PREDICTED, strict=True)), exact=exact)
    assert [trial.number for trial, _ in choose_set(cast(Design, bench), study)] == [1, 4, 9]


def front_of(space: SearchSpace, latency: list[tuple[float, float]]) -> tuple[list[int], Bench]:
    """Trials that are chosen, and the bench: ten on a front, as predicted a point and a millisecond apart."""
    archs = list(dict.fromkeys(space.sample(40, np.random.default_rng(0))))[:10]
    study = Study(space, [maximize("val_acc"), minimize("latency_ms")])
    values = [{"val_acc": 90.0 - i, "val_loss": 1.0, "latency_ms": 10.0 - i} for i in range(10)]
    study.record(archs, [Measurement(each, 0.1) for each in values])
    bench = SetBench(10.0, dict(zip(archs, latency, strict=True)))
    return [trial.number for trial, _ in choose_set(cast(Design, bench), study)], bench


PREDICTED = [(10.0 - i, 10.0 - i) for i in range(10)]


def test_a_set_is_spread_over_the_front_with_both_ends(space: SearchSpace) -> None:
    numbers, bench = front_of(space, PREDICTED)
    assert numbers == [0, 4, 9]
    assert [len(some) for some in bench.asked] == [3]


def test_what_breaks_the_bound_when_it_is_measured_is_replaced(space: SearchSpace) -> None:
    numbers, bench = front_of(space, [(11.0, 11.0), *PREDICTED[1:]])
    assert numbers == [1, 4, 9], "the farthest from what is kept"
    assert [len(some) for some in bench.asked] == [3, 1]


def test_what_is_dominated_when_it_is_measured_is_replaced(space: SearchSpace) -> None:
    slow = [*PREDICTED[:4], (10.0, 10.0), *PREDICTED[5:]]
    numbers, bench = front_of(space, slow)
    assert 4 not in numbers, "as slow as 0, less accurate"
    assert len(numbers) == 3
    assert [len(some) for some in bench.asked] == [3, 1]


def test_no_more_than_twice_as_many_are_measured_for_a_set(space: SearchSpace) -> None:
    numbers, bench = front_of(space, [(11.0, 11.0)] * 9 + [(1.0, 1.0)])
    assert numbers == [9]
    assert sum(map(len, bench.asked)) == 6


def trial(number: int, arch: Architecture, **values: float) -> Trial:
    return Trial(number, arch, values, 0.0)


def test_proxies_of_inherited_weights_count_as_much_as_the_loss(space: SearchSpace) -> None:
    archs = space.sample(3, np.random.default_rng(0))
    measured = [
        {"val_acc": 90.0, "val_loss": 0.3, "nwot": 1.0, "synflow": 1.0},
        {"val_acc": 89.0, "val_loss": 0.4, "nwot": 3.0, "synflow": 2.0},
        {"val_acc": 50.0, "val_loss": 1.5, "nwot": 2.0, "synflow": 3.0},
    ]
    trials = [trial(i, arch, **values) for i, (arch, values) in enumerate(zip(archs, measured, strict=True))]
    # sums of log ranks: log(3/3 1/3 1/3), log(2/3 3/3 2/3), log(1/3 2/3 3/3)
    assert [t.number for t in ranked(trials)] == [1, 2, 0]
    without = [replace(t, values={m: v for m, v in t.values.items() if m != "nwot"}) for t in trials]
    # log(3/3 1/3), log(2/3 2/3), log(1/3 3/3): the accuracy breaks the tie
    assert [t.number for t in ranked(without)] == [1, 0, 2]
    one_lacks_it = [*trials[:2], without[2]]
    # log(3/3 2/3 1/3), log(2/3 3/3 2/3), log(1/3 1/3 3/3)
    assert [t.number for t in ranked(one_lacks_it)] == [1, 0, 2]
