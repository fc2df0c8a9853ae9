"""Solvers against closed forms: Gaussian data, and exact denoisers of a few points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from archgen.generators.solvers import DETERMINISTIC, SOLVERS, dpmpp, geometric, heun, pc

FAILS = 1e-6
"""Probability with which a chi-square test here fails although the code is right; seeds are fixed besides."""

POINTS = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, -1.0]])
WEIGHTS = torch.tensor([0.4, 0.3, 0.2, 0.1])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact(x: Tensor, sigma: float) -> Tensor:
    """The posterior mean of `POINTS` under `WEIGHTS`."""
    distance = (x[:, None] - POINTS).square().sum(-1)
    p: Tensor = (WEIGHTS.log() - distance / (2 * sigma**2)).softmax(-1)
    return p @ POINTS


def start(n: int, sigma: float, generator: torch.Generator) -> Tensor:
    """Exactly distributed at noise level `sigma`."""
    drawn = torch.multinomial(WEIGHTS, n, replacement=True, generator=generator)
    return POINTS[drawn] + sigma * torch.randn(n, 3, generator=generator)


@pytest.mark.parametrize(
    ("solver", "steps", "n"),
    [("heun", 20, 20_000), ("dpmpp", 20, 20_000), ("dpmpp_sde", 100, 10_000), ("pc", 300, 4_000)],
)
def test_an_exact_denoiser_gives_the_data_with_their_weights(solver: str, steps: int, n: int) -> None:
    generator = seeded()
    x = start(n, 5.0, generator)
    sample = SOLVERS[solver](exact, x, geometric(0.1, 5.0, steps), generator=generator)
    distance, nearest = (sample[:, None] - POINTS).norm(dim=-1).min(1)
    # between the points the denoiser is not sharp yet at the last level, but hardly any sample is left there
    assert float((distance > 0.05).float().mean()) < 2e-3
    counts = np.bincount(nearest.numpy(), minlength=4)
    expected = WEIGHTS.numpy() * n
    assert ((counts - expected) ** 2 / expected).sum() < stats.chi2.isf(FAILS, 3)


def gaussian(x: Tensor, sigma: float, mean: float = 0.7, spread: float = 0.5) -> Tensor:
    """The posterior mean of data from `N(mean, spread^2)`."""
    return (spread**2 * x + sigma**2 * mean) / (spread**2 + sigma**2)


@pytest.mark.parametrize("solver", sorted(DETERMINISTIC))
def test_deterministic_solvers_converge_to_the_flow_of_gaussian_data_with_second_order(solver: str) -> None:
    """The flow is `x_0 = m + (x - m) s / sqrt(s^2 + sigma^2)`, here from level 5 to what is left at 0.1."""
    x = torch.linspace(-10, 10, 9, dtype=torch.double)[:, None]
    at_last = 0.7 + (x - 0.7) * ((0.25 + 0.01) / (0.25 + 25)) ** 0.5
    flow = gaussian(at_last, 0.1)
    errors = []
    for steps in (40, 80, 160):
        sample = SOLVERS[solver](gaussian, x, geometric(0.1, 5.0, steps), generator=seeded())
        errors.append(float((sample - flow).abs().max()))
    assert errors[-1] < 2e-3
    # halving the step divides the error of a second-order method by four
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.25)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize(("solver", "steps"), [("dpmpp_sde", 200), ("pc", 400)])
def test_stochastic_solvers_give_gaussian_data_their_mean_and_spread(solver: str, steps: int) -> None:
    """Within 3 % for the discretisation; with 20,000 samples the standard error is 0.5 % of the spread."""
    generator = seeded()
    x = 0.7 + (0.25 + 25) ** 0.5 * torch.randn(20_000, 1, generator=generator, dtype=torch.double)
    sample = SOLVERS[solver](gaussian, x, geometric(0.01, 5.0, steps), generator=generator)
    assert float(sample.mean()) == pytest.approx(0.7, abs=0.015)
    assert float(sample.std()) == pytest.approx(0.5, rel=0.03)


def test_noise_levels_fall_geometrically_to_zero() -> None:
    sigmas = geometric(0.1, 5.0, 6)
    assert sigmas[0] == 5.0
    assert sigmas[-1] == 0.0
    np.testing.assert_allclose(sigmas[:-1], np.geomspace(5.0, 0.1, 6))
    assert geometric(0.1, 5.0, 1) == [5.0, 0.0]


@pytest.mark.parametrize(("solver", "evaluations"), [("heun", 11), ("dpmpp", 6), ("dpmpp_sde", 6), ("pc", 12)])
def test_denoisers_are_evaluated_as_often_as_promised(solver: str, evaluations: int) -> None:
    seen = []

    def counted(x: Tensor, sigma: float) -> Tensor:
        seen.append(sigma)
        return exact(x, sigma)

    SOLVERS[solver](counted, torch.zeros(2, 3), geometric(0.1, 5.0, 6), generator=seeded())
    assert len(seen) == evaluations
    assert set(seen) == set(geometric(0.1, 5.0, 6)[:-1])


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_randomness_comes_from_the_generator_alone(solver: str) -> None:
    x, sigmas = torch.randn(8, 3, generator=seeded(1)), geometric(0.1, 5.0, 5)
    one, other, again = seeded(2), seeded(3), seeded(2)
    first, second, third = (SOLVERS[solver](exact, x, sigmas, generator=g) for g in (one, other, again))
    assert torch.equal(first, third)
    assert torch.equal(first, second) == (solver in DETERMINISTIC)
    untouched = torch.equal(one.get_state(), seeded(2).get_state())
    assert untouched == (solver in DETERMINISTIC)


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_selected_rows_go_on(solver: str) -> None:
    """Late rows are all told to go on from the first, so those on the way to other points come out at its point."""
    x = torch.tensor([[5.0, 5.0, 5.0], [-5.0, -5.0, -5.0]]).repeat(8, 1)
    asked = []

    def select(denoised: Tensor, sigma: float) -> Tensor | None:
        asked.append(sigma)
        return torch.zeros(16, dtype=torch.long) if sigma < 0.3 else None

    sigmas = geometric(0.1, 5.0, 24)
    sample = SOLVERS[solver](exact, x, sigmas, generator=seeded(), select=select)
    assert asked == sigmas[:-2]  # after every denoising but the last
    torch.testing.assert_close(sample, sample[:1].expand(16, -1), atol=1e-3, rtol=0)
    if solver in DETERMINISTIC:
        torch.testing.assert_close(sample[0], POINTS[0], atol=1e-3, rtol=0)


def test_a_selection_that_changes_nothing_changes_nothing() -> None:
    x, sigmas = start(16, 5.0, seeded()), geometric(0.1, 5.0, 8)
    for solver in SOLVERS.values():
        plain = solver(exact, x, sigmas, generator=seeded())
        assert torch.equal(plain, solver(exact, x, sigmas, generator=seeded(), select=lambda d, s: torch.arange(16)))


def test_noise_levels_that_do_not_end_with_zero_are_refused() -> None:
    for solver in (pc, heun, dpmpp):
        with pytest.raises(ValueError, match="end with 0"):
            solver(exact, torch.zeros(1, 3), [5.0, 1.0], generator=seeded())
