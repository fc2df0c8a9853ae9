"""ViT-ResNAS: spatial reduction by its definition, the published networks' parameters and multiply-adds."""

import warnings
from ast import literal_eval

import pytest
import torch
from torch.nn import functional as F

from archgen.errors import InvalidSpace
from archgen.networks.skeleton import Segment, SegmentNetwork, count_segments
from archgen.networks.vit_resnas import ConvPatches, SpatialReduction, vit_resnas

PUBLISHED = {"patch": 14, "image_size": 224, "in_channels": 3, "classes": 1000}
SMALL = {"patch": 2, "image_size": 8, "in_channels": 2, "classes": 3}
TINY = {"a.width": "width4", "a1.heads": "heads2x3", "a1.mlp": "mlp2x5", "b.width": "width7", "c.width": "width7"}

# The networks of the reference's scripts `searched_net/tiny` and `reference_net/tiny`, without what they repeat.
RESNAS_TINY = (
    "(4, 176), (3, 32, 704), (3, 32, 576), (3, 32, 640), (4, 32, 576), (4, 32, 704), (3, 352), (10, 48, 1408), "
    "(8, 48, 1408), (8, 48, 1280), (8, 48, 1408), (10, 48, 1280), (10, 48, 1024), (3, 704), (10, 64, 2560), "
    "(10, 64, 1792), (10, 64, 2816), (8, 64, 2816), (8, 64, 2560)"
)
RES_TINY = ", ".join(
    [f"({4 if i == 0 else 3}, {192 * 2**i}), " + ", ".join([f"({3 * 2**i}, 64, {768 * 2**i})"] * 4) for i in range(3)]
)


def slots(text: str) -> dict[str, str]:
    labels = {}
    for i, part in enumerate(literal_eval(f"[{text}]")):
        if len(part) == 2:
            labels[f"stage{i}.width"] = f"width{part[1]}"
        else:
            labels |= {f"block{i}.heads": f"heads{part[0]}x{part[1]}", f"block{i}.mlp": f"mlp{part[2]}x1"}
    return labels


def counts(segments: list[Segment], arguments: dict[str, int]) -> dict[str, float]:
    size = arguments["image_size"]
    return count_segments(segments, torch.zeros(1, arguments["in_channels"], size, size, device="meta"), {})


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("text", "params", "macs"),
    [  # to the digit what the reference code builds and its estimator says
        pytest.param(RESNAS_TINY, 40_793_552, 1_782_630_272, id="ViT-ResNAS-Tiny"),
        pytest.param(RES_TINY, 42_012_736, 1_794_378_240, id="ViT-Res-Tiny"),
    ],
)
def test_counts_of_the_published_networks(text: str, params: int, macs: int) -> None:
    found = counts(vit_resnas(slots(text), **PUBLISHED), PUBLISHED)
    assert (found["params"], found["macs"]) == (params, macs)


@pytest.mark.parametrize("grid", [1, 2, 3, 4])
def test_spatial_reduction_by_its_definition(grid: int) -> None:
    reduction = SpatialReduction(3, 5, grid)
    for i, value in enumerate(reduction.parameters()):
        value.data = normal(*value.shape, seed=i)
    x = normal(2, grid**2 + 1, 3)
    norm = F.layer_norm(x, (3,), reduction.norm.weight, reduction.norm.bias, 1e-6)
    half = (grid + 1) // 2
    token = F.linear(norm[:, 0], reduction.token.weight, reduction.token.bias)
    token[:, :3] += x[:, 0]
    out = reduction(x)
    torch.testing.assert_close(out[:, 0], token)
    image, padded = x[:, 1:].view(2, grid, grid, 3), F.pad(norm[:, 1:].view(2, grid, grid, 3), (0, 0, 1, 2, 1, 2))
    for i in range(half):
        for j in range(half):
            window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            patch = torch.einsum("bhwc,dchw->bd", window, reduction.reduce.weight) + reduction.reduce.bias
            patch = patch + reduction.position[0, half * i + j]
            patch[:, :3] += image[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((1, 2))
            torch.testing.assert_close(out[:, 1 + half * i + j], patch, rtol=1e-4, atol=1e-5)


def test_patches_have_a_residual_path() -> None:
    patches = ConvPatches(2, 5, 4).eval()
    x = normal(3, 2, 8, 8)
    first = patches.first(x)
    torch.testing.assert_close(patches(x), patches.project(first + patches.third(patches.second(first))))
    assert patches(x).shape == (3, 5, 2, 2)


@pytest.mark.parametrize(("image_size", "patch"), [(8, 2), (8, 14), (7, 14), (1, 14), (28, 14), (56, 14), (24, 4)])
def test_images_of_other_sizes_than_published(image_size: int, patch: int) -> None:
    arguments = {**SMALL, "image_size": image_size, "patch": patch}
    network = SegmentNetwork(vit_resnas(TINY, **arguments)).eval()
    assert list(network.segments) == ["embedding", "a1", "b-reduction", "c-reduction", "head"]
    assert network(normal(2, 2, image_size, image_size)).shape == (2, 3)


def test_the_logits_come_from_the_class_token_alone() -> None:
    network = SegmentNetwork(vit_resnas({"a.width": "width4"}, **SMALL)).eval()
    embedding, head = network.segments["embedding"], network.segments["head"]
    token = embedding.class_token + embedding.position[:, :1]  # type: ignore[operator, index]
    expected = head.classifier(head.norm(token[:, 0]))  # type: ignore[operator]
    torch.testing.assert_close(network(normal(2, 2, 8, 8)), expected.expand(2, -1))


def test_an_exported_network_takes_any_number_of_images() -> None:
    network = SegmentNetwork(vit_resnas(TINY, **SMALL)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns of its own future
        shapes = ({0: torch.export.Dim("batch")},)
        exported = torch.export.export(network, (normal(2, 2, 8, 8),), dynamic_shapes=shapes)
    x = normal(5, 2, 8, 8)
    torch.testing.assert_close(exported.module()(x), network(x))


def test_settings_that_are_no_network_are_refused() -> None:
    with pytest.raises(InvalidSpace, match="patch = 7 must be even"):
        vit_resnas(TINY, **{**SMALL, "patch": 7})
    with pytest.raises(InvalidSpace, match="it can not go from 7 to 5"):
        SegmentNetwork(vit_resnas({**TINY, "c.width": "width5"}, **SMALL))
    with pytest.raises(InvalidSpace, match="begins with a width"):
        vit_resnas({"a1.heads": "heads2x3", "a1.mlp": "mlp2x5"}, **SMALL)
