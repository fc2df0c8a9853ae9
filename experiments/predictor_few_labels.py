"""Accuracy predictors from few labels (figure B3): every member, on all architectures that were not used.

    python experiments/predictor_few_labels.py [--space nasbench201] [--labels 78,156,469,1563] [--draws 10]
        [--members gp,gp_plain,gbdt,gnn,parzc,ensemble,gp+gbdt+gnn]

NAS-Bench-201 (CIFAR-10 test accuracy, 15,625 cells) and NAS-Bench-Macro (6,561 networks); the numbers of labels are
0.5, 1, 3 and 10 % of the space. For each draw n random architectures are fitted to; Kendall's tau is taken over all
others (`tau`) and over those of them within the true best tenth of the space (`top`); `coverage` is the share of true
values between the two one-sided 95 % limits. `gp_plain` is the Gaussian process without free labels, `gp_sized` that
with sizes; the others have the free labels of the checkpoints where they take any; names joined by `+` are an ensemble
of those, and `gnn:steps=600` is one with another argument. Members and their settings were chosen on validation
accuracies (`--target cifar10_val_acc`; the steps on CIFAR-100's), other draws.

Writes a row a member and draw to experiments/results/predictor_few_labels.csv as it goes; rows that are there already
are not computed again, so that a stopped run goes on. `fit_s` is CPU time; what a predictor knows without labels, such
as pre-trained networks, is computed in the first draw of a run alone. The network of an ensemble is the one that it is
alone: where its own row is not there it is judged beside it, and that row has no time. The node statistics that `parzc`
reads are measured once for all draws and kept in runs/, in no row's time.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kendalltau
from tqdm import tqdm

from archgen import config, spaces
from archgen.graph import Architecture
from archgen.objectives import at_least, at_most
from archgen.predictors import NodeStatistics, ParZC, Predictor
from archgen.predictors.cross_fitted import CrossFitted
from archgen.predictors.normal_scores import NormalScorePredictor
from archgen.pretrain_predictor import make_predictor
from archgen.spaces import SearchSpace
from archgen.surrogates import Ensemble, GaussianProcess
from archgen.threads import single_threaded

RESULTS = Path(__file__).parent / "results" / "predictor_few_labels.csv"
MEASURED = Path(__file__).parent.parent / "runs" / "node_statistics"
TABLES = {"nasbench201": "nasbench201/accuracy.parquet", "nasbench_macro": "nasbench_macro.parquet"}
TARGETS = {"nasbench201": "cifar10_test_acc", "nasbench_macro": "test_acc"}
LABELS = {"nasbench201": "78,156,469,1563", "nasbench_macro": "33,66,197,656"}
ALONE = {"gp_plain": False, "gp_sized": True}
"""Gaussian processes without free labels: whether they have sizes."""
PUBLISHED = {"PINAT (2211.17226)": {78: 0.549, 156: 0.631, 469: 0.706, 1563: 0.784}}
KEY = ["space", "target", "labels", "member", "draw"]
CHUNK = 500
"""Architectures that are measured between two savings."""
FIRST_DRAW = 1000
"""Seeds of the draws start here; smaller ones were used to choose settings by validation accuracies."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=TABLES, default="nasbench201")
    parser.add_argument("--target")
    parser.add_argument("--labels")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--members", default="gp_plain,gp,gbdt,ensemble")
    args = parser.parse_args()
    folder = config.data_dir()
    if folder is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    space, target = spaces.load(args.space), args.target or TARGETS[args.space]
    table = pd.read_parquet(folder / TABLES[args.space])
    archs, y = tuple(space.parse(text) for text in table["arch"]), table[target].to_numpy(float)
    done = set(pd.read_csv(RESULTS)[KEY].itertuples(index=False, name=None)) if RESULTS.exists() else set()
    with single_threaded():
        for n in map(int, (args.labels or LABELS[args.space]).split(",")):
            for member in args.members.split(","):
                predictor = make(member, space, target, archs)  # what it knows without labels serves all draws
                for draw in range(args.draws):
                    if (args.space, target, n, member, draw) in done:
                        continue
                    order = np.random.default_rng(FIRST_DRAW + draw).permutation(len(y))
                    used, rest = order[:n], order[n:]
                    start = time.process_time()
                    predictor.fit([archs[i] for i in used], y[used])
                    seconds = {member: time.process_time() - start}
                    for name, fitted in {member: predictor, **networks(predictor)}.items():
                        key = (args.space, target, n, name, draw)
                        if key not in done:
                            done.add(key)
                            figures = judged(fitted, [archs[i] for i in rest], y[rest], np.quantile(y, 0.9))
                            write(dict(zip(KEY, key, strict=True)) | figures | {"fit_s": seconds.get(name, np.nan)})
                show(args.space, target, n, member)
    for name, taus in PUBLISHED.items() if args.space == "nasbench201" else ():
        print(f"{name}, as published: {taus}")
    print(f"{platform.machine()}, one thread")


