"""Operations of one's own: found beside the TOML file or installed, tried before they are used."""

import runpy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from archgen import spaces
from archgen.errors import InvalidSpace
from archgen.networks.operations import OPERATIONS
from archgen.spaces import CellSpace, ChainSpace
from archgen.spaces.custom import load_operation
from archgen.testing import check_space

FIXTURES = Path(__file__).parent / "fixtures"
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def test_the_worked_example_searches_builds_and_counts_its_own_block() -> None:
    space = spaces.load(FIXTURES / "my_net.toml")
    assert isinstance(space, ChainSpace)
    arch = space.parse("ghost|skip|mbconv_k5_e3|ghost")
    network = space.build(arch).eval()
    assert [type(m).__name__ for m in network.modules()].count("Ghost") == 2
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert space.count(arch)["params"] == sum(p.numel() for p in network.parameters())


def test_a_published_space_written_as_ones_own_has_the_published_parameters(tables: Path) -> None:
    """Accel-NASBench (arXiv 2404.08005): blocks of one's own, stages of several depths; all 5,138 are exact."""
    unseen = runpy.run_path(str(EXPERIMENTS / "unseen_tables.py"))
    space = spaces.load(str(unseen["OWN"]))
    rows = pd.read_parquet(tables / "accel_nasbench.parquet").sample(200, random_state=0)
    archs = [space.parse(unseen["accel_nasbench"](row)) for _, row in rows.iterrows()]
    counted = [space.count(arch)["params"] for arch in archs]
    assert counted == [round(1e6 * params) for params in rows["params"]]
    assert sum(p.numel() for p in space.build(archs[0]).parameters()) == counted[0]


def test_cells_take_operations_of_ones_own_too() -> None:
    space = spaces.load(str(FIXTURES / "my_cells.toml"))
    assert isinstance(space, CellSpace)
    assert space.size == 27
    check_space(space, n=8, rng=np.random.default_rng(0))
    network = space.build(space.parse("|my_scale~0|+|none~0|skip_connect~1|"))
    assert any(isinstance(m, torch.nn.Conv2d) and m.groups == m.in_channels > 1 for m in network.modules())
    assert spaces.load(str(FIXTURES / "my_cells.toml")).size == 27  # reading it again finds the same operation


def test_one_name_can_not_stand_for_two_operations_of_cells(tmp_path: Path) -> None:
    spaces.load(str(FIXTURES / "my_cells.toml"))
    assert "my_scale" in OPERATIONS
    for file in ("my_cells.toml", "my_blocks.py"):
        shutil.copy(FIXTURES / file, tmp_path / file)
    assert spaces.load(str(tmp_path / "my_cells.toml")).name == "my_cells", "a copy is the same operation"
    (tmp_path / "other").mkdir()
    shutil.copy(FIXTURES / "my_cells.toml", tmp_path / "other")
    (tmp_path / "other" / "my_blocks.py").write_text((FIXTURES / "my_blocks.py").read_text() + "# changed\n")
    with pytest.raises(InvalidSpace, match="'my_scale': there is an operation of that name already, choose another"):
        spaces.load(tmp_path / "other" / "my_cells.toml")


def test_a_module_of_the_same_name_elsewhere_is_another_module(tmp_path: Path) -> None:
    (tmp_path / "my_blocks.py").write_text("class Ghost: ...\n", encoding="utf-8")
    here = load_operation("my_blocks:Ghost", FIXTURES, "here")
    there = load_operation("my_blocks:Ghost", tmp_path, "there")
    assert here is not there
    assert load_operation("my_blocks:Ghost", FIXTURES, "here") is here


def test_a_file_may_import_files_beside_it_and_lie_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "inner_part_of_mine.py").write_text("VALUE = 3\n", encoding="utf-8")
    text = "from inner_part_of_mine import VALUE\ndef make(*_): return VALUE\n"
    (tmp_path / "parts" / "blocks.py").write_text(text, encoding="utf-8")
    assert load_operation("parts.blocks:make", tmp_path, "x")(1, 2, 3) == 3  # type: ignore[comparison-overlap]


