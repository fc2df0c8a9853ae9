"""Generate architectures under wishes, build the best one, and export it: the sampler in a script of one's own.

    python experiments/generate_architectures.py --space nasbench201 --maximize cifar100_val_acc \\
        --at-most latency_ms@pixel3=12 -n 16 --out runs/generated

Writes `architectures.parquet` with the predictions, the published training network of the first one as ONNX, and a
drawing of its cell. Nothing but the committed checkpoints is needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from archgen import ArchgenError, GuidedSampler, Objective, maximize
from archgen.export import check_onnx, random_inputs, to_onnx
from archgen.objectives import parse_bound
from archgen.plots import cell_plot, save_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="nasbench201")
    parser.add_argument("--maximize", default="cifar10_val_acc")
    parser.add_argument("--at-most", action="append", default=[], metavar="METRIC=VALUE")
    parser.add_argument("-n", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        generate(args)
    except (ArchgenError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def generate(args: argparse.Namespace) -> None:
    """Sample, sort by the predicted objective, write."""
    wishes: list[Objective] = [maximize(args.maximize), *(parse_bound(text, "at_most") for text in args.at_most)]
    sampler = GuidedSampler.from_pretrained(args.space)
    samples = sampler.sample(args.n, wishes, seed=args.seed)
    table = samples.to_frame().sort_values(args.maximize, ascending=False)
    args.out.mkdir(parents=True, exist_ok=True)
    samples.save(args.out / "architectures.parquet")
    print(table.head(5).to_string(index=False))

    space, best = sampler.space, samples.archs[int(table.index[0])]
    torch.manual_seed(args.seed)
    network = space.build(space.simplify(best)).eval()
    inputs = random_inputs(space.example_input(2), args.seed)
    to_onnx(network, inputs, args.out / "best_untrained.onnx")
    difference = check_onnx(network, args.out / "best_untrained.onnx", inputs)
    save_png(cell_plot(space.computation(best), title=space.format(best)), args.out / "best.png")
    print(f"best, untrained, as ONNX in {args.out} (largest difference to PyTorch {difference:.1g})")


if __name__ == "__main__":
    main()
