"""Predictors on published tables that are not of the benchmarks, beside plain regressions.

    python experiments/unseen_tables.py [--tasks darts,autoformer,once_for_all,accel_nasbench,gpus] [--draws 5]
        [--members ridge,svr,forest,gp_unsized,gp,gbdt,ensemble]

Accuracies of 1,000 DARTS networks (SWAP), of 100 and, by distillation (`kd`), 200 AutoFormer networks (Auto-Prox), of
2,223 of Once-for-All's (DyNAS-T) and of 5,125 MnasNet-like ones (Accel-NASBench, a space of one's own:
experiments/spaces/accel_nasbench.toml) from 50 and 200 random labels; Kendall's tau and the coverage of the 90 %
interval on all others. `ridge`, `svr` and `forest` are scikit-learn's, on the one-hot choices, their penalties
cross-validated. Nothing was chosen on these tables before `gp_unsized`, the Gaussian process without `sizes`, was found
worse than `forest` on AutoFormer's; sizes became its features by them (four of these draws). `gpus` are latencies of
5,000 of Once-for-All's networks on each of 12 settings of GPUs from 10 and 20 measurements, the settings of the other
GPUs being sources (800 measurements each): `latency`, without sources `scratch`, and `ridge` on FLOPs, their logarithm,
depth and resolution; Spearman's rho and the median relative error.

Writes a row a draw to experiments/results/unseen_tables.csv as it goes; rows that are there are not computed again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from archgen import config, load_space
from archgen.artifacts import write_atomic
from archgen.graph import Architecture
from archgen.predictor_evaluation import evaluate_predictor, fit_sources
from archgen.predictors import LatencyPredictor, judge
from archgen.predictors.choice_features import ChoiceEncoder
from archgen.pretrain_predictor import make_predictor
from archgen.spaces import SearchSpace
from archgen.threads import single_threaded

RESULTS = Path(__file__).parent / "results" / "unseen_tables.csv"
OWN = Path(__file__).parent / "spaces" / "accel_nasbench.toml"
KEY = ["task", "target", "labels", "member", "draw"]
LABELS, MEASUREMENTS = (50, 200), (10, 20)
AUTOFORMER = [f"{data}_{how}_acc" for data in ("c100", "flower", "chaoyang") for how in ("base", "kd")]
UNSIZED = "gp_unsized"
PLAIN = ("ridge", "svr", "forest")
JUDGED = 1500
"""Networks that latencies are judged on."""


@dataclass(frozen=True, eq=False)
class Task:
    """Architectures of a space and their values, by target."""

    space: SearchSpace
    archs: Sequence[Architecture]
    values: dict[str, NDArray[np.float64]]

    @cached_property
    def choices(self) -> NDArray[np.float64]:
        """One-hot choices of each architecture."""
        return ChoiceEncoder(self.space)(self.archs).numpy()

    @cached_property
    def sizes(self) -> NDArray[np.float64]:
        """FLOPs, their logarithm, blocks and resolution of each of Once-for-All's networks."""
        flops = np.array([self.space.count(arch)["flops"] for arch in self.archs])
        texts = [json.loads(self.space.format(arch)) for arch in self.archs]
        return np.column_stack([flops, np.log(flops), [sum(t["d"]) for t in texts], [t["r"][0] for t in texts]])

    @cache  # noqa: B019 - of the few tasks of a run
    def source(self, setting: str) -> LatencyPredictor:
        """A predictor of one setting, which others take as a source."""
        (fitted,) = fit_sources(self.space, self.archs, {setting: self.values[setting]}, simplify=True, seed=0)
        return fitted


def once_for_all(row: pd.Series) -> str:
    """The published text of a network whose kernels and expansions stand for blocks that its depths leave out too."""
    kernels, expansions, depths = (
        [int(x) for x in row[name].split()] for name in ("kernel_sizes", "expand_ratios", "depths")
    )
    there = [block < depth for depth in depths for block in range(4)]
    each = {"ks": kernels, "e": expansions}
    kept = {name: [x if there[i] else 0 for i, x in enumerate(numbers)] for name, numbers in each.items()}
    return json.dumps({**kept, "d": depths, "r": [int(row["resolution"])]})


def accel_nasbench(row: pd.Series) -> str:
    """Labels of all blocks; those of a stage are alike."""
    parts = []
    for stage, most in enumerate((3, 3, 3, 3, 3, 4, 3)):
        kernel, expansion, depth, squeeze = (row[f"block{stage}_{name}"] for name in ("k", "e", "l", "se"))
        parts += [f"k{kernel}_e{expansion}{'_se' * bool(squeeze)}"] * depth + ["skip"] * (most - depth)
    return "|".join([*parts, "conv_1x1"])


