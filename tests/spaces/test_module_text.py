"""The text of a module: what is read, and what is wrong with other texts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archgen.errors import InvalidArchitecture
from archgen.graph import Architecture
from archgen.spaces.module_text import format_spec, parse_spec


def test_the_text_is_one_line_without_blanks() -> None:
    arch = Architecture("any", ("input", "conv3x3-bn-relu", "output"), ((0, 1), (0, 2), (1, 2)))
    text = '{"matrix":[[0,1,1],[0,0,1],[0,0,0]],"operations":["input","conv3x3-bn-relu","output"]}'
    assert format_spec(arch) == text
    assert parse_spec(text) == (["conv3x3-bn-relu"], [(0, 1), (0, 2), (1, 2)])


def test_what_no_path_uses_is_read_too() -> None:
    text = '{"operations": ["input", "a", "b", "output"], "matrix": [[0,1,0,0],[0,0,0,0],[0,0,0,1],[0,0,0,0]]}'
    assert parse_spec(text) == (["a", "b"], [(0, 1), (2, 3)])


@given(operations=st.lists(st.text(max_size=6), max_size=6), data=st.data())
def test_parse_inverts_format(operations: list[str], data: st.DataObject) -> None:
    n = len(operations) + 2
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    edges = sorted(data.draw(st.sets(st.sampled_from(pairs))))
    text = format_spec(Architecture("any", ("input", *operations, "output"), tuple(edges)))
    assert parse_spec(text) == (operations, edges)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "expected a module such as", id="empty"),
        pytest.param("[]", "expected a module such as", id="a list"),
        pytest.param('{"matrix":[[0,1],[0,0]]}', "KeyError.*operations", id="no operations"),
        pytest.param('{"matrix":7,"operations":["input","output"]}', "must be lists", id="no matrix"),
        pytest.param('{"matrix":[[0,1]],"operations":["input","output"]}', "must be square", id="not square"),
        pytest.param('{"matrix":[[0],[0]],"operations":["input","output"]}', "must be square", id="short rows"),
        pytest.param('{"matrix":[7,7],"operations":["input","output"]}', "TypeError", id="rows of another type"),
        pytest.param('{"matrix":[[0]],"operations":["input"]}', "2 to 64 operations", id="one vertex"),
        pytest.param('{"matrix":[[0,2],[0,0]],"operations":["input","output"]}', "must be 0 or 1", id="entries"),
        pytest.param('{"matrix":[[0,1],[0,0]],"operations":["input",7]}', "must be a string", id="a number"),
        pytest.param('{"matrix":[[0,1],[0,0]],"operations":["input","x"]}', "must be input and output", id="ends"),
        pytest.param('{"matrix":[[0,1],[1,0]],"operations":["input","output"]}', "runs backwards", id="a cycle"),
        pytest.param('{"matrix":[[1,1],[0,0]],"operations":["input","output"]}', "runs backwards", id="a loop"),
        pytest.param("[" * 100_000, "expected a module such as", id="deep"),
    ],
)
def test_parse_says_what_is_wrong_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message) as caught:
        parse_spec(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_module_has_64_vertices_at_most() -> None:
    def text(n: int) -> str:
        return json.dumps({"matrix": [[0] * n for _ in range(n)], "operations": ["input", *["x"] * (n - 2), "output"]})

    assert parse_spec(text(64)) == (["x"] * 62, [])
    with pytest.raises(InvalidArchitecture, match="2 to 64 operations"):
        parse_spec(text(65))
