"""What a run was made from is known again, and what differs is told."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from archgen import spaces
from archgen.data import ImageData, Split
from archgen.design import DesignRequest, load
from archgen.design.inputs import absolute, check_digests, digests, keep_space, space_file, space_of, versions
from archgen.errors import InvalidTable, RunConflict
from archgen.run_folder import RunFolder

REQUEST = DesignRequest("digits", "nasbench201", {}, limit=200)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load(REQUEST)


def begun(folder: Path, request: DesignRequest, data: ImageData) -> RunFolder:
    return RunFolder.create(folder, asdict(request), digests=digests(request, data))


def swapped(split: Split, other: Split) -> tuple[Split, Split]:
    """Two parts whose first images changed places."""
    ours, theirs = split.images.clone(), other.images.clone()
    ours[0], theirs[0] = other.images[0], split.images[0]
    return Split(ours, split.labels), Split(theirs, other.labels)


def test_a_digest_is_of_pixels_labels_classes_and_parts(data: ImageData) -> None:
    known = digests(REQUEST, data)["data"]
    assert digests(replace(REQUEST, seed=1), load(REQUEST))["data"] == known
    labels = data.test.labels.clone()
    labels[0] = (labels[0] + 1) % 10
    train, test = swapped(data.train, data.test)
    others = [
        replace(data, test=Split(data.test.images, labels)),
        replace(data, train=train, test=test),
        replace(data, classes=tuple(reversed(data.classes))),
    ]
    assert len({known, *(digests(REQUEST, other)["data"] for other in others)}) == 4


def test_a_run_goes_on_with_what_it_began_with_only(data: ImageData, tmp_path: Path) -> None:
    table = tmp_path / "phone.csv"
    table.write_text("arch,latency_ms\n")
    request = replace(REQUEST, latency=str(table))
    run = begun(tmp_path / "run", request, data)
    check_digests(run, request, data)
    train, test = swapped(data.train, data.test)
    with pytest.raises(RunConflict, match="the images, or their labels or parts, are not those"):
        check_digests(run, request, replace(data, train=train, test=test))
    table.write_text("arch,latency_ms\na,1\n")
    with pytest.raises(RunConflict, match="the table of --latency is not the one"):
        check_digests(run, request, data)
    table.unlink()
    with pytest.raises(InvalidTable, match="can not be read"):
        check_digests(run, request, data)


def test_a_run_of_an_earlier_version_has_no_digests_and_goes_on(data: ImageData, tmp_path: Path) -> None:
    check_digests(RunFolder.create(tmp_path / "run", asdict(REQUEST)), REQUEST, data)


def test_paths_are_kept_absolute_and_names_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "generator").mkdir()
    assert absolute(REQUEST) == REQUEST
    found = absolute(replace(REQUEST, data="images", space="mine.toml", latency="phone.csv", generator="generator"))
    expected = [str(tmp_path / name) for name in ("images", "mine.toml", "phone.csv", "generator")]
    assert [found.data, found.space, found.latency, found.generator] == expected
    assert absolute(replace(REQUEST, generator="flow")).generator == "flow"


def test_a_space_of_ones_own_goes_with_the_run(data: ImageData, tmp_path: Path) -> None:
    own = tmp_path / "half.toml"
    own.write_text(
        "name = 'half'\nfamily = 'restricted'\nbase = 'nasbench201'\n[values]\n'0->1' = ['none', 'skip_connect']\n"
    )
    run = begun(tmp_path / "run", replace(REQUEST, space=str(own)), data)
    assert (space_of(run), space_file(run)) == (str(own), str(own))
    keep_space(run)
    own.unlink()
    again = RunFolder.open(run.path)
    assert (space_file(again), spaces.load(space_of(again)).name) == ("space/half.toml", "half")
    named = begun(tmp_path / "other", REQUEST, data)
    keep_space(named)
    assert (space_of(named), space_file(named)) == ("nasbench201", None)


def test_versions_are_of_what_computes() -> None:
    assert {"python", "archgen", "torch", "onnxruntime"} <= versions().keys()