def test_an_installed_module_is_found_where_no_file_is(tmp_path: Path) -> None:
    assert load_operation("torch.nn:Conv2d", tmp_path, "x") is torch.nn.Conv2d


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("my_blocks", "import = 'my_blocks' must read 'module:attribute', such as 'my_blocks:MyBlock'"),
        (":Ghost", "must read 'module:attribute'"),
        ("../blocks:Ghost", "must read 'module:attribute'"),
        ("my_blocks:", "must read 'module:attribute'"),
        (
            "no_such_blocks:Ghost",
            "there is neither a file .*no_such_blocks.py nor an installed module 'no_such_blocks'",
        ),
        ("my_blocks:Gost", "unknown name in my_blocks 'Gost': did you mean 'Ghost'"),
        ("math:pi", "'math:pi' is 3.14.*, expected a class or function"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(reference: str, message: str) -> None:
    with pytest.raises(InvalidSpace, match=f"'block': .*{message}|'block': {message}"):
        load_operation(reference, FIXTURES, "[[operations]] 'block'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_module_at_all", "importing 'bad' failed: ModuleNotFoundError: .*no_such_module_at_all"),
        ("raise ValueError('two\\nlines')", "importing 'bad' failed: ValueError: two lines"),
        ("def make(:", "importing 'bad' failed: SyntaxError"),
    ],
)
def test_a_module_that_fails_says_why_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.py").write_text(text, encoding="utf-8")
    for _ in range(2):  # a module that failed is not kept half imported
        with pytest.raises(InvalidSpace, match=message) as caught:
            load_operation("bad:make", tmp_path, "[[operations]] 'bad'")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def Ghost(channels): ...", r"'ghost': Ghost\(16, 24, 2\) fails .* TypeError: Ghost\(\) takes 1 positional"),
        ("def Ghost(i, o, s): return 3", "it made int, not an nn.Module"),
        (
            "from torch import nn\ndef Ghost(i, o, s): return nn.Identity()",
            r"makes \(1, 16, 8, 8\) .*, expected \(1, 24, 4, 4\)",
        ),
        (
            "from torch import nn\ndef Ghost(i, o, s): return nn.Conv2d(1, o, 3)",
            "fails on an image of 1 x 16 x 8 x 8: RuntimeError",
        ),
    ],
)
def test_a_block_that_does_not_fit_is_refused_when_the_space_is_read(tmp_path: Path, body: str, message: str) -> None:
    shutil.copy(FIXTURES / "my_net.toml", tmp_path / "my_net.toml")
    (tmp_path / "my_blocks.py").write_text(body, encoding="utf-8")
    with pytest.raises(InvalidSpace, match=message) as caught:
        spaces.load(tmp_path / "my_net.toml")
    assert str(caught.value).startswith(str(tmp_path / "my_net.toml"))
    assert "\n" not in str(caught.value)


def test_cells_try_their_operations_too(tmp_path: Path) -> None:
    text = (FIXTURES / "my_cells.toml").read_text(encoding="utf-8").replace("my_scale", "my_other")
    (tmp_path / "my_cells.toml").write_text(text, encoding="utf-8")
    body = "from torch import nn\ndef scale(channels): return nn.Conv2d(channels, 2 * channels, 1)\n"
    (tmp_path / "my_blocks.py").write_text(body, encoding="utf-8")
    with pytest.raises(InvalidSpace, match=r"'my_other': scale\(8\) makes \(1, 16, 8, 8\) .*, expected \(1, 8, 8, 8\)"):
        spaces.load(tmp_path / "my_cells.toml")
    assert "my_other" not in OPERATIONS
    (tmp_path / "my_cells.toml").write_text(text.replace('"my_blocks:scale"', "3"), encoding="utf-8")
    with pytest.raises(InvalidSpace, match="'my_other': import = 3 is of the wrong type, expected text"):
        spaces.load(tmp_path / "my_cells.toml")


def test_a_path_that_does_not_exist_is_no_name(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", str(tmp_path / "absent"), "absent.toml"):
        with pytest.raises(InvalidSpace, match="can not be read as TOML"):
            spaces.load(path)
