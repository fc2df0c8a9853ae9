"""Blocks of vision transformers against their formulas; stochastic depth; patches of small images."""

import math

import pytest
import torch
from torch import nn

from archgen.errors import InvalidSpace
from archgen.networks.count import count_network
from archgen.networks.transformer import Attention, Embedding, EncoderBlock, Head, patch_grid, schedule_drop_path


def tokens(b: int = 3, n: int = 5, width: int = 6) -> torch.Tensor:
    return torch.randn(b, n, width, generator=torch.Generator().manual_seed(0))


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for value in module.parameters():
        value.data.normal_(0.0, 0.5, generator=generator)
    return module.eval()


@pytest.mark.parametrize(
    ("image_size", "patch", "grid"),
    [(224, 16, (14, 16)), (32, 16, (2, 16)), (16, 16, (1, 16)), (8, 16, (1, 8)), (1, 16, (1, 1))],
)
def test_an_image_below_a_patch_is_one_patch(image_size: int, patch: int, grid: tuple[int, int]) -> None:
    assert patch_grid(image_size, patch) == grid


def test_a_patch_that_does_not_divide_the_image_is_refused() -> None:
    with pytest.raises(
        InvalidSpace, match="image_size = 28 is no whole number of patches of 16 pixels; give a `patch`"
    ):
        patch_grid(28, 16)


def test_attention_is_its_formula() -> None:
    attention = randomised(Attention(6, heads=3, head_width=4))
    assert isinstance(attention, Attention)
    x = tokens()
    q, k, v = attention.qkv(x).split(12, -1)
    mixed = []
    for h in range(3):
        part = slice(4 * h, 4 * h + 4)
        weights = (q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(4)).softmax(-1)
        mixed.append(weights @ v[..., part])
    torch.testing.assert_close(attention(x), attention.proj(torch.cat(mixed, -1)))


def test_a_block_adds_two_normalised_branches() -> None:
    block = randomised(EncoderBlock(Attention(6, 2, 4), 6, hidden=10, eps=1e-6))
    assert isinstance(block, EncoderBlock)
    x = tokens()
    y = x + block.attention(block.norm1(x))
    torch.testing.assert_close(block(x), y + block.feed_forward(block.norm2(y)))


def test_counts_of_a_block() -> None:
    n, width, inner, hidden = 5, 6, 8, 10
    block = EncoderBlock(Attention(width, 2, 4), width, hidden, eps=1e-6)
    counts = count_network(block, torch.zeros(1, n, width))
    linear = 3 * width * inner + inner * width + 2 * width * hidden
    assert counts["macs"] == n * linear + 2 * n * n * inner
    assert counts["params"] == linear + 3 * inner + width + hidden + width + 4 * width


def test_embedding_puts_the_class_token_first_and_adds_positions() -> None:
    embedding = randomised(Embedding(nn.Conv2d(2, 6, 4, stride=4), 6, grid=2))
    assert isinstance(embedding, Embedding)
    image = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    out = embedding(image) - embedding.position
    torch.testing.assert_close(out[:, 0], embedding.class_token[0].expand(3, -1))
    kernel = embedding.patches.weight.flatten(1)  # type: ignore[union-attr, operator]
    right_of_top = image[:, :, :4, 4:].flatten(1) @ kernel.T + embedding.patches.bias  # type: ignore[operator]
    torch.testing.assert_close(out[:, 2], right_of_top, rtol=1e-4, atol=1e-5)


def test_the_head_reads_the_class_token_or_the_mean_of_the_others() -> None:
    x = tokens()
    for mean in (False, True):
        head = randomised(Head(6, 4, mean=mean, eps=1e-6))
        assert isinstance(head, Head)
        normal = head.norm(x)
        torch.testing.assert_close(head(x), head.classifier(normal[:, 1:].mean(1) if mean else normal[:, 0]))


def test_weights_start_as_published() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = EncoderBlock(Attention(64, 2, 64), 64, 256, eps=1e-6)
    for name, value in block.named_parameters():
        if name.endswith("bias"):
            assert not value.any()
        elif "norm" in name:
            assert (value == 1).all()
        else:  # at least 8,192 draws, so the tolerance is 25 standard errors
            assert float(value.detach().std()) == pytest.approx(0.02, rel=0.2)


def test_drop_path_rises_linearly_and_works_in_training_only() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        blocks = nn.Sequential(*(EncoderBlock(Attention(6, 1, 4), 6, 4, eps=1e-6) for _ in range(3)))
    schedule_drop_path(blocks, 0.4)
    assert [block.drop_path for block in blocks] == pytest.approx([0.0, 0.2, 0.4])
    last = blocks[-1]
    x = tokens(b=400)
    assert torch.equal(last.eval()(x), last(x))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        x = x[:1].expand(400, -1, -1)
        last.feed_forward[2].weight.zero_()  # one branch is left, which is dropped or doubled by 1 / 0.6
        last.feed_forward[2].bias.zero_()
        branch = last.eval()(x[:1]) - x[:1]
        ratio = (last.train()(x) - x).flatten(1)[:, 0] / branch.flatten()[0]
    kept = (ratio > 0.5).float()
    torch.testing.assert_close(ratio, kept / 0.6, rtol=1e-3, atol=1e-3)
    assert 0.6 - 0.15 < float(kept.mean()) < 0.6 + 0.15  # six standard deviations: fails once in 10^8


@pytest.mark.parametrize("rate", [-0.1, 1.0, math.nan])
def test_drop_path_rates_out_of_range_are_refused(rate: float) -> None:
    with pytest.raises(InvalidSpace, match="at least 0 and below 1"):
        schedule_drop_path(nn.Identity(), rate)
