"""Where to split a supernet: values whose paths want the shared weights to move differently (GM-NAS, 2203.15207)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from archgen.errors import InvalidArchitecture, InvalidSpace
from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.supernets.base import Supernet, without_dropout
from archgen.supernets.training.base import Batch

MOST = 12
"""Values of a variable up to which all divisions are looked at."""
TINY = 1e-6


@dataclass(frozen=True)
class Cut:
    """A division of a variable's values into two groups.

    Args:
        variable: Name of the variable.
        groups: Positions of its values.
        distance: Mean of the distances between the groups; the larger, the more sharing between them does harm.
    """

    variable: str
    groups: tuple[tuple[int, ...], tuple[int, ...]]
    distance: float


def best_cut(
    supernet: Supernet, batches: Sequence[Batch], rng: np.random.Generator, variables: Iterable[str] | None = None
) -> Cut:
    """The variable, and the division of its values, between whose groups gradients disagree most.

    By the mean over pairs of values, so that it does not matter how many a variable has; the published code sums, in a
    space where all have as many.

    Args:
        supernet: Warmed up, so that gradients mean something; only its gradients, which are cleared, and its mode
            change.
        batches: One a repeat; the published code takes 100.
        rng: For the paths.
        variables: Those that may be split; all where None.

    Raises:
        InvalidSpace: No variable has from 2 to `MOST` values.
    """
    cuts = []
    for variable in splittable(supernet.space, variables):
        groups, distance = minimum_cut(gradient_distances(supernet, variable, batches, rng))
        cuts.append(Cut(variable, groups, distance))
    return max(cuts, key=lambda cut: cut.distance)


def splittable(space: SearchSpace, variables: Iterable[str] | None = None) -> list[str]:
    """The variables, among all or among some, whose values can be divided.

    Raises:
        InvalidSpace: No variable has from 2 to `MOST` values.
    """
    known = space.variables
    wanted = [v for v in (known if variables is None else variables) if 2 <= len(known[v]) <= MOST]
    if not wanted:
        raise InvalidSpace(f"{space.name} has no variable of 2 to {MOST} values to be split")
    return wanted


def gradient_distances(
    supernet: Supernet, variable: str, batches: Sequence[Batch], rng: np.random.Generator
) -> Float[NDArray[np.float64], "v v"]:
    """One minus the cosine of the gradients of what paths share, for each pair of values, mean over the batches.

    The paths of one batch are equal but for the variable; values that the other choices exclude have none, and two that
    never have one in the same batch are as far apart as the others are on average. What the paths share are all weights
    but those that the variable's values own; where a path does not reach a weight, its gradient is 0. Against the
    published code the paths are hard ones, as in its random search; in its DARTS the other edges are mixtures. Nothing
    is dropped, so that paths differ by the variable alone.

    Args:
        supernet: Goes to training mode; its gradients are cleared, its statistics are as before.
        variable: Of its space, with `v` values.
        batches: One a path.
        rng: For the paths.
    """
    space, count = supernet.space, len(supernet.space.variables[variable])
    total, seen = np.zeros((count, count)), np.zeros((count, count))
    supernet.train()
    with without_dropout(supernet), _statistics_kept(supernet):
        for x, y in batches:
            (arch,) = space.sample(1, rng)
            choices = space.to_choices(arch)
            paths = _paths(space, variable, choices)
            gradients, owned = [], set[int]()
            for path in paths.values():
                supernet.zero_grad(set_to_none=True)
                F.cross_entropy(supernet(x, path), y).backward()  # type: ignore[no-untyped-call]
                gradients.append([None if p.grad is None else p.grad.clone() for p in supernet.parameters()])
                owned |= {id(p) for p in supernet.owned(path).get(variable, [])}
            shared = [i for i, p in enumerate(supernet.parameters()) if id(p) not in owned]
            rows = [[gradient[i] for i in shared] for gradient in gradients]
            pairs = np.ix_(list(paths), list(paths))
            total[pairs] += _distances(rows)
            seen[pairs] += 1
    supernet.zero_grad(set_to_none=True)
    apart = ~np.eye(count, dtype=bool)
    usual = total[apart].sum() / max(seen[apart].sum(), 1)
    distances: NDArray[np.float64] = np.where(seen > 0, total / np.maximum(seen, 1), np.where(apart, usual, 0.0))
    return distances


def _paths(space: SearchSpace, variable: str, choices: Mapping[str, int]) -> dict[int, Architecture]:
    """The architectures that have the other choices, by the value of the variable; those that exclude it are not."""
    found = {}
    for value in range(len(space.variables[variable])):
        with suppress(InvalidArchitecture):
            found[value] = space.from_choices({**choices, variable: value})
    return found


@contextmanager
def _statistics_kept(supernet: Supernet) -> Iterator[None]:
    """What training mode moves inside is put back: a training that is resumed with the cuts does not come here."""
    kept = [(buffer, buffer.clone()) for buffer in supernet.buffers()]
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.copy_(value)


def _distances(rows: Sequence[Sequence[Tensor | None]]) -> Float[NDArray[np.float64], "v v"]:
    products = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for (i, a), (j, b) in itertools.combinations_with_replacement(enumerate(rows), 2):
        inner = sum(float((p * q).sum()) for p, q in zip(a, b, strict=True) if p is not None and q is not None)
        products[i, j] = products[j, i] = inner
    norms = products.diagonal().sqrt()
    distances: NDArray[np.float64] = (1 - products / (norms[:, None] * norms + TINY)).fill_diagonal_(0.0).numpy()
    return distances


def minimum_cut(
    distances: Float[NDArray[np.float64], "v v"],
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], float]:
    """The two groups, as equal in size as can be, with the least distances inside them; and the mean between them.

    The graph's edges are similarities, so the least distance inside is the least similarity that is cut; as in the
    published code, whose groups are of two and three operations of NAS-Bench-201.

    Args:
        distances: Symmetric, of at least 2 values.
    """
    count = len(distances)
    total = float(np.triu(distances, 1).sum())
    found = []
    for group in itertools.combinations(range(count), count // 2):
        other = tuple(i for i in range(count) if i not in group)
        inside = sum(float(np.triu(distances[np.ix_(g, g)], 1).sum()) for g in (group, other))
        found.append((inside, (group, other)))
    inside, groups = min(found)
    return groups, (total - inside) / (len(groups[0]) * len(groups[1]))
