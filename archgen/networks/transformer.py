"""Blocks of vision transformers (ViT, arXiv 2010.11929): patches, attention, pre-norm encoder blocks, head."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from archgen.errors import InvalidSpace


def patch_grid(image_size: int, patch: int) -> tuple[int, int]:
    """Patches along a side of the image, and the pixels along a side of a patch; an image below a patch is one.

    Raises:
        InvalidSpace: The image is larger than a patch, but no whole number of them.
    """
    if image_size > patch and image_size % patch:
        raise InvalidSpace(
            f"image_size = {image_size} is no whole number of patches of {patch} pixels; give a `patch` that divides it"
        )
    return max(image_size // patch, 1), min(image_size, patch)


def normal(*shape: int) -> nn.Parameter:
    """Weights that start normal with standard deviation 0.02, as BERT and vision transformers do.

    The reference codes of vision transformers truncate them at 2, a hundred standard deviations away. On the meta
    device nothing is drawn: that would take most of the time of counting a network.
    """
    value = nn.Parameter(torch.empty(shape))
    return value if value.is_meta else nn.init.normal_(value, std=0.02)  # type: ignore[return-value]


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts with `normal` weights and no bias; PyTorch's own start is not drawn first."""
    device = torch.get_default_device()
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs, device=device)  # type: ignore[no-untyped-call]
    layer.weight = normal(outputs, inputs)
    nn.init.zeros_(layer.bias)
    return layer


class Embedding(nn.Module):
    """A class token before the patches, and an absolute position added to each.

    Args:
        patches: Maps images to features of the patches, `b width grid grid`.
        width: Features of a token.
        grid: Patches along a side of the image.
    """

    def __init__(self, patches: nn.Module, width: int, grid: int) -> None:
        super().__init__()
        self.patches = patches
        self.class_token = normal(1, 1, width)
        self.position = normal(1, grid**2 + 1, width)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n width"]:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], 1) + self.position


class Attention(nn.Module):
    """Multi-head self-attention by scaled dot products; the heads' width is free of the tokens' width.

    Args:
        width: Features of a token.
        heads: Number of heads.
        head_width: Features of a head.
    """

    parts: ClassVar[dict[str, int]] = {"qkv": 3}
    """Layers whose outputs are several equal parts side by side, and how many."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.qkv = linear(width, 3 * heads * head_width)
        self.proj = linear(heads * head_width, width)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4).unbind(0)
        out: Tensor = self.proj(self.attend(q, k, v).transpose(1, 2).reshape(b, n, -1))
        return out

    def attend(
        self, q: Float[Tensor, "b heads n d"], k: Float[Tensor, "b heads n d"], v: Float[Tensor, "b heads n d"]
    ) -> Float[Tensor, "b heads n d"]:
        """Values mixed by attention."""
        return F.scaled_dot_product_attention(q, k, v)

    def extra_macs(self, x: Tensor, output: Tensor) -> int:
        """Multiply-adds of the scores and of the mixing."""
        b, n, _ = x.shape
        return 2 * b * n * n * self.heads * self.head_width


class EncoderBlock(nn.Module):
    """Attention and a feed-forward network of two layers with GELU, each normalised first and added to its input.

    Args:
        attention: Maps tokens to tokens.
        width: Features of a token.
        hidden: Features between the two layers.
        eps: Of layer normalisation.

    Attributes:
        drop_path: Probability that training leaves a branch of an example out; see `schedule_drop_path`.
    """

    def __init__(self, attention: nn.Module, width: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.attention = attention
        self.feed_forward = nn.Sequential(linear(width, hidden), nn.GELU(), linear(hidden, width))
        self.drop_path = 0.0

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        x = x + self._kept(self.attention(self.norm1(x)))
        return x + self._kept(self.feed_forward(self.norm2(x)))

    def _kept(self, branch: Tensor) -> Tensor:
        if not self.training or not self.drop_path:
            return branch
        keep = 1 - self.drop_path
        return branch * branch.new_empty(branch.shape[0], 1, 1).bernoulli_(keep) / keep


def schedule_drop_path(network: nn.Module, rate: float) -> None:
    """Stochastic depth (arXiv 1603.09382) for training: 0 at the first block, rising linearly to `rate` at the last.

    Args:
        network: Its `EncoderBlock`s are changed.
        rate: Published: 0.1 for AutoFormer, 0.2 for ViT-ResNAS-Tiny, 0.3 for the larger ones; from 0 to below 1.

    Raises:
        InvalidSpace: The rate is out of its range.
    """
    if not 0 <= rate < 1:
        raise InvalidSpace(f"the rate of dropped paths must be at least 0 and below 1, got {rate}")
    blocks = [module for module in network.modules() if isinstance(module, EncoderBlock)]
    for i, block in enumerate(blocks):
        block.drop_path = rate * i / max(len(blocks) - 1, 1)


class Head(nn.Module):
    """Layer normalisation, one vector an image, class logits.

    Args:
        width: Features of a token.
        classes: Number of classes.
        mean: Whether the vector is the mean over the patches, or else the class token.
        eps: Of layer normalisation.
    """

    def __init__(self, width: int, classes: int, *, mean: bool, eps: float) -> None:
        super().__init__()
        self.mean = mean
        self.norm = nn.LayerNorm(width, eps)
        self.classifier = linear(width, classes)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b classes"]:
        logits: Tensor = self.classifier(self.norm(x)[:, 1:].mean(1) if self.mean else self.norm(x[:, 0]))
        return logits
