"""Every search strategy on a table of measurements, under one protocol (`archgen.protocol`).

    python experiments/bo_tables.py --space nasbench_macro --table ../shared/data/nasbench_macro.parquet \\
        --maximize test_acc --name nasbench_macro [--seeds 30] [--budget 200] [--batch 1] [--workers 2]

Each strategy gets the same seeds and budget; its random start counts, no label is known before, no run is left out. A
finished run is kept (runs/bo_<name>/<strategy>/), so the same command goes on where it was stopped, and more seeds or
strategies can be added to it; remove a strategy's folder when its code has changed. `best_at` is the evaluation that
found the table's best (median over all runs, those that did not find it counted as infinite). Writes
experiments/results/bo_<name>.csv (a row a run), .png (mean regret with a bootstrap band) and .md (a row a strategy).

The other scripts `bo_*.py` are made of the parts of this one.
"""

from __future__ import annotations

import argparse
import inspect
import platform
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from archgen import config, maximize, minimize, plots, spaces
from archgen.artifacts import write_atomic
from archgen.cli.terminal import Terminal
from archgen.comparison import AT, caption, markdown, mean_curves, per_run, summarise
from archgen.evaluators import Evaluator, RayExecutor, TabularEvaluator
from archgen.gaps import Gaps, find_gaps
from archgen.generators import Generator
from archgen.objectives import Objective
from archgen.protocol import Protocol, processes
from archgen.runs import Runs
from archgen.sampler import pretrained_generator
from archgen.spaces import SearchSpace
from archgen.strategies import STRATEGIES, SearchStrategy, pretrained_parts

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Variant:
    """A strategy with arguments of its own, and what is made of the generator that it is given."""

    strategy: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    wrap: Callable[[Generator], Any] | None = None


@dataclass(frozen=True)
class Search(ABC):
    """One run, in whichever process: `Protocol.complete` calls it with a variant's name and a seed."""

    objectives: tuple[Objective, ...]
    budget: int
    batch: int
    seeds: int
    variants: Mapping[str, Variant]
    optimum: float | None

    @abstractmethod
    def load(self) -> tuple[SearchSpace, Evaluator]:
        """What is searched; kept for the next run of the same process."""

    @abstractmethod
    def generator(self) -> Generator:
        """A trained generator of the space; kept too."""

    @property
    def protocol(self) -> Protocol:
        return Protocol(
            self.load()[0], self.objectives, self.budget, self.batch, tuple(range(self.seeds)), self.optimum
        )

    def __call__(self, name: str, seed: int) -> pd.DataFrame:
        space, evaluator = self.load()
        variant = self.variants[name]
        arguments = needed(variant, space, self.generator)  # before the clock of the run starts

        def make(seed: int) -> SearchStrategy:
            return STRATEGIES[variant.strategy](
                space,
                self.objectives,
                seed=seed,
                screen=lambda archs: [evaluator.can_evaluate(arch) for arch in archs],
                **arguments,
            )

        return self.protocol.run(name, make, evaluator, seed=seed)

    def runs(self, folder: Path, workers: int, ray: str | None = None) -> Runs:
        """All runs; those that are not in the folder are done first, on a Ray cluster where one is named."""
        if ray is not None:
            with RayExecutor(workers, address=ray) as cluster:
                return self.protocol.complete(folder, list(self.variants), self, executor=cluster, progress=Terminal())
        if workers == 1:
            return self.protocol.complete(folder, list(self.variants), self, progress=Terminal())
        with processes(workers) as pool:
            return self.protocol.complete(folder, list(self.variants), self, executor=pool, progress=Terminal())


@dataclass(frozen=True)
class TableSearch(Search):
    """Of a space that `archgen spaces` lists, on a table."""

    space: str
    table: Path

    def load(self) -> tuple[SearchSpace, Evaluator]:
        return _load(self.space, self.table, tuple(wish.metric for wish in self.objectives))

    def generator(self) -> Generator:
        return _generator(self.space)


def takes_generator(strategy: str) -> bool:
    """Whether a strategy has an argument `generator`."""
    return "generator" in inspect.signature(STRATEGIES[strategy]).parameters


def needed(variant: Variant, space: SearchSpace, generator: Callable[[], Generator]) -> dict[str, Any]:
    """The arguments of a variant; generator and free labels of the space's checkpoints where it does not say others."""
    arguments = dict(variant.arguments)
    if takes_generator(variant.strategy):
        arguments["generator"] = (variant.wrap or (lambda same: same))(generator())
    return arguments | pretrained_parts(STRATEGIES[variant.strategy], space, arguments)


