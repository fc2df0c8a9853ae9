"""How long does archgen take to start?

    python experiments/startup.py [--runs 9]

Each in a process of its own, in turns, after a first round that fills the disk's cache: Python alone, `archgen --help`,
`import archgen`, and that with the sampler, which needs torch. A row each: median and largest wall time, seconds.

Writes experiments/results/startup.csv.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from archgen.artifacts import write_atomic

RESULTS = Path(__file__).parent / "results" / "startup.csv"
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "archgen --help": ["-m", "archgen", "--help"],
    "import archgen": ["-c", "import archgen"],
    "from archgen import GuidedSampler": ["-c", "from archgen import GuidedSampler"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(args.runs + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    rows = [{"command": name, "median": np.median(s[1:]), "largest": max(s[1:])} for name, s in seconds.items()]
    facts = {"runs": args.runs, "machine": f"{platform.machine()}, Python {platform.python_version()}"}
    table = pd.DataFrame(rows).assign(**facts)
    print(table.to_string(index=False))
    write_atomic(RESULTS, lambda path: table.to_csv(path, index=False))


if __name__ == "__main__":
    main()
