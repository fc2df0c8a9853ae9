"""Is the designed network better than random ones? The control of `archgen design`, from the run folders.

    python experiments/demo_control.py runs/demo [runs/other ...]

For each finished run: draws random distinct architectures whose *measured* latency meets the run's bound, scores them
by the run's own supernet on the same validation images (inherited weights, batch-norm recalibrated: as the search
scored its candidates), and compares the winner's inherited accuracy with them. The random ones come from another
seed than the run's. Writes experiments/results/demo_control.csv, one row a run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from archgen.design import Design, DesignRequest, load
from archgen.graph import Architecture
from archgen.metrics import relative_improvement
from archgen.run_folder import RunFolder

RANDOM = 30
RESULTS = Path(__file__).parent / "results" / "demo_control.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--random", type=int, default=RANDOM, help="random architectures a run")
    args = parser.parse_args()
    table = pd.DataFrame([control(path, args.random) for path in args.runs])
    RESULTS.parent.mkdir(exist_ok=True)
    table.to_csv(RESULTS, index=False)
    print(table.to_string(index=False))


def control(path: Path, n: int) -> dict[str, float | str]:
    """Compare the winner of one run with `n` random architectures under the same bound."""
    folder = RunFolder.open(path)
    result = json.loads(folder.file("result.json").read_text())
    request = DesignRequest(**folder.state["request"])
    design = Design(folder, request, load(request))
    supernet = design.supernet(design.plan())  # reads the trained weights
    random = meeting_the_bound(design, n)
    measured = design.evaluator(supernet).evaluate(random, seed=0)
    accuracy = np.array([m.values["val_acc"] for m in measured])
    winner = result["winner"]
    return {
        "run": path.name,
        "seed": request.seed,
        "bound_ms": request.at_most["latency_ms"],
        "latency_ms": winner["latency_ms"],
        "latency_high_ms": winner["latency_interval"][1],
        "inherited_val_acc": winner["inherited_val_acc"],
        "random_median": float(np.median(accuracy)),
        "random_best": float(accuracy.max()),
        "better_than_percent": 100.0 * float(np.mean(winner["inherited_val_acc"] > accuracy)),
        "no_worse_than_percent": 100.0 * float(np.mean(winner["inherited_val_acc"] >= accuracy)),
        "relative_improvement": relative_improvement(winner["inherited_val_acc"], float(accuracy.mean())),
        "val_acc": winner["val_acc"],
        "test_acc": winner["test_acc"],
        "evaluations": result["evaluations"],
        "seconds": result["seconds"]["total"],
    }


def meeting_the_bound(design: Design, n: int) -> list[Architecture]:
    """Random architectures of distinct functions whose measured latency is within the bound, `n` of them."""
    rng = np.random.default_rng([design.request.seed, 987_654_321])
    bound = design.request.at_most["latency_ms"]
    found: list[Architecture] = []
    seen: set[str] = set()
    for _ in range(20):
        fresh = []
        while len(fresh) < n:
            (arch,) = design.space.sample(1, rng)
            if design.space.canonical(arch) not in seen:
                seen.add(design.space.canonical(arch))
                fresh.append(arch)
        found += [a for a, m in zip(fresh, design.measure(fresh), strict=True) if m.latency_ms <= bound]
        if len(found) >= n:
            return found[:n]
    raise SystemExit(
        f"found only {len(found)} random architectures within {bound} ms; the bound is too tight to compare"
    )


if __name__ == "__main__":
    main()
