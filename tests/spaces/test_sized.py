"""Spaces for images of other sizes: what changes with the size, what stays, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from archgen import config, spaces
from archgen.errors import InvalidSpace, UnknownName
from archgen.sampler import GuidedSampler

MOBILENETV3 = (config.spaces_dir() / "mobilenetv3.toml").read_text(encoding="utf-8")


def test_resolutions_are_in_proportion_to_the_published_ones() -> None:
    whole, small = spaces.load("mobilenetv3"), spaces.load("mobilenetv3@48")
    assert (small.name, small.origin, whole.origin) == ("mobilenetv3@48", "mobilenetv3", "mobilenetv3")
    published = [int(label[1:]) for label in whole.variables["resolution"]]
    sides = [int(label[1:]) for label in small.variables["resolution"]]
    assert max(sides) == 96
    assert sides == [round(side * 96 / 224) for side in published]
    assert small.variables.keys() == whole.variables.keys()
    assert small.network_defaults == {**whole.network_defaults, "width_percent": 50, "image_size": 48}
    assert small.extremes is not None
    assert [small.count(arch)["macs"] for arch in small.extremes] < [
        whole.count(a)["macs"] for a in whole.extremes or ()
    ]


@pytest.mark.parametrize("size", [8, 32, 64, 300])
def test_networks_of_any_size_run(size: int) -> None:
    space = spaces.load(f"mobilenetv3@{size}")
    (arch,) = space.sample(1, np.random.default_rng(0))
    assert space.parse(space.format(arch)) == arch
    network = space.build(arch, classes=10).eval()
    with torch.no_grad():
        assert network(space.example_input(2)).shape == (2, 10)


def test_patches_divide_the_image() -> None:
    space = spaces.load("autoformer@32")
    assert space.network_defaults["patch"] == 4
    assert space.network_defaults["reach"] == 8
    (arch,) = space.sample(1, np.random.default_rng(0))
    with torch.no_grad():
        assert space.build(arch, classes=10).eval()(space.example_input(2)).shape == (2, 10)
    with pytest.raises(InvalidSpace, match="30 pixels are not 8 patches of equal size; resize it"):
        spaces.load("autoformer@30")


@pytest.mark.parametrize("name", ["mobilenetv3@32", "autoformer@16"])
def test_generators_of_the_published_space_give_its_architectures(name: str) -> None:
    samples = GuidedSampler.from_pretrained(name).sample(4, seed=0)
    assert all(arch.space == name for arch in samples.archs)


def test_a_part_of_a_sized_space_is_a_space(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'family = "restricted"\nname = "mine"\nbase = "mobilenetv3@32"\n[values]\nresolution = ["r48", "r64"]\n'
    )
    assert spaces.load(path).variables["resolution"] == ("r48", "r64")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nasbench201@32", "nasbench201 is not made for other images by a size in its name"),
        ("mobilenetv3@", "expected a side in pixels from 1 to 4096 behind 'mobilenetv3@', got ''"),
        ("mobilenetv3@0", "got '0'"),
        ("mobilenetv3@5000", "got '5000'"),
        ("mobilenetv3@big", "got 'big'"),
    ],
)
def test_a_size_that_can_not_be_is_refused(name: str, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        spaces.load(name)


def test_an_unknown_space_with_a_size_gets_a_suggestion() -> None:
    with pytest.raises(UnknownName, match="unknown search space 'mobilenetv4': did you mean 'mobilenetv3'"):
        spaces.load("mobilenetv4@32")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("resolution = 2.0", "resolution = 2", "resolution = 2 is of the wrong type, expected a decimal number"),
        ("resolution = 2.0", "resolutions = 2.0", "resolutions"),
        ("resolution = 2.0", "patches = 7", "are not 7 patches of equal size"),
        ('name = "resolution"', 'name = "side"', "there is no global of that name"),
        ("[sized]", "sized = 3\n[other]", "other"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MOBILENETV3.replace(old, new))
    with pytest.raises(InvalidSpace, match=message):
        spaces.read(path, size=32)


def test_too_few_pixels_for_all_resolutions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    more = ", ".join(f'"r{side}"' for side in range(1, 225))
    path.write_text(MOBILENETV3.replace('"r128"', more.split(', "r128"')[0] + ', "r128"'))
    with pytest.raises(InvalidSpace, match="up to 64 pixels there are not"):
        spaces.read(path, size=32)


@pytest.mark.parametrize(
    ("name", "size", "found"),
    [
        ("mobilenetv3", 32, "mobilenetv3@32"),
        ("mobilenetv3", 112, "mobilenetv3@112"),
        ("mobilenetv3", 128, "mobilenetv3"),
        ("autoformer", 32, "autoformer@32"),
        ("nasbench201", 8, "nasbench201"),
        ("vit_resnas", 32, "vit_resnas"),
        ("mobilenetv3@64", 32, "mobilenetv3@64"),
    ],
)
def test_spaces_that_are_published_for_much_larger_images_are_sized(name: str, size: int, found: str) -> None:
    assert spaces.for_images(name, size).name == found


def test_a_space_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MOBILENETV3.replace('name = "mobilenetv3"', 'name = "mine"'))
    assert spaces.for_images(path, 32).name == "mine"
