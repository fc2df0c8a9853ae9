"""CPU-seconds of 256 guided NAS-Bench-201 architectures on one thread, against DiffusionNAG's setting (figure B1).

    python experiments/generator_speed.py [--seeds 10] [--train-steps 3000] [--pc-steps 1000] [--pc-seeds 1]

All in one run: the committed `discrete_flow` and `one_step`, guided towards high CIFAR-10 validation accuracy as
`GuidedSampler` does it, then `score_sde` set up as DiffusionNAG (its preset of 3.99 M parameters, 1,000
predictor-corrector steps, guided by the gradient of a predictor of noised states). Quality is the true test accuracy of
what they draw, from the published table. The preset is trained here on the whole space (kept in runs/ for the next
run); its strength of guidance is the best of five by *predicted* accuracy with a 20-step solver. A stronger pull gives
better samples that repeat more often, so the fast generators are shown at several strengths, and compared at the
weakest whose samples the predictor likes as well. Writes experiments/results/generator_speed.csv.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from archgen import GuidedSampler, config, maximize
from archgen.generators import (
    Guidance,
    NoisedGuidance,
    NoisedPredictor,
    ScoreSDE,
    Tilt,
    expected_log_weight,
    load_generator,
    train_generator,
    train_noised,
)
from archgen.graph import Architecture
from archgen.pretrain import make_pool
from archgen.rewards import Reward
from archgen.steering import Steering

SPACE, METRIC, TRUTH, DRAWN = "nasbench201", "cifar10_val_acc", "cifar10_test_acc", 256
PULLS = (2.0, 2.5, 3.0, 3.5, 4.0, 6.0, 8.0)
STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
Draw = Callable[[torch.Generator], list[Architecture]]
FOLDER = Path("runs/score_sde-diffusionnag")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="of the fast generators")
    parser.add_argument("--train-steps", type=int, default=3000)
    parser.add_argument("--pc-steps", type=int, default=1000)
    parser.add_argument("--pc-seeds", type=int, default=1, help="of the slow generator, minutes each")
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    torch.set_num_threads(1)
    table = pd.read_parquet(tables / SPACE / "accuracy.parquet").set_index("arch")[TRUTH]
    sampler = GuidedSampler.from_pretrained(SPACE)
    space = sampler.space

    def judge(
        name: str, steps: int, seed: int, strength: float, draw: Callable[[], list[Architecture]]
    ) -> dict[str, object]:
        start = time.process_time()
        archs = draw()
        seconds = time.process_time() - start
        truth = table[[space.format(arch) for arch in archs]].to_numpy()
        row = {"generator": name, "steps": steps, "strength": strength, "seed": seed, "seconds": seconds}
        row |= {
            "predicted": sampler.predictor(METRIC).predict(archs).mean.mean(),
            "valid": 100 * len(archs) / DRAWN,
            "unique": 100 * len(set(archs)) / len(archs),
            "mean": truth.mean(),
            "best": truth.max(),
        }
        print(row, flush=True)
        return row

    rows = []
    for name, steps in (("discrete_flow", 4), ("one_step", 1)):
        fast = GuidedSampler.from_pretrained(SPACE, generator=name)
        for strength in PULLS:
            draw = guided(fast, strength, steps)
            for seed in range(-1, args.seeds):  # the first is a warm-up
                noise = torch.Generator().manual_seed(max(seed, 0))
                row = judge(name, steps, seed, strength, lambda d=draw, g=noise: d(g))
                rows += [row] if seed >= 0 else []

    sde, noised = diffusionnag(sampler, args.train_steps)

    def drawer(strength: float, solver: str, steps: int) -> Draw:
        weight = expected_log_weight(noised, [Tilt(METRIC, 1, strength)])
        steer: list[Guidance] = [NoisedGuidance(weight, space.node_domain, space.edge_domain)]

        def draw(noise: torch.Generator) -> list[Architecture]:
            sde.solver = solver
            drawn = space.decode(sde.sample(DRAWN, guidance=steer, steps=steps, generator=noise))
            return [arch for arch in drawn if arch is not None]

        return draw

    strength = best_strength(sampler, {s: drawer(s, "dpmpp", 20) for s in STRENGTHS})
    for name, solver, steps, seeds in (
        ("score_sde (20 steps)", "dpmpp", 20, args.seeds),
        ("score_sde (DiffusionNAG)", "pc", args.pc_steps, args.pc_seeds),
    ):
        draw = drawer(strength, solver, steps)
        for seed in range(seeds):
            noise = torch.Generator().manual_seed(seed)
            rows.append(judge(name, steps, seed, strength, lambda d=draw, g=noise: d(g)))

    frame = pd.DataFrame(rows)
    frame.to_csv(Path(__file__).parent / "results" / "generator_speed.csv", index=False)
    report(frame)
    print(f"{platform.machine()}, one thread, torch {torch.__version__}; {TRUTH} of all cells: mean {table.mean():.2f}")


def report(frame: pd.DataFrame) -> None:
    """Means by generator and strength; for each fast one, the weakest pull that the predictor likes as well."""
    shown = ["seconds", "valid", "unique", "predicted", "mean", "best"]
    each = frame.groupby(["generator", "strength"], sort=False)[shown].mean()
    slow = each.iloc[-1]
    each["faster"] = slow["seconds"] / each["seconds"]
    print(each.round(3).to_string())
    for name in ("discrete_flow", "one_step"):
        pulls = each.loc[name]
        enough = pulls[pulls["predicted"] >= slow["predicted"]]
        row = (enough if len(enough) else pulls).iloc[0]
        part = frame[(frame["generator"] == name) & (frame["strength"] == row.name)]
        print(
            f"{name} at strength {row.name:g}, the weakest as good as score_sde by prediction: {row['faster']:,.0f} "
            f"times faster, mean {row['mean']:.2f} ({part['mean'].min():.2f} to {part['mean'].max():.2f}), best "
            f"{row['best']:.2f}, {row['unique']:.0f} % distinct (score_sde: {slow['mean']:.2f}, {slow['best']:.2f}, "
            f"{slow['unique']:.0f} %)"
        )


def guided(sampler: GuidedSampler, strength: float, steps: int) -> Draw:
    """The sampler's own way of following a lone direction."""
    reward = Reward([maximize(METRIC)], sampler.predictor, sampler._scale, strength)
    steering = Steering(sampler.space, sampler.generator, reward, steps=steps)
    return lambda noise: steering.draw(DRAWN, noise).archs


