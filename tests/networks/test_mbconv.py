"""Inverted bottlenecks: channels, shapes, residuals, shuffles, counts worked out by hand."""

import pytest
import torch
from torch import nn

from archgen.networks.count import count_network
from archgen.networks.mbconv import ChannelShuffle, MBConv, SqueezeExcite, make_divisible


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(16, 16), (19.2, 24), (28.8, 32), (134.4, 136), (3, 8), (18, 24), (12, 16), (11.9, 16), (1536.0, 1536)],
)
def test_channels_are_made_divisible_without_losing_a_tenth(channels: float, expected: int) -> None:
    assert make_divisible(channels) == expected
    assert make_divisible(channels) >= 0.9 * channels


def test_parameters_of_a_block_are_those_of_its_three_convolutions() -> None:
    block = MBConv(8, 16, 5, 2, hidden=24)
    convolutions = 8 * 24 + 25 * 24 + 24 * 16
    norms = 2 * (24 + 24 + 16)
    counts = count_network(block, (8, 6, 6))
    assert counts["params"] == convolutions + norms
    assert counts["macs"] == 36 * 8 * 24 + 9 * (25 * 24 + 24 * 16)


def test_squeeze_and_excitation_has_a_quarter_of_the_channels_and_biases() -> None:
    counts = count_network(SqueezeExcite(72), (72, 5, 5))
    assert counts["params"] == 72 * 24 + 24 + 24 * 72 + 72  # 18 is made 24
    assert counts["macs"] == 2 * 72 * 24


def test_squeeze_and_excitation_scales_each_channel_between_nothing_and_itself() -> None:
    x = torch.rand(2, 8, 3, 3)
    ratio = SqueezeExcite(8)(x) / x
    assert bool(((ratio >= 0) & (ratio <= 1)).all())
    torch.testing.assert_close(ratio, ratio[..., :1, :1].expand_as(ratio))


@pytest.mark.parametrize("expand", [True, False])
@pytest.mark.parametrize(("stride", "outputs"), [(1, 8), (1, 12), (2, 8)])
def test_a_block_is_residual_exactly_where_the_shape_stays(stride: int, outputs: int, expand: bool) -> None:
    block = MBConv(8, outputs, 3, stride, hidden=16 if expand else 8, expand=expand).eval()
    for parameter in block.layers[-1].parameters():  # type: ignore[union-attr]
        nn.init.zeros_(parameter)
    x = torch.rand(2, 8, 7, 7)
    size = 7 if stride == 1 else 4
    expected = x if stride == 1 and outputs == 8 else torch.zeros(2, outputs, size, size)
    torch.testing.assert_close(block(x), expected)


def test_shuffled_channels_come_from_the_groups_in_turn() -> None:
    x = torch.arange(6.0).view(1, 6, 1, 1).expand(1, 6, 2, 2)
    assert ChannelShuffle(2)(x)[0, :, 0, 0].tolist() == [0, 3, 1, 4, 2, 5]


def test_groups_divide_the_pointwise_convolutions_by_their_number() -> None:
    one, two = (count_network(MBConv(8, 8, 3, hidden=8, groups=g), (8, 4, 4))["params"] for g in (1, 2))
    assert one - two == 8 * 8  # half of each of the two convolutions of 8 x 8
