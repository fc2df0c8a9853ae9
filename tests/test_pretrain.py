"""Training a generator of a space writes a whole checkpoint and a card that tells the figures that were measured."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from archgen.errors import ArchgenError, UnknownName
from archgen.generators import DiscreteFlow, load_generator
from archgen.metrics import validity_uniqueness
from archgen.pretrain import pretrain_generator
from archgen.sampler import GuidedSampler
from archgen.spaces import SearchSpace

TINY = {"width": 8, "layers": 1, "heads": 2}


@pytest.fixture(scope="module")
def trained(space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The folder of checkpoints and the figures of a training of eight steps."""
    root = tmp_path_factory.mktemp("checkpoints")
    folder = root / "generators" / "nasbench201-discrete_flow"
    return root, pretrain_generator(space, folder, steps=8, batch_size=16, seed=3, **TINY)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the 5,000 samples of the figures, which take most of the time."""
    monkeypatch.setattr(
        "archgen.pretrain._sample_figures", lambda *_: {"valid_raw": 100.0, "valid": 100.0, "unique": 0.0}
    )


def folder_of(root: Path) -> Path:
    return root / "generators" / "nasbench201-discrete_flow"


def test_the_checkpoint_is_the_trained_generator(space: SearchSpace, trained: tuple[Path, dict[str, float]]) -> None:
    root, figures = trained
    assert sorted(p.name for p in folder_of(root).iterdir()) == ["README.md", "config.json", "model.safetensors"]
    generator = load_generator(folder_of(root))
    assert isinstance(generator, DiscreteFlow)
    assert not generator.training
    assert {key: generator.config[key] for key in TINY} == TINY
    assert torch.equal(generator.node_domain, space.node_domain)
    assert figures["parameters"] == sum(p.numel() for p in generator.parameters())
    assert len(GuidedSampler.from_pretrained("nasbench201", checkpoints=root).sample(4, steps=2)) == 4


def test_the_figures_are_those_of_the_checkpoint(space: SearchSpace, trained: tuple[Path, dict[str, float]]) -> None:
    root, figures = trained
    assert figures.keys() == {"loss", "valid_raw", "valid", "unique", "seconds", "parameters"}
    assert figures["valid_raw"] == figures["valid"] == 100.0
    assert np.isfinite(figures["loss"])
    assert figures["seconds"] > 0
    generator = load_generator(folder_of(root))
    unique = []
    for seed in range(5):
        batch = generator.sample(1000, steps=16, generator=torch.Generator().manual_seed(seed))
        unique.append(validity_uniqueness(space.decode(batch))["unique"])
    assert figures["unique"] == pytest.approx(np.mean(unique))


def test_the_card_and_the_config_agree_with_the_returned_figures(trained: tuple[Path, dict[str, float]]) -> None:
    root, figures = trained
    header = json.loads((folder_of(root) / "config.json").read_text())
    facts = header["config"]
    assert facts["figures"] == figures
    assert (facts["space"], facts["steps"], facts["batch_size"], facts["seed"]) == ("nasbench201", 8, 16, 3)
    card = (folder_of(root) / "README.md").read_text()
    assert card.startswith("# discrete_flow generator for nasbench201\n")
    assert "--space nasbench201 --generator discrete_flow --steps 8 --seed 3`" in card
    assert "arXiv 2001.00326" in card
    told = {
        "loss": r"loss (\d+\.\d+) \(mean of the last 100 steps",
        "valid_raw": r"([\d.]+) % valid before the projector",
        "valid": r"([\d.]+) % after it",
        "unique": r"([\d.]+) % unique",
        "seconds": r"(\d+) s with",
        "parameters": r"([\d,]+) parameters",
    }
    for name, pattern in told.items():
        found = re.search(pattern, card)
        assert found is not None, name
        assert float(found[1].replace(",", "")) == pytest.approx(
            figures[name], abs=0.51 if name == "seconds" else 0.051
        )


@pytest.mark.usefixtures("quick")
def test_the_same_seed_gives_the_same_weights_to_the_bit(
    space: SearchSpace, trained: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    root, figures = trained
    torch.manual_seed(99)  # the caller's generator must not matter
    state = torch.get_rng_state()
    again = pretrain_generator(space, tmp_path / "again", steps=8, batch_size=16, seed=3, **TINY)
    assert torch.equal(torch.get_rng_state(), state)
    other = pretrain_generator(space, tmp_path / "other", steps=8, batch_size=16, seed=4, **TINY)
    weights = [load_file(folder / "model.safetensors") for folder in (folder_of(root), tmp_path / "again")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert again["loss"] == figures["loss"] != other["loss"]


@pytest.mark.usefixtures("quick")
def test_training_lowers_the_loss_and_shows_every_step(space: SearchSpace, tmp_path: Path) -> None:
    """100 steps: the mean loss falls from about 10.5 (nothing learnt, 6 ln 5 = 9.7) by more than 1 nat; the mean of
    3,200 graphs has a standard deviation below 0.06."""
    seen: list[int] = []

    def progress(steps: Iterator[int]) -> Iterator[int]:
        for step in steps:
            seen.append(step)
            yield step

    first = pretrain_generator(space, tmp_path / "short", steps=1, batch_size=32, **TINY)
    last = pretrain_generator(space, tmp_path / "long", steps=100, batch_size=32, progress=progress, **TINY)
    assert seen == list(range(100))
    assert last["loss"] < first["loss"] - 1


@pytest.mark.parametrize("steps", [0, -5])
def test_no_steps_are_refused_before_anything_is_written(space: SearchSpace, tmp_path: Path, steps: int) -> None:
    with pytest.raises(ArchgenError, match=f"at least one training step, got {steps}"):
        pretrain_generator(space, tmp_path / "new", steps=steps)
    assert not (tmp_path / "new").exists()


def test_an_unknown_generator_is_refused_before_anything_is_written(space: SearchSpace, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown generator 'discret_flow': did you mean 'discrete_flow'"):
        pretrain_generator(space, tmp_path / "new", name="discret_flow", steps=1)
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("quick")
def test_a_training_that_was_cut_off_leaves_the_old_checkpoint(space: SearchSpace, tmp_path: Path) -> None:
    pretrain_generator(space, tmp_path / "g", steps=1, batch_size=4, **TINY)
    before = {path.name: path.read_bytes() for path in (tmp_path / "g").iterdir()}

    def cut(steps: Iterator[int]) -> Iterator[int]:
        yield next(steps)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain_generator(space, tmp_path / "g", steps=9, batch_size=4, seed=1, progress=cut, **TINY)
    assert {path.name: path.read_bytes() for path in (tmp_path / "g").iterdir()} == before
