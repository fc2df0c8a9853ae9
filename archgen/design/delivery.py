"""The end of a design: the best measured again, fine-tuned, tested once and exported."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from archgen.data import Split
from archgen.design.plan import Timetable
from archgen.design.request import LATENCY, MEMORY
from archgen.errors import ArchgenError, Infeasible
from archgen.export import check_onnx, save_network, to_onnx
from archgen.graph import Architecture
from archgen.hardware import LatencyMeasurement, measure_files
from archgen.inheritance import CALIBRATION
from archgen.metrics import pareto_front
from archgen.objectives import all_met
from archgen.peak_memory import peak_memory_mb
from archgen.predictors import Predictor
from archgen.predictors.counts import Count
from archgen.quantize import onnx_accuracy, quantize
from archgen.spaces import SearchSpace
from archgen.study import COMPLETE, Study, Trial
from archgen.supernets import Supernet, recalibrate
from archgen.supernets.training import Schedule, accuracy, train_network

if TYPE_CHECKING:
    from archgen.design.pipeline import Design

MEASURED_AT_ONCE = 5
MEASURED_AT_MOST = 30
BEST = "best"
FINETUNE_LR = 0.2
"""Peak learning rate of fine-tuning: inherited weights are a compromise, so their basin has to be left."""
QUANTIZED_ON = 256
"""Training images that show a network's ranges."""

Chosen = tuple[Trial, LatencyMeasurement]


