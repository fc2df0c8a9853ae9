"""How much sooner are the architectures of a design's search evaluated when processes share them?

    python experiments/search_processes.py RUN [--archs 40] [--processes 2]

RUN is the folder of a finished `archgen design`. The architectures of its first trials are evaluated by inherited
weights as its search does it, in batches of the request's size: here with one thread, then in processes of one thread
each, their start included. A row a way: `seconds`, `ratio`, those of the first to these, and `same`, whether all
measured values are those of the first.

Writes experiments/results/search_processes.csv.
"""

from __future__ import annotations

import argparse
import platform
import time
from contextlib import closing
from pathlib import Path

import pandas as pd
import torch
from design_against_random import reopened, trials_of

from archgen.artifacts import write_atomic
from archgen.evaluators import Parallel
from archgen.threads import single_threaded

RESULTS = Path(__file__).parent / "results" / "search_processes.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--archs", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    design, supernet = reopened(args.run)
    archs = [trial.arch for trial in trials_of(design)[: args.archs]]
    batch, seed = design.request.batch, design.request.seed
    ways = {"one after another": design.evaluator(supernet)}
    ways["processes"] = Parallel(design.evaluator(supernet), workers=args.processes, threads=1)
    rows, values = [], {}
    with single_threaded():
        for way, evaluator in ways.items():
            start = time.perf_counter()
            with closing(evaluator):
                measured = [
                    measurement
                    for first in range(0, len(archs), batch)
                    for measurement in evaluator.evaluate(archs[first : first + batch], seed=seed)
                ]
                values[way] = [measurement.values for measurement in measured]
            rows.append({"way": way, "seconds": time.perf_counter() - start})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).assign(
        ratio=[rows[0]["seconds"] / row["seconds"] for row in rows],
        same=[values[row["way"]] == values["one after another"] for row in rows],
        archs=len(archs),
        batch=batch,
        processes=args.processes,
        space=design.space.name,
        data=design.data.name,
        machine=f"{platform.machine()}, torch {torch.__version__}",
    )
    print(table.to_string(index=False))
    write_atomic(RESULTS, lambda path: table.to_csv(path, index=False))


if __name__ == "__main__":
    main()
