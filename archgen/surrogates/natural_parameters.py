"""Natural-parameter networks of the Gaussian family (Wang et al., arXiv 1611.00448): moments layer by layer.

A weight is a Gaussian instead of a number, and so is what a neuron passes on. Nothing is drawn: each layer computes
the mean and the variance of its output from those of its input, so that both come out of one pass, are exact moments
of the layer, and can be differentiated twice with respect to the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

TINY = 1e-12
"""Least variance of what is passed on; keeps roots differentiable."""


class Moments(NamedTuple):
    """Mean and variance of independent Gaussian activations, `b d` each."""

    mean: Float[Tensor, "b d"]
    variance: Float[Tensor, "b d"]


class NPNLinear(nn.Module):
    r"""A linear map with Gaussian weights.

    .. math:: o_m = a_m W_m + b_m, \qquad o_s = a_s W_s + a_s (W_m \circ W_m) + (a_m \circ a_m) W_s + b_s

    for an input of mean :math:`a_m` and variance :math:`a_s`, weights of mean :math:`W_m` and variance :math:`W_s`.
    Variances are the softplus of a free parameter. Initialised as in the published code: means as by Glorot, standard
    deviations small.

    Args:
        inputs, outputs: Widths.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = math.sqrt(6 / (inputs + outputs))
        self.weight = nn.Parameter(torch.empty(inputs, outputs).uniform_(-bound, bound))
        variance = (0.01 * bound * torch.rand(inputs, outputs)).clamp(min=1e-6)
        self.weight_rho = nn.Parameter(variance.expm1().log())  # the inverse of softplus
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.bias_rho = nn.Parameter(torch.full((outputs,), -10.0))

    def forward(self, x: Moments) -> Moments:
        """Moments of the output, exact where inputs and weights are independent."""
        weight, bias = F.softplus(self.weight_rho), F.softplus(self.bias_rho)
        variance = x.variance @ (weight + self.weight.square()) + x.mean.square() @ weight + bias
        return Moments(x.mean @ self.weight + self.bias, variance)


class NPNReLU(nn.Module):
    r"""The rectifier of a Gaussian, matched by its first two moments.

    With :math:`z = o_m / \sqrt{o_s}`, :math:`\Phi` and :math:`\phi` of the standard normal:

    .. math::

        a_m = o_m \Phi(z) + \sqrt{o_s} \phi(z), \qquad
        a_s = (o_m^2 + o_s) \Phi(z) + o_m \sqrt{o_s} \phi(z) - a_m^2

    The published code approximates :math:`\Phi` by a sigmoid; here it is exact.
    """

    def forward(self, x: Moments) -> Moments:
        """Moments of `max(0, x)`, exact for a Gaussian `x`."""
        mean, variance = x.mean, x.variance + TINY
        root = variance.sqrt()
        z = mean / root
        below = torch.special.ndtr(z)
        density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
        rectified = mean * below + root * density
        second = (mean.square() + variance) * below + mean * root * density
        return Moments(rectified, (second - rectified.square()).clamp(min=TINY))


class NaturalParameterNetwork(nn.Module):
    """`NPNLinear` layers with `NPNReLU` between them: a vector to the mean and the variance of one Gaussian.

    Against BOSHNAS's code, whose targets lie in [0, 1], the last layer is linear: ours are normal scores.

    Args:
        inputs: Width `d` of the input, which is certain (variance 0).
        hidden: Widths of the hidden layers.
    """

    def __init__(self, inputs: int, hidden: Sequence[int] = (64, 32)) -> None:
        super().__init__()
        widths = [inputs, *hidden, 1]
        layers: list[nn.Module] = []
        for i, o in pairwise(widths):
            layers += [NPNLinear(i, o), NPNReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Float[Tensor, "b d"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Mean and variance, positive, of each row's value."""
        mean, variance = self.layers(Moments(x, torch.zeros_like(x)))
        return mean[:, 0], variance[:, 0] + TINY
