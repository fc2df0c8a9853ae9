"""`--images COLUMN=DATA`: what the data sets of columns look like, for predictors that lean on some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from archgen.errors import InvalidOption, UnknownName

if TYPE_CHECKING:
    from archgen.data import ImageData
    from archgen.encoders import DataSetEncoder
    from archgen.predictors.base import Floats

Images = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=DATA",
        help="For --model meta: images of a column's data set, as of `archgen design`; of the target and of every "
        "source, which then count as they resemble it.",
    ),
]
LIMIT = 2_000
"""Most images of a data set that are read: some twenty a class say enough."""


def read_images(texts: Sequence[str], columns: Sequence[str]) -> dict[str, Floats]:
    """The embedding of the data set of each column (`DataSetEncoder`); none where nothing is said.

    Args:
        texts: What the user gave.
        columns: The target and its sources; of all or of none there must be images.

    Raises:
        InvalidOption: Another form, two data sets of a column, or a column without one.
        UnknownName: A column that is neither the target nor a source.
        InvalidData: Images that can not be read.
        ArchgenError: Pixels that are not in [0, 1].
    """
    from archgen.data import load_data
    from archgen.encoders import DataSetEncoder

    places: dict[str, str] = {}
    for text in texts:
        column, equals, data = text.partition("=")
        if not (column and equals and data):
            raise InvalidOption(f"expected COLUMN=DATA for --images, got '{text}'")
        if column not in columns:
            raise UnknownName("column of --images", column, columns)
        if column in places:
            raise InvalidOption(f"--images gives two data sets of '{column}'; leave one")
        places[column] = data
    missing = [column for column in columns if column not in places]
    if places and missing:
        raise InvalidOption(f"sources are compared by images of all or none: give --images of {', '.join(missing)} too")
    encoder = DataSetEncoder()
    return {column: _embedded(load_data(data, limit=LIMIT), encoder) for column, data in places.items()}


def _embedded(data: ImageData, encoder: DataSetEncoder) -> Floats:
    """The embedding of the images to train on, their normalisation undone."""
    import torch

    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    pixels = data.train.images * std + mean
    near = pixels.clamp(0, 1)  # undoing leaves rounding errors; the encoder refuses what is further out
    return encoder(near if torch.allclose(near, pixels, atol=1e-4) else pixels, data.train.labels)
