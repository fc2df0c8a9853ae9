"""Train the committed predictors of NAS-Bench-201: accuracies (Gaussian process) and latencies (ridge ensemble).

    python experiments/train_predictors.py [--here latency.parquet]

Needs the published tables (ARCHGEN_DATA or ../shared/data). `--here` adds the predictor of plain `latency_ms`, from
a table that `experiments/measure_latency.py` wrote. Every figure on a card is measured on architectures that the
predictor has not seen. Writes experiments/results/predictors.csv, too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, spearmanr

from archgen import config, spaces
from archgen.predictors import LatencyPredictor, Predictor, save_predictor
from archgen.surrogates import GaussianProcess

SPACE = "nasbench201"
LABELS = 600
ACCURACIES = ("cifar10_val_acc", "cifar100_val_acc", "imagenet16_120_val_acc")
DEVICES = ("pixel3", "pixel2", "raspi4", "eyeriss", "fpga", "1080ti_1", "titan_rtx_1", "gold_6226")
SOURCES = {
    "accuracy": "NAS-Bench-201 (MIT, arXiv 2001.00326), mean over seeds after 200 epochs, percent",
    "latency_ms": "HELP's latency table (MIT, arXiv 2106.08630), ms, published CIFAR-10 network",
    "edgegpu": "HW-NAS-Bench (MIT, arXiv 2103.10584), ms, published CIFAR-10 network",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--here", type=Path, help="table of experiments/measure_latency.py")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    folder = tables / SPACE

    rows = []
    accuracy = pd.read_parquet(folder / "accuracy.parquet")
    for metric in ACCURACIES:
        rows.append(train("gp", metric, accuracy, metric, SOURCES["accuracy"], args.seed))
    latency = pd.read_parquet(folder / "latency_ms.parquet")
    for device in DEVICES:
        rows.append(train("latency", f"latency_ms@{device}", latency, device, SOURCES["latency_ms"], args.seed))
    hardware = pd.read_parquet(folder / "hw_nas_bench.parquet")
    rows.append(
        train("latency", "latency_ms@edgegpu", hardware, "cifar10_edgegpu_latency", SOURCES["edgegpu"], args.seed)
    )
    if args.here is not None:
        facts = json.loads(args.here.with_suffix(".json").read_text())["device"]
        source = (
            f"measured by experiments/measure_latency.py with onnxruntime {facts['version']}, one thread, batch 1, "
        )
        source += f"on a 2-core {facts['cpu']}: the published CIFAR-10 network, dead edges left out. On another machine"
        source += " the order holds better than the milliseconds; `archgen design` measures its own"
        rows.append(train("latency", "latency_ms", pd.read_parquet(args.here), "latency_ms", source, args.seed))
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).parent / "results" / "predictors.csv", index=False)
    print(table.to_string(index=False))


def train(
    kind: str, metric: str, table: pd.DataFrame, column: str, source: str, seed: int
) -> dict[str, str | float | int]:
    """Fit on random rows, judge on the others, write the checkpoint."""
    space = spaces.load(SPACE)
    archs, y = [space.parse(text) for text in table["arch"]], table[column].to_numpy(dtype=float)
    order = np.random.default_rng(seed).permutation(len(y))
    n = LABELS if len(y) > 2 * LABELS else int(0.8 * len(y))  # a small table of one's own: hold out a fifth
    train_rows, test_rows = order[:n], order[n : n + 4000]
    start = time.perf_counter()
    own = len(y) <= 2 * LABELS
    predictor: Predictor = GaussianProcess(space, metric) if kind == "gp" else LatencyPredictor(space, metric, own)
    predictor.fit([archs[i] for i in train_rows], y[train_rows])
    seconds = time.perf_counter() - start
    mean = predictor.predict([archs[i] for i in test_rows]).mean
    truth = y[test_rows]
    figures = {
        "tau": float(kendalltau(mean, truth).statistic),
        "rho": float(spearmanr(mean, truth).statistic),
        "mape": float(100 * np.median(np.abs(mean / truth - 1))),
    }
    card = f"""# {metric} of {SPACE}

- **What**: predicts `{metric}` ({kind}) for `archgen generate` and `GuidedSampler`.
- **Data**: {n} random architectures of {len(y):,}; {source}.
- **Training**: `python experiments/train_predictors.py --seed {seed}`, {seconds:.1f} s on two CPU cores.
- **Figures** on {len(test_rows):,} unseen architectures: Kendall tau {figures["tau"]:.3f}, Spearman rho
  {figures["rho"]:.3f}, median absolute error {figures["mape"]:.1f} %.
- **Licence**: Apache-2.0 for the weights.
"""
    name = f"{SPACE}-{metric.replace('@', '-on-')}"
    save_predictor(predictor, kind, config.checkpoints_dir() / "predictors" / name, card)
    return {"metric": metric, "predictor": kind, "labels": n, "unseen": len(test_rows), **figures, "seconds": seconds}


if __name__ == "__main__":
    main()
