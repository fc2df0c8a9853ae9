"""The text of a genotype: `Genotype(normal=[...], normal_concat=[...], reduce=[...], reduce_concat=[...])`."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from archgen.errors import InvalidArchitecture

Inputs = list[tuple[str, int]]
FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
EXAMPLE = "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ...], normal_concat=[2, ...], reduce=[...], ...)"
LONGEST = 10_000


def parse_genotype(text: str) -> tuple[Inputs, Inputs]:
    """Operations and sources of the normal and of the reduction cell; nothing in the text is evaluated.

    `normal_concat` and `reduce_concat` may be lists, tuples or ranges, and must name every node.

    Raises:
        InvalidArchitecture: Not a genotype, a source that does not come before its node, or a partial concatenation.
    """
    try:
        if len(text) > LONGEST:
            raise ValueError(f"longer than {LONGEST} characters")
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != "Genotype":
            raise ValueError("it does not begin with Genotype(")
        names = [*FIELDS[: len(call.args)], *(keyword.arg for keyword in call.keywords)]
        if sorted(map(str, names)) != sorted(FIELDS):
            raise ValueError(f"its fields are {names}")
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        fields = {str(name): _literal(value) for name, value in zip(names, values, strict=True)}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise InvalidArchitecture(f"expected '{EXAMPLE}', got {text[:120]!r}: {_line(error)}") from None
    normal, reduce = (_inputs(name, fields[name], fields[f"{name}_concat"]) for name in ("normal", "reduce"))
    return normal, reduce


def _line(error: BaseException) -> str:
    return str(error).split("\n")[0] or type(error).__name__


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        bounds = [ast.literal_eval(bound) for bound in node.args]
        if not 1 <= len(bounds) <= 3 or any(type(bound) is not int or abs(bound) > 100 for bound in bounds):
            raise ValueError("a range must be of small integers")
        return list(range(*bounds))
    return ast.literal_eval(node)


def _inputs(cell: str, inputs: Any, concat: Any) -> Inputs:
    found = []
    if not isinstance(inputs, list | tuple) or len(inputs) % 2 or not inputs:
        raise InvalidArchitecture(
            f"{cell}: expected a list of ('operation', source), two a node; got {str(inputs)[:80]}"
        )
    for i, pair in enumerate(inputs):
        match pair:
            case (str(operation), int(source)) if type(source) is int and 0 <= source < 2 + i // 2:
                found.append((operation, source))
            case _:
                raise InvalidArchitecture(
                    f"{cell}: input {i % 2} of node {2 + i // 2} must be ('operation', source) with a source from 0 to "
                    f"{1 + i // 2}, got {str(pair)[:80]}"
                )
    every = list(range(2, 2 + len(inputs) // 2))
    if not isinstance(concat, list | tuple) or sorted(concat, key=str) != sorted(every, key=str):
        raise InvalidArchitecture(f"{cell}_concat must name every node, {every}; got {str(concat)[:80]}")
    return found


def format_genotype(normal: Sequence[tuple[str, int]], reduce: Sequence[tuple[str, int]]) -> str:
    """The text of a genotype as Python prints it."""
    every = [list(range(2, 2 + len(cell) // 2)) for cell in (normal, reduce)]
    return f"Genotype(normal={list(normal)}, normal_concat={every[0]}, reduce={list(reduce)}, reduce_concat={every[1]})"
