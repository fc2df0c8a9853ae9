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


def test_modules_beside_a_file_are_copied_with_it_and_none_of_them_runs(tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "sub").mkdir(parents=True)
    text = (FIXTURES / "my_cells.toml").read_text()
    code = "from pathlib import Path\nraise AssertionError('it ran')\n"
    (there / "whole.toml").write_text(text.replace("my_blocks:scale", "sub.mine:scale").replace("my_cells", "whole"))
    (there / "sub" / "mine.py").write_text(code)
    (there / "half.toml").write_text(part("half", "whole.toml"))
    (there / "unused.py").write_text(code)
    assert copy_space(there / "half.toml", tmp_path / "run") == tmp_path / "run" / "half.toml"
    found = sorted(path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*.*"))
    assert found == ["base/sub/mine.py", "base/whole.toml", "half.toml"]
    assert (tmp_path / "run" / "base" / "sub" / "mine.py").read_text() == code


def test_a_copy_is_read_beside_the_original_and_an_installed_module_stays_where_it_is(tmp_path: Path) -> None:
    copy = copy_space(FIXTURES / "my_cells.toml", tmp_path / "run")
    assert copy is not None
    first, second = (spaces.load(path, trust_code=True) for path in (FIXTURES / "my_cells.toml", copy))
    arch = first.sample(1, np.random.default_rng(0))[0]
    assert second.build(arch, channels=4).state_dict().keys() == first.build(arch, channels=4).state_dict().keys()
    installed = (FIXTURES / "my_cells.toml").read_text().replace("my_blocks:scale", "torch.nn:Identity")
    (tmp_path / "mine.toml").write_text(installed)
    assert copy_space(tmp_path / "mine.toml", tmp_path / "other") is not None
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    "code",
    [
        "import beside\n",
        "from beside.part import block as scale\n",
        "from . import beside\n",
        "from pathlib import Path\nweights = Path(__file__).with_name('weights.pt')\n",
        "def scale(\n",
    ],
)
def test_a_module_that_needs_what_lies_beside_it_is_not_copied_nor_is_a_part_of_its_space(
    tmp_path: Path, code: str
) -> None:
    (tmp_path / "beside").mkdir()
    (tmp_path / "my_blocks.py").write_text(code)
    (tmp_path / "whole.toml").write_text((FIXTURES / "my_cells.toml").read_text())
    (tmp_path / "half.toml").write_text(part("half", "whole.toml"))
    for name in ("whole.toml", "half.toml"):
        assert copy_space(tmp_path / name, tmp_path / "run") is None
    assert not (tmp_path / "run").exists()


def test_what_can_not_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("name = ")
    for name in ("broken.toml", "none.toml"):
        with pytest.raises(InvalidSpace, match="can not be read as TOML"):
            copy_space(tmp_path / name, tmp_path / "run")
