"""Images to classify: read, split, normalised; and the shuffled, augmented batches that training takes from them.

Four sources become the same `ImageData`: the word `digits`, an `.npz`, a folder of class folders and a parquet file.
Each source only *lists* its rows; the splits and a `limit` are settled on the labels, and then no image is decoded
that is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from archgen.errors import InvalidData
from archgen.image_sources import (
    ACCEPTED,
    MAX_SIZE,
    MIN_CLASS,
    MIN_SIZE,
    Rows,
    digits,
    one_line,
    open_source,
)


@dataclass(frozen=True, eq=False)
class Split:
    """Images, normalised, and the index of the class of each."""

    images: Float[Tensor, "b c h w"]
    labels: Int[Tensor, " b"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ImageData:
    """Square images of `k` classes in three parts; the test part is for the very end.

    Args:
        name: Where the images come from, in a word.
        train, validation, test: The parts; every class is in `train`.
        classes: Names of the `k` classes, in the order of the labels 0 to k - 1.
        mean, std: Of each channel over `train`, in units of the pixels before normalisation: 8-bit pixels divided by
            255, other arrays as they came. A pixel `x` was normalised to `(x - mean) / std`.
        flip: Whether a mirrored image still shows its class, as far as can be told: true for RGB images only.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool

    @property
    def in_channels(self) -> int:
        """Number of channels."""
        return self.train.images.shape[1]

    @property
    def image_size(self) -> int:
        """Side of an image in pixels."""
        return self.train.images.shape[-1]

    def describe(self) -> str:
        """One line: how many images of what kind."""
        parts = [len(self.train), len(self.validation), len(self.test)]
        channels = "1 channel" if self.in_channels == 1 else f"{self.in_channels} channels"
        return (
            f"{self.name}: {sum(parts):,} images of {self.image_size}x{self.image_size} pixels, {channels}, "
            f"{len(self.classes)} classes ({parts[0]:,} train, {parts[1]:,} validation, {parts[2]:,} test)"
        )


def load_data(what: str, *, seed: int = 0, resize: int | None = None, limit: int | None = None) -> ImageData:
    """Read a data set of images.

    Args:
        what: `digits` (scikit-learn's 1,797 grey 8x8 images), or the path of
            an `.npz` with `x_train, y_train, x_test, y_test` and perhaps `x_val, y_val` (`x`: `n h w`, `n h w c` or
            `n c h w`, any real type);
            a folder of class folders of images, or of `train`, `test` and perhaps `val` folders of class folders;
            a parquet file, or a folder with one, with `jpeg` or `image` (encoded bytes, or a struct with `bytes`),
            `label` (integer or string) and perhaps `split` (`train`, `test`, `val`).
        seed: Of the splits that the source does not give: stratified 60 / 20 / 20 % train / validation / test, or
            20 % of the training part for validation. The same seed gives the same splits.
        resize: Side in pixels, 8 to 1,024, that all images are resized to (bilinear with antialiasing).
        limit: Keep at most so many images in all, with the shares of splits and classes kept as far as possible.

    Raises:
        InvalidData: The source can not be found or read, or can not be trained on; one line says why.

    Example:
        >>> load_data("digits").describe()
        'digits: 1,797 images of 8x8 pixels, 1 channel, 10 classes (1,079 train, 359 validation, 359 test)'
    """
    if resize is not None and not MIN_SIZE <= resize <= MAX_SIZE:
        raise InvalidData(f"--resize must be {MIN_SIZE} to {MAX_SIZE} pixels, got {resize}")
    try:
        rows = digits() if what == "digits" else open_source(what)
        return _prepare(rows, np.random.default_rng(seed), resize, limit)
    except (OSError, pa.ArrowException) as error:
        raise InvalidData(f"'{what}' can not be read ({one_line(error)}): {ACCEPTED}") from None


