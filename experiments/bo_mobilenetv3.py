"""Every search strategy on Once-for-All's MobileNetV3 under Note10 latency bounds, by evaluations (figure B8).

    python experiments/bo_mobilenetv3.py [--bounds 20 25 30] [--seeds 30] [--budget 300] [--batch 10] [--workers 2]

The space (10^20 nets, `spaces/ofa_note10.toml` beside this script) and the truth (the published accuracy predictor, the
published Note10 table: `ofa_truth.py`) are those of `ofa_pareto.py`, whose searches ask for thousands of accuracies;
here each is bought as dearly as a training is. Latencies cost nothing, as there: no strategy is let propose what breaks
the bound (7 % of random nets meet 20 ms, 26 % 25 ms, 47 % 30 ms; at 15 ms, 0.1 %, random search finds too few). The
generator of `generative` is trained here once on random architectures, without a label (kept in
runs/ofa_note10_unlabelled). The optimum is unknown: regret is against the best of all runs here and of
`ofa_pareto.csv`. Protocol and files as in `bo_tables.py`. Writes experiments/results/bo_mobilenetv3_<bound>ms.csv and
.png, and bo_mobilenetv3.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from bo_tables import RESULTS, Search, options, published, report, takes_generator, variants, write_text
from ofa_searches import ACCURACY, LATENCY
from ofa_truth import Truth

from archgen import load_space, maximize
from archgen.evaluators import Evaluator, Measurement
from archgen.gaps import find_gaps
from archgen.generators import Generator, load_generator
from archgen.graph import Architecture
from archgen.pretrain import pretrain_generator
from archgen.spaces import SearchSpace

SPACE = Path(__file__).parent / "spaces" / "ofa_note10.toml"
STEPS = 1000
"""Of training the generator."""
AT = (100, 150, 200, 300)
"""Evaluations at which regret is shown."""


class Published(Evaluator):
    """The published truth as an evaluator of what meets a bound of the latency, ms."""

    def __init__(self, truth: Truth, bound: float) -> None:
        self.truth, self.bound = truth, bound

    @property
    def metrics(self) -> tuple[str, ...]:
        return (ACCURACY, LATENCY)

    def can_evaluate(self, arch: Architecture) -> bool:
        return self.truth.latency(arch.ops[1:-1]) <= self.bound

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        top1, latency = self.truth.top1(archs).tolist(), self.truth.note10(archs).tolist()
        return [Measurement({ACCURACY: a, LATENCY: ms}, 0.0) for a, ms in zip(top1, latency, strict=True)]


@dataclass(frozen=True)
class OfaSearch(Search):
    """On the published truth."""

    tables: Path
    trained: Path
    bound: float

    def load(self) -> tuple[SearchSpace, Evaluator]:
        return _load(self.tables, self.bound)

    def generator(self) -> Generator:
        return _generator(self.trained)


@lru_cache(maxsize=1)
def _load(tables: Path, bound: float) -> tuple[SearchSpace, Evaluator]:
    space = load_space(SPACE)
    return space, Published(Truth(space, tables / "ofa_mobilenetv3"), bound)


@lru_cache(maxsize=1)
def _generator(folder: Path) -> Generator:
    return load_generator(folder)


def main() -> None:
    parser = options(__doc__)
    parser.set_defaults(budget=300, batch=10)
    parser.add_argument("--bounds", nargs="+", type=float, default=[20.0, 25.0, 30.0], help="latency, ms")
    args = parser.parse_args()
    tables = published()
    trained = args.runs / "ofa_note10_unlabelled"
    if not (trained / "config.json").exists() and any(map(takes_generator, args.strategies)):
        print(f"generator: {pretrain_generator(load_space(SPACE), trained, steps=STEPS)}", flush=True)
    sections = ["# Search strategies on Once-for-All's MobileNetV3\n"]
    for bound in args.bounds:
        wishes = (maximize(ACCURACY),)
        search = OfaSearch(
            wishes,
            args.budget,
            args.batch,
            args.seeds,
            variants(args.strategies, args.budget),
            None,
            tables,
            trained,
            bound,
        )
        runs = search.runs(args.runs / f"bo_mobilenetv3_{bound:g}ms", args.workers, args.ray)
        seen = [known(bound), *(float(np.nanmax(values)) for values in runs.values(ACCURACY).values())]
        text = report(
            search,
            runs,
            args.out / f"bo_mobilenetv3_{bound:g}ms",
            gaps=find_gaps(runs, wishes, best=float(np.nanmax(seen))),
            reference=args.reference,
            at=AT,
            label=f"regret within {bound:g} ms (top-1, points)",
        )
        sections.append(f"## {bound:g} ms\n\n{text}")
    write_text(args.out / "bo_mobilenetv3.md", "\n".join(sections))


def known(bound: float) -> float:
    """The best that `ofa_pareto.py` found within the bound; NaN where it was not run."""
    path = RESULTS / "ofa_pareto.csv"
    if not path.exists():
        return float("nan")
    table = pd.read_csv(path)
    return float(table.loc[table["latency_ms"] <= bound, "top1"].max())


if __name__ == "__main__":
    main()
