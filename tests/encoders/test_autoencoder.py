"""An embedding without labels, from which the architecture can be told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archgen import spaces
from archgen.encoders import AutoEncoder
from archgen.graph import Architecture
from archgen.spaces import SearchSpace

SMALL = {"reference": 200, "steps": 60, "width": 12}


@pytest.fixture(scope="module")
def encoder(space: SearchSpace) -> AutoEncoder:
    return AutoEncoder(space, **SMALL)


@pytest.fixture(scope="module")
def unseen(space: SearchSpace) -> list[Architecture]:
    return space.sample(100, np.random.default_rng(99))


def test_choices_can_be_told_from_the_embedding(
    space: SearchSpace, encoder: AutoEncoder, unseen: list[Architecture]
) -> None:
    """Far better than by the most frequent label of each edge, of architectures that it was not trained on."""
    chosen = space.choices([space.simplify(arch) for arch in unseen])
    usual = np.mean([np.bincount(column).max() / len(column) for column in chosen.T])
    logits = torch.split(encoder.decoder(encoder(unseen)), [len(values) for values in space.variables.values()], 1)
    told = np.stack([part.argmax(1).numpy() for part in logits], 1)
    assert (told == chosen).mean() > usual + 0.15
    assert encoder(unseen).shape == (100, 12)
    assert encoder(unseen).dtype == torch.float64


def test_architectures_of_one_computation_embed_alike(space: SearchSpace, encoder: AutoEncoder) -> None:
    dead = "|none~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|"
    live = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    other = "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"
    one, same, different = encoder([space.parse(text) for text in (dead, live, other)])
    assert torch.equal(one, same)
    assert not torch.allclose(one, different, atol=0.1)


def test_the_seed_decides_and_the_global_generator_is_left_alone(
    space: SearchSpace, encoder: AutoEncoder, unseen: list[Architecture]
) -> None:
    state = torch.get_rng_state()
    again, other = AutoEncoder(space, **SMALL), AutoEncoder(space, **SMALL, seed=1)
    assert torch.equal(again(unseen), encoder(unseen))
    assert not torch.equal(other(unseen), encoder(unseen))
    assert torch.equal(torch.get_rng_state(), state)


def test_every_kind_of_space_has_one() -> None:
    for name in ("nasbench_macro", "mobilenetv3", "flexibert"):
        space = spaces.load(name)
        encoder = AutoEncoder(space, reference=8, steps=2)
        assert encoder(space.sample(3, np.random.default_rng(0))).isfinite().all()


def test_mistakes_are_told(space: SearchSpace) -> None:
    with pytest.raises(ValueError, match="at least 1 architecture"):
        AutoEncoder(space, reference=0)
