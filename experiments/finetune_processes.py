"""How much sooner are several networks fine-tuned when each has a process of its own?

    python experiments/finetune_processes.py RUN [--networks 4] [--below MS] [--epochs 3] [--threads 2]

RUN is the folder of a finished `archgen design`. The architectures of its best trials, or of its best trials below a
latency, are fine-tuned for a few epochs, as the design does it (teachers included): one after another with all
threads, then in processes that share the threads, their start included. A row a way: `seconds`, and `ratio`, those of
one after another to these; `latency_ms`, the mean of the networks' predicted ones.

Adds to experiments/results/finetune_processes.csv, or replaces rows of the same setting there.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import pandas as pd
import torch
from design_against_random import reopened, trials_of
from finetune_start import add_rows

from archgen.design.choosing import ranked
from archgen.design.finetuning import finetune, forget
from archgen.design.request import LATENCY
from archgen.design.tuners import finetune_all
from archgen.threads import torch_threads

RESULTS = Path(__file__).parent / "results" / "finetune_processes.csv"
SETTING = ["way", "networks", "latency_ms", "epochs", "threads", "space", "data"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--networks", type=int, default=4)
    parser.add_argument("--below", type=float, default=float("inf"), metavar="MS", help="of the latency of a trial")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    design, supernet = reopened(args.run)
    trials = [trial for trial in ranked(trials_of(design)) if trial.values[LATENCY] < args.below][: args.networks]
    seconds = {}
    forget(design.folder)  # both ways go on with what was begun
    with torch_threads(args.threads):
        start = time.perf_counter()
        for trial in trials:
            finetune(design, supernet, trial, args.epochs)
        seconds["one after another"] = time.perf_counter() - start
        forget(design.folder)
        design.processes = args.threads
        start = time.perf_counter()
        finetune_all(design, supernet, trials, args.epochs, lambda rounds: float("inf"))
        seconds["processes"] = time.perf_counter() - start
    forget(design.folder)
    table = pd.DataFrame({"way": list(seconds), "seconds": list(seconds.values())})
    table = table.assign(
        ratio=seconds["one after another"] / table["seconds"],
        networks=len(trials),
        latency_ms=sum(trial.values[LATENCY] for trial in trials) / len(trials),
        epochs=args.epochs,
        threads=args.threads,
        space=design.space.name,
        data=design.data.name,
        machine=f"{platform.machine()}, torch {torch.__version__}",
    )
    print(table.to_string(index=False))
    add_rows(RESULTS, table, SETTING)


if __name__ == "__main__":
    main()