def augment(
    images: Float[Tensor, "b c h w"], *, flip: bool = False, generator: torch.Generator
) -> Float[Tensor, "b c h w"]:
    """Shift each image by up to 1/8 of its size, filling with zeros, and mirror half of them if `flip`.

    Args:
        images: Normalised, so that zero is the mean colour.
        flip: Mirror left to right with probability 1/2.
        generator: Draws shifts and flips, on its own device; the same state gives the same result.
    """
    b, c, h, w = images.shape
    reach_y, reach_x = h // 8, w // 8

    def drawn(high: int) -> Tensor:
        values = torch.randint(high, (b, 1), generator=generator, device=generator.device)
        return values.to(images.device)

    rows = drawn(2 * reach_y + 1) + torch.arange(h, device=images.device)
    columns = drawn(2 * reach_x + 1) + torch.arange(w, device=images.device)
    if flip:
        columns = torch.where(drawn(2).bool(), columns.flip(1), columns)
    padded = F.pad(images, (reach_x, reach_x, reach_y, reach_y))
    batch = torch.arange(b, device=images.device)[:, None, None, None]
    channel = torch.arange(c, device=images.device)[None, :, None, None]
    return padded[batch, channel, rows[:, None, :, None], columns[:, None, None, :]]


def steps(images: int, batch_size: int) -> int:
    """Batches an epoch, as `batches` makes them."""
    whole, rest = divmod(images, batch_size)
    return whole + (rest > 0 and (whole == 0 or rest >= _least(batch_size)))


