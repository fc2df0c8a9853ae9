"""The heterogeneous encoder of FlexiBERT (arXiv 2205.11656): layers of different operations, widths and depths.

As in the reference code (JHA-Lab/txf_design-space): post-norm, distances of tokens in every layer in place of absolute
positions (whose unused table is left out), a projection where the width changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from archgen.networks.labels import layers, read_label
from archgen.networks.skeleton import Segment, register_skeleton
from archgen.networks.token_mixers import DROPOUT, make_operation
from archgen.networks.transformer import linear, normal

EPS = 1e-12


class Layer(nn.Module):
    """An operation and a feed-forward network, each added to its input and then normalised.

    Args:
        operation: `(name, parameter)` as in `make_operation`.
        heads: Number of heads.
        width: Features of a token.
        hidden: Features of each hidden layer of the feed-forward network.
        tokens: Longest sequence.
    """

    def __init__(self, operation: tuple[str, str], heads: int, width: int, hidden: Sequence[int], tokens: int) -> None:
        super().__init__()
        self.operation = make_operation(*operation, width, heads, tokens)
        self.dense, self.norm1 = linear(width, width), nn.LayerNorm(width, EPS)
        sizes = [width, *hidden]
        stack = [m for a, b in zip(sizes, hidden, strict=False) for m in (linear(a, b), nn.GELU())]
        self.feed_forward = nn.Sequential(*stack, linear(sizes[-1], width))
        self.norm2 = nn.LayerNorm(width, EPS)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        x = self.norm1(x + self.dropout(self.dense(self.operation(x))))
        out: Tensor = self.norm2(x + self.dropout(self.feed_forward(x)))
        return out


class TokenEmbedding(nn.Module):
    """A learnt vector for each token of the vocabulary and one for the segment, summed and normalised.

    Args:
        vocabulary: Number of tokens that exist.
        width: Features of a token.
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.segment = normal(width)
        self.norm, self.dropout = nn.LayerNorm(width, EPS), nn.Dropout(DROPOUT)
        self.words.weight = normal(vocabulary, width)

    def forward(self, x: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
        out: Tensor = self.dropout(self.norm(self.words(x) + self.segment))
        return out


class PoolerHead(nn.Module):
    """Class logits of the first token, by BERT's pooler (arXiv 1810.04805): linear, tanh, linear.

    Args:
        width: Features of a token.
        classes: Number of classes.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.pooler, self.classifier = linear(width, width), linear(width, classes)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b classes"]:
        logits: Tensor = self.classifier(self.dropout(self.pooler(x[:, 0]).tanh()))
        return logits


def projection(width: int, out_width: int) -> nn.Module:
    """A linear map between layers of different widths."""
    return linear(width, out_width)


def token_example(batch: int, *, tokens: int, **_: int) -> Tensor:
    """Zeros of the shape and type of sequences of tokens, `b n`."""
    return torch.zeros(batch, tokens, dtype=torch.long)


@register_skeleton("flexibert", example=token_example, flops="macs", identities=False)
def flexibert(slots: Mapping[str, str], *, vocabulary: int, tokens: int, classes: int) -> list[Segment]:
    """FlexiBERT: token embedding, layers with projections where their width changes, classifier on the first token.

    Args:
        slots: For each layer `<operation>-<parameter>-h<n>` (see `make_operation`; the number of heads), `hidden<n>`
            (features of a token) and `ff<n>` or `ff<n>-<n>-<n>` (hidden layers of the feed-forward network), or
            `skip` three times.
        vocabulary: Number of tokens that exist.
        tokens: Longest sequence.
        classes: Number of classes.
    """
    segments: list[Segment] = []
    width = 0

    def add(make: Any, *sizes: Any, name: str) -> None:
        segments.append(Segment((make.__name__, *sizes), partial(make, *sizes), name))

    for name, (operation, wanted, stack) in layers(slots, each=3):
        before, width = width, int(*read_label(wanted, "hidden<n>"))
        if not segments:
            add(TokenEmbedding, vocabulary, width, name="embedding")
        elif before != width:
            add(projection, before, width, name=f"{name}.projection")
        kind, _, heads = operation.rpartition("-")
        hidden = read_label(stack, "ff" + "-".join(["<n>"] * (stack.count("-") + 1)))
        mixer = tuple(kind.partition("-")[::2])
        add(Layer, mixer, int(*read_label(heads, "h<n>")), width, tuple(map(int, hidden)), tokens, name=name)
    add(PoolerHead, width, classes, name="head")
    return segments
