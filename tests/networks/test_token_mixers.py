"""The operations of FlexiBERT against transforms of torch and scipy, PyTorch's attention, and plain loops."""

import math

import numpy as np
import pytest
import scipy.fft
import torch
from torch import nn
from torch.nn import functional as F

from archgen.errors import InvalidSpace
from archgen.networks.count import count_network
from archgen.networks.token_mixers import (
    LinearTransform,
    RelativeKeys,
    SelfAttention,
    SpanConvolution,
    dct,
    dft,
    make_operation,
    split_heads,
)

OPERATIONS = [("sa", "sdp"), ("sa", "wma"), ("l", "dft"), ("l", "dct"), ("c", "5"), ("c", "9")]


def tokens(b: int = 2, n: int = 7, width: int = 8) -> torch.Tensor:
    return torch.randn(b, n, width, generator=torch.Generator().manual_seed(0))


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for value in module.parameters():
        value.data.normal_(0.0, 0.5, generator=generator)
    return module.eval()


@pytest.mark.parametrize(("n", "width"), [(1, 1), (4, 8), (7, 6), (5, 9), (12, 128)])
def test_dft_is_the_real_part_of_the_two_dimensional_transform(n: int, width: int) -> None:
    x = tokens(n=n, width=width)
    torch.testing.assert_close(dft(x), torch.fft.fft2(x).real, rtol=1e-4, atol=1e-4)
    i, j = np.arange(n), np.arange(width)
    angle = 2 * np.pi * (np.multiply.outer(i, i)[:, None, :, None] / n + np.multiply.outer(j, j)[None, :, None] / width)
    closed = np.einsum("kltf,btf->bkl", np.cos(angle), x.numpy())
    np.testing.assert_allclose(dft(x).numpy(), closed, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("n", "width"), [(1, 1), (2, 3), (4, 8), (7, 6), (5, 9), (12, 128)])
def test_dct_is_type_two_without_normalisation(n: int, width: int) -> None:
    x = tokens(n=n, width=width)
    closed = scipy.fft.dctn(x.double().numpy(), type=2, axes=(1, 2))
    np.testing.assert_allclose(dct(x).numpy(), closed, rtol=1e-4, atol=1e-3)


