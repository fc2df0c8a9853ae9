"""A design for 10,000 CIFAR-10 images against hand-made ResNets at the same latency (figure B10).

    python experiments/design_against_resnets.py [--images 10000] [--space mobilenetv3] [--effort thorough]
        [--time-limit 60m] [--networks 4] [--epochs 60] [--seed 0] [--workers 2]

ResNet-8, -14 and -20 (He et al., arXiv 1512.03385, section 4.2: 6n + 2 layers of 16, 32 and 64 channels; projections
where the size changes) are measured first. `archgen design` then looks for a Pareto set of accuracy and latency, none
slower than ResNet-20. Each ResNet is trained alone on the same training images by the recipe that `archgen` trains
networks with, for `--epochs`. At last all of them are measured side by side as ONNX files. A row a network:
`latency_ms` and its interval, `val` and `test` accuracy in percent, `seconds` of the whole design or of the training;
`rival` is, for a ResNet, the most accurate designed network on the validation part that is not slower by the median.

Runs are kept in runs/design_against_resnets. Writes experiments/results/design_against_resnets.csv.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from bo_tables import published
from torch import Tensor, nn

from archgen.artifacts import write_atomic
from archgen.cli.terminal import Terminal
from archgen.data import ImageData, load_data
from archgen.export import to_onnx
from archgen.hardware import OnnxLatency, measure_files
from archgen.protocol import processes
from archgen.supernets.training import Schedule, accuracy, train_network

RESULTS = Path(__file__).parent / "results"
DEPTHS = (8, 14, 20)


class Block(nn.Module):
    """Two convolutions and what goes around them."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)
        same = stride == 1 and c_in == c_out
        projection = (nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        self.around: nn.Module = nn.Identity() if same else nn.Sequential(*projection)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(inner + self.around(x))


class ResNet(nn.Module):
    """Of `depth` layers for images of 32 pixels."""

    def __init__(self, depth: int, classes: int) -> None:
        super().__init__()
        n = (depth - 2) // 6
        widths = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        blocks = [Block(w if i else v, w, 1 if i else s) for v, w, s in widths for i in range(n)]
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1)
        )
        self.classifier = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.body(x).flatten(1))
        return logits


def images(path: str, n: int, seed: int) -> ImageData:
    return load_data(path, seed=seed, limit=n)


def trained(depth: int, path: str, n: int, epochs: int, seed: int, folder: Path) -> dict[str, Any]:
    """Train one and export it; what was trained before is read."""
    facts = folder / f"resnet{depth}.json"
    if not facts.exists():
        data, start = images(path, n, seed), time.monotonic()
        torch.manual_seed(seed)
        network = ResNet(depth, len(data.classes))
        with Terminal().bar(f"ResNet-{depth}", epochs) as bar:
            train_network(
                network, data, Schedule(epochs), seed=seed, on_epoch=lambda _, losses: bar.update(1, **losses)
            )
        seconds = time.monotonic() - start
        val, _ = accuracy(network, data.validation.images, data.validation.labels)
        test, _ = accuracy(network, data.test.images, data.test.labels)
        to_onnx(network.eval(), data.test.images[:1], folder / f"resnet{depth}.onnx")
        params = sum(p.numel() for p in network.parameters())
        found = {"network": f"ResNet-{depth}", "val": val, "test": test, "params": params, "seconds": seconds}
        write_atomic(facts, lambda beside: beside.write_text(json.dumps({**found, "epochs": epochs})))
    read: dict[str, Any] = json.loads(facts.read_text())
    return read


def latency_of_resnets(data: ImageData, seed: int) -> list[float]:
    """Medians in ms, measured side by side."""
    torch.manual_seed(seed)
    networks = [ResNet(depth, len(data.classes)).eval() for depth in DEPTHS]
    return [m.latency_ms for m in OnnxLatency(data.test.images[:1], threads=1).measure(networks, seed=seed)]


def designed(args: argparse.Namespace, path: str, bound: float, folder: Path) -> dict[str, Any]:
    """The result of `archgen design`."""
    if not (folder / "result.json").exists():
        command = [sys.executable, "-m", "archgen", "design"]
        if folder.exists():
            command += ["--resume", str(folder)]
        else:
            command += ["--data", path, "--limit", str(args.images), "--space", args.space, "--effort", args.effort]
            command += ["--time-limit", args.time_limit, "--minimize", "latency_ms", "--networks", str(args.networks)]
            command += ["--at-most", f"latency_ms={bound:.4f}", "--seed", str(args.seed), "--out", str(folder)]
        subprocess.run([*command, "--json"], check=True, stdout=subprocess.DEVNULL)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--space", default="mobilenetv3")
    parser.add_argument("--effort", default="thorough")
    parser.add_argument("--time-limit", default="60m")
    parser.add_argument("--networks", type=int, default=4, help="at most; as many as two processes train in two rounds")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    path = str(published() / "cifar10" / "images_jpeg.parquet")
    folder = args.runs / "design_against_resnets"
    folder.mkdir(parents=True, exist_ok=True)
    data = images(path, args.images, args.seed)
    bound = max(latency_of_resnets(data, args.seed))
    run = folder / f"{args.space}_{args.images}_{args.effort}_{args.time_limit}_{args.seed}"
    result = designed(args, path, bound, run)
    with processes(args.workers) as pool:
        jobs = [pool.submit(trained, d, path, args.images, args.epochs, args.seed, folder) for d in reversed(DEPTHS)]
        resnets = [job.result() for job in reversed(jobs)]
    rows = [
        {
            "network": f"{args.space} {each['files']}",
            "arch": each["arch"],
            "val": each["val_acc"],
            "test": each["test_acc"],
            "params": each["params"],
            "seconds": result["seconds"]["total"],
        }
        for each in result["networks"]
    ]
    files = [run / f"{each['files']}.onnx" for each in result["networks"]]
    files += [folder / f"resnet{depth}.onnx" for depth in DEPTHS]
    measured = measure_files(files, data.test.images[:1], threads=1, seed=args.seed)
    table = pd.DataFrame([*rows, *resnets])
    table["latency_ms"] = [m.latency_ms for m in measured]
    table["low_ms"], table["high_ms"] = [m.low_ms for m in measured], [m.high_ms for m in measured]
    ours, rivals = table.iloc[: len(rows)], []
    for latency in table["latency_ms"].iloc[len(rows) :]:
        fast = ours[ours["latency_ms"] <= latency]
        rivals.append(fast.loc[fast["val"].idxmax(), "network"] if len(fast) else None)
    table["rival"] = [*[None] * len(rows), *rivals]
    table = table.assign(images=args.images, effort=args.effort, machine=f"{platform.machine()}, {args.workers} cores")
    print(table.drop(columns="arch").to_string(index=False))
    write_atomic(RESULTS / "design_against_resnets.csv", lambda beside: table.to_csv(beside, index=False))


if __name__ == "__main__":
    main()