def read(name: str, folder: Path) -> Iterator[Task]:
    """The tasks of a name; several where not all architectures have all values."""
    if name == "autoformer":
        space, table = load_space(name), pd.read_parquet(folder / "vit_accuracy.parquet")
        table = table[table["space"] == name]
        for target in AUTOFORMER:
            yield task(space, table[table[target].notna()], [target], lambda row: row["arch"])
    elif name == "darts":
        table = pd.read_parquet(folder / "darts" / "accuracy_1000.parquet")
        yield task(load_space(name), table, ["cifar10_val_acc"], lambda row: row["arch"])
    elif name == "once_for_all":
        table = pd.read_parquet(folder / "ofa_mobilenetv3" / "imagenet_measured.parquet")
        yield task(load_space("mobilenetv3"), table, ["imagenet_top1"], once_for_all)
    elif name == "accel_nasbench":
        space = load_space(str(OWN), trust_code=True)
        yield task(space, pd.read_parquet(folder / "accel_nasbench.parquet"), ["val_top1"], accel_nasbench)
    elif name == "gpus":
        table = pd.read_parquet(folder / "ofa_mobilenetv3" / "latency_ms.parquet")
        settings = [c for c in table.columns if c.rsplit("_", 1)[-1] in ("1", "32", "64")]
        yield task(load_space("mobilenetv3"), table, settings, once_for_all)
    else:
        sys.exit(f"expected tasks of darts, autoformer, once_for_all, accel_nasbench and gpus, got {name!r}")


def task(space: SearchSpace, table: pd.DataFrame, targets: list[str], text: Callable[[pd.Series], str]) -> Task:
    """Parse a table; architectures that are there twice have the mean of their values."""
    table = table.assign(arch=[text(row) for _, row in table.iterrows()])
    means = table.groupby("arch", sort=False)[targets].mean()
    archs = [space.parse(arch) for arch in means.index]
    return Task(space, archs, {target: means[target].to_numpy(float) for target in targets})


def plain(member: str) -> RidgeCV | GridSearchCV | RandomForestRegressor:
    """A regression of scikit-learn on the one-hot choices."""
    if member == "ridge":
        return RidgeCV(np.logspace(-2, 3, 20))
    if member == "svr":
        return GridSearchCV(SVR(), {"C": [1, 10, 100], "gamma": [0.003, 0.01, 0.03, 0.1]}, cv=5)
    return RandomForestRegressor(300, random_state=0)


def accuracy(job: Task, target: str, member: str, n: int, draw: int) -> dict[str, float]:
    """Figures of a predictor of an accuracy from one draw of labels."""
    y = job.values[target]
    if member not in PLAIN:
        kind, options = ("gp", {"sizes": False}) if member == UNSIZED else (member, {})
        predictor = make_predictor(kind, job.space, target, built_simplified=False, options=options)
        figures = evaluate_predictor(predictor, job.archs, y, n=n, seed=draw)
        return {"rank": figures["kendall_tau"], "coverage": figures["coverage_90"]}
    order = np.random.default_rng(draw).permutation(len(y))  # that of `evaluate_predictor`
    used, rest = order[:n], order[n:]
    scaled = (y - y[used].mean()) / y[used].std()
    found = plain(member).fit(job.choices[used], scaled[used]).predict(job.choices[rest])
    return {"rank": float(kendalltau(found, y[rest]).statistic)}


def latency(job: Task, target: str, member: str, n: int, draw: int) -> dict[str, float]:
    """Figures of a predictor of latencies from one draw of measurements."""
    y, order = job.values[target], np.random.default_rng(draw).permutation(len(job.archs))
    used, rest = order[:n], order[n : n + JUDGED]
    coverage = {}
    if member == "ridge":
        scaled = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13)))
        found = scaled.fit(job.sizes[used], y[used]).predict(job.sizes[rest])
    else:
        others = [each for each in job.values if each.rsplit("_", 1)[0] != target.rsplit("_", 1)[0]]
        sources = [job.source(each) for each in others] if member == "latency" else ()
        predictor = LatencyPredictor(job.space, "latency_ms", sources=sources)
        predictor.fit([job.archs[i] for i in used], y[used])
        figures = judge(predictor, [job.archs[i] for i in rest], y[rest])
        found = predictor.predict([job.archs[i] for i in rest]).mean
        coverage = {"coverage": figures["coverage_90"]}
    error = float(100 * np.median(np.abs(found / y[rest] - 1)))
    return {"rank": float(spearmanr(found, y[rest]).statistic), "error": error, **coverage}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="darts,autoformer,once_for_all,accel_nasbench,gpus")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--members", default="ridge,svr,forest,gp_unsized,gp,gbdt,ensemble")
    args = parser.parse_args()
    folder = config.data_dir()
    if folder is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    rows = pd.read_csv(RESULTS).to_dict("records") if RESULTS.exists() else []
    done = {tuple(row[key] for key in KEY) for row in rows}
    with single_threaded():
        for name in args.tasks.split(","):
            evaluate, labels, members = accuracy, LABELS, args.members.split(",")
            if name == "gpus":
                evaluate, labels, members = latency, MEASUREMENTS, ["ridge", "scratch", "latency"]
            for job in read(name, folder):
                for target, n, member, draw in itertools.product(job.values, labels, members, range(args.draws)):
                    key = (name, target, n, member, draw)
                    if key in done or 2 * n > len(job.archs):
                        continue
                    rows.append(dict(zip(KEY, key, strict=True)) | evaluate(job, target, member, n, draw))
                    print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
                    write_atomic(RESULTS, lambda path: pd.DataFrame(rows).round(4).to_csv(path, index=False))
    table = pd.DataFrame(rows, columns=[*KEY, "rank", "coverage", "error"])
    table["target"] = table["target"].where(table["task"] != "gpus", "all")
    groups = table.groupby(KEY[:-1], sort=False)
    means = groups[["rank", "coverage", "error"]].mean()
    print(means.join(groups["rank"].std().rename("spread")).round(3).to_string())
    print(f"{platform.machine()}, one thread")


if __name__ == "__main__":
    main()
