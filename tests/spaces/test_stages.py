"""Stages of variable depth: which patterns are allowed, and exact draws of them."""

import itertools
import math

import numpy as np
import pytest
import torch

from archgen.spaces.stages import SKIP, Stage, project_stage

STAGE = Stage("s", (1, 2, 4), (("a", "b"), ("c", "d"), ("e", "f"), ("g", "h")))
ACTIVE = {slot: ("x", "y", "z") if slot in "ace" else ("u", "v") for slot in "abcdefgh"}
ALLOWED = {slot: (*labels, SKIP) if slot in "cdefgh" else labels for slot, labels in ACTIVE.items()}


def test_depth_is_read_from_whole_blocks_only() -> None:
    seen = {}
    for labels in itertools.product(*([SKIP, "x"] if slot in STAGE.optional else ["x"] for slot in STAGE.slots)):
        depth = STAGE.depth(dict(zip(STAGE.slots, labels, strict=True)))
        if depth is not None:
            seen[depth] = labels.count(SKIP)
    assert seen == {1: 6, 2: 4, 4: 0}


def test_size_counts_the_settings_and_settings_lists_them_in_order() -> None:
    settings = STAGE.settings(ALLOWED, ACTIVE)
    assert STAGE.size(ACTIVE) == len(settings) == len(set(settings)) == 6 + 36 + 6**3 * 4
    assert all(STAGE.depth(dict(zip(STAGE.slots, s, strict=True))) for s in settings)
    order = [[ALLOWED[slot].index(label) for slot, label in zip(STAGE.slots, s, strict=True)] for s in settings]
    assert order == sorted(order)


def probabilities(rng: np.random.Generator) -> torch.Tensor:
    """Of the six optional slots over two labels and, last, `skip`."""
    p = torch.tensor(rng.dirichlet([1, 1, 1], size=6), dtype=torch.float32)
    p[0, 2] *= 5  # need not be normalised
    return p


def test_projection_draws_from_the_exact_conditional_distribution(rng: np.random.Generator) -> None:
    """Chi-square over all allowed settings against rejection's closed form.

    Settings whose expected count is below 5 are pooled. The statistic exceeds the quantile used here (mean plus six
    standard deviations of its distribution) with probability below 1e-6.
    """
    p = probabilities(rng)
    n = 40_000
    generator = torch.Generator().manual_seed(0)
    normal = p / p.sum(-1, keepdim=True)
    drawn = torch.multinomial(normal.repeat(n, 1), 1, generator=generator).view(n, 6)
    result = project_stage(drawn, p.expand(n, 6, 3), STAGE, 2, generator=generator)

    expected = {}
    for labels in itertools.product(range(3), repeat=6):
        if STAGE.depth(
            {"a": "x", "b": "x", **dict(zip("cdefgh", [SKIP if i == 2 else "x" for i in labels], strict=True))}
        ):
            expected[labels] = math.prod(float(normal[slot, label]) for slot, label in enumerate(labels))
    total = sum(expected.values())
    counts: dict[tuple[int, ...], int] = dict.fromkeys(expected, 0)
    for row in map(tuple, result.tolist()):
        counts[row] += 1  # a KeyError is a draw that is not allowed
    large = [labels for labels in expected if n * expected[labels] / total >= 5]
    observed = np.array([counts[labels] for labels in large] + [n - sum(counts[labels] for labels in large)])
    mean = np.array([n * expected[labels] / total for labels in large])
    mean = np.append(mean, n - mean.sum())
    statistic = float(((observed - mean) ** 2 / mean.clip(min=1)).sum())
    freedom = len(large)
    assert statistic < freedom + 6 * math.sqrt(2 * freedom)


def test_allowed_draws_stay_as_they_are(rng: np.random.Generator) -> None:
    p = probabilities(rng).expand(50, 6, 3)
    drawn = torch.randint(3, (50, 6), generator=torch.Generator().manual_seed(1))
    once = project_stage(drawn, p, STAGE, 2, generator=torch.Generator().manual_seed(2))
    assert not torch.equal(once, drawn)
    assert torch.equal(project_stage(once, p, STAGE, 2, generator=torch.Generator().manual_seed(3)), once)


@pytest.mark.parametrize(("tiny", "depth"), [(2, 4), (slice(0, 2), 1)])
def test_a_depth_of_hardly_any_probability_is_hardly_drawn(tiny: int | slice, depth: int) -> None:
    p = torch.full((200, 6, 3), 0.5)
    p[..., tiny] = 1e-30
    drawn = torch.tensor([2, 0, 2, 0, 2, 0]).expand(200, 6)  # half of each block
    there = (project_stage(drawn, p, STAGE, 2, generator=torch.Generator().manual_seed(0)) != 2).sum(1)
    assert set(there.tolist()) == {2 * (depth - 1)}
