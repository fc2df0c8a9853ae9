"""Copies of spaces' files are read as the originals were, wherever those are now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archgen import spaces
from archgen.errors import InvalidSpace
from archgen.spaces.copying import copy_space

FIXTURES = Path(__file__).parent / "fixtures"
CELL = Path(spaces.__file__).parents[2] / "spaces" / "nasbench201.toml"


def part(name: str, base: str, more: str = "") -> str:
    return (
        f"name = '{name}'\nfamily = 'restricted'\n{more}base = '{base}'\n[values]\n'0->1' = ['none', 'nor_conv_3x3']\n"
    )


def test_a_part_of_a_part_is_read_when_all_originals_are_gone(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "whole.toml").write_text(CELL.read_text().replace('name = "nasbench201"', 'name = "mine"'))
    (there / "half.toml").write_text(part("half", "whole.toml"))
    text = part("quarter", "half.toml", "summary = 'as base = here'\n").replace("'0->1'", "'0->2'")
    (there / "quarter.toml").write_text(text)
    before = spaces.read(there / "quarter.toml")
    texts = [before.format(arch) for arch in before.sample(5, np.random.default_rng(0))]
    copy = copy_space(there / "quarter.toml", tmp_path / "run")
    assert copy == tmp_path / "run" / "quarter.toml"
    for path in there.iterdir():
        path.unlink()
    after = spaces.read(copy)
    assert (after.name, after.size) == ("quarter", before.size)
    assert [after.format(after.parse(text)) for text in texts] == texts
    assert "as base = here" in copy.read_text()


def test_a_base_that_is_known_by_its_name_stays(tmp_path: Path) -> None:
    (tmp_path / "half.toml").write_text(part("half", "nasbench201"))
    copy = copy_space(tmp_path / "half.toml", tmp_path / "run")
    assert copy is not None
    assert copy.read_text() == (tmp_path / "half.toml").read_text()


def test_files_that_import_operations_and_parts_of_them_are_not_copied(tmp_path: Path) -> None:
    (tmp_path / "half.toml").write_text(part("half", str(FIXTURES / "my_net.toml")))
    for path in (FIXTURES / "my_net.toml", tmp_path / "half.toml"):
        assert copy_space(path, tmp_path / "run") is None
    assert not (tmp_path / "run").exists()


def test_what_can_not_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("name = ")
    for name in ("broken.toml", "none.toml"):
        with pytest.raises(InvalidSpace, match="can not be read as TOML"):
            copy_space(tmp_path / name, tmp_path / "run")
