"""Why inherited accuracies rank cells as they do: by length of training, images for the statistics, and operation.

    python experiments/supernet_why.py [--way uniform] [--epochs 20 40 80 160] [--archs 300] [--threads 2]

The trainings of `supernet_ranking.py` on CIFAR-10 by one way, scored on the cells that its choices are made on. Rows:

- `epochs`: a training of its own for each length, its schedule to the end.
- `calibration`, `validation`: the longest training, with so many images for the statistics of batch normalisation, or
  to judge on.
- `flops_quarter`: the longest training, within each quarter of the cells by FLOPs; `flops`: what FLOPs alone rank.
- `operation`: the longest training: how many places of 100 one more edge that counts with this operation ranks a cell
  too high (`excess`; too low where it is negative), the numbers of the other operations held equal: least squares of
  the difference of both ranks on the numbers of operations. An edge that does not count is what they stand beside.

Writes experiments/results/supernet_why.csv.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import torch
from bo_tables import published
from numpy.typing import NDArray
from scipy.stats import rankdata
from supernet_ranking import DEV, TRUTH, WAYS, known_cells, options, score, tau, train_way

from archgen.artifacts import write_atomic
from archgen.spaces import SearchSpace
from archgen.spaces.cell import CellSpace

COUNTED = ("nor_conv_3x3", "nor_conv_1x1", "skip_connect", "avg_pool_3x3")
CALIBRATIONS = (64, 256, 1024, 4096)
VALIDATIONS = (250, 500, 1670)


def by_operation(space: SearchSpace, cells: pd.DataFrame, inherited: NDArray[np.float64]) -> dict[str, float]:
    """Places of 100 that one edge more of each operation ranks a cell too high."""
    assert isinstance(space, CellSpace)
    numbers = [Counter(space.live_edges(space.parse(text)).values()) for text in cells["arch"]]
    counts = np.array([[found[name] for name in COUNTED] + [1] for found in numbers], float)
    excess = 100 * (rankdata(inherited) - rankdata(cells[TRUTH])) / len(cells)
    slopes = np.linalg.lstsq(counts, excess, rcond=None)[0][:-1]
    return dict(zip(COUNTED, slopes.tolist(), strict=True))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--way", default="uniform", choices=list(WAYS))
    parser.add_argument("--epochs", type=int, nargs="+", default=[20, 40, 80, 160])
    parser.add_argument("--archs", type=int, default=300)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tables = published()
    cells = known_cells(tables / "nasbench201", args.archs, dev=True)
    truth, texts = cells[TRUTH].to_numpy(float), cells["arch"].tolist()
    rows: list[dict[str, object]] = []

    def add(kind: str, value: object, found: pd.DataFrame) -> NDArray[np.float64]:
        inherited = -found["val_loss"].to_numpy(float)
        rows.append(
            {
                "kind": kind,
                "value": value,
                "tau": tau(inherited, truth),
                "tau_acc": tau(found["val_acc"].to_numpy(float), truth),
                "val_acc": float(found["val_acc"].mean()),
            }
        )
        print(rows[-1], flush=True)
        return inherited

    for epochs in sorted(args.epochs):
        trained = train_way(args.way, epochs, args, tables, DEV)
        inherited = add("epochs", epochs, score(trained, texts, f"{epochs} epochs"))
    for images in CALIBRATIONS:
        add("calibration", images, score(trained, texts, f"calibrated on {images}", calibration=images))
    for images in VALIDATIONS:
        add("validation", images, score(trained, texts, f"judged on {images}", validation=images))
    flops = cells["flops"].to_numpy(float)
    rows.append({"kind": "flops", "value": "all", "tau": tau(flops, truth)})
    quarters = pd.qcut(rankdata(flops, method="ordinal"), 4, labels=False)
    for quarter in range(4):
        among = quarters == quarter
        rows.append({"kind": "flops_quarter", "value": quarter + 1, "tau": tau(inherited[among], truth[among])})
    for operation, excess in by_operation(trained.space, cells, inherited).items():
        rows.append({"kind": "operation", "value": operation, "excess": excess})
    table = pd.DataFrame(rows).assign(way=args.way, cells=len(cells))
    print(table.to_string(index=False))
    write_atomic(args.out / "supernet_why.csv", lambda path: table.to_csv(path, index=False))


if __name__ == "__main__":
    main()
