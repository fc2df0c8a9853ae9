"""The vision transformer of AutoFormer (Searching Transformers for Visual Recognition, arXiv 2107.00651)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from archgen.networks.labels import layers, read_label
from archgen.networks.skeleton import Segment, register_skeleton
from archgen.networks.transformer import Attention, Embedding, EncoderBlock, Head, normal, patch_grid

HEAD_WIDTH = 64
"""Features of a head in every layer: queries, keys and values have 64 times as many as there are heads."""
EPS = 1e-5


class RelativePosition2d(nn.Module):
    """A learnt vector for each pair of tokens: one of their vertical and one of their horizontal distance, summed.

    Distances are clipped; pairs with the class token have a vector of their own in both tables. The vectors are never
    written out for all pairs: keys of one row share the vertical part, keys of one column the horizontal part.

    Args:
        grid: Patches along a side of the image.
        width: Features of a vector.
        reach: Greatest distance that has a vector of its own, in patches.
    """

    row_index: Tensor
    column_index: Tensor

    def __init__(self, grid: int, width: int, reach: int) -> None:
        super().__init__()
        self.grid = grid
        self.vertical = normal(2 * reach + 2, width)
        self.horizontal = normal(2 * reach + 2, width)
        lines = torch.arange(grid)
        self.register_buffer("row_index", _line_index(lines.repeat_interleave(grid), grid, reach), persistent=False)
        self.register_buffer("column_index", _line_index(lines.repeat(grid), grid, reach), persistent=False)

    def scores(self, q: Float[Tensor, "b heads n d"]) -> Float[Tensor, "b heads n n"]:
        """Product of each query with the vectors of all keys."""
        of_row = _by_query(q, self.vertical[self.row_index].transpose(1, 2))
        of_column = _by_query(q, self.horizontal[self.column_index].transpose(1, 2))
        patches = of_row[..., 1:, None] + of_column[..., None, 1:]
        return torch.cat([of_row[..., :1] + of_column[..., :1], patches.flatten(-2)], -1)

    def mix(self, weights: Float[Tensor, "b heads n n"]) -> Float[Tensor, "b heads n d"]:
        """Sum of the vectors of all keys, weighted for each query."""
        token, patches = weights[..., :1], weights[..., 1:].view(*weights.shape[:-1], self.grid, self.grid)
        of_row = _by_query(torch.cat([token, patches.sum(-1)], -1), self.vertical[self.row_index])
        return of_row + _by_query(torch.cat([token, patches.sum(-2)], -1), self.horizontal[self.column_index])


def _line_index(position: Int[Tensor, " p"], grid: int, reach: int) -> Int[Tensor, "n lines"]:
    """Row of the table for each query (class token first) and the class token or each row or column of keys."""
    distance = (torch.arange(grid) - position[:, None]).clamp(-reach, reach) + reach + 1
    return nn.functional.pad(distance, (1, 0, 1, 0))


class RelativeAttention(Attention):
    """Attention with relative positions in keys and values (arXiv 1803.02155, equations 3 and 4), in two dimensions.

    Args:
        width: Features of a token.
        heads: Number of heads.
        grid: Patches along a side of the image.
        reach: Greatest distance that has a vector of its own, in patches.
    """

    def __init__(self, width: int, heads: int, grid: int, reach: int) -> None:
        super().__init__(width, heads, HEAD_WIDTH)
        self.keys = RelativePosition2d(grid, HEAD_WIDTH, reach)
        self.values = RelativePosition2d(grid, HEAD_WIDTH, reach)

    def attend(
        self, q: Float[Tensor, "b heads n d"], k: Float[Tensor, "b heads n d"], v: Float[Tensor, "b heads n d"]
    ) -> Float[Tensor, "b heads n d"]:
        q = q * self.head_width**-0.5
        weights = (q @ k.transpose(-2, -1) + self.keys.scores(q)).softmax(-1)
        return weights @ v + self.values.mix(weights)

    def extra_macs(self, x: Tensor, output: Tensor) -> int:
        """Multiply-adds of scores and mixing, for tokens and for relative positions."""
        b, n, _ = x.shape
        lines = self.keys.grid + 1
        return super().extra_macs(x, output) + 4 * b * n * lines * self.heads * self.head_width


def _by_query(x: Float[Tensor, "b heads n i"], matrices: Float[Tensor, "n i o"]) -> Float[Tensor, "b heads n o"]:
    """Multiplies the vectors of each query by that query's own matrix."""
    b, heads, n, _ = x.shape
    product: Tensor = x.permute(2, 0, 1, 3).reshape(n, b * heads, -1) @ matrices
    return product.view(n, b, heads, -1).permute(1, 2, 0, 3)


def _block(width: int, heads: int, hidden: int, grid: int, reach: int) -> nn.Module:
    return EncoderBlock(RelativeAttention(width, heads, grid, reach), width, hidden, EPS)


def _embedding(width: int, patch: int, grid: int, in_channels: int) -> nn.Module:
    return Embedding(nn.Conv2d(in_channels, width, patch, stride=patch), width, grid)


@register_skeleton("autoformer", flops="macs", identities=False)
def autoformer(
    slots: Mapping[str, str], *, patch: int, reach: int, image_size: int, in_channels: int, classes: int
) -> list[Segment]:
    """AutoFormer's network: absolute and relative positions, the mean over the patches before the classifier.

    Args:
        slots: First `width<n>`; then for each layer `heads<n>` and `mlp<r>`, or `skip` twice. The feed-forward
            network has `int(r * width)` hidden features.
        patch: Side of a patch, pixels; a smaller image is one patch.
        reach: Greatest relative distance that has a vector of its own, in patches.
        image_size: Side of the image, pixels.
        in_channels: Channels of the image.
        classes: Number of classes.
    """
    grid, side = patch_grid(image_size, patch)
    (_, (first, *_)), *rest = layers(slots, each=2, alone="width")
    width = int(*read_label(first, "width<n>"))
    make = partial(_embedding, width, side, grid, in_channels)
    segments = [Segment(("autoformer embedding", width, side, grid, in_channels), make, "embedding")]
    for name, (heads, mlp) in rest:
        hidden = int(float(*read_label(mlp, "mlp<r>")) * width)
        sizes = (width, int(*read_label(heads, "heads<n>")), hidden, grid, reach)
        segments.append(Segment(("autoformer block", *sizes), partial(_block, *sizes), name))
    head = partial(Head, width, classes, mean=True, eps=EPS)
    return [*segments, Segment(("mean head", width, classes, EPS), head, "head")]
