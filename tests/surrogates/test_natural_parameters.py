"""Moments of Gaussian layers: closed forms, draws, and derivatives."""

import math

import pytest
import torch
import torch.nn.functional as F

from archgen.surrogates.natural_parameters import Moments, NaturalParameterNetwork, NPNLinear, NPNReLU

DRAWS = 200_000


@pytest.fixture
def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_linear_moments_are_those_of_drawn_inputs_and_weights(noise: torch.Generator) -> None:
    """Both moments within 5 standard errors of the draws: a chance of 1e-5 to fail for another seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = NPNLinear(3, 2).double()
    layer.weight_rho.data.uniform_(-2, 0, generator=noise)
    layer.bias_rho.data.uniform_(-2, 0, generator=noise)
    x = Moments(torch.tensor([[0.5, -1.0, 2.0]]).double(), torch.tensor([[0.3, 0.1, 0.6]]).double())
    mean, variance = layer(x)

    def draw(centre: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
        return centre + spread.sqrt() * torch.randn(DRAWS, *centre.shape, generator=noise).double()

    weights = draw(layer.weight.data, F.softplus(layer.weight_rho.data))
    outputs = draw(x.mean, x.variance) @ weights + draw(layer.bias.data, F.softplus(layer.bias_rho.data))[:, None]
    outputs = outputs[:, 0]
    assert (outputs.mean(0) - mean[0]).abs().max() < 5 * (variance.max() / DRAWS).sqrt()
    assert outputs.var(0).tolist() == pytest.approx(variance[0].tolist(), rel=0.05)


def test_rectified_standard_normal_has_its_known_moments() -> None:
    mean, variance = NPNReLU()(Moments(torch.zeros(1, 1).double(), torch.ones(1, 1).double()))
    assert mean.item() == pytest.approx(1 / math.sqrt(2 * math.pi))
    assert variance.item() == pytest.approx(0.5 - 1 / (2 * math.pi))


@pytest.mark.parametrize(("centre", "spread"), [(1.3, 0.5), (-0.7, 2.0), (-0.2, 0.1)])
def test_rectified_moments_are_those_of_draws(centre: float, spread: float, noise: torch.Generator) -> None:
    x = Moments(torch.tensor([[centre]]).double(), torch.tensor([[spread]]).double())
    drawn = (centre + math.sqrt(spread) * torch.randn(DRAWS, generator=noise).double()).relu()
    mean, variance = NPNReLU()(x)
    assert mean.item() == pytest.approx(drawn.mean().item(), abs=0.01)
    assert variance.item() == pytest.approx(drawn.var().item(), rel=0.03)


@pytest.mark.parametrize("centre", [-30.0, 30.0])
def test_far_from_the_bend_the_rectifier_is_zero_or_the_identity(centre: float) -> None:
    mean, variance = NPNReLU()(Moments(torch.full((1, 1), centre).double(), torch.ones(1, 1).double()))
    assert mean.item() == pytest.approx(max(centre, 0.0))
    assert variance.item() == pytest.approx(1.0 if centre > 0 else 0.0, abs=1e-9)


def test_with_certain_weights_it_is_an_ordinary_network() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        npn = NaturalParameterNetwork(4, (5,)).double()
        x = torch.randn(6, 4).double()
    for name, parameter in npn.named_parameters():
        if name.endswith("rho"):
            parameter.data.fill_(-60.0)
    first, _, last = npn.layers
    expected = (x @ first.weight + first.bias).relu() @ last.weight + last.bias
    mean, variance = npn(x)
    assert torch.allclose(mean, expected[:, 0], atol=1e-5)
    assert variance.max() < 1e-9


def test_mean_and_variance_are_twice_differentiable() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        npn = NaturalParameterNetwork(3, (4, 4)).double().requires_grad_(False)
        x = torch.randn(2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(npn, (x,))
    assert torch.autograd.gradgradcheck(npn, (x,))
