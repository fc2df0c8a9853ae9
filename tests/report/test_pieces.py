"""Pieces of the report: what is escaped, how numbers read, tables, and figures with identifiers of their own."""

from __future__ import annotations

import re

import pytest
from matplotlib.figure import Figure

from archgen.plots import cost_plot
from archgen.report.pieces import breakable, escaped, figure_section, flat, inline, millions, shown, table_of


def test_texts_are_escaped_between_tags_and_in_attributes() -> None:
    assert escaped("<b a='1'>\"&") == "&lt;b a=&#x27;1&#x27;&gt;&quot;&amp;"
    assert breakable("|a~0|+<b>") == "|<wbr>a~0|<wbr>+<wbr>&lt;b&gt;"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(99_999, "99,999"), (100_000, "0.10 M"), (2_345_678.0, "2.35 M"), (None, None), ("x", None), (float("nan"), None)],
)
def test_counts_read_in_millions_where_they_are_large(value: object, expected: str | None) -> None:
    assert millions(value) == expected


def test_values_have_units_and_what_is_no_number_is_nothing() -> None:
    assert shown(1.25, "latency_ms") == "1.25 ms"
    assert shown(float("inf"), "latency_ms") is None
    assert shown("fast", "latency_ms") is None


def test_nested_objects_become_pairs_of_names_and_texts() -> None:
    value = {"a": {"b": 1, "c": [2, 3]}, "d": None, "e": "x" * 500}
    assert list(flat(value))[:2] == [("a.b", "1"), ("a.c", "2, 3")]
    ((name, text),) = list(flat(value))[2:]
    assert (name, len(text)) == ("e", 402)


def test_tables_mark_rows_align_numbers_and_have_lines_below() -> None:
    html = table_of(["name", "n<"], [["a", "1"], ["b", "2"]], numbers=[1], marked=[1], below=["", "<code>x</code>"])
    assert '<th class="number">n&lt;</th>' in html
    assert '<tr><td>a</td><td class="number">1</td></tr>' in html
    assert '<tr class="winner headed"><td>b</td>' in html
    assert '<tr><td></td><td colspan="1"><code>x</code></td></tr>' in html
    assert "<th>a</th>" in table_of([], [["a", "1"]], kind="pairs"), "the first cell names the row"


@pytest.fixture
def figure() -> Figure:
    return cost_plot({"supernet": 3.0, "search": 1.0})


def test_two_figures_of_a_page_share_no_identifier(figure: Figure) -> None:
    one, two = (inline(figure, name, "a & b") for name in ("one", "two"))
    names = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert names[0]
    assert not names[0] & names[1]
    for svg, known in zip((one, two), names, strict=True):
        used = re.findall(r'href="#([^"]+)"', svg) + re.findall(r"url\(#([^)]+)\)", svg)
        assert set(used) <= known
        assert svg.startswith("<svg viewBox=")
        assert 'aria-label="a &amp; b"' in svg
        assert "<style" not in svg


def test_a_section_has_its_note_only_where_there_is_one(figure: Figure) -> None:
    with_note = figure_section("Title", figure, "f", "label", "a < b", "<p>after</p>")
    assert "<h2>Title</h2>" in with_note
    assert '<figcaption class="note">a &lt; b</figcaption>' in with_note
    assert with_note.endswith("</figure><p>after</p></section>")
    assert "figcaption" not in figure_section("Title", figure, "f", "label", "")
