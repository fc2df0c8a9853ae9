"""Values out of parsed TOML files: what is taken, and errors that name the table and key."""

from typing import Any

import pytest

from archgen.errors import InvalidSpace
from archgen.spaces.toml_tables import known_keys, take, take_size, take_tables, take_texts


@pytest.mark.parametrize(("value", "kind"), [("a", str), (3, int), ([1], list), ({"a": 1}, dict)])
def test_a_value_of_its_type_is_taken_as_it_is(value: object, kind: type) -> None:
    assert take({"key": value}, "key", kind, "here") is value
    assert take({"key": value}, "key", kind, "here", None) is value


@pytest.mark.parametrize("default", [None, "default", 0])
def test_a_default_stands_in_for_a_key_that_is_missing(default: object) -> None:
    assert take({"other": "a"}, "key", str, "here", default) is default


@pytest.mark.parametrize(("kind", "word"), [(str, "text"), (int, "an integer"), (list, "a list"), (dict, "a table")])
def test_a_key_that_is_missing_is_named_with_its_place_and_type(kind: type, word: str) -> None:
    with pytest.raises(InvalidSpace, match=f"^here: 'key' is missing, expected {word}$"):
        take({}, "key", kind, "here")


@pytest.mark.parametrize(
    ("value", "kind", "word"),
    [
        (3, str, "text"),
        ("3", int, "an integer"),
        (3.0, int, "an integer"),
        (True, int, "an integer"),
        ("a", list, "a list"),
    ],
)
def test_a_value_of_another_type_is_refused(value: object, kind: type, word: str) -> None:
    with pytest.raises(InvalidSpace) as caught:
        take({"key": value}, "key", kind, "[table]")
    assert str(caught.value) == f"[table]: key = {value!r} is of the wrong type, expected {word}"
    with pytest.raises(InvalidSpace, match="wrong type"):  # with a default too
        take({"key": value}, "key", kind, "[table]", None)


# -- arrays of tables -------------------------------------------------------------------------------------------


def test_tables_come_in_order_with_the_place_to_name_in_errors() -> None:
    entries = [{"name": "b", "x": 1}, {"name": "a"}]
    assert take_tables({"nodes": entries}, "nodes") == [
        ("[[nodes]] 'b'", {"name": "b", "x": 1}),
        ("[[nodes]] 'a'", {"name": "a"}),
    ]
    assert take_tables({}, "nodes") == []


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"name": "a"}, r"^\[\[nodes\]\]: expected an array of tables, got {'name': 'a'}$"),
        ([{"name": "a"}, 3], r"^\[\[nodes\]\]: expected an array of tables"),
        ([{"name": "a"}, {"nam": "b"}], r"^\[\[nodes\]\] number 2: 'name' is missing, expected text$"),
        ([{"name": 3}], r"^\[\[nodes\]\] number 1: name = 3 is of the wrong type"),
        ([{"name": "a"}, {"name": "b"}, {"name": "a"}], r"^\[\[nodes\]\] 'a': the name is given 2 times$"),
    ],
)
def test_tables_without_a_name_of_their_own_are_refused(entries: Any, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        take_tables({"nodes": entries}, "nodes")


# -- texts, sizes, keys -----------------------------------------------------------------------------------------


def test_texts_keep_their_order() -> None:
    assert take_texts({"labels": ["b", "a", ""]}, "labels", "here") == ("b", "a", "")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "^here: labels is empty, so the space is empty"),
        (["a", 3], r"^here: labels = \['a', 3\] is of the wrong type, expected a list of texts$"),
        ("ab", "^here: labels = 'ab' is of the wrong type, expected a list$"),
        (["a", "b", "a"], "^here: labels names one twice: a, b, a$"),
    ],
)
def test_texts_that_are_no_list_of_different_ones_are_refused(values: Any, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        take_texts({"labels": values}, "labels", "here")


def test_sizes_begin_at_one() -> None:
    assert take_size({"stride": 1}, "stride", "here", 2) == 1
    assert take_size({}, "stride", "here", 2) == 2
    assert take_size({}, "channels", "here", None) is None
    for size in (0, -1):
        with pytest.raises(InvalidSpace, match=f"^here: stride = {size} must be at least 1$"):
            take_size({"stride": size}, "stride", "here", 2)
    with pytest.raises(InvalidSpace, match="wrong type, expected an integer"):
        take_size({"stride": True}, "stride", "here", 2)


def test_keys_that_mean_nothing_get_a_suggestion() -> None:
    known_keys({}, ["stride"], "here")
    known_keys({"stride": 1}, ["stride", "channels"], "here")
    with pytest.raises(InvalidSpace, match=r"^here: unknown key 'strides': did you mean 'stride'"):
        known_keys({"channels": 1, "strides": 1}, ["stride", "channels"], "here")
