"""Latency of random architectures on this machine, for the `latency_ms` checkpoint: a table with one row a network.

python experiments/measure_latency.py --space nasbench201 -n 60 --out latency.parquet
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from archgen import spaces
from archgen.artifacts import write_atomic, write_json
from archgen.hardware import OnnxLatency


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="nasbench201")
    parser.add_argument("-n", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    space = spaces.load(args.space)
    size, channels = space.network_defaults["image_size"], space.network_defaults["in_channels"]
    drawn = space.sample(20 * args.n, np.random.default_rng(args.seed))
    distinct = {space.canonical(a): space.simplify(a) for a in drawn if space.computation(a).edges}
    archs = list(distinct.values())[: args.n]
    torch.manual_seed(args.seed)
    device = OnnxLatency((channels, size, size), threads=args.threads)
    measured = device.measure([space.build(a).eval() for a in archs], seed=args.seed)
    rows = [{"arch": space.format(a), **asdict(m)} for a, m in zip(archs, measured, strict=True)]
    table = pd.DataFrame(rows)
    write_atomic(args.out, lambda path: table.to_parquet(path, index=False))
    write_json(args.out.with_suffix(".json"), {"device": device.device.to_json(), "drift": device.drift})
    print(json.dumps({"out": str(args.out), "rows": len(table), "drift": device.drift}))


if __name__ == "__main__":
    main()
