"""Layers side by side: each member is a plain layer of its own."""

import torch
from torch import nn

from archgen.encoders.side_by_side import SideBySideLinear, SideBySideNorm


def test_each_member_is_a_linear_layer_of_its_own() -> None:
    torch.manual_seed(0)
    layers = SideBySideLinear(3, 5, 2)
    x = torch.randn(3, 7, 5)
    for member in range(3):
        expected = nn.functional.linear(x[member], layers.weight[member].T, layers.bias[member, 0])
        torch.testing.assert_close(layers(x)[member], expected)
    assert not torch.equal(layers.weight[0], layers.weight[1])


def test_weights_start_in_the_range_of_a_linear_layer() -> None:
    torch.manual_seed(0)
    layers = SideBySideLinear(2, 400, 50)
    bound = 400**-0.5
    assert layers.weight.abs().max() <= bound * (1 + 1e-6)
    assert layers.bias.abs().max() <= bound * (1 + 1e-6)
    assert abs(float(layers.weight.detach().std()) - bound / 3**0.5) < 0.02 * bound  # 40,000 uniform draws


def test_members_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(SideBySideLinear(2, 4, 4), SideBySideNorm(2, 4))
    x = torch.randn(2, 3, 4)
    changed = torch.stack([x[0], x[1] + 1])
    torch.testing.assert_close(layers(x)[0], layers(changed)[0])


def test_the_norm_of_each_member_is_a_layer_norm() -> None:
    torch.manual_seed(0)
    norms = SideBySideNorm(2, 6)
    with torch.no_grad():
        norms.weight.normal_()
        norms.bias.normal_()
    x = torch.randn(2, 5, 6)
    for member in range(2):
        expected = nn.functional.layer_norm(x[member], (6,), norms.weight[member, 0], norms.bias[member, 0])
        torch.testing.assert_close(norms(x)[member], expected)
