"""The README's pictures: accuracy against latency of a run, and its winner's cell.

python experiments/pictures.py runs/demo
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from archgen import spaces
from archgen.plots import cell_plot, pareto_plot, save_png

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    args = parser.parse_args()
    result = json.loads((args.run / "result.json").read_text())
    trials = pd.read_parquet(args.run / "trials.parquet")
    space = spaces.load(result["space"])
    winner = space.parse(result["winner"]["arch"])
    same = [space.canonical(space.parse(text)) == space.canonical(winner) for text in trials["arch"]]
    bound = next((c["bound"] for c in result["constraints"] if c["metric"] == "latency_ms"), None)
    save_png(pareto_plot(trials, bound=bound, winner=trials.index[same][0]), RESULTS / "demo_pareto.png")
    save_png(cell_plot(space.computation(winner)), RESULTS / "demo_cell.png")


if __name__ == "__main__":
    main()
