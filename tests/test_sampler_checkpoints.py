"""The committed sampler: read from its checkpoints, predictors when first asked for; damaged ones are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from archgen import config
from archgen.errors import ArchgenError, InvalidCheckpoint, UnknownName
from archgen.generators import DiscreteFlow
from archgen.objectives import at_most, maximize
from archgen.predictors import save_predictor
from archgen.sampler import GuidedSampler, generator_folder
from archgen.spaces import CellSpace, SearchSpace, load
from archgen.surrogates import GaussianProcess

GENERATOR = "nasbench201-discrete_flow"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the committed generator in a folder of checkpoints of its own."""
    shutil.copytree(config.checkpoints_dir() / "generators" / GENERATOR, tmp_path / "generators" / GENERATOR)
    return tmp_path


def test_the_committed_sampler_is_three_lines() -> None:
    sampler = GuidedSampler.from_pretrained("nasbench201")
    frame = sampler.sample(8, [maximize("params"), at_most("flops", 1e8)], steps=4, seed=0).to_frame()
    assert len(frame) == 8
    assert (frame["flops"] <= 1e8).all()


def test_predictors_are_read_when_first_asked_for(space: SearchSpace, rng: np.random.Generator, root: Path) -> None:
    archs = space.sample(15, rng)
    surrogate = GaussianProcess(space, "val_acc").fit(archs, rng.normal(size=15))
    for name in ("nasbench201-val_acc", ".nasbench201-half", "otherspace-val_acc"):
        save_predictor(surrogate, "gp", root / "predictors" / name, "# card\n")
    sampler = GuidedSampler.from_pretrained("nasbench201", checkpoints=root)
    assert sampler.metrics == ("params", "flops", "val_acc")
    samples = sampler.sample(4, [maximize("val_acc")], steps=2)
    assert samples.predicted["val_acc"] == pytest.approx(surrogate.predict(samples.archs).mean)
    (root / "predictors" / "nasbench201-val_acc" / "model.safetensors").write_bytes(b"cut")
    again = GuidedSampler.from_pretrained("nasbench201", checkpoints=root)
    again.sample(4, [maximize("params")], steps=2)
    with pytest.raises(InvalidCheckpoint, match="not a whole safetensors file"):
        again.sample(4, [maximize("val_acc")], steps=2)


def test_a_folder_of_ones_own_stands_for_a_generator(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = root / "generators" / GENERATOR
    ours = GuidedSampler.from_pretrained("nasbench201").sample(6, steps=4, seed=0).archs
    assert GuidedSampler.from_pretrained("nasbench201", generator=str(own)).sample(6, steps=4, seed=0).archs == ours
    shutil.move(own, root / "discrete_flow")
    monkeypatch.chdir(root)  # a folder that is called like a generator does not hide it
    assert generator_folder(load("nasbench201")) == config.checkpoints_dir() / "generators" / GENERATOR
    with pytest.raises(UnknownName, match="unknown generator 'my_generator'"):
        GuidedSampler.from_pretrained("nasbench201", generator="my_generator")
    with pytest.raises(InvalidCheckpoint, match="trained on another space than nasbench101"):
        GuidedSampler.from_pretrained("nasbench101", generator=str(root / "discrete_flow"))


def _truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def _edit(folder: Path, **changes: object) -> None:
    header = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**header, **changes}))


def _foreign_space(folder: Path) -> None:
    roles = {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}
    other = CellSpace("nasbench201", 3, roles, {})
    DiscreteFlow(other.node_domain, other.edge_domain, width=8, layers=1, heads=2).save(
        "discrete_flow", folder, {}, "# card\n"
    )


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights cut short": (_truncate, "not a whole safetensors file"),
    "weights empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "not a whole safetensors file"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "does not exist"),
    "no config": (lambda f: (f / "config.json").unlink(), "does not exist"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), "can not be read as JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "not an archgen checkpoint"),
    "a predictor": (lambda f: _edit(f, kind="predictor"), "holds a predictor, expected a generator"),
    "other arguments": (lambda f: _edit(f, config={"arguments": {"width": 32}}), "does not fit the network"),
    "unknown arguments": (lambda f: _edit(f, config={"arguments": {"depth": 3}}), "not a whole discrete_flow"),
    "of another space": (_foreign_space, "trained on another space than nasbench201"),
    "nothing there": (shutil.rmtree, "train one: archgen train generator --space nasbench201"),
}


@pytest.mark.parametrize("case", list(DAMAGES))
def test_a_damaged_or_foreign_generator_is_refused_in_one_line(root: Path, case: str) -> None:
    damage, message = DAMAGES[case]
    damage(root / "generators" / GENERATOR)
    with pytest.raises(InvalidCheckpoint, match=message) as error:
        GuidedSampler.from_pretrained("nasbench201", checkpoints=root)
    assert "\n" not in str(error.value)
    assert str(root) in str(error.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"config": []}', '{"config": {"metric": 3}}'])
def test_a_predictor_that_can_not_be_read_is_refused_in_one_line(root: Path, text: str) -> None:
    folder = root / "predictors" / "nasbench201-broken"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(text)
    with pytest.raises(InvalidCheckpoint, match="nasbench201-broken") as error:
        GuidedSampler.from_pretrained("nasbench201", checkpoints=root)
    assert "\n" not in str(error.value)


def test_names_that_do_not_exist_are_refused(root: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'nasbench201'"):
        GuidedSampler.from_pretrained("nasbench210")
    with pytest.raises(InvalidCheckpoint, match="no one_step generator for nasbench201 in"):
        GuidedSampler.from_pretrained("nasbench201", generator="one_step", checkpoints=root)
    _edit(root / "generators" / GENERATOR, name="dream")
    with pytest.raises(ArchgenError, match="unknown generator 'dream'"):
        GuidedSampler.from_pretrained("nasbench201", checkpoints=root)


def test_the_environment_says_where_the_checkpoints_are(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHGEN_CHECKPOINTS", str(root))
    assert len(GuidedSampler.from_pretrained("nasbench201").sample(2, steps=2)) == 2
    monkeypatch.setenv("ARCHGEN_CHECKPOINTS", str(root / "absent"))
    with pytest.raises(InvalidCheckpoint, match="absent"):
        GuidedSampler.from_pretrained("nasbench201")
