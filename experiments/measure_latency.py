"""Latency of random architectures on this machine, for the `latency_ms` checkpoint: a table with one row a network.

    python experiments/measure_latency.py --space nasbench201 -n 60 --out latency.parquet

The same as `archgen latency measure`, and the device in a JSON file of the table's name besides, as
`experiments/train_predictors.py --here` reads it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from archgen import spaces
from archgen.artifacts import write_json
from archgen.hardware import MeasurementFile, OnnxLatency, draw_distinct, measure_missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="nasbench201")
    parser.add_argument("-n", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    space = spaces.load(args.space)
    archs = draw_distinct(space, args.n, np.random.default_rng(args.seed))
    file = MeasurementFile(args.out, space.name)
    meter = OnnxLatency(space.example_input(1), threads=args.threads)
    done = measure_missing(meter, space, archs, file, seed=args.seed)
    write_json(args.out.with_suffix(".json"), {"device": meter.device.to_json(), "drift": done.drift})
    print(json.dumps({"out": str(args.out), "rows": len(file), "drift": done.drift}))


if __name__ == "__main__":
    main()
