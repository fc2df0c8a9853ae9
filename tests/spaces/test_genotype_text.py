"""The text of a genotype: what is read, and what is wrong with other texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archgen.errors import InvalidArchitecture
from archgen.spaces.genotype_text import format_genotype, parse_genotype

CONCAT = "[2, 3]"
NORMAL = [("sep_conv_3x3", 0), ("skip_connect", 1), ("dil_conv_3x3", 2), ("sep_conv_3x3", 0)]
REDUCE = [("max_pool_3x3", 0), ("max_pool_3x3", 1), ("none", 1), ("skip_connect", 2)]
TEXT = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_3x3', 2), ('sep_conv_3x3', 0)], "
    "normal_concat=[2, 3], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('none', 1), ('skip_connect', 2)], "
    "reduce_concat=[2, 3])"
)


def test_the_text_is_what_python_prints() -> None:
    assert format_genotype(NORMAL, REDUCE) == TEXT
    assert format_genotype(tuple(NORMAL), tuple(REDUCE)) == TEXT
    assert parse_genotype(TEXT) == (NORMAL, REDUCE)


@st.composite
def cells(draw: st.DrawFn) -> list[tuple[str, int]]:
    """One to five nodes that read any input of the cell or earlier node; operations may be any text."""
    nodes = draw(st.integers(1, 5))
    return [(draw(st.text(max_size=8)), draw(st.integers(0, 1 + i // 2))) for i in range(2 * nodes)]


@given(cells(), cells())
def test_parse_inverts_format(normal: list[tuple[str, int]], reduce: list[tuple[str, int]]) -> None:
    assert parse_genotype(format_genotype(normal, reduce)) == (normal, reduce)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(CONCAT, "range(2, 4)", id="ranges, as other code prints them"),
        pytest.param(CONCAT, "(3, 2)", id="tuples"),
        pytest.param("normal=", "  normal = ", id="blanks"),
        pytest.param(TEXT, f"  {TEXT}\n", id="blanks around it"),
        pytest.param("normal=", "", id="the first field by its place"),
    ],
)
def test_other_ways_to_write_it_are_read(old: str, new: str) -> None:
    assert old in TEXT
    assert parse_genotype(TEXT.replace(old, new, 1 if old == "normal=" else -1)) == (NORMAL, REDUCE)


def test_fields_by_their_place_come_in_the_published_order() -> None:
    assert parse_genotype(f"Genotype({NORMAL}, range(2, 4), {REDUCE}, [2, 3])") == (NORMAL, REDUCE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "expected 'Genotype[(]normal=", id="empty"),
        pytest.param("__import__('os').system('true')", "does not begin with Genotype", id="another call"),
        pytest.param("Genotype(", "was never closed", id="open"),
        pytest.param("Genotype()", "its fields are", id="no fields"),
        pytest.param(TEXT.replace("reduce_concat", "concat"), "its fields are", id="another field"),
        pytest.param(TEXT.replace(CONCAT, "range(2, 10**9)"), "malformed", id="a power"),
        pytest.param(TEXT.replace(CONCAT, "range(2, 999999999)"), "small integers", id="a long range"),
        pytest.param(TEXT.replace(CONCAT, "range()"), "small integers", id="a range of nothing"),
        pytest.param(TEXT.replace(CONCAT, "list((2, 3))"), "malformed", id="a call"),
        pytest.param(TEXT.replace(CONCAT, "[3]"), "normal_concat must name every node", id="concat"),
        pytest.param(TEXT.replace(CONCAT, "[2, 3, 3]"), "normal_concat must name every node", id="node twice"),
        pytest.param(TEXT.replace(CONCAT, "7"), "normal_concat must name every node", id="no list"),
        pytest.param(TEXT.replace("0)", "2)", 1), "input 0 of node 2 must be .* from 0 to 1", id="late source"),
        pytest.param(TEXT.replace("2)]", "3)]", 1), "reduce: input 1 of node 3 must .* from 0 to 2", id="itself"),
        pytest.param(TEXT.replace("0)", "-1)", 1), "input 0 of node 2 must be", id="negative source"),
        pytest.param(TEXT.replace("0)", "True)", 1), "input 0 of node 2 must be", id="a truth value"),
        pytest.param(TEXT.replace("('sep_conv_3x3', 0), ", "", 1), "expected a list", id="an input too few"),
        pytest.param("Genotype(" + "[" * 5_000, "expected 'Genotype", id="deep"),
        pytest.param("Genotype(" + " " * 20_000 + ")", "longer than 10000", id="long"),
    ],
)
def test_parse_says_what_is_wrong_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message) as caught:
        parse_genotype(text)
    assert "\n" not in str(caught.value)
