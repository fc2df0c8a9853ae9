"""Supernets of chains: every architecture computes what its stand-alone network with the cut weights computes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from archgen import spaces
from archgen.errors import InvalidArchitecture
from archgen.spaces import ChainSpace
from archgen.supernets import ElasticSupernet, make_supernet, recalibrate

SMALL: dict[str, dict[str, int]] = {
    "mobilenetv3": {"width_percent": 25, "classes": 3, "image_size": 32},
    "nasbench_macro": {"channels": 4, "head": 8, "classes": 3, "image_size": 16},
    "autoformer": {"patch": 8, "classes": 3, "image_size": 16},
}


@cache
def made(name: str, **options: bool) -> ElasticSupernet:
    space = spaces.load(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = ElasticSupernet(space, SMALL[name], **options)
        for key, value in supernet.state_dict().items():
            if "running" in key:
                value.uniform_(0.5, 1.5)
            if "transforms" in key:
                value.add_(0.1 * torch.randn(value.shape))
    return supernet.eval()


def inputs(supernet: ElasticSupernet, n: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(supernet.space.example_input(n, **supernet.network).shape, generator=generator)


@pytest.mark.parametrize(("name", "share"), [("mobilenetv3", True), ("nasbench_macro", False), ("autoformer", False)])
def test_with_trained_transforms_or_labels_apart_a_path_is_its_subnet(name: str, share: bool) -> None:
    supernet = made(name, share=share)
    x = inputs(supernet)
    smallest = [] if supernet.space.extremes is None else list(supernet.space.extremes)
    with torch.no_grad():
        for arch in [*smallest, *supernet.space.sample(3, np.random.default_rng(0))]:
            network = supernet.subnet(arch)
            torch.testing.assert_close(supernet(x, arch), network(x), rtol=0, atol=1e-6)
            assert network.state_dict().keys() == supernet.space.build(arch, **supernet.network).state_dict().keys()


def test_it_holds_as_much_as_the_largest_architecture_and_the_transforms() -> None:
    supernet = made("mobilenetv3")
    largest = supernet.space.build(supernet.space.extremes[1], **supernet.network)  # type: ignore[index]
    held = {n: p for n, p in supernet.named_parameters() if "transforms" not in n}
    assert sum(p.numel() for p in held.values()) == sum(p.numel() for p in largest.parameters())
    transforms = [p for n, p in supernet.named_parameters() if "transforms" in n]
    assert len(transforms) == 2 * 20
    assert {tuple(p.shape) for p in transforms} == {(25, 25), (9, 9)}
    assert not any("transforms" in n for n, _ in made("mobilenetv3", transform=False).named_parameters())


def test_labels_share_weights_or_have_their_own() -> None:
    """Two bottlenecks of one slot that differ in kernel and expansion."""
    one, other = (f"{label} " + "identity " * 7 for label in ("mb3_k3", "mb6_k5"))
    space = spaces.load("nasbench_macro")
    assert isinstance(space, ChainSpace)
    slots = list(space.slots)
    archs = [space.from_labels(dict(zip(slots, text.split(), strict=True))) for text in (one, other)]
    for share in (True, False):
        tensors = [made("nasbench_macro", share=share).inherited(a) for a in archs]
        at = [state["segments.layer1.layers.0.0.weight"].untyped_storage().data_ptr() for state in tensors]
        assert (at[0] == at[1]) == share


def test_training_moves_the_shared_weights_and_their_statistics() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = ElasticSupernet(spaces.load("mobilenetv3"), SMALL["mobilenetv3"])
    smallest = supernet.space.extremes[0]  # type: ignore[index]
    supernet.train()(inputs(supernet, 4), smallest).square().sum().backward()
    touched = {name for name, p in supernet.named_parameters() if p.grad is not None}
    assert any("stage1-block1" in name for name in touched)
    assert not any("stage1-block4" in name for name in touched), "the smallest has two blocks a stage"
    shared = supernet.slots["stage2-block1"]["0"]  # type: ignore[index]
    grad = shared.largest.get_parameter("layers.0.0.weight").grad  # type: ignore[union-attr]
    half = len(grad) // 2
    assert bool(grad[:half].any()), "expansion 3 of 6"
    assert not grad[half:].any()
    mean = shared.largest.get_buffer("layers.0.1.running_mean")  # type: ignore[union-attr]
    assert bool(mean[:half].all())
    assert not mean[half:].any()
    assert int(shared.largest.get_buffer("layers.0.1.num_batches_tracked")) == 1  # type: ignore[union-attr]


def test_a_path_can_run_with_other_tensors_than_those_it_inherits() -> None:
    supernet = made("mobilenetv3")
    smallest, x = supernet.space.extremes[0], inputs(supernet)  # type: ignore[index]
    name = "segments.stage2-block1.layers.1.0.weight"
    own = supernet.inherited(smallest)
    with torch.no_grad():
        assert torch.equal(supernet(x, smallest, {name: own[name]}), supernet(x, smallest))
        network = supernet.subnet(smallest)
        network.state_dict()[name].mul_(2)
        torch.testing.assert_close(supernet(x, smallest, {name: 2 * own[name]}), network(x), rtol=0, atol=1e-6)
        assert torch.equal(supernet.inherited(smallest)[name], own[name]), "the shared weights stay"


def test_a_recalibrated_subnet_has_statistics_of_its_own() -> None:
    supernet = made("mobilenetv3")
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    recalibrate(supernet.subnet(supernet.space.extremes[0]), [inputs(supernet, 8)])  # type: ignore[index]
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


def test_sorted_channels_leave_the_largest_as_it_is_and_change_narrower_ones() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        supernet = ElasticSupernet(spaces.load("mobilenetv3"), SMALL["mobilenetv3"]).eval()
    smallest, largest = supernet.space.extremes  # type: ignore[misc]
    x = inputs(supernet)
    with torch.no_grad():
        recalibrate(network := supernet.subnet(largest), [x])  # else all images look the same at the end
        before = network(x)
        state = supernet.inherited(smallest)["segments.stage1-block1.layers.0.0.weight"].clone()
        supernet.sort_channels()
        recalibrate(network := supernet.subnet(largest), [x])
        torch.testing.assert_close(network(x), before, rtol=1e-3, atol=1e-4)
    assert not torch.equal(supernet.inherited(smallest)["segments.stage1-block1.layers.0.0.weight"], state)


def test_silent_residuals_pass_their_input_on() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        supernet = ElasticSupernet(spaces.load("mobilenetv3"), SMALL["mobilenetv3"]).eval()
    smallest = supernet.space.extremes[0]  # type: ignore[index]
    supernet.silence_residuals()
    network = supernet.subnet(smallest)
    x = torch.randn(1, network.segments["stage1-block2"].layers[0][0].in_channels, 4, 4)  # type: ignore[union-attr, index, operator]
    assert torch.equal(network.segments["stage1-block2"](x), x)  # type: ignore[operator, index]
    first = network.segments["stage1-block1"].layers[-1][1].weight  # type: ignore[union-attr, index]
    assert bool(first.all()), "it halves the image, so it has no residual"  # type: ignore[operator]


def test_weights_go_from_one_supernet_to_another_by_name() -> None:
    space = spaces.load("nasbench_macro")
    other = ElasticSupernet(space, SMALL["nasbench_macro"], share=True)
    other.load_state_dict(made("nasbench_macro", share=True).state_dict())
    arch = space.sample(1, np.random.default_rng(5))[0]
    x = inputs(other)
    assert torch.equal(other.eval()(x, arch), made("nasbench_macro", share=True)(x, arch))


def test_a_space_of_another_family_and_foreign_architectures_are_refused() -> None:
    with pytest.raises(TypeError, match="serves chains, got CellSpace"):
        ElasticSupernet(spaces.load("nasbench201"), {})
    supernet = made("nasbench_macro", share=True)
    foreign: Any = spaces.load("nasbench201").sample(1, np.random.default_rng(0))[0]
    with pytest.raises(InvalidArchitecture, match="expected an architecture of 'nasbench_macro'"):
        supernet(inputs(supernet), foreign)


def test_the_family_picks_it() -> None:
    with torch.random.fork_rng():
        assert isinstance(make_supernet(spaces.load("nasbench_macro"), **SMALL["nasbench_macro"]), ElasticSupernet)
