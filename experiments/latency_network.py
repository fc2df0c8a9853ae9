"""A graph network of NASFLAT's kind on the few-shot latency tasks: alone, and beside the `latency` predictor.

    python experiments/latency_network.py [--tasks N0,F0] [--draws 5] [--held-out 2]

NASFLAT (arXiv 2403.02446) embeds the operation of a node together with the device, joins dense graph flow with
attention (`DAGNetwork`), adds encodings of the architecture before its head (here those of `LatencyFeatures`), learns
to rank 800 measurements of each source device by a pairwise hinge, and goes on with the N of the target from the
embedding of the source that ranks them best. Spearman's rank correlation on 1000 random architectures of
- `ensemble`: the committed `LatencyPredictor`;
- `network`: all weights fine-tuned, as NASFLAT does; `embedding`: that of the device alone;
- `scores`: a regression on what the untuned network says under each source's embedding;
- `member`: `scores` as a third member of the ensemble, weighed (`weight`) by left-out density as the others are;
- `average`: 0.8 of `ensemble` and 0.2 of the mean of `network`, `embedding` and `scores`, each standardised;
- `sources`, `control`: `scores` and `average` without a network, on what the sources' own predictors say.
How it is tuned, and the fifth, were chosen on source devices held out; `--held-out` of each task are judged too.
Writes experiments/results/latency_network.csv.
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from latency_few_shot import SPACES, Tables, published_tasks
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import spearmanr
from torch import Tensor, nn

from archgen.encoders.dag_gnn import DAG, DAGBatch, DAGNetwork
from archgen.predictors import LatencyPredictor
from archgen.predictors.cross_fitted import descend
from archgen.predictors.grouped_regression import GroupedFit, fit_groups
from archgen.predictors.latency import PRIOR_LOG_ODDS, SCALES, TAILS, Scale
from archgen.predictors.latency_features import LatencyFeatures
from archgen.predictors.ranking_losses import PairwiseHinge
from archgen.threads import single_threaded

KNOWN, TESTED, WIDTH, DEVICE_WIDTH, STEPS, BATCH, DEVICES_AT_ONCE = 800, 1000, 32, 8, 400, 128, 4
RESULTS = Path(__file__).parent / "results" / "latency_network.csv"
KINDS = ("ensemble", "network", "embedding", "scores", "member", "average", "sources", "control")


class DeviceNetwork(nn.Module):
    """A score of `b` graphs on a device; `labels` operations, `devices`, and `known` encodings of an architecture."""

    def __init__(self, labels: int, devices: int, known: int) -> None:
        super().__init__()
        self.graph = DAGNetwork(labels * devices, WIDTH, layers=2)
        del self.graph.operation  # computed below, of each pair of a device and an operation
        self.operation = nn.Parameter(torch.randn(labels, WIDTH - DEVICE_WIDTH))
        self.device = nn.Parameter(torch.randn(devices, DEVICE_WIDTH))
        self.joint = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.known = nn.Linear(known + DEVICE_WIDTH, WIDTH)
        self.hidden, self.out = nn.Linear(4 * WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, 1)

    def forward(self, graphs: DAGBatch, known: Tensor, device: Tensor) -> Tensor:
        labels, devices = len(self.operation), len(self.device)
        pairs = [self.operation.repeat(devices, 1), self.device.repeat_interleave(labels, 0)]
        self.graph.operation = self.joint(torch.cat(pairs, 1))[None]
        pair = graphs.labels + labels * device[graphs.graph]
        embedded = self.graph(DAGBatch(pair, graphs.places, graphs.edges, graphs.graph, graphs.output))[0]
        del self.graph.operation  # of this call: a copy of the network shall not keep it
        hidden = self.hidden(torch.cat([embedded, self.known(torch.cat([known, self.device[device]], 1))], 1))
        return self.out(F.dropout(F.gelu(hidden), 0.1, self.training))[:, 0]


class Space(Tables):
    """The tables of a space, its graphs and encodings."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        features = LatencyFeatures(self.space, simplify=False)
        encodings = features.split(features.standardise(features(self.archs)))[:-1]  # the table is in the graph
        self.known = torch.from_numpy(np.hstack(encodings)).float()
        labels = {label: i for i, label in enumerate(self.space.labels)}
        self.graphs = [DAG.of(arch, labels) for arch in self.archs]  # as written, which is what these devices ran
        self.log = {device: np.log(self.table[device].to_numpy(float)) for device in self.table.columns[2:]}

    def inputs(self, rows: NDArray) -> tuple[DAGBatch, Tensor]:
        return DAGBatch.of([self.graphs[i] for i in rows]), self.known[rows]

    def pretrain(self, devices: list[str]) -> DeviceNetwork:
        rows = np.random.default_rng(0).choice(len(self.archs), KNOWN, replace=False)
        targets = torch.from_numpy(np.stack([self.log[device][rows] for device in devices])).float()
        rng = np.random.default_rng([0, 1])
        torch.manual_seed(0)
        network, criterion = DeviceNetwork(len(self.space.labels), len(devices), self.known.shape[1]), PairwiseHinge()

        def loss(batch: NDArray) -> Tensor:
            some = rng.choice(len(devices), min(DEVICES_AT_ONCE, len(devices)), replace=False)
            device = torch.from_numpy(np.resize(some, len(batch)))
            said, wanted = network(*self.inputs(rows[batch]), device), targets[device, torch.from_numpy(batch)]
            return torch.stack([criterion(said[device == d], wanted[device == d]) for d in some]).mean()

        descend(network, loss, KNOWN, rng=rng, steps=STEPS, batch=BATCH, lr=3e-3, decay=1e-2)
        return network.eval()

    @torch.no_grad()
    def scores(self, network: DeviceNetwork, rows: NDArray, device: int) -> NDArray[np.float64]:
        parts = np.array_split(rows, math.ceil(len(rows) / 512))
        said = [network(*self.inputs(part), torch.full((len(part),), device)) for part in parts]
        return standard(torch.cat(said).double().numpy())

    def tune(self, network: DeviceNetwork, rows: NDArray, y: NDArray, device: int, embedding: bool) -> DeviceNetwork:
        """The network after the measurements of a new device, which takes the place of one of the sources."""
        network, targets = copy.deepcopy(network), torch.from_numpy(y)
        if embedding:
            network.requires_grad_(False).device.requires_grad_(True)

        def loss(batch: NDArray) -> Tensor:
            said = network(*self.inputs(rows[batch]), torch.full((len(batch),), device))
            return PairwiseHinge()(said, targets[batch])

        torch.manual_seed(0)
        settings = {"steps": 40, "lr": 3e-2} if embedding else {"steps": 30, "lr": 1e-3}  # NASFLAT's on FBNet: 30, 1e-3
        descend(network, loss, len(y), rng=np.random.default_rng(0), batch=len(y), decay=1e-5, **settings)
        return network.eval()


