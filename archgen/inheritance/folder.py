"""Supernets in folders: trained, resumed, and read."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from archgen import artifacts
from archgen.errors import InvalidCheckpoint, InvalidData, InvalidOption, InvalidSpace, RunConflict
from archgen.inheritance.request import SupernetRequest, TrainedSupernet, make_strategy, make_trained
from archgen.progress import Progress
from archgen.run_folder import RunFolder
from archgen.supernets import SplitSupernet, split_as
from archgen.supernets.training import (
    Cut,
    Plan,
    Precision,
    Processes,
    Schedule,
    batch_size,
    train_and_split,
    train_supernet,
)
from archgen.supernets.training.splitting import check_splits

TRAINING, KEPT = "training.safetensors", "training.*"
FOUND = "found"
"""The fact of a run that says which architecture its training chose."""


def train_in_folder(
    request: SupernetRequest,
    out: Path,
    *,
    resume: bool = False,
    agreed: Collection[str] = (),
    progress: Progress | None = None,
    processes: Processes | None = None,
) -> TrainedSupernet:
    """Train, or go on with, a supernet; its folder then holds a checkpoint.

    Args:
        request: What to train; what the folder says counts when resuming.
        out: New or empty, or the folder of the training to resume; one that all processes see.
        resume: Whether to go on with the training in `out`.
        agreed: Fields of the request in which a training to resume must agree with it.
        progress: Shows how far it is.
        processes: Which train together, of which the first writes; this one alone where None.

    Raises:
        RunConflict: A folder with something else, or a training to resume that does not agree.
        ArchgenError: Bad data, an unknown name, or a loss that is not finite.
    """
    progress, processes = progress or Progress(), processes or Processes()
    first = processes.rank == 0
    if resume:
        run = RunFolder.open(out)
        request = _request(run, request, agreed)
        if run.file(artifacts.CONFIG).exists():
            found = run.state["facts"].get(FOUND)
            ready = load_supernet(out)
            return ready if found is None else replace(ready, found=ready.space.parse(found))
        ready = make_trained(request)
    else:
        ready = make_trained(request)
        _check(ready, processes)  # what can not be trained must not leave a folder behind
        if first:
            RunFolder.create(out, asdict(request))
    processes.wait()  # before the first one writes more, all have read the folder, or there is one
    run = RunFolder.open(out)
    progress.note(ready.data.describe())
    epochs = request.epochs + request.splits * request.before_a_split
    timed = run.stage("training") if first else nullcontext()
    alone = run.locked() if first else nullcontext()
    with alone, timed, progress.bar("training the supernet", epochs) as bar:
        supernet, strategy = train_and_split(
            ready.supernet,
            lambda: make_strategy(request),
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
    Schedule(request.epochs, lr=request.lr)
    size = min(batch_size(data, request.batch), len(data.train))
    processes.check(size, request.precision)
    strategy = make_strategy(request)
    strategy.check(processes, size)
    strategy.prepare(ready.supernet, Plan(1, 1, 1))
    if request.splits:
        check_splits(ready.supernet, make_strategy(request))


def _save(trained: TrainedSupernet, run: RunFolder, epochs: int) -> None:
    """The checkpoint in the place of what the training kept."""
    request, space, supernet = trained.request, trained.space, trained.supernet
    seconds, more = run.seconds["training"], ""
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
        f"{epochs} epochs{more}, seed {request.seed}, {seconds:.0f} s, torch {torch.__version__}.{chosen}\n",
    )
    for path in run.path.glob(KEPT):
        path.unlink()


def _text(cut: Cut | None) -> str:
    if cut is None:
        return "a part stays whole"
    return f"split by {cut.variable}: {' and '.join(str(list(group)) for group in cut.groups)}"


def load_supernet(folder: Path, data: str | None = None) -> TrainedSupernet:
    """Read a trained supernet and its images.

    Args:
        folder: Where it is.
        data: The images, where they are not where they were in training (`archgen.data.load_data`); None for there.

    Raises:
        InvalidCheckpoint: No supernet, a damaged one, or one whose space or images have changed.
        InvalidData: The images can not be read.
    """
    if not (folder / artifacts.CONFIG).exists() and any(folder.glob(KEPT)):
        raise InvalidCheckpoint(f"the supernet in {folder} is not trained to its end; go on by --resume")
    checkpoint = artifacts.load_checkpoint(folder, "supernet")
    try:
        tree = checkpoint.config.pop("tree", None)
        request = SupernetRequest.from_json(checkpoint.config)
        made = make_trained(request if data is None else replace(request, data=data))
    except (TypeError, InvalidOption) as error:
        raise _damaged(folder, error) from None
    except InvalidData as error:
        if data is not None:
            raise
        raise InvalidData(
            f"the images that {folder} was trained on can not be read, say by --data where they are: {error}"
        ) from None
    try:
        found = replace(made, supernet=split_as(made.supernet, tree))
    except InvalidSpace as error:
        raise _damaged(folder, error) from None
    artifacts.load_weights(found.supernet, checkpoint.tensors, str(folder))
    found.supernet.eval()
    return found


def _damaged(folder: Path, error: Exception) -> InvalidCheckpoint:
    return InvalidCheckpoint(
        f"{folder / artifacts.CONFIG} is damaged or by another version of archgen ({error}); train again"
    )


def _request(run: RunFolder, asked: SupernetRequest, agreed: Collection[str]) -> SupernetRequest:
    """What the run was begun with."""
    try:
        kept = SupernetRequest.from_json(run.state["request"])
    except (TypeError, InvalidOption) as error:
        raise RunConflict(f"{run.path} is of another kind or version ({error}); start a new one") from None
    for name in sorted(agreed):
        was, now = getattr(kept, name), getattr(asked, name)
        if was != now:
            raise RunConflict(
                f"{run.path} was begun with {name} = {was!r}, now it is {now!r}; give what it was begun with, "
                "or start another in a new --out"
            )
    return kept
