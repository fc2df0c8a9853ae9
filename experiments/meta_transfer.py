"""Does it help to weigh other data sets by their images? `MetaPredictor` on the tasks of `meta_tasks.py`.

    python experiments/meta_transfer.py [--label val_loss] [--splits 8] [--draws 2]

Each task in turn is the target; sources are all others (`task`), or those of other families (`family`), which share no
image with it. In each split a random half of the cells is known: of it the sources have all labels (the mean of two
trainings), the target 0, 5 or 10; the figures are of the other half, whose labels nobody has seen (cells `new`). Once
more the sources know all cells and all are ordered (cells `known`; `labels`: by the weighted mean of the normal scores
of the labels alone, no predictor between). Predictors of the sources read free labels. Methods differ in the weights of
the sources before any label:

- `equal`; `embedding`, as `MetaPredictor` takes them from `DataSetEncoder` (untrained); `shuffled`, the same with the
  embeddings of the tasks interchanged at random;
- `sharpness`, `one_block`, `disagreement`, `direct`: learnt, by `meta_metrics.py`, from the sources alone;
- `oracle`, which no one can have: softmax of Kendall's tau between target and source on all cells;
- `none`: no sources, the labels alone.

Labels are validation losses (cross-entropy, the lower the better), on which two trainings of a cell agree better than
on accuracies; `--label val_acc` for those. Writes experiments/results/meta_transfer_<label>.csv: of each target the
mean Kendall tau, Spearman rho and regret (in the label's unit) of the first choice over splits and draws. Prints the
means over targets, how many are better than with equal weights, and p of the signed-rank test over targets (over
families where whole families are left out); then whether the distances of the embeddings go with the disagreement of
the tasks. The label was chosen by how far two trainings agree, before any method was compared.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from meta_metrics import METRICS, Known
from meta_tasks import RESULTS as TRAININGS
from meta_tasks import TASKS, pixels, task_images
from scipy.special import softmax
from scipy.stats import kendalltau, spearmanr
from tqdm import tqdm

from archgen import spaces
from archgen.encoders import DataSetEncoder
from archgen.graph import Architecture
from archgen.predictors import PREDICTORS, MetaPredictor, Source, pretrained_free_labels
from archgen.predictors.source_scores import SourceScores, similarity
from archgen.spaces import SearchSpace
from archgen.statistics import signed_rank
from archgen.threads import single_threaded

RESULTS = Path(__file__).parent / "results"
KEY = ["left_out", "cells", "labels", "method", "target"]
LABELS = (0, 5, 10)
ORACLE = 10.0
"""Sharpness of the oracle: a tau that is higher by 0.1 gives e times the weight."""
SIGNS = {"val_loss": -1.0, "val_acc": 1.0}
PERMUTATIONS = 999
Floats = np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", choices=SIGNS, default="val_loss")
    parser.add_argument("--splits", type=int, default=8)
    parser.add_argument("--draws", type=int, default=2, help="Of labels, and of shuffled embeddings, a split.")
    args = parser.parse_args()
    if not TRAININGS.exists():
        sys.exit(f"expected {TRAININGS}; run experiments/meta_tasks.py first")
    space = spaces.load("nasbench201")
    table = pd.read_csv(TRAININGS).pivot(index="cell", columns=["task", "repeat"], values=args.label).dropna()
    archs = [space.parse(cell) for cell in table.index]
    each = SIGNS[args.label] * np.stack([table[name].to_numpy() for name in TASKS])
    y = each.mean(2)
    print(f"{args.label} of {len(archs)} cells")
    encoder, embeddings = DataSetEncoder(), []
    for data in task_images().values():
        embeddings.append(encoder(pixels(data, data.train.images), data.train.labels))
    rows = []
    with single_threaded():
        for split in tqdm(range(args.splits + 1), desc="splits", disable=None):
            known = np.sort(np.random.default_rng(split).permutation(len(archs))[: len(archs) // 2])
            if split == args.splits:  # once more, with every cell known
                known = np.arange(len(archs))
            rows += judged(space, archs, y, np.stack(embeddings), known, split, args.draws)
    frame = pd.DataFrame(rows).groupby(KEY, sort=False).mean().reset_index()
    frame.round(4).to_csv(RESULTS / f"meta_transfer_{args.label}.csv", index=False)
    report(frame)
    tell_of_distances(each, np.stack(embeddings))


def judged(
    space: SearchSpace,
    archs: Sequence[Architecture],
    y: Floats,
    embeddings: Floats,
    known: Floats,
    seed: int,
    draws: int,
) -> list[dict[str, object]]:
    """Rows of one split: how well every method orders the unknown cells, all where all are known, on every target."""
    free, names = pretrained_free_labels(space), np.array(list(TASKS))
    families = np.array([task.family for task in TASKS.values()])
    everything = len(known) == len(archs)
    asked = known if everything else np.setdiff1d(np.arange(len(archs)), known)
    sources = [Source([archs[i] for i in known], values[known], e) for values, e in zip(y, embeddings, strict=True)]
    fitted = [PREDICTORS["gbdt"](space, "quality", free_labels=free).fit(s.archs, s.y) for s in sources]
    everyone = SourceScores(sources)
    everyone.learn(fitted)
    said, _, _ = everyone(sources[0].archs)
    labels = np.stack([own.scores for own in everyone.maps], 1)
    apart = block_distances(embeddings)
    agree = 1 - disagreement_of(y)
    rows: list[dict[str, object]] = []
    for (left_out, groups), t in itertools.product({"task": names, "family": families}.items(), range(len(names))):
        others = np.flatnonzero(groups != groups[t])
        meta = MetaPredictor(space, "quality", [sources[s] for s in others], embeddings[t], free_labels=free)
        meta.said.learn([fitted[s] for s in others])  # fitted once for all targets
        between = apart[np.ix_(np.arange(len(apart)), others, others)]
        alone = MetaPredictor(space, "quality")
        for cells, told in {"known": said, "labels": labels}.items() if everything else [("new", said)]:
            learnt = Known(between, apart[:, t, others], told[:, others], labels[:, others], groups[others].tolist())
            prior = {"equal": np.full(len(others), 1 / len(others))}
            prior["embedding"] = similarity(embeddings[t], list(embeddings[others]))
            prior |= {name: metric(learnt) for name, metric in METRICS.items()}
            prior["oracle"] = softmax(ORACLE * agree[t, others])
            for n, draw in itertools.product(LABELS[:1] if everything else LABELS, range(draws)):
                rng = np.random.default_rng([seed, draw, t])
                seen, shuffled = rng.permutation(known)[:n], embeddings[rng.permutation(len(names))]
                prior["shuffled"] = similarity(shuffled[t], list(shuffled[others]))
                for method in (*prior, "none"):
                    if not n and ((draw and method != "shuffled") or method == "none"):
                        continue
                    if cells == "labels":
                        score = told[:, others] @ prior[method]
                    else:
                        predictor = alone if method == "none" else meta
                        predictor.prior_weights = prior.get(method, alone.prior_weights)
                        predictor.fit([archs[i] for i in seen], y[t, seen])
                        score, _ = predictor.predict_scores([archs[i] for i in asked])
                    key = (left_out, cells, n, method, names[t])
                    rows.append(dict(zip(KEY, key, strict=True)) | figures(score, y[t, asked]))
    return rows


def block_distances(embeddings: Floats) -> Floats:
    """Squared distances between embeddings, a matrix for each block."""
    ends = np.cumsum(list(DataSetEncoder().blocks.values()))[:-1]
    parts = np.split(embeddings, ends, axis=1)
    return np.stack([((part[:, None] - part[None]) ** 2).sum(-1) for part in parts])


def figures(score: Floats, y: Floats) -> dict[str, float]:
    return {
        "tau": float(kendalltau(score, y).statistic),
        "rho": float(spearmanr(score, y).statistic),
        "regret": float(y.max() - y[score.argmax()]),
        "random_regret": float(y.max() - y.mean()),
    }


def report(frame: pd.DataFrame) -> None:
    """Means over targets; the test is over targets, over families where whole families are left out."""
    frame = frame.assign(family=[TASKS[target].family for target in frame["target"]])
    for key, part in frame.groupby(["left_out", "cells", "labels"], sort=False):
        print(f"\nleft out: {key[0]}, cells: {key[1]}, labels: {key[2]}")
        unit = "family" if key[0] == "family" else "target"
        units = part.groupby(["method", unit], sort=False)["tau"].mean().unstack("method")
        for method, rows in part.groupby("method", sort=False):
            shift, test = units[method] - units["equal"], signed_rank(units[method], units["equal"])
            means = rows[["tau", "rho", "regret", "random_regret"]].mean()
            print(
                f"  {method:12s} tau {means['tau']:.3f} (sd {rows['tau'].std():.3f}), rho {means['rho']:.3f}, "
                f"regret {means['regret']:.3f} (random {means['random_regret']:.3f}); tau against equal weights "
                f"{shift.mean():+.4f} (sd {shift.std():.4f}), better in {test.larger} of {len(units)}, p {test.p:.3f}"
            )


def tell_of_distances(each: Floats, embeddings: Floats) -> None:
    """Do distances tell how far two tasks disagree (1 - tau)? Spearman's rho over pairs, p by permuting tasks (Mantel).

    For scale, `again`: how the disagreements of the first trainings go with those of the second.
    """
    apart = block_distances(embeddings)
    names = [*DataSetEncoder().blocks, "all"]
    gaps = dict(zip(names, [*apart, apart.sum(0)], strict=True)) | {"again": disagreement_of(each[:, :, 1])}
    families = np.array([task.family for task in TASKS.values()])
    for which, y in {"one training": each[:, :, 0], "mean": each.mean(2)}.items():
        other = disagreement_of(y)
        for kind, foreign in {"all pairs": False, "pairs of two families": True}.items():
            i, j = np.triu_indices(len(families), 1)
            kept = (families[i] != families[j]) | (not foreign)
            i, j = i[kept], j[kept]
            line = []
            for name, gap in gaps.items():
                if name == "again" and which == "mean":  # which holds the second trainings itself
                    continue
                found = spearmanr(gap[i, j], other[i, j]).statistic
                rng = np.random.default_rng(0)
                orders = [rng.permutation(len(families)) for _ in range(PERMUTATIONS)]
                chance = [spearmanr(gap[order[i], order[j]], other[i, j]).statistic for order in orders]
                line.append(f"{name} {found:.2f} (p {np.mean(np.array([found, *chance]) >= found):.3f})")
            print(f"distance and disagreement, {which}, {kind}: " + ", ".join(line))


def disagreement_of(y: Floats) -> Floats:
    """1 - Kendall's tau between every two rows."""
    return 1 - np.array([[kendalltau(one, other).statistic for other in y] for one in y])


if __name__ == "__main__":
    main()
