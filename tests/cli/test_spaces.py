"""`archgen spaces` lists the search spaces and describes one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from archgen.spaces import SearchSpace, available, load

Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]


def test_spaces_are_listed_with_size_and_summary(space: SearchSpace, succeeds: Run) -> None:
    text = succeeds("spaces").stdout
    assert "nasbench201" in text
    assert "15,625" in text
    rows = json.loads(succeeds("spaces", "--json").stdout)
    assert [row["name"] for row in rows] == available()
    assert len(text.splitlines()) == len(rows)
    (row,) = [row for row in rows if row["name"] == "nasbench201"]
    assert row == {"name": "nasbench201", "family": "cell", "size": space.size, "summary": space.summary}


def test_a_space_is_described_with_an_example_that_can_be_read(space: SearchSpace, succeeds: Run) -> None:
    facts = json.loads(succeeds("spaces", "nasbench201", "--json").stdout)
    space.validate(space.parse(facts["example"]))
    assert facts["variables"] == {name: list(values) for name, values in space.variables.items()}
    text = succeeds("spaces", "nasbench201").stdout
    assert facts["example"] in text
    assert "arXiv 2001.00326" in text
    assert "channels=16" in text


def test_the_example_is_an_architecture_where_the_last_values_together_are_none(succeeds: Run) -> None:
    """Identities alone are no architecture of NAS-Bench-Graph."""
    space = load("nasbench_graph")
    space.validate(space.parse(json.loads(succeeds("spaces", "nasbench_graph", "--json").stdout)["example"]))


def test_a_space_of_ones_own_is_described_from_its_file(own_space: Path, succeeds: Run) -> None:
    facts = json.loads(succeeds("spaces", own_space, "--json").stdout)
    assert (facts["name"], facts["size"]) == ("my_cells", 27)
    assert facts["variables"]["0->1"] == ["none", "skip_connect", "my_scale"]
    assert "my_scale" in succeeds("spaces", own_space).stdout
    assert "arXiv" not in facts["paper"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("my_blocks:scale", "my_blocks:scales"), "mine.toml: .*'scales': did you mean 'scale'"),
        (('family = "cell"', 'family = "cel"'), "mine.toml: family = 'cel' is unknown"),
        (("my_cells", "nasbench201"), "mine.toml: name = 'nasbench201' belongs to a space that comes with"),
        (("[cell]", "[cell"), "mine.toml can not be read as TOML"),
        (("nodes = 3", "nodes = 0"), "mine.toml: .*node"),
    ],
)
def test_a_file_that_describes_no_space_is_refused_naming_it(
    own_space: Path, change: tuple[str, str], message: str, refused: Refused
) -> None:
    shutil.copy(own_space.with_name("my_blocks.py"), ".")
    own = "scale_" + "".join(filter(str.isalpha, change[1]))  # operations of two files may not share a name
    text = own_space.read_text().replace("my_scale", own)
    assert change[0] in text
    Path("mine.toml").write_text(text.replace(*change))
    assert re.search(message, refused("spaces", "mine.toml"))


def test_a_file_that_is_not_there_is_refused(refused: Refused) -> None:
    assert "nothing.toml" in refused("spaces", "nothing.toml")
    assert "unknown search space 'nasbench202': did you mean 'nasbench201'" in refused("spaces", "nasbench202")
