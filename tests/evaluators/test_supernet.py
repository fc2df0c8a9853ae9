"""Accuracy by inherited weights: the same figures as a stand-alone network with them, and no trace of earlier ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from archgen.errors import InvalidData
from archgen.evaluators import SupernetEvaluator
from archgen.proxies import Nwot, Synflow
from archgen.spaces import SearchSpace
from archgen.supernets import Supernet, calibrated, make_supernet

NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}


def images(n: int, seed: int) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


LABELS = torch.randint(3, (50,), generator=torch.Generator().manual_seed(9))


@pytest.fixture
def supernet(space: SearchSpace) -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_supernet(space, **NETWORK)


@pytest.fixture
def evaluator(supernet: Supernet) -> SupernetEvaluator:
    return SupernetEvaluator(supernet, images(40, 1), images(50, 2), LABELS, batch_size=16)


def test_figures_are_those_of_the_subnet_with_recalibrated_statistics(
    evaluator: SupernetEvaluator, supernet: Supernet, space: SearchSpace, rng: np.random.Generator
) -> None:
    for arch in space.sample(5, rng):
        (measured,) = evaluator.evaluate([arch], seed=0)
        network = calibrated(supernet, arch, images(40, 1), 16)
        with torch.no_grad():
            logits = network(images(50, 2))
        right = sum(int(row.argmax()) == int(label) for row, label in zip(logits, LABELS, strict=True))
        assert measured.values["val_acc"] == pytest.approx(100 * right / 50), "in percent"
        assert measured.values["val_loss"] == pytest.approx(F.cross_entropy(logits, LABELS).item(), rel=1e-4)
        assert measured.values.keys() == set(evaluator.metrics)
        assert measured.error is None
        assert measured.cost_seconds > 0


def test_an_evaluation_does_not_depend_on_those_before_or_on_the_seed(
    evaluator: SupernetEvaluator, space: SearchSpace, rng: np.random.Generator
) -> None:
    archs = space.sample(4, rng)
    forward = [m.values for m in evaluator.evaluate(archs, seed=0)]
    backward = [m.values for m in evaluator.evaluate(archs[::-1], seed=1)]
    assert forward == backward[::-1]
    assert len({tuple(values.items()) for values in forward}) > 1


def test_proxies_are_those_of_the_inherited_network(
    supernet: Supernet, space: SearchSpace, rng: np.random.Generator
) -> None:
    proxies = [Synflow(), Nwot()]
    evaluator = SupernetEvaluator(supernet, images(40, 1), images(50, 2), LABELS, proxies=proxies)
    assert evaluator.metrics == ("val_acc", "val_loss", "synflow", "nwot")
    for arch in space.sample(5, rng):
        (measured,) = evaluator.evaluate([arch], seed=0)
        network = supernet.subnet(arch)
        for proxy in proxies:
            value = proxy(network, images(50, 2)[:32], LABELS[:32], generator=torch.Generator().manual_seed(0))
            assert measured.values.get(proxy.name, math.nan) == pytest.approx(value, nan_ok=True)


def test_a_proxy_that_does_not_exist_is_left_out(supernet: Supernet, space: SearchSpace) -> None:
    evaluator = SupernetEvaluator(supernet, images(40, 1), images(50, 2), LABELS, proxies=[Nwot()])
    (measured,) = evaluator.evaluate([space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")], seed=0)
    assert measured.values.keys() == {"val_acc", "val_loss"}, "all images have the same activations"


def test_weights_stay_as_they_are(
    evaluator: SupernetEvaluator, supernet: Supernet, space: SearchSpace, rng: np.random.Generator
) -> None:
    before = {name: value.clone() for name, value in supernet.named_parameters()}
    evaluator.evaluate(space.sample(2, rng), seed=0)
    for name, parameter in supernet.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def test_a_loss_that_is_not_finite_is_a_failed_measurement(
    evaluator: SupernetEvaluator, supernet: Supernet, space: SearchSpace
) -> None:
    with torch.no_grad():
        supernet.get_parameter("skeleton.classifier.bias").fill_(math.nan)
    (measured,) = evaluator.evaluate(space.sample(1, np.random.default_rng(0)), seed=0)
    assert measured.values == {}
    assert measured.error == "the validation loss is nan"


@pytest.mark.parametrize(("calibration", "validation"), [(0, 5), (1, 5), (5, 0)])
def test_parts_that_are_too_small_are_refused(supernet: Supernet, calibration: int, validation: int) -> None:
    with pytest.raises(InvalidData, match="expected at least two images to calibrate and one to validate on, got"):
        SupernetEvaluator(supernet, images(calibration, 0), images(validation, 0), LABELS[:validation])
