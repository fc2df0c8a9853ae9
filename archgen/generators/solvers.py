"""Solvers of variance-exploding diffusions: functions of (denoiser, start, noise levels), after k-diffusion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Protocol, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

State: TypeAlias = Float[Tensor, "b f"]
Denoiser: TypeAlias = Callable[[Tensor, float], Tensor]
r"""From :math:`x_\sigma` (`b x f`) and :math:`\sigma` to the mean of :math:`x_0`; the score is their
difference over :math:`\sigma^2`."""
Select: TypeAlias = Callable[[Tensor, float], Int[Tensor, " b"] | None]
"""From denoised values and the noise level to the rows that each row goes on from, or None: each from itself."""


class Solver(Protocol):
    """Carries a start at the first noise level to a sample."""

    def __call__(
        self,
        denoise: Denoiser,
        x: State,
        sigmas: Sequence[float],
        *,
        generator: torch.Generator,
        select: Select | None = None,
    ) -> State:
        """
        Args:
            denoise: The denoiser.
            x: Start, distributed as at `sigmas[0]`.
            sigmas: Falling noise levels, the last 0.
            generator: Source of randomness; a deterministic solver leaves it as it is.
            select: Chooses among the rows after each denoising but the last.

        Returns:
            The sample, free of noise: what the denoiser gives at the last level above 0.
        """
        ...


def geometric(sigma_min: float, sigma_max: float, steps: int) -> list[float]:
    """`steps` noise levels from `sigma_max` down to `sigma_min` (one: `sigma_max`), equal ratios between, then 0."""
    ratio = (sigma_min / sigma_max) ** (1 / max(steps - 1, 1))
    return [*(sigma_max * ratio**i for i in range(steps)), 0.0]


def pc(
    denoise: Denoiser,
    x: State,
    sigmas: Sequence[float],
    *,
    generator: torch.Generator,
    select: Select | None = None,
    snr: float = 0.16,
) -> State:
    r"""Predictor-corrector sampling (score SDE, arXiv 2011.13456, algorithms 2 and 4) as DiffusionNAG has it.

    A Langevin step at each level, then an Euler-Maruyama step of the reverse SDE to the next, which takes
    :math:`g^2 dt = 2 \sigma^2 \log(\sigma / \sigma')`; two evaluations a level. The Langevin step size comes from norms
    averaged over the batch. Against the original: it ends with the denoiser's mean, not with the last predictor step
    without its noise, which leaves nearly all of the noise of the last level.

    Args:
        denoise, x, sigmas, generator, select: See `Solver`.
        snr: Signal-to-noise ratio of the Langevin step.
    """
    for sigma, after in pairwise(sigmas):
        score = (denoise(x, sigma) - x) / sigma**2
        z = randn(x, generator)
        norm = score.norm(dim=1).mean().clamp(min=1e-12)
        step = 2 * (snr * z.norm(dim=1).mean() / norm).square()
        x = x + step * score + (2 * step).sqrt() * z
        denoised = denoise(x, sigma)
        if after == 0.0:
            return denoised
        (x, denoised), _ = _selected(select, denoised, sigma, x, denoised)
        rate = 2 * math.log(sigma / after)
        x = x + rate * (denoised - x) + sigma * math.sqrt(rate) * randn(x, generator)
    raise _unfinished(sigmas)


def heun(
    denoise: Denoiser,
    x: State,
    sigmas: Sequence[float],
    *,
    generator: torch.Generator,
    select: Select | None = None,
) -> State:
    """Heun's method on the probability-flow ODE (EDM, arXiv 2206.00364, algorithm 1); two evaluations a level."""
    for sigma, after in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if after == 0.0:
            return denoised
        (x, denoised), _ = _selected(select, denoised, sigma, x, denoised)
        slope = (x - denoised) / sigma
        euler = x + (after - sigma) * slope
        x = x + (after - sigma) * (slope + (euler - denoise(euler, after)) / after) / 2
    raise _unfinished(sigmas)


def dpmpp(
    denoise: Denoiser,
    x: State,
    sigmas: Sequence[float],
    *,
    generator: torch.Generator,
    select: Select | None = None,
    eta: float = 0.0,
) -> State:
    """DPM-Solver++(2M) and, with `eta` = 1, its SDE form (arXiv 2211.01095; algorithm 2 is the first).

    Args:
        denoise, x, sigmas, generator, select: See `Solver`.
        eta: Stochasticity; 0 solves the probability-flow ODE, 1 the reverse SDE.
    """
    before: tuple[Tensor, float] | None = None  # the previous denoised values, and the log-ratio of that step
    for sigma, after in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if after == 0.0:
            return denoised
        (x, denoised), rows = _selected(select, denoised, sigma, x, denoised)
        h = math.log(sigma / after)
        gain = -math.expm1(-(1 + eta) * h)
        x = (1 - gain) * x + gain * denoised
        if before is not None and before[1] > 0:
            previous, h_before = before
            x = x + gain / 2 * (h / h_before) * (denoised - (previous if rows is None else previous[rows]))
        if eta > 0:
            x = x + after * math.sqrt(-math.expm1(-2 * eta * h)) * randn(x, generator)
        before = denoised, h
    raise _unfinished(sigmas)


SOLVERS: dict[str, Solver] = {"pc": pc, "heun": heun, "dpmpp": dpmpp, "dpmpp_sde": partial(dpmpp, eta=1.0)}
DETERMINISTIC = frozenset({"heun", "dpmpp"})
"""Solvers that carry equal rows to equal samples."""


def _selected(
    select: Select | None, denoised: Tensor, sigma: float, *tensors: Tensor
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    rows = None if select is None else select(denoised, sigma)
    return (tensors, None) if rows is None else (tuple(tensor[rows] for tensor in tensors), rows)


def randn(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of a tensor's shape, drawn where the generator lives: one seed serves every device."""
    return torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


def _unfinished(sigmas: Sequence[float]) -> ValueError:
    return ValueError(f"expected falling noise levels that end with 0, got {list(sigmas)[-3:]} at their end")
