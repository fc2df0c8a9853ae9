"""What `archgen search` measures with: the evaluator that its options name, in the wrappers that they ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archgen.cli.options import writable
from archgen.errors import InvalidOption, RunConflict, UnknownMetric

if TYPE_CHECKING:
    from archgen.evaluators import Cached, Cluster, Evaluator, TabularEvaluator
    from archgen.graph import Architecture
    from archgen.objectives import Objective
    from archgen.spaces import SearchSpace
    from archgen.study import Trial

Told = tuple[str, "Architecture", Mapping[str, float]]
"""What says so, in words; an architecture; and its values."""
TRAIN = "train"
DATA, EPOCHS = "digits", 20
"""Of `train`, where nothing is said."""


@dataclass(frozen=True)
class EvaluatorOptions:
    """The options of the command, as they came; None where nothing was said."""

    evaluator: str
    partial: bool
    data: str | None
    epochs: int | None
    transfer: float | None
    noise: list[str]
    cache: Path | None
    workers: int | None
    timeout: float | None
    cluster: Cluster | None = None

    @property
    def measured_by(self) -> str:
        """What measures, in words that two searches share when their measurements may be mixed; without the noise."""
        if self.evaluator != TRAIN:
            return "a table"
        start = "" if self.transfer is None else f", from near networks that overlap by {self.transfer:g}"
        return f"training on {self.data or DATA} for {self.epochs or EPOCHS} epochs{start}"


def make_evaluator(
    options: EvaluatorOptions,
    space: SearchSpace,
    objectives: Sequence[Objective],
    *,
    seed: int,
    study: Path | str | None,
) -> Evaluator:
    """The evaluator: noise on top of the cache, which asks the workers for what it does not know.

    Args:
        options: What the user gave.
        space: The space.
        objectives: The wishes, whose metrics must be there.
        seed: Of the splits of images.
        study: File of the study, beside which weights for `--transfer` are kept, or a URL, beside which there is no
            place; None keeps them in memory, which the processes of `--workers` and `--timeout` do not share.

    Raises:
        ArchgenError: A table, images or an option that can not be used.
    """
    from archgen.evaluators import Cached, Noisy, Parallel, TabularEvaluator

    apart = (options.workers or 1) > 1 or options.timeout is not None or options.cluster is not None
    if options.transfer is not None and (isinstance(study, str) or (study is None and apart)):
        raise InvalidOption("--transfer shares weights between processes beside a study's file: give --study FILE")
    bare = evaluator = _bare(options, space, objectives, seed, study if isinstance(study, Path) else None)
    for wish in objectives:
        if wish.metric not in evaluator.metrics:
            raise UnknownMetric(wish.metric, evaluator.metrics)
    std = read_noise(options.noise, [wish.metric for wish in objectives if not wish.is_bound])
    if options.cluster is not None:
        places = options.cluster.slots(options.workers)  # asked in any case: what fits nowhere would wait without end
        workers = options.workers or places
        evaluator = Parallel(evaluator, workers=workers, timeout=options.timeout, executor=options.cluster.executor)
    elif apart:
        evaluator = Parallel(evaluator, workers=options.workers or 1, timeout=options.timeout)
    if options.cache is not None:
        writable(options.cache)
        evaluator = Cached(evaluator, space, options.cache, options.measured_by)
        if isinstance(bare, TabularEvaluator):
            _check_cache(options, space, evaluator, bare)
    return Noisy(evaluator, std) if std else evaluator


def searchable(space: SearchSpace, evaluator: Evaluator) -> SearchSpace:
    """The space to propose from: of a table that lists a part of a space too large to list, what it lists.

    Drawn from the whole space, a proposal would hardly ever be one that the table knows.
    """
    from archgen.evaluators import TabularEvaluator
    from archgen.evaluators.base import Wrapper
    from archgen.spaces.listed import ListedSpace
    from archgen.strategies.base import LISTABLE

    while isinstance(evaluator, Wrapper):
        evaluator = evaluator.evaluator
    if not isinstance(evaluator, TabularEvaluator) or space.size <= LISTABLE:
        return space
    listed = evaluator.architectures
    return ListedSpace(space, listed) if 1 < len(listed) < space.size else space


def check_told(options: EvaluatorOptions, space: SearchSpace, trials: Sequence[Trial]) -> None:
    """Raise `RunConflict` where a study that is gone on with has other values than its table, which may have grown."""
    from archgen.evaluators import TabularEvaluator
    from archgen.study import COMPLETE

    if options.evaluator == TRAIN or not trials:
        return
    table = TabularEvaluator(space, Path(options.evaluator), partial=True)
    told = [(f"trial {t.number} of the study", t.arch, t.values) for t in trials if t.state == COMPLETE]
    _check_same(table, told, "go on with the table that it began with, or begin another study")


def _check_cache(options: EvaluatorOptions, space: SearchSpace, cached: Cached, table: TabularEvaluator) -> None:
    """Raise `RunConflict` where a cache has other values than the table, which may have grown."""
    told = [(f"'{text}' in {options.cache}", space.parse(text), m.values) for (text, _), m in cached.known.items()]
    _check_same(table, told, "give the table that it was made with, or name another cache")


def _check_same(table: TabularEvaluator, told: Sequence[Told], advice: str) -> None:
    """Raise `RunConflict` where values that were told before are not those of the table."""
    for what, arch, values in told:
        listed = table.look_up(arch).values
        for metric, value in values.items():
            now = listed.get(metric, value)
            if not math.isclose(value, now, rel_tol=1e-9):
                raise RunConflict(f"{what} has {metric} = {value:g}, {table.path} says {now:g}: {advice}")


def read_noise(texts: Sequence[str], metrics: Sequence[str]) -> dict[str, float]:
    """Standard deviations from `SD`, for each of `metrics`, and `METRIC=SD`.

    Raises:
        InvalidOption: A text that is neither.
    """
    std: dict[str, float] = {}
    for text in texts:
        metric, equals, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if (equals and not metric) or not (math.isfinite(number) and number >= 0):
            raise InvalidOption(f"expected SD or METRIC=SD, a number of at least 0, for --noise, got '{text}'")
        std |= dict.fromkeys([metric] if equals else metrics, number)
    return std


def _bare(
    options: EvaluatorOptions, space: SearchSpace, objectives: Sequence[Objective], seed: int, study: Path | None
) -> Evaluator:
    if options.evaluator != TRAIN:
        from archgen.evaluators import TabularEvaluator

        for name in ("data", "epochs", "transfer"):
            if getattr(options, name) is not None:
                raise InvalidOption(f"--{name} needs --evaluator {TRAIN}: with a table nothing is trained")
        needed = [wish.metric for wish in objectives]
        return TabularEvaluator(space, Path(options.evaluator), needed=needed, partial=options.partial)
    from archgen.data import load_data
    from archgen.evaluators import TrainEvaluator
    from archgen.supernets.training import Schedule

    if options.partial:
        raise InvalidOption(f"--partial is for tables: --evaluator {TRAIN} can measure every architecture")
    data, schedule = load_data(options.data or DATA, seed=seed), Schedule(epochs=options.epochs or EPOCHS)
    kept = study.with_name(f"{study.name}-weights") if study is not None and options.transfer is not None else None
    return TrainEvaluator(space, data, schedule, transfer=options.transfer, folder=kept)
