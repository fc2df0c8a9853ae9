"""Latency as the sum of measured blocks (ProxylessNAS) against whole measured networks, on this machine.

    python experiments/latency_blocks.py [--resolutions r48,r64] [--networks 60] [--fit 5,10,20] [--draws 10]

A part of `mobilenetv3@32`: every block of its networks is measured once, and 60 random networks; onnxruntime, one
thread. `sum` is the plain sum of blocks, judged on all networks; of the others `--fit` random networks correct it
(`corrected`) or teach the predictor `latency`, which knows no block, and the rest judge, in `--draws` draws. Spearman's
rank correlation, the median relative error and the share inside the 90 % interval. On a busy machine latencies
drift between the batches that are timed together (16 networks), so the rank correlation inside each batch stands
beside, of the plain sum and of FLOPs. Measurements are kept in `--folder`, where the same command goes on. Writes
experiments/results/latency_blocks.csv.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from archgen import spaces
from archgen.hardware import (
    MeasurementFile,
    OnnxLatency,
    block_file,
    block_latencies,
    draw_distinct,
    measure_blocks,
    measure_missing,
)
from archgen.predictors import BlockTable, LatencyPredictor, judge
from archgen.spaces.chain_blocks import ChainBlocks
from archgen.spaces.restricted import RestrictedSpace
from archgen.threads import single_threaded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolutions", default="r48,r64")
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--fit", default="5,10,20")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="latency-blocks-"))
    folder.mkdir(exist_ok=True)

    space = RestrictedSpace(spaces.load("mobilenetv3@32"), {"resolution": args.resolutions.split(",")})
    blocks = ChainBlocks(space).all()
    print(f"{len(blocks)} blocks, {args.networks} networks, in {folder}", flush=True)
    with single_threaded():
        start = time.process_time()
        parts = block_file(folder / "blocks.parquet", space.name)
        wholes = MeasurementFile(folder / "n.parquet", space.name)
        archs = draw_distinct(space, args.networks, np.random.default_rng(0))
        meters = [OnnxLatency(space.example_input(1)) for _ in range(2)]
        done = measure_blocks(meters[0], blocks, parts, seed=0)
        print(f"blocks: {done}, {time.process_time() - start:.0f} s of CPU", flush=True)
        done = measure_missing(meters[1], space, archs, wholes, seed=0)
        print(f"networks: {done}, {time.process_time() - start:.0f} s of CPU in all", flush=True)
    device = meters[0].device.id
    measured = wholes.measured(device)
    y = np.array([measured[space.format(arch)].latency_ms for arch in archs])
    latencies = block_latencies(parts, device)

    sums = BlockTable(space, "latency_ms", latencies).predict(archs).mean
    rows = [
        {
            "method": "sum",
            "fitted": 0,
            "draw": 0,
            "spearman": spearmanr(sums, y).statistic,
            "error": 100 * np.median(np.abs(sums / y - 1)),
        }
    ]
    flops = np.array([space.count(arch)["flops"] for arch in archs])
    kept = pd.read_parquet(wholes.path)
    batches = kept[kept["device"] == device].set_index("arch")["time"].loc[[space.format(arch) for arch in archs]]
    for number, batch in enumerate(sorted(set(batches))):
        inside = (batches == batch).to_numpy()
        for name, said in (("sum, one batch", sums), ("flops, one batch", flops)):
            rho = spearmanr(said[inside], y[inside]).statistic
            rows.append({"method": name, "fitted": 0, "draw": number, "spearman": rho})
    spread = float((kept["spread_ms"] / kept["latency_ms"]).median())
    print(f"interquartile range of a network's timings: {100 * spread:.0f} % of their median")
    for n in map(int, args.fit.split(",")):
        for draw in range(args.draws):
            order = np.random.default_rng(draw).permutation(len(y))
            used, rest = order[:n], order[n:]
            makers = {
                "corrected": BlockTable(space, "latency_ms", latencies),
                "latency": LatencyPredictor(space, "latency_ms"),
            }
            for name, predictor in makers.items():
                predictor.fit([archs[i] for i in used], y[used])
                figures = judge(predictor, [archs[i] for i in rest], y[rest])
                rows.append(
                    {
                        "method": name,
                        "fitted": n,
                        "draw": draw,
                        "spearman": figures["spearman_rho"],
                        "error": figures["median_relative_error"],
                        "coverage_90": figures["coverage_90"],
                    }
                )
    table = pd.DataFrame(rows)
    table.round(4).to_csv(Path(__file__).parent / "results" / "latency_blocks.csv", index=False)
    print(table.groupby(["method", "fitted"])[["spearman", "error", "coverage_90"]].mean().round(3).to_string())
    print(f"{y.min():.3f} to {y.max():.3f} ms; sum over measured, median {np.median(sums / y):.3f}; {meters[0].device}")


if __name__ == "__main__":
    main()