@lru_cache(maxsize=1)
def _load(space: str, table: Path, needed: tuple[str, ...]) -> tuple[SearchSpace, TabularEvaluator]:
    loaded = spaces.load(space)
    return loaded, TabularEvaluator(loaded, table, needed=needed, partial=True)


@lru_cache(maxsize=1)
def _generator(space: str) -> Generator:
    return pretrained_generator(spaces.load(space))


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that all scripts `bo_*.py` share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--ray", metavar="ADDRESS", help="Ray cluster to do the runs on: auto, HOST:PORT or local")
    parser.add_argument("--strategies", nargs="+", default=sorted([*STRATEGIES, *PLAIN]))
    parser.add_argument("--reference", default="generative", help="strategy that the others are tested against")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where finished runs are kept")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where tables and pictures go")
    return parser


def published() -> Path:
    """Folder of the published tables; without one the script ends."""
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    return tables


PLAIN = {"bayes-plain": Variant("bayes", {"free_labels": None})}
"""Variants that the scripts know beside the strategies themselves."""


def variants(names: Sequence[str], budget: int) -> dict[str, Variant]:
    """Strategies as `archgen search` makes them, and those of `PLAIN`; RoBoT's iterations are the budget."""
    known = {**PLAIN, "robot": Variant("robot", {"iterations": budget})}
    return {name: known.get(name) or Variant(name) for name in names}


def report(
    search: Search,
    runs: Runs,
    out: Path,
    *,
    gaps: Gaps,
    reference: str,
    label: str,
    at: Sequence[int] = AT,
    shown: str | None = None,
    random_mean: float | None = None,
) -> str:
    """Write `<out>.csv` and `<out>.png`; the Markdown of the summary, tested at 64 evaluations or the last before."""
    table = per_run(runs, search.objectives, gaps, at=at, shown=shown, random_mean=random_mean)
    tested = f"{gaps.name}@{max([n for n in at if n <= min(runs.budget, 64)], default=runs.budget)}"
    against = reference if reference in runs.strategies else runs.strategies[0]
    summary = summarise(table, reference=against, tested=tested)
    write_atomic(Path(f"{out}.csv"), lambda path: table.to_csv(path, index=False))
    series, bands = mean_curves(gaps)
    title = f"mean of {len(runs.seeds)} seeds, 95 % bootstrap band"
    plots.save_png(plots.line_plot(series, x="evaluations", y=label, bands=bands, title=title), Path(f"{out}.png"))
    return (
        f"{caption(runs, search.objectives, gaps, tested, against)} Batches of {search.batch}; `overhead_seconds`: CPU "
        f"seconds a trial besides evaluating. {platform.machine()}, one thread a run, torch {torch.__version__}."
        f"\n\n{markdown(summary)}"
    )


def write_text(path: Path, text: str) -> None:
    write_atomic(path, lambda beside: _write(beside, text))
    print(text)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--space", required=True)
    parser.add_argument("--table", type=Path, required=True)
    wish = parser.add_mutually_exclusive_group(required=True)
    wish.add_argument("--maximize")
    wish.add_argument("--minimize")
    parser.add_argument("--show", help="another metric of the best so far, such as its test accuracy")
    parser.add_argument("--name", required=True, help="of the files written")
    args = parser.parse_args()
    objective = maximize(args.maximize) if args.maximize else minimize(args.minimize)
    frame = pd.read_parquet(args.table)
    best = float(objective.sign * np.nanmax(objective.sign * frame[objective.metric]))
    known = variants(args.strategies, args.budget)
    search = TableSearch((objective,), args.budget, args.batch, args.seeds, known, best, args.space, args.table)
    runs = search.runs(args.runs / f"bo_{args.name}", args.workers, args.ray)
    gaps = find_gaps(runs, [objective], best=best)
    mean = None if args.show is None else float(frame[args.show].mean())
    text = report(
        search,
        runs,
        args.out / f"bo_{args.name}",
        gaps=gaps,
        reference=args.reference,
        label=f"regret of {objective.metric}",
        shown=args.show,
        random_mean=mean,
    )
    write_text(args.out / f"bo_{args.name}.md", f"# {args.name}\n\n{text}")


if __name__ == "__main__":
    main()
