"""The text of a module: a `ModelSpec` of NAS-Bench-101 (arXiv 1902.09635) as JSON in one line."""

from __future__ import annotations

import json

from archgen.errors import InvalidArchitecture
from archgen.graph import Architecture

EXAMPLE = '{"matrix":[[0,1,0],[0,0,1],[0,0,0]],"operations":["input","conv3x3-bn-relu","output"]}'
MOST_VERTICES = 64


def parse_spec(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Operations of the interior vertices, and edges, of a module that need not be pruned.

    Raises:
        InvalidArchitecture: Not such an object, or a matrix that is not strictly upper triangular.
    """
    try:
        spec = json.loads(text)
        matrix, operations = spec["matrix"], spec["operations"]
        if not isinstance(matrix, list) or not isinstance(operations, list):
            raise TypeError("matrix and operations must be lists")
        n = len(operations)
        if not 2 <= n <= MOST_VERTICES or len(matrix) != n or any(len(row) != n for row in matrix):
            raise ValueError(f"the matrix must be square, with a row for each of 2 to {MOST_VERTICES} operations")
        if not all(isinstance(operation, str) for operation in operations):
            raise TypeError("every operation must be a string")
        if any(entry not in (0, 1) for row in matrix for entry in row):
            raise ValueError("the entries of the matrix must be 0 or 1")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InvalidArchitecture(f"expected a module such as '{EXAMPLE}', got {text[:120]!r}: {error!r}") from None
    if (operations[0], operations[-1]) != ("input", "output"):
        ends = f"'{operations[0][:40]}' and '{operations[-1][:40]}'"
        raise InvalidArchitecture(f"the first and last operation must be input and output, got {ends}")
    edges = [(i, j) for i, row in enumerate(matrix) for j, entry in enumerate(row) if entry]
    for i, j in edges:
        if i >= j:
            raise InvalidArchitecture(f"edge ({i}, {j}) runs backwards: the matrix must be strictly upper triangular")
    return operations[1:-1], edges


def format_spec(arch: Architecture) -> str:
    """The text of a module."""
    matrix = [[0] * len(arch.ops) for _ in arch.ops]
    for i, j in arch.edges:
        matrix[i][j] = 1
    return json.dumps({"matrix": matrix, "operations": list(arch.ops)}, separators=(",", ":"))
