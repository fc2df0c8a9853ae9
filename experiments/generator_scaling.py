"""Time and memory of sampling as the work grows: n = 100 to 1,000,000 samples, and graphs of 8 to 128 nodes.

    python experiments/generator_scaling.py [--most 1000000]

Samples of NAS-Bench-201 are consumed from `GuidedSampler.stream` (the flow in 4 steps), each n in a process of its own,
so that its peak memory is its own; graphs of more nodes come from an untrained flow of the default size (speed does not
depend on weights), 256 in 16 steps, a node having 10 labels and, in the second series, every edge being free too. One
thread.
Writes experiments/results/generator_scaling.csv and .png.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import time
from pathlib import Path

import pandas as pd
import torch

from archgen import GuidedSampler, plots
from archgen.generators import DiscreteFlow

RESULTS = Path(__file__).parent / "results"
LABELS = 10
STEPS = 4  # of the flow, as in generator_speed.py; one_step always takes one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=1_000_000)
    args = parser.parse_args()
    counts = [10**power for power in range(2, 8) if 10**power <= args.most]
    works = [("samples", name, n) for name in ("discrete_flow", "one_step") for n in counts]
    works += [("nodes", kind, n) for kind in ("labels", "labels and edges") for n in (8, 16, 32, 64, 128)]
    rows = []
    for work in works:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(measure, work))
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "generator_scaling.csv", index=False)
    draw(table)
    print(f"{platform.machine()}, one thread, torch {torch.__version__}")


def draw(table: pd.DataFrame) -> None:
    def series(what: str, column: str) -> dict[str, tuple[pd.Series, pd.Series]]:
        part = table[table["what"] == what]
        return {kind: (rows["n"], rows[column]) for kind, rows in part.groupby("kind", sort=False)}

    figure = plots.line_panels(
        [
            plots.Panel(series("samples", "seconds"), x="samples", y="seconds"),
            plots.Panel(series("samples", "megabytes"), x="samples", y="MB beyond the program"),
            plots.Panel(series("nodes", "seconds"), x="nodes", y="seconds for 256 graphs"),
            plots.Panel(series("nodes", "megabytes"), x="nodes", y="MB beyond the program"),
        ]
    )
    plots.save_png(figure, RESULTS / "generator_scaling.png")


def measure(what: str, kind: str, n: int) -> dict[str, object]:
    """Seconds of one amount of work, and by how many MB it raises the peak memory of the loaded program."""
    torch.set_num_threads(1)
    if what == "samples":
        stream = GuidedSampler.from_pretrained("nasbench201", generator=kind).stream(
            batch=min(n, 4096), unique=False, guidance=(), steps=STEPS
        )
    else:
        flow = _untrained(n, free_edges=kind == "labels and edges")
    before, start = _peak(), time.perf_counter()
    if what == "samples":
        done = 0
        while done < n:
            done += len(next(stream))
    else:
        flow.sample(256, steps=16, generator=torch.Generator().manual_seed(0))
    seconds = time.perf_counter() - start
    return {"what": what, "kind": kind, "n": n, "seconds": seconds, "megabytes": _peak() - before}


def _untrained(nodes: int, free_edges: bool) -> DiscreteFlow:
    labels = torch.ones(nodes, LABELS, dtype=torch.bool)
    upper = torch.ones(nodes, nodes).triu(1).bool()
    chain = torch.diag(torch.ones(nodes - 1), 1).bool()
    present, absent = (upper, torch.ones_like(upper)) if free_edges else (chain, ~chain)
    torch.manual_seed(0)
    return DiscreteFlow(labels, torch.stack([absent, present], -1)).eval()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
