"""Pieces of the report: escaped text, tables, figures as elements of the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from matplotlib.figure import Figure

from archgen import plots
from archgen.report.facts import number

PX_PER_POINT = 1.55  # figures are drawn with letters of 10 points and shown in the size of the text around them


def escaped(value: object) -> str:
    """A value's text, safe between tags and in attributes."""
    return escape(str(value), quote=True)


def breakable(value: object) -> str:
    """An architecture's string, which may be broken after each of its groups."""
    return escaped(value).replace("+", "+<wbr>").replace("|", "|<wbr>")


def shown(value: object, metric: str) -> str | None:
    """A metric's value with its unit; None where it is no finite number."""
    known = number(value)
    return None if known is None else plots.with_unit(known, metric)


def millions(value: object) -> str | None:
    """A count, in millions from 100,000 on; None where it is no finite number."""
    known = number(value)
    return None if known is None else f"{known / 1e6:,.2f} M" if known >= 1e5 else f"{known:,.0f}"


def flat(value: object, prefix: str = "") -> Iterable[tuple[str, str]]:
    """Names and values of nested JSON objects, cut to a readable length."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from flat(inner, f"{prefix}{name}." if isinstance(inner, Mapping) else f"{prefix}{name}")
    elif value is not None:
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        words = ", ".join(map(str, value)) if listed else str(value)  # type: ignore[call-overload]
        yield prefix or "name", words if len(words) <= 400 else f"{words[:400]} …"


def table_of(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Iterable[int] = (),
    marked: Iterable[int] = (),
    below: Sequence[str] = (),
    kind: str = "plain",
) -> str:
    """A table of cells that are HTML already.

    Args:
        head: Names of the columns; without them the first cell of each row is its name.
        rows: Cells of each row.
        numbers: Columns to align right.
        marked: Rows to set in bold.
        below: A line under each row, over its whole width; empty for none.
        kind: Class of the table.
    """
    right, bold = set(numbers), set(marked)

    def cell(tag: str, k: int, words: str) -> str:
        return f'<{tag} class="number">{words}</{tag}>' if k in right else f"<{tag}>{words}</{tag}>"

    lines = []
    if head:
        lines.append(
            "<thead><tr>" + "".join(cell("th", k, escaped(name)) for k, name in enumerate(head)) + "</tr></thead>"
        )
    for n, row in enumerate(rows):
        kinds = ["winner"] * (n in bold) + ["headed"] * any(below[n : n + 1])
        cells = "".join(cell("td" if head or k else "th", k, words) for k, words in enumerate(row))
        lines.append(f'<tr class="{" ".join(kinds)}">{cells}</tr>' if kinds else f"<tr>{cells}</tr>")
        if any(below[n : n + 1]):
            lines.append(f'<tr><td></td><td colspan="{len(row) - 1}">{below[n]}</td></tr>')
    return f'<div class="scroll"><table class="{kind}">{"".join(lines)}</table></div>'


def figure_section(title: str, fig: Figure, name: str, label: str, note: str, after: str = "") -> str:
    """A section with a figure.

    Args:
        title: Its heading, plain text.
        fig: The figure.
        name: Before each identifier in the figure, so that those of two figures differ.
        label: The figure in words, for screen readers.
        note: Below the figure, plain text.
        after: What follows, HTML already.
    """
    caption = f'<figcaption class="note">{escaped(note)}</figcaption>' if note else ""
    return f"<section><h2>{escaped(title)}</h2><figure>{inline(fig, name, label)}{caption}</figure>{after}</section>"


def inline(fig: Figure, name: str, label: str) -> str:
    """The figure as an SVG element of the page: fluid, named for screen readers, with identifiers of its own."""
    svg = plots.to_svg(fig)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', svg).replace("url(#", f"url(#{name}-")
    width, height = (72 * float(inches) for inches in fig.get_size_inches())
    tag = (
        f'<svg viewBox="0 0 {width:.6g} {height:.6g}" role="img" aria-label="{escaped(label)}" '
        f'style="max-width:{width * PX_PER_POINT:.0f}px">'
    )
    return tag + svg[svg.index(">") + 1 :].strip()
