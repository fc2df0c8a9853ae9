"""The end of a design: which trial wins, and that fine-tuning never hands back something worse."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from archgen.data import ImageData, Split, load_data
from archgen.design import Design, DesignRequest, delivery
from archgen.design.delivery import MEASURED_AT_MOST, MEASURED_AT_ONCE, choose, finetune, largest
from archgen.errors import Infeasible
from archgen.evaluators.base import Measurement
from archgen.graph import Architecture
from archgen.hardware import LatencyMeasurement
from archgen.objectives import maximize
from archgen.progress import Progress
from archgen.spaces import SearchSpace, load
from archgen.study import Study
from archgen.supernets import Supernet, make_supernet, recalibrate
from archgen.supernets.training import accuracy

# -- which trial wins


@dataclass
class Bench:
    """Stands for a design whose measurements are made up: `(median, upper end)` in ms by architecture."""

    bound: float | None
    latency: dict[Architecture, tuple[float, float]]
    asked: list[list[Architecture]] = field(default_factory=list)

    @property
    def request(self) -> DesignRequest:
        return DesignRequest("digits", "nasbench201", {} if self.bound is None else {"latency_ms": self.bound})

    def measure(self, archs: list[Architecture]) -> list[LatencyMeasurement]:
        self.asked.append(list(archs))
        return [LatencyMeasurement(m, m - (high - m), high, 0.0, 1) for m, high in (self.latency[a] for a in archs)]


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
    trial, measured = choose(cast(Design, bench), study)
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


# -- fine-tuning

NETWORK = {"cells": 1, "channels": 4, "classes": 10, "in_channels": 1, "image_size": 8}


@dataclass
class Bare:
    """What `finetune` reads of a design."""

    data: ImageData
    request: DesignRequest
    space: SearchSpace = field(default_factory=lambda: load("nasbench201"))
    network: dict[str, int] = field(default_factory=lambda: NETWORK)
    progress: Progress = field(default_factory=Progress)


@pytest.fixture(scope="module")
def bare() -> Bare:
    return Bare(load_data("digits", limit=200), DesignRequest("digits", "nasbench201", {}))


@pytest.fixture
def supernet(space: SearchSpace) -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_supernet(space, **NETWORK)


@pytest.fixture
def study(space: SearchSpace) -> Study:
    arch = space.parse("|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|nor_conv_3x3~1|none~2|")
    study = Study(space, [maximize("val_acc")])
    study.record([arch], [Measurement({"val_acc": 10.0, "val_loss": 2.3}, 0.1)])
    return study


def inherited(bare: Bare, supernet: Supernet, study: Study) -> nn.Module:
    arch = study.trials[0].arch
    return recalibrate(supernet.subnet(arch), [bare.data.train.images[:1024]])


def on_validation(bare: Bare, network: nn.Module) -> tuple[float, float]:
    return accuracy(network, bare.data.validation.images, bare.data.validation.labels)


def test_fine_tuning_starts_from_inherited_weights_and_improves_them(
    bare: Bare, supernet: Supernet, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = inherited(bare, supernet, study)
    before = on_validation(bare, start)
    for name, statistics in supernet.named_buffers():
        if "running" in name:
            statistics.fill_(3.0)  # as another architecture's evaluation leaves them: they must be found anew
    real, started = delivery.train_network, {}

    def train(network: nn.Module, *args: Any, **options: Any) -> None:
        started.update({name: value.clone() for name, value in network.state_dict().items()})
        real(network, *args, **options)

    monkeypatch.setattr(delivery, "train_network", train)
    network, val_acc = finetune(cast(Design, bare), supernet, study.trials[0], 4)
    assert all(torch.equal(value, started[name]) for name, value in start.state_dict().items())
    assert val_acc == on_validation(bare, network)[0]
    assert val_acc > before[0], "a few epochs on random weights must help"
    assert not network.training


@pytest.mark.parametrize("factor", [0.0, -1.0], ids=["untrained", "wrong"])
def test_inherited_weights_are_kept_when_training_makes_them_worse(
    bare: Bare, supernet: Supernet, study: Study, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    start = inherited(bare, supernet, study)
    images = bare.data.validation.images
    with torch.no_grad():  # labels that the inherited weights get right, all of them
        known = replace(bare.data, validation=Split(images, start.eval()(images).argmax(-1)))
    right = Bare(known, bare.request)
    before = on_validation(right, start)
    assert before[0] == 100

    def spoil(network: nn.Module, *args: Any, **options: Any) -> None:
        with torch.no_grad():
            network.classifier.weight.mul_(factor)  # type: ignore[union-attr, operator]
            network.classifier.bias.mul_(factor)  # type: ignore[union-attr, operator]

    monkeypatch.setattr(delivery, "train_network", spoil)
    network, val_acc = finetune(cast(Design, right), supernet, study.trials[0], 4)
    assert val_acc == 100
    assert on_validation(right, network) == before
    for name, value in network.state_dict().items():
        assert torch.equal(value, start.state_dict()[name]), name


@pytest.mark.parametrize("better", [True, False])
def test_the_largest_teaches_where_it_is_clearly_better(
    bare: Bare, supernet: Supernet, study: Study, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    images = bare.data.validation.images
    arch = study.trials[0].arch if not better else largest(bare.space, NETWORK)
    with torch.no_grad():  # labels that the one gets right, all of them
        labels = recalibrate(supernet.subnet(arch), [bare.data.train.images[:1024]]).eval()(images).argmax(-1)
    known = Bare(replace(bare.data, validation=Split(images, labels)), bare.request)
    teachers: list[nn.Module | None] = []
    monkeypatch.setattr(delivery, "train_network", lambda *args, teacher, **options: teachers.append(teacher))
    finetune(cast(Design, known), supernet, study.trials[0], 4)
    (teacher,) = teachers
    assert (teacher is not None) == better
    if teacher is not None:
        assert on_validation(known, teacher)[0] == 100


def test_the_largest_is_the_extreme_or_has_the_most_flops(space: SearchSpace) -> None:
    ordered = load("nasbench_macro")
    assert ordered.extremes is not None
    assert largest(ordered, {}) == ordered.extremes[1]
    most = max(space.count(arch)["flops"] for arch in space.sample(1000, np.random.default_rng(0)))
    assert space.count(largest(space, {}))["flops"] == most


def test_the_supernet_keeps_its_weights(bare: Bare, supernet: Supernet, study: Study) -> None:
    weights = {name: value.clone() for name, value in supernet.named_parameters()}
    finetune(cast(Design, bare), supernet, study.trials[0], 4)
    assert all(torch.equal(value, weights[name]) for name, value in supernet.named_parameters())