def best_strength(sampler: GuidedSampler, drawers: dict[float, Draw]) -> float:
    """The strength whose samples the predictor likes best."""
    predictor = sampler.predictor(METRIC)
    found = {s: predictor.predict(draw(torch.Generator().manual_seed(1))).mean.mean() for s, draw in drawers.items()}
    print(f"mean predicted accuracy by strength: { {s: round(float(v), 3) for s, v in found.items()} }", flush=True)
    return max(found, key=lambda s: found[s])


def diffusionnag(sampler: GuidedSampler, steps: int) -> tuple[ScoreSDE, NoisedPredictor]:
    """The score network of the published size and its noised predictor, trained here or read from the last run."""
    space = sampler.space
    if (FOLDER / "config.json").exists():
        known = load_generator(FOLDER)
        assert isinstance(known, ScoreSDE)
        assert known.noised is not None
        return known, known.noised
    start = time.perf_counter()
    torch.manual_seed(0)
    sde = ScoreSDE(space.node_domain, space.edge_domain, **ScoreSDE.PRESETS["diffusionnag"])
    pool = make_pool(space, {METRIC: sampler.predictor(METRIC)})
    order = torch.Generator().manual_seed(0)
    losses = train_generator(sde, lambda n: (pool.draw(n, order)[0], None), steps=steps, lr=3e-4)
    noised = NoisedPredictor(space.node_domain, space.edge_domain, [METRIC])
    train_noised(noised, sde, lambda n: pool.draw(n, order), steps=steps)
    sde.noised = noised
    sde.save("score_sde", FOLDER, {}, "# score_sde as DiffusionNAG, trained by experiments/generator_speed.py\n")
    print(
        f"trained {sum(p.numel() for p in sde.parameters()):,} parameters in {time.perf_counter() - start:.0f} s, ",
        end="",
    )
    print(f"loss {np.mean(losses[-100:]):.4f}", flush=True)
    return sde, noised


if __name__ == "__main__":
    main()
