"""Numbers inside labels, and slots that describe a layer together."""

import pytest

from archgen.errors import InvalidSpace
from archgen.networks.labels import layers, read_label


@pytest.mark.parametrize(
    ("label", "form", "read"),
    [
        ("heads4", "heads<n>", ["4"]),
        ("heads12x64", "heads<n>x<n>", ["12", "64"]),
        ("mlp3.5", "mlp<r>", ["3.5"]),
        ("mlp4", "mlp<r>", ["4"]),
        ("a.b-7", "a.b-<n>", ["7"]),
    ],
)
def test_places_of_a_label(label: str, form: str, read: list[str]) -> None:
    assert read_label(label, form) == read


@pytest.mark.parametrize("label", ["heads", "heads0", "heads04", "heads-4", "heads4.5", "Heads4", "heads4 ", "heads٤"])
def test_another_label_is_refused(label: str) -> None:
    with pytest.raises(InvalidSpace, match="is no label that this skeleton can read, expected 'heads<n>'"):
        read_label(label, "heads<n>")


def test_a_dot_in_the_form_is_a_dot() -> None:
    with pytest.raises(InvalidSpace, match=r"expected 'a\.b-<n>'"):
        read_label("axb-7", "a.b-<n>")


def test_layers_that_are_left_out_are_not_given() -> None:
    slots = {"width": "w1", "a1.x": "1", "a1.y": "2", "a2.x": "skip", "a2.y": "skip", "b.w": "w2", "b1": "3", "b2": "4"}
    found = list(layers(slots, each=2, alone="w"))
    assert found == [("width", ["w1"]), ("a1", ["1", "2"]), ("b", ["w2"]), ("b1", ["3", "4"])]


def test_a_layer_that_is_half_there_is_refused() -> None:
    with pytest.raises(InvalidSpace, match=r"layer of 'a2\.x' say 'skip' or none does"):
        list(layers({"a1.x": "1", "a1.y": "2", "a2.x": "skip", "a2.y": "2"}, each=2))
    with pytest.raises(InvalidSpace, match=r"layer of 'a2\.x' is described by 2 slots, got 1"):
        list(layers({"a1.x": "1", "a1.y": "2", "a2.x": "1"}, each=2))
