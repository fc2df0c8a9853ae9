"""A design against random architectures under the same bound, trained and tested the same way (figure B10).

    python experiments/design_against_random.py [--data digits] [--space nasbench201] [--latency-ms 0.06]
        [--effort standard] [--seeds 3] [--archs 200] [--workers 2]

For each seed `archgen design` runs with that effort under the bound, timed, with both cores. Then `--archs` random
architectures that compute different things and are predicted to be within the bound are evaluated as the design's
finalists are: fine-tuned from the same supernet for as many epochs, the accuracy on the validation and the test part.
Columns: the winner's accuracies and latency with its interval; `beaten_*`: the share of random ones with a lower
accuracy (equal ones count half) on the validation part by inherited weights (`inherited`), after fine-tuning (`val`),
and on the test part (`test`); `ahead`: the winner's test accuracy minus the random mean, in points, and in standard
deviations of the random ones (`ahead_sd`).

Finished evaluations are kept in runs/design_against_random. Writes experiments/results/design_against_random.csv
(a row a seed) and design_against_random_archs.parquet.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from archgen.artifacts import write_atomic
from archgen.cli.terminal import Terminal
from archgen.design import Design, DesignRequest, load
from archgen.design.choosing import JOINED
from archgen.design.finetuning import prepare
from archgen.design.metrics import within
from archgen.design.pipeline import STUDY
from archgen.graph import Architecture
from archgen.protocol import processes
from archgen.run_folder import RunFolder
from archgen.study import Study, Trial
from archgen.supernets import Supernet
from archgen.supernets.training import accuracy

RESULTS = Path(__file__).parent / "results"
CHUNK = 2000
"""Architectures drawn at a time."""


@lru_cache(maxsize=1)
def reopened(folder: Path) -> tuple[Design, Supernet]:
    """A finished design and its trained supernet."""
    run = RunFolder.open(folder)
    request = DesignRequest(**run.state["request"])
    design = Design(run, request, load(request))
    return design, design.supernet(design.plan())


def trials_of(design: Design) -> list[Trial]:
    """All trials of its search."""
    return Study(design.space, design.request.objectives, storage=design.folder.file(STUDY), resume=True).trials


def under_the_bound(folder: Path, n: int, seed: int) -> list[str]:
    """Random architectures that compute different things and are predicted to be within the bounds."""
    design, _ = reopened(folder)
    known, space = design.predictors(design.plan()), design.space
    found: dict[str, Architecture] = {}
    rng = np.random.default_rng([seed, 1])
    for _ in range(100):
        if len(found) == n:
            break
        drawn = [arch for arch in space.sample(CHUNK, rng) if space.computation(arch).edges]  # more are the same first
        for arch, allowed in zip(drawn, within(drawn, design.request, known), strict=True):
            if allowed and len(found) < n:
                found.setdefault(space.canonical(arch), space.simplify(arch))
    return [space.format(arch) for arch in found.values()]


def evaluate(folder: Path, text: str) -> dict[str, Any]:
    """One architecture as a finalist is evaluated, and tested."""
    design, supernet = reopened(folder)
    arch = design.space.parse(text)
    (measured,) = design.evaluator(supernet).evaluate([arch], seed=0)
    tuning = replace(prepare(design, supernet, Trial(0, arch, measured.values, 0.0)), kept=None)  # all are number 0
    val_acc = tuning.run(design.data, design.plan().finetune_epochs)
    test_acc, _ = accuracy(tuning.network, design.data.test.images, design.data.test.labels)
    kept = {name: measured.values.get(name) for name in ("val_loss", *JOINED)}
    return {"arch": text, "inherited": measured.values["val_acc"], "val": val_acc, "test": test_acc, **kept}


def random_ones(folder: Path, args: argparse.Namespace, seed: int) -> pd.DataFrame:
    """Random architectures, a row each; those of an earlier call are read."""
    path = folder / "random.parquet"
    rows = pd.read_parquet(path).to_dict("records") if path.exists() else []
    texts = under_the_bound(folder, args.archs, seed)[len(rows) :]
    with processes(args.workers) as pool, Terminal().bar("random architectures", len(texts)) as bar:
        futures = [pool.submit(evaluate, folder, text) for text in texts]
        for i, future in enumerate(futures):
            rows.append(future.result())
            bar.update()
            if i % 10 == 9 or i == len(futures) - 1:
                frame = pd.DataFrame(rows)
                write_atomic(path, lambda beside, frame=frame: frame.to_parquet(beside, index=False))
    return pd.DataFrame(rows[: args.archs])


def designed(folder: Path, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The result of `archgen design`."""
    if not (folder / "result.json").exists():
        command = [sys.executable, "-m", "archgen", "design", "--data", args.data, "--space", args.space]
        command += ["--effort", args.effort, "--at-most", f"latency_ms={args.latency_ms}", "--seed", str(seed)]
        subprocess.run([*command, "--out", str(folder), "--json"], check=True, stdout=subprocess.DEVNULL)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def share_beaten(values: pd.Series, winner: float) -> float:
    return float((values < winner).mean() + (values == winner).mean() / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--space", default="nasbench201")
    parser.add_argument("--latency-ms", type=float, default=0.06)
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--archs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    rows, all_archs = [], []
    for seed in range(args.seeds):
        name = f"{Path(args.data).stem}_{args.space}_{args.latency_ms:g}_{args.effort}_{seed}"
        folder = args.runs / "design_against_random" / name
        result = designed(folder, args, seed)
        winner, others = result["winner"], random_ones(folder, args, seed)
        all_archs.append(others.assign(seed=seed))
        rows.append(
            {
                "seed": seed,
                "seconds": result["seconds"]["total"],
                "bound_ms": args.latency_ms,
                "latency_ms": winner["latency_ms"],
                "high_ms": winner["latency_interval"][1],
                "met": result["met"],
                "inherited": winner["inherited_val_acc"],
                "val": winner["val_acc"],
                "test": winner["test_acc"],
                "beaten_inherited": share_beaten(others["inherited"], winner["inherited_val_acc"]),
                "beaten_val": share_beaten(others["val"], winner["val_acc"]),
                "beaten_test": share_beaten(others["test"], winner["test_acc"]),
                "random_test": others["test"].mean(),
                "ahead": winner["test_acc"] - others["test"].mean(),
                "ahead_sd": (winner["test_acc"] - others["test"].mean()) / others["test"].std(),
            }
        )
        print({key: round(x, 4) if isinstance(x, float) else x for key, x in rows[-1].items()}, flush=True)
    facts = {"archs": args.archs, "effort": args.effort, "machine": f"{platform.machine()}, torch {torch.__version__}"}
    table = pd.DataFrame(rows).assign(data=Path(args.data).stem, space=args.space, **facts)
    print(table.to_string(index=False))
    write_atomic(RESULTS / "design_against_random.csv", lambda path: table.to_csv(path, index=False))
    write_atomic(
        RESULTS / "design_against_random_archs.parquet",
        lambda path: pd.concat(all_archs).to_parquet(path, index=False),
    )


if __name__ == "__main__":
    main()
