"""The end of a design: the best measured again, fine-tuned, tested once and exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from archgen.data import Split
from archgen.design.choosing import choose, choose_set
from archgen.design.inputs import space_file, versions
from archgen.design.latency import MeasuredHere
from archgen.design.plan import Timetable
from archgen.design.request import LATENCY, MEMORY
from archgen.design.tuners import finetune_all
from archgen.errors import ArchgenError
from archgen.export import check_onnx, save_network, to_onnx
from archgen.hardware import LatencyMeasurement, OnnxLatency, measure_files
from archgen.metrics import pareto_front
from archgen.objectives import Objective
from archgen.peak_memory import file_memory_mb
from archgen.predictors import Predictor
from archgen.quantize import onnx_accuracy, quantize
from archgen.spaces import SearchSpace
from archgen.study import Study, Trial
from archgen.supernets import Supernet
from archgen.supernets.training import accuracy

if TYPE_CHECKING:
    from archgen.design.pipeline import Design

BEST = "best"
QUANTIZED_ON = 256
"""Training images that show a network's ranges."""
FINETUNING = 0.9
"""Share of the time left that fine-tuning is cut to: steps are timed on a machine that may get busier."""


def deliver(
    design: Design, plan: Timetable, study: Study, supernet: Supernet, known: dict[str, Predictor]
) -> dict[str, Any]:
    """Choose, fine-tune, test and export the winner, or the networks of a Pareto set.

    Returns:
        The result but for `seconds`: `winner`, `networks` (the winner first), `finalists` (all that were fine-tuned,
        the most promising first), `met` (by all networks), `constraints` (of the winner; each network has its own),
        `evaluations`, `run`, the facts of the run and, where latencies were measured here, `reference`: ms that the
        reference network took `then` and now.

    Raises:
        Infeasible: No trial gave a finite accuracy.
    """
    several, request = bool(design.request.minimize), design.request
    chosen = choose_set(design, study) if several else choose(design, study, plan.finetuned)
    reference = _reference(design)
    # Under a time limit all that is left is used, be it more than was planned or less.
    epochs = plan.finetune_epochs if request.time_limit is None else request.finetune_epochs
    exported = len(chosen) if several else 1
    trainings = finetune_all(
        design, supernet, [trial for trial, _ in chosen], epochs, partial(_finetuning_seconds, design, exported)
    )
    tuned = [Tuned(*pair, *trained) for pair, trained in zip(chosen, trainings, strict=True)]
    finalists = [each.to_json(design.space) for each in tuned]
    tuned = _delivered(tuned, design.request.directions)
    stems = [f"network{i + 1}" if i else BEST for i in range(len(tuned))]
    networks = [_finish(design, known, each, stem) for each, stem in zip(tuned, stems, strict=True)]
    winner, space, data, folder = networks[0], design.space, design.data, design.folder
    return {
        "winner": winner,
        "networks": networks,
        "finalists": finalists,
        "met": all(constraint["met"] for network in networks for constraint in network["constraints"]),
        "constraints": winner["constraints"],
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
        **reference,
        "versions": versions(),
    }


def _reference(design: Design) -> dict[str, Any]:
    """What the reference network took when latencies were first measured, and with the chosen networks; or nothing."""
    if not isinstance(design.source, MeasuredHere) or design.source.meter.reference_now_ms is None:
        return {}
    meter = design.source.meter
    return {"reference": {"then_ms": meter.reference_ms, "now_ms": meter.reference_now_ms}}


def _finetuning_seconds(design: Design, exported: int, rounds: int) -> float:
    """What a time limit leaves to each of `rounds` trainings, one after another, when `exported` are at the end."""
    if design.request.time_limit is None:
        return float("inf")
    finishing = exported * (2 * design.costs.export + design.costs.measurement)
    return FINETUNING * (design.left - finishing) / rounds


@dataclass(frozen=True)
class Tuned:
    """A trial's network after fine-tuning, and its validation accuracy in percent."""

    trial: Trial
    measured: LatencyMeasurement
    network: nn.Module
    val_acc: float

    def value(self, metric: str) -> float:
        """What is known of a metric now."""
        now = {"val_acc": self.val_acc, LATENCY: self.measured.latency_ms}
        return now[metric] if metric in now else self.trial.values[metric]

    def to_json(self, space: SearchSpace) -> dict[str, Any]:
        """As JSON types."""
        return {
            "arch": space.format(space.simplify(self.trial.arch)),
            "inherited_val_acc": self.trial.values["val_acc"],
            "val_acc": self.val_acc,
            LATENCY: self.measured.latency_ms,
        }


def _delivered(tuned: Sequence[Tuned], directions: Sequence[Objective]) -> list[Tuned]:
    """Those that no other one beats after fine-tuning, the most accurate on the validation part first.

    Of one direction that is the most accurate, of equal ones the most promising, which comes first.
    """
    values = [[each.value(wish.metric) for wish in directions] for each in tuned]
    front = pareto_front(values, [wish.sign for wish in directions])
    return sorted((tuned[i] for i in front), key=lambda each: -each.val_acc)


def _finish(design: Design, known: dict[str, Predictor], tuned: Tuned, stem: str) -> dict[str, Any]:
    """Test and export one network; what is known of it, as JSON types."""
    space, data, folder = design.space, design.data, design.folder
    trial, measured, network = tuned.trial, tuned.measured, tuned.network
    arch = space.simplify(trial.arch)
    test = Split(data.test.images, data.test.labels)  # the only look at the test part: nothing is chosen afterwards
    test_acc, _ = accuracy(network, test.images, test.labels)
    example, onnx = space.example_input(1, **design.network), folder.file(f"{stem}.onnx")
    to_onnx(network, example, onnx)
    difference = check_onnx(network, onnx, data.validation.images[:64])
    int8 = _quantized(design, onnx, folder.file(f"{stem}.int8.onnx"), example, test)
    found: dict[str, Any] = {
        "arch": space.format(arch),
        "val_acc": tuned.val_acc,
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
        exact[MEMORY] = file_memory_mb(onnx)
    found |= exact | {"params": int(exact["params"])}
    found["constraints"] = [_constraint(design, metric, found[metric]) for metric in design.request.at_most]
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
        space_file=space_file(folder),
    )
    return found


def _constraint(design: Design, metric: str, value: float) -> dict[str, Any]:
    """An upper bound and what is there, as JSON types; `percent` where the bound was asked for as a percentage."""
    bound = design.request.at_most[metric]
    found = {"metric": metric, "sense": "at_most", "bound": bound, "value": value, "met": bool(value <= bound)}
    if design.folder.state["facts"].get("percentiles", {}).get(metric) == bound:
        found["percent"] = design.request.at_most_percent[metric]
    return found


def _quantized(design: Design, onnx: Path, out: Path, example: Tensor, test: Split) -> dict[str, Any] | None:
    """Write the 8-bit version of a network; its accuracies, and its latency beside that of the float version.

    Both files are timed against each other on this machine's CPU, where latencies are measured there; by onnxruntime,
    whatever the networks are measured by. None where onnxruntime can not quantise the network.
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
    if isinstance(design.source, MeasuredHere) and request.processor == "cpu":
        meter, files = design.source.meter, [onnx, out]
        if isinstance(meter, OnnxLatency):  # for the speed that all latencies of the run are given for
            slow, fast = meter.measure_files(files, seed=request.seed)
        else:
            slow, fast = measure_files(files, example, threads=request.threads, seed=request.seed)
        found |= {LATENCY: fast.latency_ms, "float_latency_ms": slow.latency_ms}
    return found
