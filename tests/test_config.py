"""Where things are found."""

from pathlib import Path

import pytest

from archgen import config


def test_spaces_are_beside_the_package_in_a_checkout_or_inside_it_in_a_wheel() -> None:
    assert (config.spaces_dir() / "nasbench201.toml").is_file()


def test_a_wheel_finds_its_resources_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "archgen"
    package.mkdir(parents=True)
    (tmp_path / "site-packages" / "spaces").mkdir()
    monkeypatch.setattr(config, "_PACKAGE", package)
    assert config.spaces_dir() == tmp_path / "site-packages" / "spaces"
    (package / "_spaces").mkdir()
    assert config.spaces_dir() == package / "_spaces"


def test_checkpoints_folder_can_be_overridden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCHGEN_CHECKPOINTS", raising=False)
    assert config.checkpoints_dir().name in ("checkpoints", "_checkpoints")
    monkeypatch.setenv("ARCHGEN_CHECKPOINTS", str(tmp_path))
    assert config.checkpoints_dir() == tmp_path


def test_data_folder_is_none_when_it_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHGEN_DATA", str(tmp_path))
    assert config.data_dir() == tmp_path
    monkeypatch.setenv("ARCHGEN_DATA", str(tmp_path / "nowhere"))
    assert config.data_dir() is None


def test_data_folder_of_a_checkout_is_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCHGEN_DATA", raising=False)
    monkeypatch.setattr(config, "_PACKAGE", tmp_path / "checkout" / "archgen")
    assert config.data_dir() is None
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert config.data_dir() == tmp_path / "shared" / "data"
