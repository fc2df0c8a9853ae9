"""Modules of several sizes cut out of one set of weights, against the definition by hand."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from archgen.errors import InvalidArchitecture
from archgen.networks.mbconv import MBConv
from archgen.networks.transformer import Attention
from archgen.supernets.shared import SharedModule, centre, structure


def bottleneck(kernel: int, hidden: int, squeeze: bool = True) -> nn.Module:
    return MBConv(4, 4, kernel, hidden=hidden, squeeze=squeeze)


@pytest.fixture
def shared() -> SharedModule:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SharedModule([partial(bottleneck, k, h) for k in (3, 5, 7) for h in (12, 24)])


def cut(shared: SharedModule, module: nn.Module) -> dict[str, Tensor]:
    return shared.state(object(), lambda: module)


def test_the_largest_has_all_of_it_and_is_not_copied(shared: SharedModule) -> None:
    state = cut(shared, bottleneck(7, 24))
    own = shared.largest.state_dict(keep_vars=True)
    assert state.keys() == own.keys()
    assert all(state[name] is own[name] for name in own if "layers.1.0" not in name)
    assert torch.equal(state["layers.1.0.weight"], own["layers.1.0.weight"])


def test_narrower_modules_have_the_first_channels(shared: SharedModule) -> None:
    state, own = cut(shared, bottleneck(7, 12)), shared.largest.state_dict()
    assert torch.equal(state["layers.0.0.weight"], own["layers.0.0.weight"][:12])
    assert torch.equal(state["layers.0.1.running_var"], own["layers.0.1.running_var"][:12])
    assert torch.equal(state["layers.3.0.weight"], own["layers.3.0.weight"][:, :12])
    assert torch.equal(state["layers.2.reduce.weight"], own["layers.2.reduce.weight"][:8, :12])


def test_smaller_kernels_are_transformed_centres(shared: SharedModule) -> None:
    """By hand: 7 to 5 by a 25 x 25 matrix, then 5 to 3 by a 9 x 9 one, the same for all channels."""
    first, second = (shared.transforms[f"layers-1-0-{a}to{b}"] for a, b in ((7, 5), (5, 3)))
    assert torch.equal(first, torch.eye(25))
    with torch.no_grad():
        first.normal_()
        second.normal_()
    seven = shared.largest.state_dict()["layers.1.0.weight"]
    five = torch.stack([(first @ seven[c, 0, 1:6, 1:6].flatten()).view(5, 5) for c in range(24)])[:, None]
    three = torch.stack([(second @ five[c, 0, 1:4, 1:4].flatten()).view(3, 3) for c in range(24)])[:, None]
    torch.testing.assert_close(cut(shared, bottleneck(5, 24))["layers.1.0.weight"], five)
    torch.testing.assert_close(cut(shared, bottleneck(3, 12))["layers.1.0.weight"], three[:12])


def test_before_training_a_smaller_kernel_is_the_centre_with_and_without_transforms(shared: SharedModule) -> None:
    plain = SharedModule([partial(bottleneck, k, 24) for k in (3, 7)], transform=False)
    assert not plain.transforms
    for each in (shared, plain):
        weight = each.largest.state_dict()["layers.1.0.weight"]
        torch.testing.assert_close(cut(each, bottleneck(3, 24))["layers.1.0.weight"], centre(weight, 3))


def test_gradients_reach_what_was_cut_and_nothing_else(shared: SharedModule) -> None:
    state = cut(shared, bottleneck(3, 12))
    sum(value.sum() for value in state.values() if value.requires_grad).backward()
    weight = shared.largest.get_parameter("layers.0.0.weight").grad
    assert weight is not None
    assert bool((weight[:12] == 1).all())
    assert not weight[12:].any()
    kernel = shared.largest.get_parameter("layers.1.0.weight").grad
    assert kernel is not None
    assert bool(kernel[:12, :, 2:5, 2:5].all())
    assert not kernel[:, :, 0].any()
    assert shared.transforms["layers-1-0-7to5"].grad is not None


def test_statistics_are_views(shared: SharedModule) -> None:
    cut(shared, bottleneck(3, 12))["layers.0.1.running_mean"].fill_(7)
    assert shared.largest.get_buffer("layers.0.1.running_mean").tolist() == [7] * 12 + [0] * 12


def test_parts_of_a_layer_are_each_cut() -> None:
    """Queries, keys and values of the first heads, not the queries alone."""
    shared = SharedModule([partial(Attention, width, heads, 4) for width in (6, 8) for heads in (1, 2)])
    state = cut(shared, Attention(6, 1, 4))
    whole = shared.largest.get_parameter("qkv.weight")
    rows = [*range(4), *range(8, 12), *range(16, 20)]
    assert torch.equal(state["qkv.weight"], whole[rows][:, :6])
    assert torch.equal(state["qkv.bias"], shared.largest.get_parameter("qkv.bias")[rows])


def test_where_no_module_is_the_largest_the_weights_reach_around_all() -> None:
    wide, tall = partial(nn.Linear, 3, 8), partial(nn.Linear, 6, 2)
    shared = SharedModule([wide, tall])
    assert shared.largest.weight.shape == (8, 6)
    assert shared.largest.bias.shape == (8,)
    assert isinstance(shared.largest.weight, nn.Parameter)
    assert shared.largest.weight.std() > 0.05
    assert [cut(shared, make())["weight"].shape for make in (wide, tall)] == [(8, 3), (2, 6)]


def test_channels_are_sorted_by_the_weights_that_read_them(shared: SharedModule) -> None:
    for name, buffer in shared.largest.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    x = torch.randn(2, 4, 9, 9)
    shared.eval()
    before = shared.largest(x)
    shared.sort_channels()
    torch.testing.assert_close(shared.largest(x), before)
    importance = shared.largest.get_parameter("layers.3.0.weight").abs().sum((0, 2, 3))
    assert torch.equal(importance, importance.sort(descending=True).values)


def test_sorting_keeps_what_is_trained_and_sorts_the_squeeze() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shared = SharedModule([partial(bottleneck, 3, h) for h in (24, 48, 96)]).eval()
        x = torch.randn(2, 4, 9, 9)
    middle, smallest = bottleneck(3, 48), bottleneck(3, 24)

    def run(module: nn.Module, width: int) -> Tensor:
        return shared(x, width, lambda: module)

    before = [shared.largest(x), run(middle, 48), run(smallest, 24)]
    shared.sort_channels([middle])
    torch.testing.assert_close(shared.largest(x), before[0])
    torch.testing.assert_close(run(middle, 48), before[1])
    assert not torch.allclose(run(smallest, 24), before[2])
    for name, axis, width in (("layers.3.0.weight", 1, 48), ("layers.2.expand.weight", 1, 16)):
        weight = shared.largest.get_parameter(name)
        importance = weight.abs().sum([i for i in range(4) if i != axis])
        for part in (importance[:width], importance[width:]):
            assert torch.equal(part, part.sort(descending=True).values)


def test_channels_that_can_not_be_exchanged_stay() -> None:
    for options in ({"expand": False, "hidden": 4}, {"groups": 2, "hidden": 8}):
        module = MBConv(4, 4, 3, **options)  # type: ignore[arg-type]
        assert module.hidden_axes() == []


def test_what_can_not_share_weights_is_told_apart(shared: SharedModule) -> None:
    assert structure(bottleneck(3, 12)) == structure(bottleneck(7, 24))
    assert structure(MBConv(4, 4, 3, 2, hidden=12)) != structure(MBConv(4, 4, 3, 1, hidden=12))
    assert structure(MBConv(4, 4, 3, hidden=12, groups=2)) != structure(MBConv(4, 4, 3, hidden=12, groups=4))
    with pytest.raises(ValueError, match="equal but for channels and kernels"):
        SharedModule([partial(bottleneck, 3, 12, squeeze) for squeeze in (True, False)])
    with pytest.raises(InvalidArchitecture, match="another structure"):
        cut(shared, bottleneck(3, 12, squeeze=False))
    with pytest.raises(InvalidArchitecture, match="more than the"):
        cut(shared, bottleneck(3, 48))
    with pytest.raises(InvalidArchitecture, match="a kernel of 1, shared are"):
        cut(shared, bottleneck(1, 12))
