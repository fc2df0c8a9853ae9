"""How many architectures a second the predictors of each space take in, on one thread, none of them seen before.

    python experiments/prediction_speed.py [--architectures 10000]

CPU-seconds of `predict`, encoding included, on architectures drawn at random (a space with fewer has all of them once),
each given once. Where no predictor of a space is committed, the default one (`gp`) is fitted to 300 random values,
which it takes as long over as over any others. Writes experiments/results/prediction_speed.csv.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd

import archgen.surrogates  # noqa: F401  its members are predictors too
from archgen import config, spaces
from archgen.predictors import PREDICTORS, load_predictor
from archgen.pretrain_predictor import make_predictor
from archgen.sampler import predictor_folders
from archgen.threads import single_threaded

RESULTS = Path(__file__).parent / "results" / "prediction_speed.csv"
LABELS = 300
NONE = "random values"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", type=int, default=10_000)
    parser.add_argument("--spaces", default=",".join(spaces.available()))
    args = parser.parse_args()
    rows = []
    with single_threaded():
        for name in args.spaces.split(","):
            space = spaces.load(name)
            drawn = list(dict.fromkeys(space.sample(args.architectures + LABELS, np.random.default_rng(0))))
            archs, labelled = drawn[:-LABELS], drawn[-LABELS:]
            known = {m: load_predictor(f, space) for m, f in predictor_folders(space, config.checkpoints_dir()).items()}
            if not known:
                values = np.random.default_rng(1).normal(size=LABELS)
                unfitted = make_predictor("gp", space, NONE, built_simplified=True)
                known[NONE] = unfitted.fit(labelled, values)
            for metric, predictor in known.items():
                start = time.process_time()
                predictor.predict(archs)
                seconds = time.process_time() - start
                kind = next(kind for kind, member in PREDICTORS.items() if type(predictor) is member)
                rows.append({"space": name, "metric": metric, "predictor": kind, "architectures": len(archs)})
                rows[-1]["per_second"] = round(len(archs) / seconds)
                print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(RESULTS, index=False)
    print(f"{platform.machine()}, one thread")


if __name__ == "__main__":
    main()
