"""Networks made of segments, and their counts."""

from collections.abc import Sequence
from functools import partial

import pytest
import torch
from torch import nn

from archgen.errors import InvalidSpace
from archgen.networks import SKELETONS
from archgen.networks.count import count_network
from archgen.networks.skeleton import Costs, Segment, SegmentNetwork, check_slots, count_segments


def conv(inputs: int, outputs: int, name: str = "", reads: tuple[int, ...] | None = None) -> Segment:
    return Segment(("conv", inputs, outputs), partial(nn.Conv2d, inputs, outputs, 3, padding=1), name, reads)


CHAIN = [conv(3, 8), conv(8, 8), conv(8, 4)]
GRAPH = [conv(3, 8, "a"), conv(8, 8, "b.left"), conv(8, 8, "b.right", (0,)), conv(8, 2, "end", (0, 1, 2))]


@pytest.mark.parametrize("segments", [CHAIN, GRAPH])
def test_counts_are_those_of_the_network(segments: Sequence[Segment]) -> None:
    example = torch.zeros(1, 3, 6, 6)
    expected = count_network(SegmentNetwork(segments), example)
    assert count_segments(segments, example.to("meta"), {}) == expected


def test_a_segment_with_several_inputs_reads_their_sum() -> None:
    network = SegmentNetwork(GRAPH)
    x = torch.rand(2, 3, 6, 6)
    a = network.segments["a"](x)
    left, right = network.segments["b-left"](a), network.segments["b-right"](a)
    torch.testing.assert_close(network(x), network.segments["end"](a + left + right))


def test_a_segment_may_read_the_networks_input() -> None:
    network = SegmentNetwork([conv(3, 3), conv(3, 2, "end", (0, -1))])
    x = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(network(x), network.segments["end"](network.segments["0"](x) + x))


def test_each_distinct_segment_is_made_and_counted_once_for_each_shape() -> None:
    made = []

    def make() -> nn.Module:
        made.append(1)
        return nn.Conv2d(4, 4, 1)

    costs: Costs = {}
    segments = [Segment("same", make) for _ in range(5)]
    first = count_segments(segments, torch.zeros(1, 4, 6, 6, device="meta"), costs)
    assert (len(made), first["params"]) == (1, 5 * 20)
    assert count_segments(segments, torch.zeros(1, 4, 6, 6, device="meta"), costs) == first
    assert len(made) == 1
    assert count_segments(segments, torch.zeros(1, 4, 3, 3, device="meta"), costs)["macs"] == first["macs"] / 4
    assert len(made) == 2


def test_a_module_that_can_not_run_on_the_meta_device_is_counted_on_zeros() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) * float(x.sum())

    counts = count_segments([Segment("reads", Reads), conv(2, 2)], torch.zeros(1, 3, 4, 4, device="meta"), {})
    assert counts["macs"] == 16 * 6 + 16 * 36


def test_a_module_that_fails_everywhere_says_so() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        count_segments([conv(5, 2)], torch.zeros(1, 3, 4, 4, device="meta"), {})


def test_slots_that_are_missing_or_unknown_are_named() -> None:
    check_slots(["a", "b"], ["b", "a"], "mine")
    with pytest.raises(InvalidSpace, match="skeleton 'mine': unknown slot 'layer9': did you mean 'layer"):
        check_slots(["layer9"], ["layer1", "layer2"], "mine")
    with pytest.raises(InvalidSpace, match="skeleton 'mine' needs a slot 'layer2'"):
        check_slots(["layer1"], ["layer1", "layer2"], "mine")


def test_skeletons_are_registered_by_importing_the_package() -> None:
    assert {"mobilenetv3", "fbnet", "nasbench_macro", "image"} <= SKELETONS.keys()
