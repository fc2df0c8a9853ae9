"""Guidance by any function of architectures: importance sampling, and steering by particles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from archgen.generators.base import Guidance
from archgen.graph import Architecture, GraphBatch

LogTilt = Callable[[Sequence[Architecture]], NDArray[np.float64]]
Decode = Callable[[GraphBatch], list[Architecture | None]]
REMEMBERED = 200_000


class _Weighing:
    """Decodes graphs and weighs the architectures; graphs that do not decode are forbidden.

    The function sees each distinct architecture once until `forget`, so it may be slow; beyond `REMEMBERED` of them
    the memory starts anew, so that it does not grow with the samples.
    """

    def __init__(self, decode: Decode, log_tilt: LogTilt) -> None:
        self.decode, self._log_tilt = decode, log_tilt
        self._asked: set[int] = set()  # hashes: as many as there are architectures, so kept small
        self.forget()

    def forget(self) -> None:
        self._known: dict[Architecture | None, float] = {None: -np.inf}

    def __call__(self, clean: GraphBatch) -> Float[Tensor, " b"]:
        archs = self.decode(clean)
        new = list(dict.fromkeys(arch for arch in archs if arch is not None and arch not in self._known))
        if len(self._known) + len(new) > REMEMBERED:
            self.forget()
            new = list(dict.fromkeys(arch for arch in archs if arch is not None))
        if new:
            self._known.update(zip(new, self._log_tilt(new).tolist(), strict=True))
            self._asked.update(map(hash, new))
        return torch.tensor([self._known[arch] for arch in archs])

    @property
    def evaluated(self) -> int:
        return len(self._asked)

    def heaviest(self, n: int) -> list[Architecture]:
        known = {arch: weight for arch, weight in self._known.items() if arch is not None}
        return sorted(known, key=known.__getitem__, reverse=True)[:n]


class _BlackBox(Guidance):
    """What weighs decoded architectures by a function."""

    _weigh: _Weighing

    @property
    def evaluated(self) -> int:
        """Number of distinct architectures weighed so far."""
        return self._weigh.evaluated

    def heaviest(self, n: int) -> list[Architecture]:
        """Of all architectures weighed since `forget`, the `n` of the largest weight."""
        return self._weigh.heaviest(n)

    def forget(self) -> None:
        """Weigh every architecture anew from now on: the function has changed."""
        self._weigh.forget()


class ImportanceGuidance(_BlackBox):
    """Each step draws several clean graphs and keeps one with probability proportional to its weight.

    Exact as the candidates grow, for any black box (a table, trees, a Gaussian process, a look-up table).

    Args:
        decode: Graphs to architectures (`SearchSpace.decode`).
        log_tilt: Log-weight of each architecture, up to a constant; `-inf` forbids.
        candidates: Clean graphs drawn for each graph and step, at least 2.
    """

    def __init__(self, decode: Decode, log_tilt: LogTilt, candidates: int = 16) -> None:
        if candidates < 2:
            raise ValueError(f"expected at least 2 candidates to choose among, got {candidates}")
        self._weigh = _Weighing(decode, log_tilt)
        self.candidates = candidates

    def log_tilt(self, clean: GraphBatch) -> Float[Tensor, " b"]:
        return self._weigh(clean)


class SideBySide(Guidance):
    """Importance sampling under several conditions in one run: each has an equal part of the samples, in a row.

    One run of the generator in place of one a condition: for small batches that takes little longer than one of them.

    Args:
        decode: Graphs to architectures.
        log_tilts: Of each condition, as in `ImportanceGuidance`.
        candidates: Clean graphs drawn for each graph and step, at least 2.

    Raises:
        ValueError: Fewer than 2 candidates; while sampling, a number of samples that the conditions can not share.
    """

    def __init__(self, decode: Decode, log_tilts: Sequence[LogTilt], candidates: int = 16) -> None:
        self._parts = [ImportanceGuidance(decode, log_tilt, candidates) for log_tilt in log_tilts]
        self.candidates = candidates

    def log_tilt(self, clean: GraphBatch) -> Float[Tensor, " b"]:
        size, rest = divmod(len(clean), len(self._parts) * self.candidates)
        if rest:
            raise ValueError(f"expected as many samples for each of {len(self._parts)} conditions, got {len(clean)}")
        rows = torch.split(torch.arange(len(clean)), size * self.candidates)
        return torch.cat([part.log_tilt(clean[own]) for part, own in zip(self._parts, rows, strict=True)])

    def heaviest(self, n: int) -> list[Architecture]:
        """For each condition the `n` architectures of the largest weight of all that it weighed."""
        return [arch for part in self._parts for arch in part.heaviest(n)]


class ParticleGuidance(_BlackBox):
    r"""Feynman-Kac steering (Singhal et al., arXiv 2501.06848; twisted diffusion sampling, arXiv 2306.17775).

    Each sample is drawn as a group of `particles` that share nothing with other groups. Before a jump the particles
    of a group are resampled in proportion to the potentials

    .. math:: G_t = \exp\{\lambda_t r(\hat x_t) - \lambda_s r(\hat x_s)\}, \qquad \lambda_t = 1 - t,

    the ratio of the tempered reward of the present prediction of the clean graph to that of the previous one
    ("difference" potentials, section 3.1 of the paper). Their product telescopes to :math:`e^{r(x_0)}`, so the limit
    of many particles is the tilted distribution for any predictions in between. Resampling is systematic and happens
    only when the effective number of particles falls below half of the group; at the end one particle is drawn from
    each.

    Against the paper: the reward is tempered by `1 - t`, because predictions at the noise's end say little.

    Args:
        decode: Graphs to architectures.
        log_tilt: The reward `r`: log-weight of each architecture; `-inf` forbids.
        particles: Of each group, at least 2.
    """

    def __init__(self, decode: Decode, log_tilt: LogTilt, particles: int = 4) -> None:
        if particles < 2:
            raise ValueError(f"expected at least 2 particles a sample, got {particles}")
        self._weigh = _Weighing(decode, log_tilt)
        self.particles = particles
        self._log_weight = self._before = torch.zeros(0)

    def population(self, n: int) -> int:
        """Starts a new run of `n` groups."""
        self._log_weight = torch.zeros(n, self.particles)
        self._before = torch.zeros(n, self.particles)
        return n * self.particles

    def resample(self, clean: GraphBatch, t: float, *, generator: torch.Generator) -> Int[Tensor, " b"] | None:
        # what is forbidden now may be allowed later; a difference of two infinities would be NaN
        tempered = ((1 - t) * self._weigh(clean).clamp(min=-1e4)).view_as(self._before)
        self._log_weight = self._log_weight + tempered - self._before
        self._before = tempered
        groups, size = self._before.shape
        weight = self._log_weight.softmax(1)
        first = torch.arange(groups)[:, None] * size
        if t == 0.0:
            return (first + torch.multinomial(weight, 1, generator=generator))[:, 0]
        poor = 1 / weight.square().sum(1) < size / 2
        if not bool(poor.any()):
            return None
        grid = (torch.arange(size) + torch.rand(groups, 1, generator=generator)) / size
        drawn = (weight.cumsum(1)[:, None, :] <= grid[..., None]).sum(-1).clamp(max=size - 1)
        chosen = torch.where(poor[:, None], drawn, torch.arange(size).expand(groups, size))
        self._log_weight = self._log_weight.masked_fill(poor[:, None], 0.0)
        self._before = self._before.gather(1, chosen)
        return (first + chosen).flatten()
