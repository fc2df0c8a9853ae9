"""CPU-seconds of 256 guided NAS-Bench-201 architectures on one thread, against DiffusionNAG's setting (figure B1).

    python experiments/generator_speed.py [--seeds 10] [--train-steps 3000] [--pc-steps 1000]

All in one run: `score_sde` set up as DiffusionNAG (its preset of 3.99 M parameters, 1,000 predictor-corrector steps,
guided by the gradient of a predictor of noised states), then the committed `discrete_flow` and `one_step`, asked for
high CIFAR-10 validation accuracy by a condition, and the flow again by the exact tilt of its rates. Quality is the
true test accuracy of what they draw, from the published table. The preset is trained here on the whole space (kept in
runs/ for the next run); its guidance strength is the best of five, judged with a 20-step solver on *predicted*
accuracy. Writes experiments/results/generator_speed.csv.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from archgen import GuidedSampler, config
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
from archgen.pretrain import make_pool

SPACE, METRIC, TRUTH, DRAWN = "nasbench201", "cifar10_val_acc", "cifar10_test_acc", 256
STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
FOLDER = Path("runs/score_sde-diffusionnag")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="of the fast generators; the slow one is run once")
    parser.add_argument("--train-steps", type=int, default=3000)
    parser.add_argument("--pc-steps", type=int, default=1000)
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    torch.set_num_threads(1)
    table = pd.read_parquet(tables / SPACE / "accuracy.parquet").set_index("arch")[TRUTH]
    sampler = GuidedSampler.from_pretrained(SPACE)
    space = sampler.space

    def judge(name: str, steps: int, seed: int, draw: object) -> dict[str, object]:
        start = time.process_time()
        archs = [arch for arch in space.decode(draw()) if arch is not None]  # type: ignore[operator]
        seconds = time.process_time() - start
        truth = table[[space.format(arch) for arch in archs]].to_numpy()
        row = {"generator": name, "steps": steps, "seed": seed, "seconds": seconds, "valid": 100 * len(archs) / DRAWN}
        row |= {"unique": 100 * len(set(archs)) / len(archs), "mean": truth.mean(), "best": truth.max()}
        print(row, flush=True)
        return row

    rows = []
    for name, steps in (("discrete_flow", 4), ("one_step", 1)):
        fast = GuidedSampler.from_pretrained(SPACE, generator=name).generator
        assert fast.properties is not None
        condition = torch.full((DRAWN, len(fast.properties.metrics)), torch.nan)
        condition[:, fast.properties.row(METRIC)] = 2.0  # normal score: one architecture in 44 is better
        for seed in range(-1, args.seeds):  # the first is a warm-up
            noise = torch.Generator().manual_seed(max(seed, 0))
            row = judge(
                name,
                steps,
                seed,
                lambda f=fast, c=condition, s=steps, g=noise: f.sample(
                    DRAWN, condition=c, weight=3.0, steps=s, generator=g
                ),
            )
            rows += [row] if seed >= 0 else []

    flow = sampler.generator
    assert flow.noised is not None
    tilted = expected_log_weight(flow.noised, [Tilt(METRIC, 1, sampler.strength)])
    steer = [NoisedGuidance(tilted, space.node_domain, space.edge_domain)]
    for seed in range(args.seeds):
        noise = torch.Generator().manual_seed(seed)
        name = "discrete_flow (noised)"
        rows.append(judge(name, 4, seed, lambda g=noise: flow.sample(DRAWN, guidance=steer, steps=4, generator=g)))

    sde, noised = diffusionnag(sampler, args.train_steps)

    def guidance(strength: float) -> list[Guidance]:
        weight = expected_log_weight(noised, [Tilt(METRIC, 1, strength)])
        return [NoisedGuidance(weight, space.node_domain, space.edge_domain)]

    def predicted(strength: float) -> float:
        sde.solver = "dpmpp"
        drawn = sde.sample(DRAWN, guidance=guidance(strength), steps=20, generator=torch.Generator().manual_seed(1))
        archs = [arch for arch in space.decode(drawn) if arch is not None]
        return float(sampler.predictor(METRIC).predict(archs).mean.mean())

    found = {strength: predicted(strength) for strength in STRENGTHS}
    strength = max(found, key=lambda s: found[s])
    print(f"guidance strength {strength:g}; mean predicted accuracy in 20 steps by strength: {found}", flush=True)
    for name, solver, steps in (
        ("score_sde (20 steps)", "dpmpp", 20),
        ("score_sde (DiffusionNAG)", "pc", args.pc_steps),
    ):
        sde.solver = solver
        noise = torch.Generator().manual_seed(0)
        rows.append(
            judge(
                name,
                steps,
                0,
                lambda s=steps, g=noise: sde.sample(DRAWN, guidance=guidance(strength), steps=s, generator=g),
            )
        )

    frame = pd.DataFrame(rows)
    frame.to_csv(Path(__file__).parent / "results" / "generator_speed.csv", index=False)
    each = frame.groupby("generator", sort=False)[["steps", "seconds", "valid", "unique", "mean", "best"]].mean()
    each["faster"] = each["seconds"].iloc[-1] / each["seconds"]
    print(each.round(3).to_string())
    spread = frame.groupby("generator")[["mean", "best"]].agg(["min", "max"]).round(2)
    print(spread.to_string())
    print(f"{platform.machine()}, one thread, torch {torch.__version__}; {TRUTH} of all cells: mean {table.mean():.2f}")


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
