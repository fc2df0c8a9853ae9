"""`--images COLUMN=DATA`: what is read of it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from archgen.cli.source_images import read_images
from archgen.data import load_data
from archgen.encoders import DataSetEncoder
from archgen.errors import ArchgenError

Images = Callable[[str, float], str]


def test_each_column_has_the_embedding_of_its_pixels(images: Images) -> None:
    """Not of normalised ones: two data sets that differ in their greys alone would look the same."""
    found = read_images([f"a={images('a.npz', 0.3)}", f"b={images('b.npz', 0.6)}"], ["b", "a"])
    data = load_data("a.npz")
    pixels = np.load("a.npz")["x_train"] / 255
    assert 0.25 < pixels.mean() < 0.45
    undone = (data.train.images * data.std[0] + data.mean[0]).clamp(0, 1)
    assert found["a"] == pytest.approx(DataSetEncoder()(undone, data.train.labels))
    assert not np.allclose(found["a"], found["b"])
    assert read_images([], ["a", "b"]) == {}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["accuracy=a.npz"], "give --images of other, third too"),
        (["accuracy=a.npz", "accuracy=a.npz"], "two data sets of 'accuracy'"),
        (["accuracy"], "expected COLUMN=DATA for --images, got 'accuracy'"),
        (["othr=o.npz"], "did you mean 'other'?"),
        (["accuracy=a.npz", "other=a.npz", "third=absent.npz"], "absent.npz"),
        (["accuracy=a.npz", "other=a.npz", "third=wide.npz"], r"pixels must be in \[0, 1\]"),
    ],
)
def test_what_can_not_be_compared_is_refused(texts: list[str], message: str, images: Images) -> None:
    images("a.npz", 0.3)
    np.savez("wide.npz", **{name: x * 10.0 if name[0] == "x" else x for name, x in np.load("a.npz").items()})
    with pytest.raises(ArchgenError, match=message.replace("?", r"\?")):
        read_images(texts, ["accuracy", "other", "third"])
