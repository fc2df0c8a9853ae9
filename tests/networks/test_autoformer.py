"""AutoFormer's network: relative positions pair by pair, the published networks' parameters and multiply-adds."""

import warnings
from collections.abc import Mapping

import pytest
import torch

from archgen.errors import InvalidSpace
from archgen.networks.autoformer import RelativeAttention, RelativePosition2d, autoformer
from archgen.networks.skeleton import SegmentNetwork, count_segments

PUBLISHED = {"patch": 16, "reach": 14, "image_size": 224, "in_channels": 3, "classes": 1000}
SMALL = {"patch": 4, "reach": 14, "image_size": 8, "in_channels": 2, "classes": 3}


def slots(width: int, heads: list[int], ratios: list[float]) -> dict[str, str]:
    labels = {"width": f"width{width}"}
    for i, (number, ratio) in enumerate(zip(heads, ratios, strict=True), start=1):
        labels |= {f"layer{i}.heads": f"heads{number}", f"layer{i}.mlp": f"mlp{ratio}"}
    return labels


def build(labels: Mapping[str, str], **arguments: int) -> SegmentNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SegmentNetwork(autoformer(labels, **arguments)).eval()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair_vectors(position: RelativePosition2d, grid: int, reach: int) -> torch.Tensor:
    """The vector of each pair of tokens, by the definition."""
    n = grid**2 + 1
    vectors = torch.zeros(n, n, position.vertical.shape[1])
    for i in range(n):
        for j in range(n):
            down = right = 0
            if i and j:
                down = max(-reach, min(reach, (j - 1) // grid - (i - 1) // grid)) + reach + 1
                right = max(-reach, min(reach, (j - 1) % grid - (i - 1) % grid)) + reach + 1
            vectors[i, j] = position.vertical[down] + position.horizontal[right]
    return vectors


@pytest.mark.parametrize(("grid", "reach"), [(1, 2), (3, 2), (3, 1), (4, 14)])
def test_positions_of_rows_and_columns_are_those_of_pairs(grid: int, reach: int) -> None:
    position = RelativePosition2d(grid, 4, reach)
    position.vertical.data, position.horizontal.data = normal(2 * reach + 2, 4), normal(2 * reach + 2, 4, seed=1)
    n = grid**2 + 1
    q, weights, vectors = normal(2, 3, n, 4), normal(2, 3, n, n, seed=2), pair_vectors(position, grid, reach)
    torch.testing.assert_close(position.scores(q), torch.einsum("bhid,ijd->bhij", q, vectors))
    torch.testing.assert_close(position.mix(weights), torch.einsum("bhij,ijd->bhid", weights, vectors))


def test_attention_adds_positions_to_keys_and_values() -> None:
    attention = RelativeAttention(12, 2, grid=2, reach=3)
    for i, value in enumerate(attention.parameters()):
        value.data = normal(*value.shape, seed=i) / 4
    keys, values = (pair_vectors(p, 2, 3) for p in (attention.keys, attention.values))
    x = normal(3, 5, 12)
    q, k, v = (part.view(3, 5, 2, 64) for part in attention.qkv(x).chunk(3, -1))
    with_keys = torch.einsum("bihd,bijhd->bhij", q, k[:, None] + keys[None, :, :, None]) / 8
    mixed = torch.einsum("bhij,bijhd->bihd", with_keys.softmax(-1), v[:, None] + values[None, :, :, None])
    torch.testing.assert_close(attention(x), attention.proj(mixed.flatten(2)))


@pytest.mark.parametrize(
    ("labels", "params", "gmacs"),
    [
        pytest.param(
            slots(192, [3] * 10 + [4, 3, 3], [3.5, 3.5, 3, 3.5, 3, 3, 4, 4, 3.5, 4, 3.5, 4, 3.5]),
            5_867_944,  # counted by the reference code; 5.8 M in its table
            1.3,  # 1.34 by the reference code, which also counts normalisation
            id="AutoFormer-T",
        ),
        pytest.param(
            slots(384, [6, 6, 5, 7, 5, 5, 5, 6, 6, 7, 7, 6, 7], [3, 3.5, 3, 3.5, 4, 4, 4, 4, 4, 4, 4, 3.5, 4]),
            22_891_432,  # counted by the reference code; 22.9 M in its table
            4.8,  # 4.89 by the reference code
            id="AutoFormer-S",
        ),
    ],
)
def test_counts_of_the_published_networks(labels: dict[str, str], params: int, gmacs: float) -> None:
    counts = count_segments(autoformer(labels, **PUBLISHED), torch.zeros(1, 3, 224, 224, device="meta"), {})
    assert counts["params"] == params
    assert round(counts["macs"] / 1e9, 1) == gmacs


def test_counts_of_a_small_network() -> None:
    counts = count_segments(autoformer(slots(12, [2], [3.5]), **SMALL), torch.zeros(1, 2, 8, 8, device="meta"), {})
    n, inner, hidden = 5, 128, 42
    linear = 12 * 3 * inner + inner * 12 + 2 * 12 * hidden
    relative = 4 * n * 3 * inner  # keys and values, by 2 rows and 2 columns and the class token
    assert counts["macs"] == 4 * 2 * 16 * 12 + n * linear + 2 * n * n * inner + relative + 12 * 3
    biases = 3 * inner + 12 + hidden + 12
    layer = linear + biases + 4 * 30 * 64 + 4 * 12
    assert counts["params"] == (2 * 16 * 12 + 12) + 12 + 5 * 12 + layer + 2 * 12 + (12 * 3 + 3)


def test_hidden_features_are_rounded_down() -> None:
    network = build(slots(11, [1], [3.5]), **SMALL)
    assert network.segments["layer1"].feed_forward[0].out_features == 38  # type: ignore[union-attr, index]


def test_an_image_smaller_than_a_patch_is_one_patch() -> None:
    network = build(slots(8, [1, 2], [4.0, 3.5]), **{**SMALL, "patch": 16})
    assert network(normal(2, 2, 8, 8)).shape == (2, 3)


def test_moving_the_image_by_a_patch_changes_the_logits() -> None:
    network = build(slots(8, [1], [4.0]), **SMALL)
    for value in network.parameters():
        value.data = normal(*value.shape)
    image = normal(1, 2, 8, 8)
    assert not torch.allclose(network(image), network(image.roll(4, -1)), atol=1e-3)


def test_an_exported_network_takes_any_number_of_images() -> None:
    network = build(slots(8, [2], [3.5]), **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns of its own future
        shapes = ({0: torch.export.Dim("batch")},)
        exported = torch.export.export(network, (normal(2, 2, 8, 8),), dynamic_shapes=shapes)
    x = normal(5, 2, 8, 8)
    torch.testing.assert_close(exported.module()(x), network(x))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"width": "width8", "a.heads": "heads0", "a.mlp": "mlp4"}, "expected 'heads<n>'"),
        ({"width": "width8", "a.heads": "heads1", "a.mlp": "4"}, "expected 'mlp<r>'"),
        ({"width": "width8", "a.heads": "heads1"}, "described by 2 slots, got 1"),
    ],
)
def test_labels_that_are_no_layer_are_refused(labels: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        autoformer(labels, **SMALL)
