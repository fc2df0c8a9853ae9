"""What the layers of FlexiBERT (arXiv 2205.11656) begin with: attention, linear transforms, dynamic convolutions.

As in the reference code (JHA-Lab/txf_design-space) every operation has a learnt vector for each distance of two tokens
(arXiv 1803.02155, equation 4), also linear transforms and convolutions. Parameters of the reference that no output
depends on are left out: the keys of linear transforms and the matrix of multiplicative attention in layers that do not
use it. So is the padding mask: all sequences of a batch have one length.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.errors import InvalidSpace
from archgen.networks.transformer import linear, normal

DROPOUT = 0.1


def dft(x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
    """Real part of the discrete Fourier transform over tokens and features (FNet, arXiv 2105.03824, equation 3)."""
    spectrum: Tensor = torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2)
    return spectrum.real


def dct(x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
    r"""Discrete cosine transform of type II over features, then tokens, without normalisation.

    Along one axis :math:`y_k = 2 \sum_n x_n \cos(\pi k (2 n + 1) / 2 N)`, by one FFT of `N` points (Makhoul 1980).
    """
    return _dct_features(_dct_features(x).transpose(-2, -1)).transpose(-2, -1)


def _dct_features(x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
    length = x.shape[-1]
    spectrum: Tensor = torch.fft.fft(torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1), dim=-1)
    angle = torch.arange(length, dtype=x.dtype, device=x.device) * (math.pi / (2 * length))
    return 2 * (spectrum.real * angle.cos() + spectrum.imag * angle.sin())


TRANSFORMS: dict[str, Callable[[Tensor], Tensor]] = {"dft": dft, "dct": dct}


def split_heads(x: Float[Tensor, "b n c"], heads: int) -> Float[Tensor, "b heads n d"]:
    """Features of each head; they lie side by side in `x`."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


class RelativeKeys(nn.Module):
    """Scores of query `i` and key `j` by a learnt vector of their distance `i - j`.

    Args:
        tokens: Longest sequence.
        width: Features of a head.
    """

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.table = normal(2 * tokens - 1, width)

    def forward(self, q: Float[Tensor, "b heads n d"]) -> Float[Tensor, "b heads n n"]:
        n = q.shape[-2]
        if n > self.tokens:
            raise InvalidSpace(f"the network reads at most {self.tokens} tokens, got {n}; build it with tokens={n}")
        vectors = self.table[self.tokens - n : self.tokens + n - 1].flip(0)
        # Column m of row i holds distance n - 1 - m; shifting row i left by n - 1 - i puts distance i - j in column j.
        scores = nn.functional.pad(q @ vectors.T, (0, 1)).flatten(-2)
        return scores[..., :-n].reshape(*q.shape[:-1], 2 * n - 1)[..., n - 1 :]

    @staticmethod
    def macs(n: int, width: int) -> int:
        """Multiply-adds for `n` queries of all heads, of `width` features together."""
        return n * (2 * n - 1) * width


