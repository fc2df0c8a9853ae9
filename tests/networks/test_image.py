"""Networks of users' graphs: shapes are brought together where inputs of a node differ."""

from typing import Any

import pytest
import torch
from torch import nn

from archgen.errors import InvalidSpace, UnknownName
from archgen.networks.image import Place, image
from archgen.networks.skeleton import Segment, SegmentNetwork

NETWORK: dict[str, Any] = {"operations": {}, "channels": 8, "classes": 3, "in_channels": 3, "image_size": 16}


def segments(layout: dict[str, Place], outputs: tuple[str, ...], **slots: str) -> list[Segment]:
    return image({**dict.fromkeys(layout, "conv_3x3"), **slots}, layout=layout, outputs=outputs, **NETWORK)


def names(parts: list[Segment]) -> list[str]:
    return [part.name for part in parts]


def test_inputs_of_one_shape_are_summed_as_they_are() -> None:
    layout = {"a": Place(("input",)), "b": Place(("input", "a"), 16, 2)}
    parts = segments(layout, ("b",))
    assert names(parts) == ["stem", "a", "b", "head"]
    assert [part.inputs for part in parts] == [None, (0,), (0, 1), (2,)]
    assert SegmentNetwork(parts).eval()(torch.rand(2, 3, 16, 16)).shape == (2, 3)


def test_inputs_that_differ_are_brought_to_the_nodes_channels_and_the_coarsest_image() -> None:
    layout = {"a": Place(("input",), 12, 2), "b": Place(("input",), 24, 1), "c": Place(("a", "b"), 24)}
    parts = segments(layout, ("c",))
    added = {part.name: part.key for part in parts if "<" in part.name}
    assert added == {"c<1": ("skip", 12, 24, 1), "c<2": ("skip", 24, 24, 2)}
    assert SegmentNetwork(parts).eval()(torch.rand(2, 3, 15, 15)).shape == (2, 3)


def test_an_input_that_fits_already_is_left_alone() -> None:
    layout = {"a": Place(("input",), 12), "b": Place(("input",), 24), "c": Place(("a", "b"), 24)}
    assert names(segments(layout, ("c",))) == ["stem", "a", "b", "c<1", "c", "head"]


def test_outputs_that_differ_are_brought_to_the_most_channels() -> None:
    layout = {"a": Place(("input",), 12, 2), "b": Place(("input",), 24)}
    parts = segments(layout, ("a", "b"))
    assert [part.key for part in parts][-3:] == [("skip", 12, 24, 1), ("skip", 24, 24, 2), ("head", 24, 3)]
    assert SegmentNetwork(parts).eval()(torch.rand(2, 3, 16, 16)).shape == (2, 3)


def test_strides_that_do_not_divide_one_another_are_refused() -> None:
    layout = {"a": Place(("input",), 8, 2), "b": Place(("input",), 8, 3), "c": Place(("a", "b"))}
    with pytest.raises(InvalidSpace, match=r"'c': its inputs shrink the image \[2, 3\] times"):
        segments(layout, ("c",))


def test_skip_is_an_identity_where_the_shape_stays() -> None:
    layout = {"a": Place(("input",)), "b": Place(("a",), 12), "c": Place(("b",), 12, 2)}
    parts = segments(layout, ("c",), a="skip", b="skip", c="skip")
    assert [part.name for part in parts if part.identity] == ["a"]


def test_a_resolution_resizes_the_images_first() -> None:
    parts = segments({"a": Place(("input",))}, ("a",), resolution="r12")
    network = SegmentNetwork(parts)
    assert network.segments["resolution"](torch.rand(1, 3, 16, 16)).shape == (1, 3, 12, 12)


def test_a_users_operation_goes_before_a_built_in_one_and_is_no_identity() -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    own = {**NETWORK, "operations": {"skip": lambda inputs, outputs, stride: Twice()}}
    parts = image({"a": "skip"}, layout={"a": Place(("input",))}, outputs=("a",), **own)
    assert isinstance(parts[1].make(), Twice)
    assert not parts[1].identity


def test_an_unknown_operation_gets_a_suggestion() -> None:
    with pytest.raises(UnknownName, match="unknown operation 'conv_3x4': did you mean 'conv_3x3'"):
        segments({"a": Place(("input",))}, ("a",), a="conv_3x4")