def standard(values: NDArray) -> NDArray:
    return (values - values.mean(0)) / np.maximum(values.std(0), 1e-9)


def regression(said: NDArray, measured: NDArray, log_y: NDArray) -> tuple[NDArray, float]:
    """Log latency of `b` by what is said of them under each source, `b x s`, and the left-out log density of `y`."""
    groups = np.hstack([said, standard(said.mean(1, keepdims=True))])
    expected = [(-math.log(groups.shape[1]), 2.0)] * groups.shape[1]
    columns = np.split(groups[measured], groups.shape[1], axis=1)
    fit = fit_groups(columns, log_y, tails=TAILS, expected=expected)
    return fit.intercept + groups @ fit.coefficients, float(fit.left_out_density.sum() - log_y.sum())


class Ensemble(LatencyPredictor):
    """The committed predictor, which keeps how well its members tell the measurements, each left out in turn."""

    def _fit(self, features: NDArray, y: NDArray, scale: Scale) -> tuple[Any, GroupedFit]:
        line, fit = super()._fit(features, y, scale)
        self.density = {**getattr(self, "density", {}), scale: fit.left_out_density.sum()}
        return line, fit


def judge(space: Space, device: str, sources: list[str], network: DeviceNetwork, draws: int, first: int) -> list[dict]:
    log_y, n_all = space.log[device], len(space.archs)
    orders = [np.random.default_rng(first + seed).permutation(n_all)[:20] for seed in range(draws)]
    rows = np.unique(np.concatenate([np.random.default_rng(99).choice(n_all, TESTED, replace=False), *orders]))
    archs = [space.archs[i] for i in rows]
    said = np.stack([space.scores(network, rows, d) for d in range(len(sources))], 1)
    given = [space.source(source) for source in sources]
    told = standard(np.stack([np.log(source.predict(archs).mean) for source in given], 1))
    found = []
    for n, (seed, order) in ((n, draw) for n in (10, 20) for draw in enumerate(orders)):
        known = order[:n]
        at, unseen = np.searchsorted(rows, known), ~np.isin(rows, known)
        best = int(np.argmax([spearmanr(space.log[source][known], log_y[known]).statistic for source in sources]))
        ensemble = Ensemble(space.space, simplify=False, sources=given)
        ensemble.fit([archs[i] for i in at], np.exp(log_y[known]))
        p = {"ensemble": np.log(ensemble.predict(archs).mean)}
        for kind in ("network", "embedding"):
            tuned = space.tune(network, known, log_y[known], best, kind == "embedding")
            p[kind] = space.scores(tuned, rows, best)
        p["scores"], density = regression(said, at, log_y[known])
        p["sources"], _ = regression(told, at, log_y[known])
        ms, log = (ensemble.density[scale] for scale in SCALES)
        weight = expit(density - np.logaddexp(ms + PRIOR_LOG_ODDS, log - log_y[known].sum()))
        p["member"] = (1 - weight) * p["ensemble"] + weight * p["scores"]
        opinion = sum(standard(p[kind]) for kind in ("network", "embedding", "scores"))
        for kind, second in (("average", opinion), ("control", p["sources"])):
            p[kind] = 0.8 * standard(p["ensemble"]) + 0.2 * standard(second)
        row = {"device": device, "measurements": n, "draw": seed, "weight": weight}
        found.append(row | {kind: spearmanr(p[kind][unseen], log_y[rows][unseen]).statistic for kind in KINDS})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="N0,F0,F1,F2,F3,F4,F5")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--held-out", type=int, default=2, help="source devices of each task")
    args = parser.parse_args()
    folder, tasks = published_tasks()
    spaces, found = {name: Space(name, folder) for name in SPACES}, []
    with single_threaded():
        for task in args.tasks.split(","):
            space, devices = spaces[tasks[task][0]], tasks[task][1]
            sources = devices["source"]
            left = [sources[i] for i in np.linspace(0, len(sources) - 1, args.held_out).round().astype(int)]
            for role, targets in (*(("held out", [device]) for device in left), ("target", devices["target"])):
                others = [source for source in sources if source not in targets]
                network = space.pretrain(others)
                for device in targets:
                    rows = judge(space, device, others, network, args.draws, 1000 * (role == "held out"))
                    found += [{"task": task, "role": role, **row} for row in rows]
                    print(task, role, device, flush=True)
                    pd.DataFrame(found).round(5).to_csv(RESULTS, index=False)
    table = pd.DataFrame(found)
    each = table.groupby(["role", table["task"].str[0], "measurements", "task", "device"])[[*KINDS, "weight"]].mean()
    by_task = each.groupby(level=[0, 1, 2, 3]).mean()
    print("mean over tasks", by_task.groupby(level=[0, 1, 2]).mean().round(4).T.to_string(), sep="\n")
    change = each[list(KINDS)].sub(each["ensemble"], axis=0).groupby(level=[0, 1, 2])
    print("against the ensemble, mean over devices", change.mean().round(4).T.to_string(), sep="\n")
    print("standard error of that", change.sem().round(4).T.to_string(), sep="\n")


if __name__ == "__main__":
    main()
