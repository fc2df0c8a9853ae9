"""Code that a space's file names runs only where it is trusted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from archgen import config, load_space
from archgen.errors import InvalidSpace

OWN = Path(__file__).parents[1] / "spaces" / "fixtures" / "my_cells.toml"


def archgen(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != config.TRUST}
    command = [sys.executable, "-m", "archgen", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_file_that_imports_code_needs_the_option(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(OWN.read_text())
    (tmp_path / "my_blocks.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    refused = archgen("spaces", tmp_path / "mine.toml")
    assert refused.returncode == 2
    assert "import = 'my_blocks:scale' runs code of the file's author: read it, then say --trust-code" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "ran").exists()
    archgen("spaces", tmp_path / "mine.toml", "--trust-code")
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", [0, 1])
def test_the_option_may_stand_anywhere(place: int) -> None:
    arguments: list[object] = ["spaces", OWN]
    arguments.insert(2 * place, "--trust-code")
    shown = archgen(*arguments)
    assert shown.returncode == 0
    assert "my_cells" in shown.stdout


def test_in_python_trust_is_an_argument_and_ends_with_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(config.TRUST)
    with pytest.raises(InvalidSpace, match=r"load_space\(\.\.\., trust_code=True\)"):
        load_space(OWN)
    assert load_space(OWN, trust_code=True).name == "my_cells"
    assert not config.trusts_code()
    with pytest.raises(InvalidSpace, match="--trust-code"):
        load_space(OWN)
