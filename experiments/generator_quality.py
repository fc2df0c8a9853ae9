"""Validity, uniqueness and speed of the unguided generator of NAS-Bench-201 (issue "First light", figure B2).

    python experiments/generator_quality.py

Draws 1,000 architectures for each of 10 seeds, freely (duplicates kept) and with duplicates rejected, and times 256 on
one thread. A perfect model of the space would draw uniformly: its expected share of distinct ones is printed beside.
Writes experiments/results/generator_quality.csv.
"""

from __future__ import annotations

import platform
import time
from pathlib import Path

import pandas as pd
import torch

from archgen import GuidedSampler
from archgen.metrics import validity_uniqueness

SPACE, DRAWN, SEEDS, STEPS = "nasbench201", 1000, 10, 16


def main() -> None:
    torch.set_num_threads(1)
    sampler = GuidedSampler.from_pretrained(SPACE)
    space, generator = sampler.space, sampler.generator
    rows = []
    for seed in range(SEEDS):
        noise = torch.Generator().manual_seed(seed)
        free = validity_uniqueness(space.decode(generator.sample(DRAWN, steps=STEPS, generator=noise)))
        rejecting = sampler.sample(DRAWN, seed=seed, steps=STEPS)
        noise = torch.Generator().manual_seed(seed)
        start = time.perf_counter()
        space.decode(generator.sample(256, steps=STEPS, generator=noise))
        seconds = time.perf_counter() - start
        rows.append(
            {
                "seed": seed,
                "steps": STEPS,
                "valid": free["valid"],
                "unique": free["unique"],
                "unique_rejecting": 100.0 * len(set(rejecting.archs)) / len(rejecting),
                "seconds_256": seconds,
            }
        )
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).parent / "results" / "generator_quality.csv", index=False)
    perfect = 100.0 * space.size * (1 - (1 - 1 / space.size) ** DRAWN) / DRAWN
    print(table.to_string(index=False))
    for column in ("valid", "unique", "unique_rejecting", "seconds_256"):
        print(f"{column}: mean {table[column].mean():.3f}, from {table[column].min():.3f} to {table[column].max():.3f}")
    print(f"a perfect uniform model would draw {perfect:.2f} % distinct; {platform.machine()}, one thread")


if __name__ == "__main__":
    main()
