"""Images to classify: read, split, normalised; and the shuffled, augmented batches that training takes from them.

Four sources become the same `ImageData`: the word `digits`, an `.npz`, a folder of class folders and a parquet file.
Each source only *lists* its rows; the splits and a `limit` are settled on the labels, and then no image is decoded
that is not kept.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from archgen.errors import InvalidData

MIN_SIZE, MAX_SIZE = 8, 1024
"""Smallest image that is accepted, largest `resize`, in pixels of a side."""
MAX_PIXELS = 50_000_000
"""Largest image that is decoded: what claims more is taken for a decompression bomb."""
MIN_CLASS = 5
"""Fewest images of a class: three to train on, one to validate, one to test."""

ACCEPTED = (
    "expected the word digits, an .npz file, a folder of class folders of images, or a parquet file (or the folder "
    "of one)"
)
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")  # of Pillow's many decoders, the ones that are needed
_PARTS = {"train": "train", "test": "test", "val": "validation", "validation": "validation"}


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
        rows = _digits() if what == "digits" else _open(what)
        return _prepare(rows, np.random.default_rng(seed), resize, limit)
    except (OSError, pa.ArrowException) as error:
        raise InvalidData(f"'{what}' can not be read ({_one_line(error)}): {ACCEPTED}") from None


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


def batches(
    split: Split, batch_size: int, *, generator: torch.Generator, augmented: bool = False, flip: bool = False
) -> Iterator[tuple[Float[Tensor, "b c h w"], Int[Tensor, " b"]]]:
    """One epoch in shuffled batches.

    A last batch of fewer than `batch_size // 2` images is dropped (its statistics are poor), unless it is the only one.

    Args:
        split: The images.
        batch_size: Images a batch, at least 1.
        generator: Draws the order and the augmentation.
        augmented: Pass each batch through `augment`.
        flip: Given to `augment`, without effect unless `augmented`: usually the `flip` of the `ImageData`.
    """
    order = torch.randperm(len(split), generator=generator, device=generator.device).to(split.labels.device)
    for start in range(0, len(split), batch_size):
        chosen = order[start : start + batch_size]
        if start > 0 and len(chosen) < batch_size // 2:
            return
        images = split.images[chosen]
        yield augment(images, flip=flip, generator=generator) if augmented else images, split.labels[chosen]


# -- sources: each lists its rows and can read some of them ---------------------------------------------------------


class _Rows(NamedTuple):
    """What a source holds: `n` rows, not yet read."""

    name: str
    labels: NDArray[Any]
    """`n` integers or strings."""
    parts: NDArray[Any] | None
    """The split of each row (`train`, `validation`, `test`), or None when they are to be drawn."""
    read: Callable[[NDArray[Any], int | None], Tensor]
    """Images of some rows, resized: `b c h w`, uint8 or float32."""


def _open(what: str) -> _Rows:
    """Tell the kind of source; `OSError` and `InvalidData` say what is wrong."""
    path = Path(what)
    if what and path.is_dir():
        tables = sorted(p for p in path.iterdir() if p.suffix == ".parquet" and p.is_file())
        if len(tables) > 1:
            raise InvalidData(f"{path} holds {len(tables)} parquet files: give one of them, such as {tables[0]}")
        return _parquet(tables[0])._replace(name=path.resolve().name) if tables else _folder(path)
    if not what or not path.exists():
        raise InvalidData(f"'{what}' does not exist: {ACCEPTED}")
    if path.suffix == ".npz":
        return _npz(path)
    if path.suffix == ".parquet":
        return _parquet(path)
    raise InvalidData(f"'{path}' is of no kind that can be read: {ACCEPTED}")


def _digits() -> _Rows:
    from sklearn.datasets import load_digits  # slow to import, and needed here only

    digits = load_digits()
    images = torch.tensor(digits.images / 16.0, dtype=torch.float32)[:, None]
    return _Rows("digits", digits.target, None, lambda rows, size: _resized(images[torch.from_numpy(rows)], size))


def _npz(path: Path) -> _Rows:
    keys = [f"{axis}_{part}" for part in ("train", "test", "val") for axis in "xy"]
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays: dict[str, NDArray[Any]] = {key: file[key] for key in keys if key in file}
    except Exception as error:  # a damaged archive fails in its own way in zipfile, zlib, numpy's parser ...
        raise InvalidData(f"{path} is not an .npz of plain arrays ({_one_line(error)}); write it anew") from None
    parts = ["train", "test", *(["val"] if {"x_val", "y_val"} & arrays.keys() else [])]
    missing = [f"{axis}_{part}" for part in parts for axis in "xy" if f"{axis}_{part}" not in arrays]
    if missing:
        raise InvalidData(f"{path} has no {', '.join(missing)}: expected x_train, y_train, x_test, y_test")
    first = arrays["x_train"]
    for part in parts:
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.dtype.kind not in "buif" or x.ndim not in (3, 4) or 0 in x.shape[1:]:
            raise InvalidData(f"{path}: x_{part} must be numbers n h w, n h w c or n c h w, got {x.dtype} {x.shape}")
        if (x.dtype, x.shape[1:]) != (first.dtype, first.shape[1:]):
            raise InvalidData(
                f"{path}: x_{part} is {x.dtype} {x.shape[1:]} an image and x_train {first.dtype} {first.shape[1:]}: "
                "store all parts alike, images of one size (a folder of images may hold several, with --resize 32)"
            )
        whole = y.dtype.kind in "biuU" or (y.dtype.kind == "f" and bool((np.isfinite(y) & (y == np.trunc(y))).all()))
        if not whole or y.ndim == 0 or y.size != len(y):
            raise InvalidData(f"{path}: y_{part} must be one integer or string an image, got {y.dtype} {y.shape}")
        if len(x) != len(y):
            raise InvalidData(f"{path}: x_{part} has {len(x)} images and y_{part} {len(y)} labels; give one each")
    pixels = np.concatenate([arrays[f"x_{part}"] for part in parts])
    labels = [arrays[f"y_{part}"].ravel() for part in parts]
    if any(y.dtype.kind == "U" for y in labels) and any(y.dtype.kind != "U" for y in labels):
        raise InvalidData(f"{path}: some labels are strings and some are numbers; store all alike")
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.shape[-1] <= 4:  # no image is as narrow as that, so these are the channels
        pixels = pixels.transpose(0, 3, 1, 2)
    elif pixels.shape[1] > 4:
        raise InvalidData(f"{path}: x has shape {pixels.shape}: expected 1 to 4 channels, first or last")
    y = np.concatenate([y if y.dtype.kind == "U" else y.astype(np.int64) for y in labels])
    tags = np.repeat([_PARTS[part] for part in parts], [len(labels_of) for labels_of in labels])

    def read(rows: NDArray[Any], size: int | None) -> Tensor:
        _check_size(f"every image of {path}", pixels.shape[3], pixels.shape[2], size)
        with np.errstate(over="ignore"):  # what float32 can not hold becomes infinite, and is reported as that
            kept = pixels[rows] if pixels.dtype == np.uint8 else pixels[rows].astype(np.float32)
        return _resized(torch.from_numpy(np.ascontiguousarray(kept)), size)

    return _Rows(path.stem, y, tags, read)


def _folder(path: Path) -> _Rows:
    folders = _subfolders(path)
    parts = {p: _PARTS[p.name] for p in folders if p.name in _PARTS and _subfolders(p)}
    if parts and not {"train", "test"} <= set(parts.values()):
        raise InvalidData(f"{path} holds {', '.join(p.name for p in parts)}: expected both train and test (and val)")
    kinds = [(part, folder) for p, part in parts.items() for folder in _subfolders(p)]
    kinds = kinds or [("", folder) for folder in folders]
    if not kinds:
        raise InvalidData(f"{path} has no folders in it: expected one folder of images for each class, or a .parquet")
    files, labels, tags = [], [], []
    for part, folder in kinds:
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith("."))
        if not found:
            raise InvalidData(f"{folder} holds no images ({', '.join(_SUFFIXES)}); fill it or take it away")
        files += found
        labels += [folder.name] * len(found)
        tags += [part] * len(found)

    def read(rows: NDArray[Any], size: int | None) -> Tensor:
        return _decoded(((str(files[i]), files[i]) for i in rows), len(rows), size)

    return _Rows(path.resolve().name, np.array(labels), np.array(tags) if parts else None, read)


def _subfolders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def _parquet(path: Path) -> _Rows:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            column = next((name for name in ("jpeg", "image") if name in names), None)
            if column is None or "label" not in names:
                raise InvalidData(f"{path} has columns {', '.join(names)[:200]}: expected jpeg (or image) and label")
            table = file.read(columns=["label", *(["split"] if "split" in names else [])])
            sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
    except pa.ArrowException as error:
        raise InvalidData(f"{path} is not a whole parquet file ({_one_line(error)}); copy it again") from None
    labels = table.column("label").to_pylist()
    labels = [int(v) if isinstance(v, float) and v.is_integer() else v for v in labels]  # pandas, beside a missing one
    kind = str if labels and isinstance(labels[0], str) else int
    for i, label in enumerate(labels, start=1):
        if not isinstance(label, kind) or isinstance(label, bool):
            raise InvalidData(f"{path} row {i}: label must be an integer or a string, the same in all, got {label!r}")
    tags = None
    if "split" in names:
        given = table.column("split").to_pylist()
        for i, tag in enumerate(given, start=1):
            if tag not in _PARTS:
                raise InvalidData(f"{path} row {i}: split is {tag!r}, expected {', '.join(_PARTS)}")
        tags = np.array([_PARTS[tag] for tag in given])

    def items(rows: NDArray[Any]) -> Iterator[tuple[str, io.BytesIO]]:
        start = 0  # one row group in memory at a time; rows are sorted
        with pq.ParquetFile(path) as file:
            for group, size in enumerate(sizes):
                here = rows[(rows >= start) & (rows < start + size)]
                if len(here):
                    values = file.read_row_group(group, columns=[column]).column(0).take(pa.array(here - start))
                    for i, value in zip(here, values.to_pylist(), strict=True):
                        encoded = value.get("bytes") if isinstance(value, dict) else value
                        if not isinstance(encoded, bytes):
                            raise InvalidData(
                                f"{path} row {i + 1}: {column} must be encoded bytes, got {encoded!r:.40}"
                            )
                        yield f"{path} row {i + 1}", io.BytesIO(encoded)
                start += size

    return _Rows(path.stem, np.array(labels), tags, lambda rows, size: _decoded(items(rows), len(rows), size))


# -- from images to tensors -------------------------------------------------------------------------------------------


def _decoded(items: Iterable[tuple[str, Path | io.BytesIO]], total: int, size: int | None) -> Tensor:
    """Decode encoded images to `b c h w` uint8; `c` is 3 if any of them has colour, else 1."""
    images: list[NDArray[np.uint8]] = []
    first = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; what can not be decoded raises
        for where, source in tqdm(items, "reading images", total, leave=False, disable=None, delay=1.0):
            image = _decode_one(where, source, size)
            if not images:
                first = where
                _check_size(where, image.shape[1], image.shape[0], size)
            elif image.shape[:2] != images[0].shape[:2]:
                h, w = images[0].shape[:2]
                raise InvalidData(
                    f"images of several sizes: {first} has {w}x{h} pixels and {where} {image.shape[1]}x"
                    f"{image.shape[0]}; make them one size with --resize 32"
                )
            images.append(image)
    colour = any(image.ndim == 3 for image in images)
    shape = (len(images), *images[0].shape[:2], 3 if colour else 1)
    pixels = np.empty(shape, np.uint8)
    for i, image in enumerate(images):
        pixels[i] = image if image.ndim == 3 else image[:, :, None]  # grey becomes three equal channels
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _decode_one(where: str, source: Path | io.BytesIO, size: int | None) -> NDArray[np.uint8]:
    """The pixels `h w` of a grey image, `h w 3` of a coloured one."""
    try:
        with Image.open(source, formats=_FORMATS) as opened:
            pixels = opened.width * opened.height  # known from the header, before anything is decoded
            if pixels <= MAX_PIXELS:
                image: Image.Image = ImageOps.exif_transpose(opened)
                if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
                    image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8))
                elif image.mode == "P":  # only the palette tells colour from grey
                    rgb = np.asarray(image.convert("RGBA").convert("RGB"))
                    grey = bool((rgb == rgb[:, :, :1]).all())
                    image = Image.fromarray(rgb[:, :, 0].copy() if grey else rgb)
                else:
                    image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
                if size is not None:
                    image = image.resize((size, size), Image.Resampling.BILINEAR)
                return np.asarray(image)
    except Image.DecompressionBombError:
        pixels = 2 * MAX_PIXELS
    except Exception as error:  # corrupt bytes lead decoders to errors of every kind
        raise InvalidData(f"{where} can not be decoded as an image ({_one_line(error)}); mend or remove it") from None
    raise InvalidData(f"{where} claims more than {MAX_PIXELS // 10**6} megapixels; make it smaller or remove it")


def _check_size(where: str, width: int, height: int, resize: int | None) -> None:
    """Refuse images that are not square or too small, unless they are to be resized."""
    if resize is None and width != height:
        raise InvalidData(f"{where} has {width}x{height} pixels and is not square; make all square with --resize 32")
    if resize is None and width < MIN_SIZE:
        raise InvalidData(
            f"{where} has {width}x{height} pixels, expected {MIN_SIZE}x{MIN_SIZE} at least; enlarge with --resize 32"
        )


def _resized(images: Tensor, size: int | None) -> Tensor:
    if size is None or images.shape[2:] == (size, size):
        return images
    enlarged = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return enlarged.round().to(images.dtype) if images.dtype == torch.uint8 else enlarged


# -- splits -----------------------------------------------------------------------------------------------------------


def _prepare(rows: _Rows, rng: np.random.Generator, resize: int | None, limit: int | None) -> ImageData:
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


def _check_labels(rows: _Rows, classes: tuple[str, ...], codes: NDArray[Any]) -> None:
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