class SelfAttention(nn.Module):
    """Self-attention whose scores are `q k` (scaled dot product) or `q W k` (Luong's general score, arXiv 1508.04025).

    Args:
        width: Features of a token.
        heads: Number of heads.
        tokens: Longest sequence.
        features: Features of all heads together.
        multiplicative: Whether to weight the product by a matrix, which all heads share.
    """

    def __init__(self, width: int, heads: int, tokens: int, features: int, *, multiplicative: bool = False) -> None:
        super().__init__()
        self.heads, self.features = heads, features
        self.query, self.key, self.value = (linear(width, features) for _ in range(3))
        self.positions = RelativeKeys(tokens, features // heads)
        size = features // heads
        self.weight = nn.Parameter(torch.empty(size, size).uniform_(-0.1, 0.1)) if multiplicative else None
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n features"]:
        return self.attend(x, self.query(x))

    def attend(self, x: Float[Tensor, "b n c"], query: Float[Tensor, "b n features"]) -> Float[Tensor, "b n features"]:
        """Attention of given queries."""
        q, k, v = (split_heads(part, self.heads) for part in (query, self.key(x), self.value(x)))
        weighted = q if self.weight is None else q @ self.weight
        scores = weighted @ k.transpose(-2, -1) + self.positions(q)
        weights: Tensor = self.dropout((scores / math.sqrt(q.shape[-1])).softmax(-1))
        return (weights @ v).transpose(1, 2).flatten(-2)

    def extra_macs(self, x: Tensor, output: Tensor) -> int:
        """Multiply-adds of scores, positions and mixing."""
        b, n, _ = x.shape
        weighted = 0 if self.weight is None else n * self.features * self.weight.shape[0]
        return b * (2 * n * n * self.features + RelativeKeys.macs(n, self.features) + weighted)


class LinearTransform(nn.Module):
    """A fixed transform of the tokens, plus their values mixed by attention to distances alone.

    Args:
        width: Features of a token.
        heads: Heads of the attention to distances.
        tokens: Longest sequence.
        transform: Name in `TRANSFORMS`.
    """

    constants: ClassVar[tuple[str, ...]] = ("transform",)

    def __init__(self, width: int, heads: int, tokens: int, transform: str) -> None:
        super().__init__()
        self.heads, self.transform = heads, TRANSFORMS[transform]
        self.query, self.value = linear(width, width), linear(width, width)
        self.positions = RelativeKeys(tokens, width // heads)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        q, v = split_heads(self.query(x), self.heads), split_heads(self.value(x), self.heads)
        weights: Tensor = self.dropout((self.positions(q) / math.sqrt(q.shape[-1])).softmax(-1))
        return (weights @ v).transpose(1, 2).flatten(-2) + self.transform(x)

    def extra_macs(self, x: Tensor, output: Tensor) -> int:
        """Multiply-adds of positions and mixing, and of an FFT: `2 N log2 N` for `N` points (radix 2)."""
        b, n, width = x.shape
        return b * (RelativeKeys.macs(n, width) + n * n * width + round(2 * n * width * math.log2(n * width)))


class SpanConvolution(nn.Module):
    """Span-based dynamic convolution beside self-attention, half of the heads each (ConvBERT, arXiv 2008.02496, eq. 7).

    The kernel of each token and head is the softmax of a linear map of the product of the token's query and a
    separable convolution of the tokens around it.

    Args:
        width: Features of a token.
        heads: Heads of both halves together, even.
        tokens: Longest sequence.
        kernel: Tokens that a kernel spans, odd.
    """

    def __init__(self, width: int, heads: int, tokens: int, kernel: int) -> None:
        super().__init__()
        half = width // 2
        self.heads, self.kernel = heads // 2, kernel
        self.attention = SelfAttention(width, self.heads, tokens, half)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.pointwise = nn.Conv1d(width, half, 1)
        self.depthwise.weight, self.pointwise.weight = normal(width, 1, kernel), normal(half, width, 1)
        nn.init.zeros_(self.pointwise.bias)  # type: ignore[arg-type]  # it has one
        self.weights, self.values = linear(half, self.heads * kernel), linear(width, half)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        query = self.attention.query(x)
        span = self.pointwise(self.depthwise(x.transpose(1, 2))).transpose(1, 2)
        b, n, _ = x.shape
        kernels = self.weights(span * query).view(b, n, self.heads, self.kernel, 1).softmax(-2)
        values = nn.functional.pad(self.values(x), (0, 0, self.kernel // 2, self.kernel // 2))
        windows = torch.stack([values[:, i : i + n] for i in range(self.kernel)], -1)
        mixed = windows.view(b, n, self.heads, -1, self.kernel) @ kernels
        return torch.cat([self.attention.attend(x, query), mixed.flatten(2)], -1)

    def extra_macs(self, x: Tensor, output: Tensor) -> int:
        """Multiply-adds of the dynamic kernels, and of the attention, which is not called as a module."""
        return self.attention.extra_macs(x, output) + x.shape[0] * x.shape[1] * self.kernel * self.attention.features


def make_operation(name: str, parameter: str, width: int, heads: int, tokens: int) -> nn.Module:
    """The operation that a layer begins with.

    Args:
        name: `sa` (self-attention), `l` (linear transform) or `c` (convolution).
        parameter: `sdp` or `wma`; `dft` or `dct`; tokens that the kernel spans, odd.
        width: Features of a token.
        heads: Number of heads, a divisor of `width`; even for `c`.
        tokens: Longest sequence.

    Raises:
        InvalidSpace: There is no such operation.
    """
    if width % heads == 0:
        if name == "sa" and parameter in ("sdp", "wma"):
            return SelfAttention(width, heads, tokens, width, multiplicative=parameter == "wma")
        if name == "l" and parameter in TRANSFORMS:
            return LinearTransform(width, heads, tokens, parameter)
        if name == "c" and parameter.isdecimal() and int(parameter) % 2 and heads % 2 == 0:
            return SpanConvolution(width, heads, tokens, int(parameter))
    raise InvalidSpace(
        f"expected sa-sdp, sa-wma, l-dft, l-dct or c-<odd number> with heads that divide the {width} features (an even "
        f"number of heads for c), got {name}-{parameter} with {heads} heads"
    )
