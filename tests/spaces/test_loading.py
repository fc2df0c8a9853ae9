"""Finding search spaces by name and reading their TOML files."""

from pathlib import Path

import pytest

from archgen import config, spaces
from archgen.errors import InvalidSpace, UnknownName

NASBENCH201 = (config.spaces_dir() / "nasbench201.toml").read_text(encoding="utf-8")


def write(folder: Path, *changes: tuple[str, str]) -> Path:
    """The TOML of NAS-Bench-201 with each first text replaced by the second."""
    text = NASBENCH201
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_load_reads_every_available_space() -> None:
    assert "nasbench201" in spaces.available()
    for name in spaces.available():
        assert spaces.load(name).name == name


def test_an_unknown_space_gets_a_suggestion() -> None:
    with pytest.raises(UnknownName, match="unknown search space 'nasbench210': did you mean 'nasbench201'"):
        spaces.load("nasbench210")


def test_a_space_of_ones_own_is_read_from_any_path(tmp_path: Path) -> None:
    space = spaces.read(write(tmp_path, ("nodes = 4", "nodes = 3"), ('name = "nasbench201"', 'name = "mine"')))
    assert (space.name, space.size, space.depth) == ("mine", 125, 2)
    assert space.parse("|none~0|+|skip_connect~0|nor_conv_3x3~1|").space == "mine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param([('family = "cell"', 'family = "sell"')], "family = 'sell' is unknown", id="unknown family"),
        pytest.param([('family = "cell"', "")], "family = None is unknown", id="no family"),
        pytest.param([('family = "cell"', "family = 3")], "family = 3 is unknown", id="family of another type"),
        pytest.param([('name = "nasbench201"', "")], "expected name", id="no name"),
        pytest.param([("[cell]", "[sell]")], r"'cell'.* is missing", id="no cell"),
        pytest.param([("[network]", "[notwork]")], r"'network'.* is missing", id="no network"),
        pytest.param([("[[operations]]", "[[operators]]")], r"'operations'.* is missing", id="no operations"),
        pytest.param([("nodes = 4", 'nodes = "many"')], "wrong type", id="nodes of another type"),
        pytest.param([("nodes = 4", "nodes = 1")], "nodes = 1: a cell needs at least 2 nodes", id="one node"),
        pytest.param([('"avg_pool_3x3"', '"avg_pool_3x4"')], "did you mean 'avg_pool_3x3'", id="unknown operation"),
        pytest.param([('"avg_pool_3x3"', '"none"')], "named twice", id="operation twice"),
        pytest.param(
            [('role = "linear"', 'role = "lineal"')], r"avg_pool_3x3: role 'lineal' is not", id="unknown role"
        ),
        pytest.param([('role = "identity"', 'role = "zero"')], "one operation with role 'zero', got 2", id="two zeros"),
        pytest.param([('role = "zero"', 'role = "linear"')], "one operation with role 'zero', got 0", id="no zero"),
        pytest.param([('role = "zero"', "")], r"'role'.* is missing", id="no role"),
        pytest.param([("cells = 5", 'cells = "five"')], "wrong type", id="network of another type"),
        pytest.param(
            [("[network]", '[order]\nsmallest = "none"\n[network]')], "'largest'.* is missing", id="half an order"
        ),
        pytest.param(
            [("[network]", '[order]\nsmallest = "none"\nlargest = "nor_conv_3x4"\n[network]')],
            "unknown operation in .order. 'nor_conv_3x4': did you mean 'nor_conv_3x3'",
            id="order of an unknown operation",
        ),
        pytest.param([("cells = 5", "cells = ")], "can not be read as TOML", id="broken TOML"),
    ],
)
def test_a_file_that_describes_no_space_is_refused_in_one_line_with_its_path(
    tmp_path: Path, changes: list[tuple[str, str]], message: str
) -> None:
    path = write(tmp_path, *changes)
    with pytest.raises(InvalidSpace, match=message) as caught:
        spaces.read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_absent_or_binary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpace, match="can not be read as TOML"):
        spaces.read(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidSpace, match="can not be read as TOML"):
        spaces.read(tmp_path / "binary.toml")