def test_scores_of_distances_are_a_table_of_i_minus_j() -> None:
    positions = randomised(RelativeKeys(9, 4))
    assert isinstance(positions, RelativeKeys)
    q = torch.randn(2, 3, 7, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(2, 3, 7, 7)
    for i in range(7):
        for j in range(7):
            expected[..., i, j] = q[:, :, i] @ positions.table[i - j + 8]
    torch.testing.assert_close(positions(q), expected)


def test_a_sequence_above_the_longest_is_refused() -> None:
    with pytest.raises(InvalidSpace, match="at most 6 tokens, got 7; build it with tokens=7"):
        SelfAttention(8, 2, 6, 8)(tokens(n=7))


@pytest.mark.parametrize("multiplicative", [False, True])
def test_attention_without_positions_is_pytorchs(multiplicative: bool) -> None:
    attention = randomised(SelfAttention(8, 2, 7, 8, multiplicative=multiplicative))
    assert isinstance(attention, SelfAttention)
    x = tokens()
    q, k, v = (split_heads(part(x), 2) for part in (attention.query, attention.key, attention.value))
    if attention.weight is not None:
        q = q @ attention.weight
    with_positions = attention(x)
    attention.positions.table.data.zero_()
    closed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(attention(x), closed)
    assert not torch.allclose(with_positions, closed)


def test_positions_are_scored_by_the_query_before_it_is_weighted() -> None:
    attention = randomised(SelfAttention(8, 2, 7, 8, multiplicative=True))
    assert isinstance(attention, SelfAttention)
    assert attention.weight is not None
    x = tokens()
    q, k, v = (split_heads(part(x), 2) for part in (attention.query, attention.key, attention.value))
    mask = attention.positions(q) / math.sqrt(4)
    closed = F.scaled_dot_product_attention(q @ attention.weight, k, v, attn_mask=mask)
    torch.testing.assert_close(attention(x), closed.transpose(1, 2).flatten(-2))


@pytest.mark.parametrize("transform", ["dft", "dct"])
def test_a_linear_transform_is_added_to_values_mixed_by_distance(transform: str) -> None:
    mixer = randomised(LinearTransform(8, 2, 7, transform))
    assert isinstance(mixer, LinearTransform)
    x = tokens()
    fixed = dft(x) if transform == "dft" else dct(x)
    q, v = split_heads(mixer.query(x), 2), split_heads(mixer.value(x), 2)
    mixed = (mixer.positions(q) / 2).softmax(-1) @ v
    torch.testing.assert_close(mixer(x), mixed.transpose(1, 2).flatten(-2) + fixed)
    mixer.positions.table.data.zero_()  # all distances alike: the mean of the values
    torch.testing.assert_close(mixer(x), mixer.value(x).mean(1, keepdim=True) + fixed)


@pytest.mark.parametrize(("heads", "kernel"), [(2, 3), (4, 5), (2, 9)])
def test_dynamic_convolution_is_a_loop_over_tokens_and_heads(heads: int, kernel: int) -> None:
    mixer = randomised(SpanConvolution(8, heads, 7, kernel))
    assert isinstance(mixer, SpanConvolution)
    x = tokens()
    half, reach = heads // 2, kernel // 2
    query, values = mixer.attention.query(x), mixer.values(x)
    padded = F.pad(x, (0, 0, reach, reach))
    expected = torch.zeros(2, 7, 4)
    for t in range(7):
        span = (padded[:, t : t + kernel] * mixer.depthwise.weight[:, 0].T).sum(1)
        span = span @ mixer.pointwise.weight[..., 0].T + mixer.pointwise.bias
        weights = mixer.weights(span * query[:, t]).view(2, half, kernel).softmax(-1)
        for h in range(half):
            part = slice(h * 4 // half, (h + 1) * 4 // half)
            for offset in range(-reach, reach + 1):
                if 0 <= t + offset < 7:
                    expected[:, t, part] += weights[:, h, offset + reach, None] * values[:, t + offset, part]
    out = mixer(x)
    torch.testing.assert_close(out[..., 4:], expected)
    torch.testing.assert_close(out[..., :4], mixer.attention(x))


@pytest.mark.parametrize(("name", "parameter"), OPERATIONS)
@pytest.mark.parametrize("heads", [2, 4])
def test_operations_keep_the_shape_and_depend_on_all_parameters(name: str, parameter: str, heads: int) -> None:
    operation = randomised(make_operation(name, parameter, 8, heads, 16))
    x = tokens(n=16)
    out = operation(x)
    assert out.shape == x.shape
    out.square().sum().backward()
    for label, value in operation.named_parameters():
        # a bias of the keys shifts all scores of a query alike, which the softmax takes out again
        assert value.grad is not None
        assert bool(value.grad.abs().max() > 1e-5) or label.endswith("key.bias"), label


@pytest.mark.parametrize(("name", "parameter"), OPERATIONS)
def test_a_shorter_sequence_uses_the_middle_of_the_table(name: str, parameter: str) -> None:
    long = randomised(make_operation(name, parameter, 8, 2, 9))
    short = make_operation(name, parameter, 8, 2, 7).eval()
    state = long.state_dict()
    short.load_state_dict({key: value[2:-2] if key.endswith("table") else value for key, value in state.items()})
    torch.testing.assert_close(long(tokens()), short(tokens()))


def test_multiply_adds_of_operations() -> None:
    n, width, heads = 6, 8, 2
    linear, distances = n * width * width, n * (2 * n - 1) * width
    products = 2 * n * n * width
    half = width // 2
    conv = 3 * n * width * half + n * width * half + n * width * half  # attention, values, pointwise
    conv += 5 * n * width + n * half * 5 + n * half * 5 + products // 2 + distances // 2
    expected = {
        ("sa", "sdp"): 3 * linear + products + distances,
        ("sa", "wma"): 3 * linear + products + distances + n * width * 4,
        ("l", "dft"): 2 * linear + products // 2 + distances + round(2 * 48 * math.log2(48)),
        ("c", "5"): conv,
    }
    for (name, parameter), macs in expected.items():
        operation = make_operation(name, parameter, width, heads, n)
        assert count_network(operation, torch.zeros(1, n, width))["macs"] == macs, (name, parameter)
        assert count_network(operation, torch.zeros(3, n, width))["macs"] == 3 * macs, (name, parameter)


@pytest.mark.parametrize(
    ("name", "parameter", "heads"),
    [("sa", "dft", 2), ("l", "sdp", 2), ("c", "4", 2), ("c", "", 2), ("x", "5", 2), ("sa", "sdp", 3), ("c", "5", 1)],
)
def test_unknown_operations_are_refused(name: str, parameter: str, heads: int) -> None:
    with pytest.raises(InvalidSpace, match=f"got {name}-{parameter} with {heads} heads"):
        make_operation(name, parameter, 8, heads, 4)
