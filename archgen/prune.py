"""A pruned search space as a TOML file: what `archgen.predictors.choice_pruning` drops, and why."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from archgen.predictors.choice_pruning import Evidence, kept_values


def pruned_toml(
    name: str, base: str, evidence: Sequence[Evidence], facts: Mapping[str, str | int | float], summary: str
) -> str:
    """The text of a TOML file that `archgen.spaces.load` reads as the smaller space (`archgen.spaces.restricted`).

    Args:
        name: Of the smaller space.
        base: Name or path of the whole one.
        evidence: What to keep and drop; every value and its reason is written as a comment.
        facts: What the decision rests on, for the table `[pruned]`.
        summary: One line.
    """
    lines = [f"{key} = {_toml(value)}" for key, value in {"name": name, "family": "restricted", "base": base}.items()]
    lines += [f"summary = {_toml(summary)}", "", "[values]"]
    kept = kept_values(evidence)
    for variable in dict.fromkeys(e.variable for e in evidence):
        lines.append(f"# {_printable(variable)}")
        lines += [
            f"#   {_printable(e.value)}: {e.mean:+.3f} +- {e.error:.3f} in {e.count}; {e.reason}"
            for e in evidence
            if e.variable == variable
        ]
        if variable in kept:
            lines.append(f"{_toml(variable)} = [{', '.join(map(_toml, kept[variable]))}]")
    lines += ["", "# How: mean SHAP value of each choice +- its standard error, in normal scores of the target."]
    lines += ["[pruned]", *(f"{key} = {_toml(value)}" for key, value in facts.items())]
    return "\n".join(lines) + "\n"


def base_reference(space: str, out: Path) -> str:
    """What to write as `base`: the name of a space, or the path to its file from the folder of the new one."""
    if space.endswith(".toml") or "/" in space or os.sep in space:
        return os.path.relpath(Path(space).resolve(), out.parent.resolve())
    return space


def _toml(value: str | int | float) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
