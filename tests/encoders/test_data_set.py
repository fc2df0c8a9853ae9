"""The data-set encoder: invariances, distances between data sets, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archgen.encoders import DataSetEncoder
from archgen.errors import ArchgenError


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return torch.tensor(bunch.images / 16)[:, None].float(), torch.tensor(bunch.target)


@pytest.fixture(scope="module")
def encoder():
    return DataSetEncoder()


def some(seed, channels=3, side=16, n=60, classes=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, side, side, generator=generator), torch.arange(n) % classes


def test_neither_the_order_of_images_nor_the_numbers_of_classes_matter(encoder, digits):
    images, labels = (part[:300] for part in digits)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    renumbered = torch.randperm(10, generator=torch.Generator().manual_seed(1))[labels] * 7 - 3
    np.testing.assert_allclose(encoder(images[order], renumbered[order]), encoder(images, labels), rtol=0, atol=1e-6)


def test_a_class_counts_once_however_many_images_it_has(encoder, digits):
    images, labels = (part[:300] for part in digits)
    zeros = labels == 0
    more = torch.cat([images, images[zeros], images[zeros]]), torch.cat([labels, labels[zeros], labels[zeros]])
    network = sum(list(encoder.blocks.values())[:3])
    np.testing.assert_allclose(encoder(*more)[:network], encoder(images, labels)[:network], rtol=0, atol=1e-6)


def test_halves_of_one_data_set_are_nearer_than_noise_or_other_classes(encoder, digits):
    images, labels = digits
    one, other = (encoder(images[i::2], labels[i::2]) for i in (0, 1))
    noise = encoder(torch.rand(images.shape, generator=torch.Generator().manual_seed(0))[::2], labels[::2])
    shuffled = encoder(images[::2], labels[::2][torch.randperm(899, generator=torch.Generator().manual_seed(0))])
    fewer = labels[::2] < 3
    few = encoder(images[::2][fewer], labels[::2][fewer])
    near = np.linalg.norm(one - other)
    for name, far in {"noise": noise, "shuffled labels": shuffled, "three classes": few}.items():
        assert np.linalg.norm(one - far) > 4 * near, name


def test_embeddings_are_those_of_the_seed(digits):
    images, labels = (part[:100] for part in digits)
    again, other = DataSetEncoder()(images, labels), DataSetEncoder(seed=1)(images, labels)
    assert np.array_equal(DataSetEncoder()(images, labels), again)
    assert not np.allclose(again, other)


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    DataSetEncoder()(*some(0))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (2, 16), (3, 32), (4, 40)])
def test_any_size_and_number_of_channels_gives_the_same_width(encoder, channels, side):
    embedding = encoder(*some(0, channels, side))
    assert embedding.shape == (sum(encoder.blocks.values()),)
    assert np.isfinite(embedding).all()


def test_grey_images_are_those_of_three_equal_channels(encoder):
    images, labels = some(0, channels=1)
    np.testing.assert_allclose(encoder(images.expand(-1, 3, -1, -1), labels), encoder(images, labels), atol=1e-9)


def test_identical_images_have_an_embedding(encoder):
    assert np.isfinite(encoder(torch.full((6, 3, 8, 8), 0.5), torch.arange(6) % 2)).all()


def test_what_is_no_data_set_is_refused(encoder):
    images, labels = some(0)
    with pytest.raises(ArchgenError, match="59 labels of 60 images"):
        encoder(images, labels[1:])
    with pytest.raises(ArchgenError, match="at least two classes, got 1"):
        encoder(images, torch.zeros_like(labels))
    with pytest.raises(ArchgenError, match=r"in \[0, 1\]"):
        encoder(2 * images, labels)
    with pytest.raises(ArchgenError, match=r"in \[0, 1\]"):
        encoder(images * torch.nan, labels)
