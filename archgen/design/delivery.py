"""The end of a design: the best measured again, the winner fine-tuned, tested once and exported."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from archgen.errors import Infeasible
from archgen.export import check_onnx, save_network, to_onnx
from archgen.hardware import LatencyMeasurement
from archgen.predictors import Predictor
from archgen.study import COMPLETE, Study, Trial
from archgen.supernets import Supernet, recalibrate
from archgen.supernets.training import Schedule, accuracy, train_network

if TYPE_CHECKING:
    from archgen.design.pipeline import Design

MEASURED_AT_ONCE = 5
MEASURED_AT_MOST = 30


def deliver(design: Design, study: Study, supernet: Supernet, predictors: dict[str, Predictor]) -> dict[str, Any]:
    """Choose, fine-tune, test and export the winner.

    Returns:
        The result but for `seconds`: `winner`, `met`, `constraints`, `evaluations`, `run` and the facts of the run.

    Raises:
        Infeasible: No trial gave a finite accuracy.
    """
    trial, measured = choose(design, study)
    space, data, folder = design.space, design.data, design.folder
    arch = space.simplify(trial.arch)
    network, val_acc = finetune(design, supernet, trial)
    test_acc, _ = accuracy(network, data.test.images, data.test.labels)  # the only look at the test part
    to_onnx(network, design.shape, folder.file("best.onnx"))
    difference = check_onnx(network, folder.file("best.onnx"), data.validation.images[:64])
    winner: dict[str, Any] = {
        "arch": space.format(arch),
        "val_acc": val_acc,
        "inherited_val_acc": trial.values["val_acc"],
        "test_acc": test_acc,
        "latency_ms": measured.latency_ms,
        "latency_interval": [measured.low_ms, measured.high_ms],
        "params": int(predictors["params"].predict([arch]).mean[0]),
        "flops": float(predictors["flops"].predict([arch]).mean[0]),
        "onnx_difference": difference,
    }
    save_network(
        folder.file("best"),
        network,
        arch,
        space,
        design.network,
        mean=data.mean,
        std=data.std,
        classes=data.classes,
        metrics={name: value for name, value in winner.items() if isinstance(value, int | float)},
    )
    constraints = [
        {"metric": m, "sense": "at_most", "bound": b, "value": winner[m], "met": bool(winner[m] <= b)}
        for m, b in design.request.at_most.items()
    ]
    return {
        "winner": winner,
        "met": all(constraint["met"] for constraint in constraints),
        "constraints": constraints,
        "evaluations": len(study.trials),
        "run": str(folder.path),
        "space": space.name,
        "strategy": design.request.strategy,
        "seed": design.request.seed,
        "data": {
            "name": data.name,
            "classes": len(data.classes),
            **{part: len(getattr(data, part)) for part in ("train", "validation", "test")},
        },
        "network": design.network,
        **folder.state["facts"],
        "versions": {name: version(name) for name in ("archgen", "torch", "onnxruntime", "botorch", "optuna")}
        | {"python": platform.python_version()},
    }


def choose(design: Design, study: Study) -> tuple[Trial, LatencyMeasurement]:
    """The best trial whose measured latency is within the bound, interval included.

    Trials are taken in the order of validation accuracy (the loss breaks ties) and measured a few at a time. When
    none of the first `MEASURED_AT_MOST` is within the bound for sure, the best whose median is, else the fastest.

    Raises:
        Infeasible: There is no complete trial.
    """
    if not study.trials:
        raise Infeasible("no architecture is predicted to meet the bounds, so none was evaluated; raise the bound")
    trials = [t for t in study.trials if t.state == COMPLETE]
    if not trials:
        raise Infeasible("no evaluation gave a finite accuracy; look at trials.parquet, or lower the learning rate")
    trials.sort(key=lambda t: (-t.values["val_acc"], t.values["val_loss"]))
    bound = design.request.at_most.get("latency_ms", np.inf)
    measured: list[tuple[Trial, LatencyMeasurement]] = []
    for start in range(0, min(len(trials), MEASURED_AT_MOST), MEASURED_AT_ONCE):
        some = trials[start : start + MEASURED_AT_ONCE]
        measured += zip(some, design.measure([t.arch for t in some]), strict=True)
        sure = [pair for pair in measured if pair[1].high_ms <= bound]
        if sure:
            return sure[0]
    likely = [pair for pair in measured if pair[1].latency_ms <= bound]
    return likely[0] if likely else min(measured, key=lambda pair: pair[1].latency_ms)


def finetune(design: Design, supernet: Supernet, trial: Trial) -> tuple[nn.Module, float]:
    """A stand-alone network that starts from the inherited weights, and its validation accuracy in percent.

    Training can lose, too: the inherited weights are kept when the trained ones are worse on the validation part by
    more than two standard errors. Not by less: the winner was chosen for its inherited accuracy on just these
    images, so that figure flatters it, and the trained one is not flattered.
    """
    data, request = design.data, design.request
    network = recalibrate(supernet.subnet(trial.arch), [data.train.images[:1024]])
    inherited = {name: value.clone() for name, value in network.state_dict().items()}
    before = accuracy(network, data.validation.images, data.validation.labels)

    with design.progress.bar("fine-tuning the winner", request.finetune_epochs) as bar:
        train_network(
            network,
            data,
            Schedule(epochs=request.finetune_epochs, lr=0.2),  # inherited weights are a compromise: leave their basin
            seed=request.seed,
            on_epoch=lambda epoch, losses: bar.update(1, **losses),
        )
    after = accuracy(network, data.validation.images, data.validation.labels)
    share = before[0] / 100.0
    error = 100.0 * float(np.sqrt(max(share * (1 - share), 1e-9) / len(data.validation)))
    if after[0] < before[0] - 2 * error:
        network.load_state_dict(inherited)
        return network, before[0]
    return network, after[0]
