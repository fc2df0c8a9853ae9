"""How long does the export of a network as ONNX take, and what does folding its batch normalisation first save?

    python experiments/export_speed.py [--spaces nasbench201 darts mobilenetv3 autoformer] [--archs 5] [--seed 0]

Random architectures of each space, built with its defaults and without dead parts, are exported twice in random order,
as `archgen.export.to_onnx` does it and with the folding left out, on one thread; processor time counts, after a first
export that loads the exporter. A row a space: medians (`seconds`, `unfolded`) and the median of the ratios
unfolded / folded (`ratio`); `same`: whether each pair of files has the same operations.

Writes experiments/results/export_speed.csv.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import torch
from torch import Tensor, nn

from archgen import export, spaces
from archgen.artifacts import write_atomic

RESULTS = Path(__file__).parent / "results" / "export_speed.csv"
FOLDED = export.folded


def exported(network: nn.Module, example: Tensor, path: Path, *, fold: bool) -> tuple[float, Counter[str]]:
    """Seconds, and the operations of the file."""
    export.folded = FOLDED if fold else lambda network: network.eval()
    start = time.process_time()
    export.to_onnx(network, example, path)
    seconds = time.process_time() - start
    return seconds, Counter(node.op_type for node in onnx.load(path).graph.node)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="+", default=["nasbench201", "darts", "mobilenetv3", "autoformer"])
    parser.add_argument("--archs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, rng = [], np.random.default_rng(args.seed)
    with tempfile.TemporaryDirectory(prefix="archgen-") as folder:
        path = Path(folder) / "network.onnx"
        exported(nn.Flatten(), torch.zeros(1, 4), path, fold=True)
        for name in args.spaces:
            space, pairs, same = spaces.load(name), [], []
            for arch in space.sample(args.archs, rng):
                network, example = space.build(space.simplify(arch)), space.example_input(1)
                found = {}
                for fold in rng.permutation([True, False]).tolist():
                    found[fold] = exported(network, example, path, fold=fold)
                pairs.append((found[True][0], found[False][0]))
                same.append(found[True][1] == found[False][1])
            folded, plain = np.array(pairs).T
            rows.append(
                {
                    "space": name,
                    "seconds": np.median(folded),
                    "unfolded": np.median(plain),
                    "ratio": np.median(plain / folded),
                    "same": all(same),
                    "archs": args.archs,
                }
            )
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).assign(machine=f"{platform.machine()}, torch {torch.__version__}, one thread")
    write_atomic(RESULTS, lambda path: table.to_csv(path, index=False))


if __name__ == "__main__":
    main()
