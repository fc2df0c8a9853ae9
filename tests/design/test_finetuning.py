"""Fine-tuning never hands back something worse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from archgen.data import Split
from archgen.design import Design, finetuning
from archgen.design.finetuning import finetune, largest
from archgen.evaluators.base import Measurement
from archgen.objectives import maximize
from archgen.progress import Bar, Progress
from archgen.run_folder import RunFolder
from archgen.spaces import SearchSpace, load
from archgen.study import Study
from archgen.supernets import Supernet, calibrated
from archgen.supernets.training import Schedule, accuracy


@pytest.fixture
def study(space: SearchSpace) -> Study:
    arch = space.parse("|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|nor_conv_3x3~1|none~2|")
    study = Study(space, [maximize("val_acc")])
    study.record([arch], [Measurement({"val_acc": 10.0, "val_loss": 2.3}, 0.1)])
    return study


def inherited(bare: Any, supernet: Supernet, study: Study) -> nn.Module:
    arch = study.trials[0].arch
    return calibrated(supernet, arch, bare.data.train.images[:1024])


def on_validation(bare: Any, network: nn.Module) -> tuple[float, float]:
    return accuracy(network, bare.data.validation.images, bare.data.validation.labels)


def test_fine_tuning_starts_from_inherited_weights_and_improves_them(
    bare: Any, supernet: Supernet, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = inherited(bare, supernet, study)
    before = on_validation(bare, start)
    for name, statistics in supernet.named_buffers():
        if "running" in name:
            statistics.fill_(3.0)  # as another architecture's evaluation leaves them: they must be found anew
    real, started = finetuning.train_network, {}

    def train(network: nn.Module, *args: Any, **options: Any) -> None:
        started.update({name: value.clone() for name, value in network.state_dict().items()})
        real(network, *args, **options)

    monkeypatch.setattr(finetuning, "train_network", train)
    network, val_acc = finetune(cast(Design, bare), supernet, study.trials[0], 4)
    assert all(torch.equal(value, started[name]) for name, value in start.state_dict().items())
    assert val_acc == on_validation(bare, network)[0]
    assert val_acc > before[0], "a few epochs on random weights must help"
    assert not network.training


@pytest.mark.parametrize("factor", [0.0, -1.0], ids=["untrained", "wrong"])
def test_inherited_weights_are_kept_when_training_makes_them_worse(
    bare: Any, supernet: Supernet, study: Study, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    start = inherited(bare, supernet, study)
    images = bare.data.validation.images
    with torch.no_grad():  # labels that the inherited weights get right, all of them
        known = replace(bare.data, validation=Split(images, start.eval()(images).argmax(-1)))
    right = replace(bare, data=known)
    before = on_validation(right, start)
    assert before[0] == 100

    def spoil(network: nn.Module, *args: Any, **options: Any) -> None:
        with torch.no_grad():
            network.classifier.weight.mul_(factor)  # type: ignore[union-attr, operator]
            network.classifier.bias.mul_(factor)  # type: ignore[union-attr, operator]

    monkeypatch.setattr(finetuning, "train_network", spoil)
    network, val_acc = finetune(cast(Design, right), supernet, study.trials[0], 4)
    assert val_acc == 100
    assert on_validation(right, network) == before
    for name, value in network.state_dict().items():
        assert torch.equal(value, start.state_dict()[name]), name


@pytest.mark.parametrize("better", [True, False])
def test_the_largest_teaches_where_it_is_clearly_better(
    bare: Any, supernet: Supernet, study: Study, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    images = bare.data.validation.images
    arch = study.trials[0].arch if not better else largest(bare.space, bare.network)
    with torch.no_grad():  # labels that the one gets right, all of them
        labels = calibrated(supernet, arch, bare.data.train.images[:1024])(images).argmax(-1)
    known = replace(bare, data=replace(bare.data, validation=Split(images, labels)))
    teachers: list[nn.Module | None] = []
    monkeypatch.setattr(finetuning, "train_network", lambda *args, teacher, **options: teachers.append(teacher))
    finetune(cast(Design, known), supernet, study.trials[0], 4)
    (teacher,) = teachers
    assert (teacher is not None) == better
    if teacher is not None:
        assert on_validation(known, teacher)[0] == 100


@pytest.mark.parametrize(("seconds", "epochs"), [(float("inf"), 40), (5.0, 25), (100.0, 40), (-3.0, 1)])
def test_as_many_epochs_as_the_time_allows(
    bare: Any, supernet: Supernet, study: Study, monkeypatch: pytest.MonkeyPatch, seconds: float, epochs: int
) -> None:
    schedules: list[Schedule] = []
    monkeypatch.setattr(finetuning, "epoch_seconds", lambda *given: 0.2)
    monkeypatch.setattr(finetuning, "train_network", lambda n, d, schedule, **options: schedules.append(schedule))
    finetune(cast(Design, bare), supernet, study.trials[0], 40, seconds)
    assert [schedule.epochs for schedule in schedules] == [epochs]


def test_a_training_that_is_interrupted_goes_on_with_the_epochs_it_had(
    bare: Any, supernet: Supernet, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though no time is left: the seconds before were not spent in vain."""
    other = replace(bare, folder=RunFolder(bare.folder.path.with_name("other"), {}))
    whole, expected = finetune(cast(Design, other), supernet, study.trials[0], 10)
    trained: list[int] = []

    class Stopping(Progress):
        def __init__(self, after: int) -> None:
            self.after = after

        @contextmanager
        def bar(self, what: str, total: int) -> Iterator[Bar]:
            left = self.after

            class Stop(Bar):
                def update(self, steps: int = 1, **shown: float) -> None:
                    nonlocal left
                    trained.append(total)
                    left -= steps
                    if not left:
                        raise KeyboardInterrupt

            yield Stop()

    with pytest.raises(KeyboardInterrupt):
        finetune(cast(Design, replace(bare, progress=Stopping(6))), supernet, study.trials[0], 10)
    assert len(trained) == 6
    network, val_acc = finetune(cast(Design, replace(bare, progress=Stopping(99))), supernet, study.trials[0], 10, 0.0)
    assert trained[6:] == [10] * 4
    assert val_acc == expected
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in network.state_dict().items())


def test_the_largest_is_the_extreme_or_has_the_most_flops(space: SearchSpace) -> None:
    ordered = load("nasbench_macro")
    assert ordered.extremes is not None
    assert largest(ordered, {}) == ordered.extremes[1]
    most = max(space.count(arch)["flops"] for arch in space.sample(1000, np.random.default_rng(0)))
    assert space.count(largest(space, {}))["flops"] == most


def test_the_supernet_keeps_its_weights(bare: Any, supernet: Supernet, study: Study) -> None:
    weights = {name: value.clone() for name, value in supernet.named_parameters()}
    finetune(cast(Design, bare), supernet, study.trials[0], 4)
    assert all(torch.equal(value, weights[name]) for name, value in supernet.named_parameters())