def _least(batch_size: int) -> int:
    """Images of a last batch that is not dropped."""
    return min(batch_size, max(2, batch_size // 2))


def batches(
    split: Split,
    batch_size: int,
    *,
    generator: torch.Generator,
    augmented: bool = False,
    flip: bool = False,
    order: Int[Tensor, " b"] | None = None,
) -> Iterator[tuple[Float[Tensor, "b c h w"], Int[Tensor, " b"]]]:
    """One epoch in shuffled batches.

    A last batch of a single image, or of fewer than `batch_size // 2`, is dropped (its statistics are poor, or none),
    unless it is the only one.

    Args:
        split: The images.
        batch_size: Images a batch, at least 1.
        generator: Draws the order and the augmentation.
        augmented: Pass each batch through `augment`.
        flip: Given to `augment`, without effect unless `augmented`: usually the `flip` of the `ImageData`.
        order: Positions of the images to take, which may repeat; a random permutation where None.
    """
    if order is None:
        order = torch.randperm(len(split), generator=generator, device=generator.device)
    order = order.to(split.labels.device)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        if start > 0 and len(chosen) < _least(batch_size):
            return
        images = split.images[chosen]
        yield augment(images, flip=flip, generator=generator) if augmented else images, split.labels[chosen]


def _prepare(rows: Rows, rng: np.random.Generator, resize: int | None, limit: int | None) -> ImageData:
    """Settle splits on the labels, read the kept rows, normalise."""
    names, codes = np.unique(rows.labels, return_inverse=True)
    classes = tuple(str(name) for name in names)
    _check_labels(rows, classes, codes)
    tags = _draw_parts(codes, rows.parts, rng)
    kept = np.arange(len(codes)) if limit is None else _stratified(codes, tags, limit, rng)
    images = rows.read(kept, resize)
    if images.dtype == torch.uint8:
        images = images.float() / 255
    broken = (~torch.isfinite(images)).flatten(1).any(1)
    if broken.any():
        row = int(kept[int(broken.int().argmax())])
        part = "the images" if rows.parts is None else rows.parts[row]
        number = row + 1 if rows.parts is None else int((rows.parts[: row + 1] == part).sum())
        raise InvalidData(
            f"{rows.name}: {int(broken.sum())} images have NaN or infinite pixels (the first is number {number} of "
            f"{part}); mend or remove them"
        )
    labels, tags = torch.from_numpy(codes[kept]).long(), tags[kept]
    parts = {part: torch.from_numpy(np.flatnonzero(tags == part)) for part in ("train", "validation", "test")}
    mean, std = torch.empty(2, images.shape[1], dtype=torch.float64)
    for c in range(len(mean)):  # channel by channel, in double precision, to hold few copies
        channel = images[parts["train"], c].double()
        mean[c], deviation = channel.mean(), channel.std(correction=0)
        std[c] = deviation if deviation > 1e-6 * mean[c].abs() else 1.0  # a constant channel becomes zeros
    images.sub_(mean.float()[:, None, None]).div_(std.float()[:, None, None])
    split = {part: Split(images[index], labels[index]) for part, index in parts.items()}
    flip = images.shape[1] == 3
    return ImageData(rows.name, **split, classes=classes, mean=tuple(mean.tolist()), std=tuple(std.tolist()), flip=flip)


def _check_labels(rows: Rows, classes: tuple[str, ...], codes: NDArray[Any]) -> None:
    """Refuse labels that can not be learnt and tested."""
    if not len(codes):
        raise InvalidData(f"{rows.name} holds no images: expected at least two classes of {MIN_CLASS} images")
    if len(classes) < 2:
        raise InvalidData(f"{rows.name} has one class only ('{classes[0]}'): expected at least two")
    learnt = np.full(len(codes), True) if rows.parts is None else rows.parts != "test"
    counts = np.bincount(codes[learnt], minlength=len(classes))
    if rows.parts is not None:
        for part in ("train", "test"):
            if not (rows.parts == part).any():
                raise InvalidData(f"{rows.name} has no {part} images: expected both train and test, or no splits")
        for part in ("test", "validation"):
            foreign = np.setdiff1d(codes[rows.parts == part], codes[rows.parts == "train"])
            if len(foreign):
                raise InvalidData(
                    f"{rows.name}: the {part} part has class '{classes[foreign[0]]}', which train has not; "
                    "give every class some training images"
                )
    if counts.min() < MIN_CLASS:
        few = int(counts.argmin())
        raise InvalidData(
            f"{rows.name}: class '{classes[few]}' has {counts[few]} images to learn from, expected at least "
            f"{MIN_CLASS}; add some or remove the class"
        )


def _draw_parts(codes: NDArray[Any], given: NDArray[Any] | None, rng: np.random.Generator) -> NDArray[Any]:
    """The split of each row; the splits that are not given are drawn from the training rows, class by class."""
    tags = np.full(len(codes), "train", dtype="<U10") if given is None else given.astype("<U10")
    shares = {"test": 0.2, "validation": 0.25} if given is None else {"validation": 0.2}
    for part, share in shares.items():
        if given is not None and (given == part).any():
            continue
        for code in np.unique(codes):
            pool = rng.permutation(np.flatnonzero((codes == code) & (tags == "train")))
            tags[pool[: round(share * len(pool))]] = part
    return tags


def _stratified(codes: NDArray[Any], tags: NDArray[Any], limit: int, rng: np.random.Generator) -> NDArray[Any]:
    """At most `limit` rows, sorted: each class and split in proportion, but not none of any."""
    keys = [f"{tag} {code}" for tag, code in zip(tags, codes, strict=True)]
    _, strata, counts = np.unique(keys, return_inverse=True, return_counts=True)
    if limit < len(counts):
        raise InvalidData(f"--limit {limit} is too small: {len(counts)} images is one of each class in each split")
    target = min(limit, len(codes))
    share = counts * target / len(codes)
    quota = np.maximum(1, np.floor(share).astype(int))
    while quota.sum() > target:  # the ones that were rounded up to 1 are paid for by the largest
        quota[int(quota.argmax())] -= 1
    quota[np.argsort(quota - share, kind="stable")[: target - quota.sum()]] += 1
    order = rng.permutation(len(codes))
    kept = [order[strata[order] == stratum][:n] for stratum, n in enumerate(quota)]
    return np.sort(np.concatenate(kept))