def deliver(
    design: Design, plan: Timetable, study: Study, supernet: Supernet, known: dict[str, Predictor]
) -> dict[str, Any]:
    """Choose, fine-tune, test and export the winner, or the networks of a Pareto set.

    Returns:
        The result but for `seconds`: `winner`, `networks` (the winner first), `met`, `constraints`, `evaluations`,
        `run` and the facts of the run.

    Raises:
        Infeasible: No trial gave a finite accuracy.
    """
    chosen = choose_set(design, study) if design.request.minimize else [choose(design, study)]
    networks = []
    for i, (trial, measured) in enumerate(chosen):
        epochs = _epochs(design, plan, len(chosen) - i)
        networks.append(_finish(design, supernet, known, trial, measured, f"network{i + 1}" if i else BEST, epochs))
    winner, space, data, folder = networks[0], design.space, design.data, design.folder
    constraints = [
        {"metric": m, "sense": "at_most", "bound": b, "value": winner[m], "met": bool(winner[m] <= b)}
        for m, b in design.request.at_most.items()
    ]
    return {
        "winner": winner,
        "networks": networks,
        "met": all(constraint["met"] for constraint in constraints),
        "constraints": constraints,
        "minimized": list(design.request.minimize),
        "evaluations": len(study.trials),
        "run": str(folder.path),
        "space": space.name,
        "strategy": design.strategy,
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


def _epochs(design: Design, plan: Timetable, networks: int) -> int:
    """Epochs of fine-tuning that a time limit leaves to each of the networks that are not done yet."""
    if design.request.time_limit is None:
        return plan.finetune_epochs
    an_epoch = max(plan.seconds["final"] / plan.finetune_epochs / design.delivered, 1e-9)  # measuring included
    return max(1, min(plan.finetune_epochs, int(design.left / networks / an_epoch)))


def _finish(
    design: Design,
    supernet: Supernet,
    known: dict[str, Predictor],
    trial: Trial,
    measured: LatencyMeasurement,
    stem: str,
    epochs: int,
) -> dict[str, Any]:
    """Fine-tune, test and export one network; what is known of it, as JSON types."""
    space, data, folder = design.space, design.data, design.folder
    arch = space.simplify(trial.arch)
    network, val_acc = finetune(design, supernet, trial, epochs)
    test = Split(data.test.images, data.test.labels)  # the only look at the test part: nothing is chosen afterwards
    test_acc, _ = accuracy(network, test.images, test.labels)
    example, onnx = space.example_input(1, **design.network), folder.file(f"{stem}.onnx")
    to_onnx(network, example, onnx)
    difference = check_onnx(network, onnx, data.validation.images[:64])
    int8 = _quantized(design, onnx, folder.file(f"{stem}.int8.onnx"), example, test)
    found: dict[str, Any] = {
        "arch": space.format(arch),
        "val_acc": val_acc,
        "inherited_val_acc": trial.values["val_acc"],
        "test_acc": test_acc,
        LATENCY: measured.latency_ms,
        "latency_interval": [measured.low_ms, measured.high_ms],
        "predicted": {m: float(p.predict([arch]).mean[0]) for m, p in known.items()},
        "onnx_difference": difference,
        "int8": int8,
        "files": stem,
    }
    exact = {m: value for m, value in found["predicted"].items() if m != LATENCY}  # or all that there is
    if MEMORY in exact:
        exact[MEMORY] = peak_memory_mb(network, example)
    found |= exact | {"params": int(exact["params"])}
    save_network(
        folder.file(stem),
        network,
        arch,
        space,
        design.network,
        mean=data.mean,
        std=data.std,
        classes=data.classes,
        metrics={name: value for name, value in found.items() if isinstance(value, int | float)},
    )
    return found


def _quantized(design: Design, onnx: Path, out: Path, example: Tensor, test: Split) -> dict[str, Any] | None:
    """Write the 8-bit version of a network; its accuracies, and its latency beside that of the float version.

    Both files are timed against each other on this machine's CPU, where latencies are measured there. None where
    onnxruntime can not quantise the network.
    """
    data, request = design.data, design.request
    try:
        quantize(onnx, out, data.train.images[:QUANTIZED_ON])
    except ArchgenError as error:
        design.progress.note(str(error))
        return None
    parts = {"val_acc": data.validation, "test_acc": test}
    found: dict[str, Any] = {m: onnx_accuracy(out, part.images, part.labels) for m, part in parts.items()}
    found |= {"bytes": out.stat().st_size, "float_bytes": onnx.stat().st_size}
    if request.latency is None and request.processor == "cpu":
        slow, fast = measure_files([onnx, out], example, threads=request.threads, seed=request.seed)
        found |= {LATENCY: fast.latency_ms, "float_latency_ms": slow.latency_ms}
    return found


def choose_set(design: Design, study: Study) -> list[Chosen]:
    """Up to `networks` trials of the Pareto front, the most accurate first, spread evenly over it.

    The front of what is predicted is measured, and what then breaks the bound on the latency, or is dominated, left
    out; when nothing is left, the one that `choose` gives.

    Raises:
        Infeasible: There is no complete trial.
    """
    directions, objectives = design.request.directions, design.request.objectives
    good = [t for t in study.trials if t.state == COMPLETE and all_met(objectives, t.values)]
    points = [[t.values[wish.metric] for wish in directions] for t in good]
    signs = [wish.sign for wish in directions]
    front = [good[i] for i in pareto_front(points, signs)] if good else []
    front = _spread(sorted(front, key=lambda t: -t.values["val_acc"]), design.request.networks)
    bound = design.request.at_most.get(LATENCY, np.inf)
    pairs = zip(front, design.measure([t.arch for t in front]), strict=True) if front else []
    kept = [pair for pair in pairs if pair[1].latency_ms <= bound]
    if not kept:
        return [choose(design, study)]
    values = [[{**t.values, LATENCY: m.latency_ms}[wish.metric] for wish in directions] for t, m in kept]
    return [kept[i] for i in pareto_front(values, signs)]


def _spread(trials: list[Trial], n: int) -> list[Trial]:
    """At most `n` of a sorted front, both ends included."""
    places = np.linspace(0, len(trials) - 1, min(n, len(trials))).round().astype(int)
    return [trials[i] for i in dict.fromkeys(places.tolist())]


def choose(design: Design, study: Study) -> Chosen:
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
    bound = design.request.at_most.get(LATENCY, np.inf)
    measured: list[Chosen] = []
    for start in range(0, min(len(trials), MEASURED_AT_MOST), MEASURED_AT_ONCE):
        some = trials[start : start + MEASURED_AT_ONCE]
        measured += zip(some, design.measure([t.arch for t in some]), strict=True)
        sure = [pair for pair in measured if pair[1].high_ms <= bound]
        if sure:
            return sure[0]
    likely = [pair for pair in measured if pair[1].latency_ms <= bound]
    return likely[0] if likely else min(measured, key=lambda pair: pair[1].latency_ms)


def inherit(design: Design, supernet: Supernet, arch: Architecture) -> nn.Module:
    """The network of an architecture with the inherited weights and the statistics of training images."""
    return recalibrate(supernet.subnet(arch), [design.data.train.images[:CALIBRATION]])


def largest(space: SearchSpace, arguments: dict[str, int]) -> Architecture:
    """The largest architecture of a space with an order, else that of the most FLOPs of a thousand."""
    if space.extremes is not None:
        return space.extremes[1]
    drawn = space.sample(1000, np.random.default_rng(0))
    return drawn[int(Count(space, "flops", arguments).predict(drawn).mean.argmax())]


def finetune(design: Design, supernet: Supernet, trial: Trial, epochs: int) -> tuple[nn.Module, float]:
    """A stand-alone network that starts from the inherited weights, and its validation accuracy in percent.

    The largest architecture with its inherited weights is the teacher, where it is better than the network by more
    than two standard errors. Where the supernet was trained by single paths it rarely is, and a worse one costs several
    points (`experiments/finetune_distillation.py`).

    Training can lose, too: the inherited weights are kept when the trained ones are worse on the validation part by
    more than two standard errors. Not by less: the winner was chosen for its inherited accuracy on just these
    images, so that figure flatters it, and the trained one is not flattered.
    """
    data, request = design.data, design.request

    def validated(network: nn.Module) -> float:
        return accuracy(network, data.validation.images, data.validation.labels)[0]

    network = inherit(design, supernet, trial.arch)
    inherited = {name: value.clone() for name, value in network.state_dict().items()}
    before = validated(network)
    share = before / 100.0
    margin = 200.0 * float(np.sqrt(max(share * (1 - share), 1e-9) / len(data.validation)))
    teacher = inherit(design, supernet, largest(design.space, design.network))
    with design.progress.bar("fine-tuning the winner", epochs) as bar:
        train_network(
            network,
            data,
            Schedule(epochs=epochs, lr=FINETUNE_LR),
            seed=request.seed,
            on_epoch=lambda epoch, losses: bar.update(1, **losses),
            teacher=teacher if validated(teacher) > before + margin else None,
        )
    after = validated(network)
    if after < before - margin:
        network.load_state_dict(inherited)
        return network, before
    return network, after
