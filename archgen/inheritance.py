"""Supernets from images to ranks: training in a resumable folder, reading it, scoring by inherited weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from archgen import artifacts, spaces
from archgen.complexity import draw_between
from archgen.data import ImageData, load_data
from archgen.errors import InvalidCheckpoint, InvalidOption, RunConflict
from archgen.evaluators import SupernetEvaluator, image_network
from archgen.graph import Architecture
from archgen.progress import Progress
from archgen.run_folder import RunFolder
from archgen.spaces import SearchSpace
from archgen.supernets import SplitSupernet, Supernet, make_supernet, mixture, split_as
from archgen.supernets.training import (
    TRAINING_STRATEGIES,
    Cut,
    Plan,
    Precision,
    Processes,
    Schedule,
    TrainingStrategy,
    batch_size,
    train_and_split,
    train_supernet,
)
from archgen.supernets.training.splitting import REPEATS

TRAINING, KEPT = "training.safetensors", "training.*"
FOUND = "found"
"""The fact of a run that says which architecture its training chose."""
CALIBRATION = 1024
"""Most images whose statistics a network gets."""
TOP = 0.1
"""Share of the best architectures that are judged apart."""


@dataclass(frozen=True)
class SupernetRequest:
    """What is to be trained; all of it is kept in the folder.

    Args:
        space: Name of the search space, or a TOML file.
        data: What `archgen.data.load_data` reads.
        strategy: Name of the training strategy.
        options: Arguments of the strategy.
        network: Arguments of `space.build`; those that the images settle are settled by them.
        epochs: Passes over the training part.
        lr: Peak learning rate.
        seed: Of everything random.
        resize: Side in pixels to resize the images to, or None.
        limit: Most images to use, or None.
        batch: Images a step, or None for `batch_size`'s choice.
        every: Steps between two checkpoints, or None for a tenth of the training.
        precision: `no`, `bf16` or `fp16`.
        channels_last: Whether images are stored channels last.
        mixture: Sets of weights (`supernets.mixture`); 1 is a plain supernet.
        splits: How often the supernet is split by its gradients (`train_and_split`).
        warm_up: Epochs before each split; a quarter of `epochs`, at least 1, where None.
        repeats: Batches whose gradients are compared for a split.
    """

    space: str
    data: str
    strategy: str = "uniform"
    options: dict[str, Any] = field(default_factory=dict)
    network: dict[str, int] = field(default_factory=dict)
    epochs: int = 100
    lr: float = 0.1
    seed: int = 0
    resize: int | None = None
    limit: int | None = None
    batch: int | None = None
    every: int | None = None
    precision: str = "no"
    channels_last: bool = False
    mixture: int = 1
    splits: int = 0
    warm_up: int | None = None
    repeats: int = REPEATS

    @property
    def before_a_split(self) -> int:
        """Epochs of `warm_up`, settled."""
        return max(1, self.epochs // 4) if self.warm_up is None else self.warm_up


@dataclass(frozen=True, eq=False)
class TrainedSupernet:
    """A supernet and the images that it was trained on."""

    request: SupernetRequest
    space: SearchSpace
    supernet: Supernet
    data: ImageData
    found: Architecture | None = None
    """What the training has chosen, where its strategy chooses."""

    @property
    def evaluator(self) -> SupernetEvaluator:
        """Scores by inherited weights, on the validation images."""
        part = self.data.validation
        return SupernetEvaluator(self.supernet, self.data.train.images[:CALIBRATION], part.images, part.labels)


def train_in_folder(
    request: SupernetRequest,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    processes: Processes | None = None,
) -> TrainedSupernet:
    """Train, or go on with, a supernet; its folder then holds a checkpoint.

    Args:
        request: What to train; what the folder says counts when resuming.
        out: New or empty, or the folder of the training to resume; one that all processes see.
        resume: Whether to go on with the training in `out`.
        progress: Shows how far it is.
        processes: Which train together, of which the first writes; this one alone where None.

    Raises:
        ArchgenError: Bad data, an unknown name, a folder with something else, or a loss that is not finite.
    """
    progress, processes = progress or Progress(), processes or Processes()
    first = processes.rank == 0
    if resume:
        run = RunFolder.open(out)
        request = _request(run)
        if run.file(artifacts.CONFIG).exists():
            found = run.state["facts"].get(FOUND)
            ready = load_supernet(out)
            return ready if found is None else replace(ready, found=ready.space.parse(found))
        ready = _make(request)
    else:
        ready = _make(request)
        _check(ready, processes)  # what can not be trained must not leave a folder behind
        if first:
            RunFolder.create(out, asdict(request))
    processes.wait()  # before the first one writes more, all have read the folder, or there is one
    run = RunFolder.open(out)
    progress.note(ready.data.describe())
    epochs = request.epochs + request.splits * request.before_a_split
    timed = run.stage("training") if first else nullcontext()
    with timed, progress.bar("training the supernet", epochs) as bar:
        supernet, strategy = train_and_split(
            ready.supernet,
            lambda: _strategy(request),
            ready.data,
            Schedule(request.epochs, lr=request.lr),
            warm_up=request.before_a_split,
            splits=request.splits,
            seed=request.seed,
            repeats=request.repeats,
            checkpoint=run.file(TRAINING),
            train=partial(
                train_supernet,
                every=request.every,
                batch=request.batch,
                processes=processes,
                precision=request.precision,
                channels_last=request.channels_last,
            ),
            on_epoch=lambda epoch, losses: bar.update(1, **losses),
            on_cut=lambda cut: progress.note(_text(cut)),
        )
    supernet.to("cpu")
    ready = replace(ready, supernet=supernet, found=strategy.found(supernet))
    processes.wait()
    if first:
        _save(ready, run, epochs)
    return ready


def _check(ready: TrainedSupernet, processes: Processes) -> None:
    """Raise what a training would raise before its first step."""
    request, data = ready.request, ready.data
    Precision(request.precision)
    processes.check(min(batch_size(data, request.batch), len(data.train)), request.precision)
    strategy = _strategy(request)
    strategy.check(processes)
    strategy.prepare(ready.supernet, Plan(1, 1, 1))


def _save(trained: TrainedSupernet, run: RunFolder, epochs: int) -> None:
    """The checkpoint in the place of what the training kept."""
    request, space, supernet = trained.request, trained.space, trained.supernet
    more = ""
    if request.mixture > 1:
        more = f", {request.mixture} sets of weights"
    if request.splits:
        more = f", splits: {request.splits}"
    chosen = ""
    if trained.found is not None:
        run.state["facts"][FOUND] = space.format(trained.found)
        run.save()
        chosen = f" It chose `{run.state['facts'][FOUND]}`."
    tree = supernet.tree if isinstance(supernet, SplitSupernet) else None
    artifacts.save_checkpoint(
        run.path,
        artifacts.Checkpoint("supernet", space.whole.family, {**asdict(request), "tree": tree}, supernet.state_dict()),
        card=f"# Supernet of {space.name}\n\nTrained on {trained.data.describe()} by `{request.strategy}` for "
        f"{epochs} epochs{more}, seed {request.seed}, {run.seconds['training']:.0f} s, torch {torch.__version__}.{chosen}\n",
    )
    for path in run.path.glob(KEPT):
        path.unlink()


def _text(cut: Cut) -> str:
    return "a part stays whole" if cut is None else f"split by {cut[0]}: {' and '.join(map(str, cut[1]))}"


def _strategy(request: SupernetRequest) -> TrainingStrategy:
    options = dict(request.options)
    if request.strategy == "shiftnas":
        options["draw"] = draw_between
    return TRAINING_STRATEGIES[request.strategy](**options)


def load_supernet(folder: Path) -> TrainedSupernet:
    """Read a trained supernet and its images.

    Raises:
        InvalidCheckpoint: No supernet, a damaged one, or one whose space or images have changed.
    """
    if not (folder / artifacts.CONFIG).exists() and any(folder.glob(KEPT)):
        raise InvalidCheckpoint(f"the supernet in {folder} is not trained to its end; go on by --resume")
    checkpoint = artifacts.load_checkpoint(folder, "supernet")
    try:
        tree = checkpoint.config.pop("tree", None)
        request = SupernetRequest(**checkpoint.config)
    except TypeError as error:
        raise InvalidCheckpoint(f"{folder} was made by another version of archgen ({error}); train again") from None
    made = _make(request)
    found = replace(made, supernet=split_as(made.supernet, tree))
    artifacts.load_weights(found.supernet, checkpoint.tensors, str(folder))
    found.supernet.eval()
    return found


def rank(
    trained: TrainedSupernet, archs: Sequence[Architecture], y: NDArray[np.float64], progress: Progress
) -> dict[str, Any]:
    """How well inherited accuracies order architectures whose true values are known.

    Args:
        trained: The supernet.
        archs: `b` architectures, at least 3.
        y: Their values, larger is better, not all equal.
        progress: Shows how far it is.

    Returns:
        `kendall_tau`, `spearman_rho`, `kendall_tau_top`, that within the best tenth by `y`, `n`, `seconds` an
        architecture, and the inherited accuracies in percent, `val_acc`. None where fewer than 3, or equal values, have
        no order.
    """
    evaluator, inherited, seconds = trained.evaluator, [], 0.0
    with progress.bar("scoring by inherited weights", len(archs)) as bar:
        for arch in archs:
            (measured,) = evaluator.evaluate([arch], seed=0)
            inherited.append(measured.values.get("val_acc", float("nan")))
            seconds += measured.cost_seconds
            bar.update(1)
    x = np.array(inherited)
    top = np.argsort(-y, kind="stable")[: max(int(TOP * len(y)), 1)]
    return {
        "kendall_tau": _correlation(kendalltau, x, y),
        "spearman_rho": _correlation(spearmanr, x, y),
        "kendall_tau_top": _correlation(kendalltau, x[top], y[top]),
        "n": len(archs),
        "seconds": seconds / len(archs),
        "val_acc": inherited,
    }


def _correlation(of: Callable[..., Any], x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    value = of(x, y).statistic if len(y) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0 else np.nan
    return float(value) if np.isfinite(value) else None


def _request(run: RunFolder) -> SupernetRequest:
    try:
        return SupernetRequest(**run.state["request"])
    except TypeError as error:
        raise RunConflict(f"{run.path} is of another kind or version ({error}); start a new one") from None


def _make(request: SupernetRequest) -> TrainedSupernet:
    """The untrained supernet and the images of a request."""
    TRAINING_STRATEGIES[request.strategy]
    space = spaces.load(request.space)
    data = load_data(request.data, seed=request.seed, resize=request.resize, limit=request.limit)
    network = image_network(space, data, request.network)
    settled = sorted(request.network.keys() & {"classes", "in_channels", "image_size"})
    if settled:
        raise InvalidOption(f"{', '.join(settled)} of the network is settled by the images; leave it out")
    if request.mixture > 1 and request.splits:
        raise InvalidOption("expected either several sets of weights or splits, got both")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        supernet = make_supernet(space, **network)
        if request.mixture > 1:
            supernet = mixture(supernet, request.mixture)
    return TrainedSupernet(request, space, supernet, data)