def make(member: str, space: SearchSpace, target: str, archs: tuple[Architecture, ...]) -> Predictor:
    """A predictor by the name that a row has."""
    if member in ALONE:
        return GaussianProcess(space, target, sizes=ALONE[member])
    if member == "parzc":
        return ParZC(space, target, statistics=measured(space, archs))
    kind, _, option = member.partition(":")
    options = {name: int(value) for name, value in [option.split("=")]} if option else {}
    return make_predictor(kind, space, target, built_simplified=False, options=options)


@cache
def measured(space: SearchSpace, archs: tuple[Architecture, ...]) -> NodeStatistics:
    """The node statistics of all architectures; what an earlier run has measured is not measured again."""
    statistics, folder = NodeStatistics(space), MEASURED / space.name
    if folder.exists():
        statistics.recall(folder)
    for start in tqdm(range(0, len(archs), CHUNK), desc=f"node statistics, {CHUNK} architectures", disable=None):
        known = len(statistics)
        statistics(archs[start : start + CHUNK])
        if len(statistics) > known:
            statistics.save(
                folder, f"# Node statistics of {space.name}\n\nOf untrained networks, by `NodeStatistics`.\n"
            )
    return statistics


def networks(predictor: Predictor) -> dict[str, Predictor]:
    """The networks of an ensemble, which are fitted as they are alone."""
    if not isinstance(predictor, Ensemble):
        return {}
    members = zip(predictor.names, predictor.members, strict=True)
    return {name: part for name, part in members if isinstance(part, CrossFitted)}


def judged(predictor: Predictor, archs: Sequence[Architecture], y: np.ndarray, best: float) -> dict[str, float]:
    """As `judge` would, from one pass over the architectures."""
    assert isinstance(predictor, NormalScorePredictor)
    scores = predictor.predict_scores(archs)
    mean, top = predictor.normal.prediction(*scores).mean, y >= best
    wishes = at_least(predictor.metric, 0.0), at_most(predictor.metric, 0.0)
    low, high = (predictor.normal.limit(*scores, wish, 0.95) for wish in wishes)
    return {
        "tau": float(kendalltau(mean, y).statistic),
        "top": float(kendalltau(mean[top], y[top]).statistic),
        "coverage": 100 * float(np.mean((low <= y) & (y <= high))),
    }


def write(row: dict[str, object]) -> None:
    pd.DataFrame([row]).round(4).to_csv(RESULTS, mode="a", index=False, header=not RESULTS.exists())


def show(space: str, target: str, n: int, member: str) -> None:
    table = pd.read_csv(RESULTS)
    rows = table[(table[KEY[:4]] == [space, target, n, member]).all(axis=1)]
    figures = ", ".join(f"{c} {rows[c].mean():.3f} ({rows[c].std(ddof=0):.3f})" for c in ("tau", "top"))
    print(
        f"{space} {n:5d} {member:10s} {figures}, 90 % intervals hold {rows['coverage'].mean():.1f} %, "
        f"{rows['fit_s'].mean():.1f} s, {len(rows)} draws",
        flush=True,
    )


if __name__ == "__main__":
    main()
