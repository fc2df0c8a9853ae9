"""Where images come from: `digits`, an `.npz`, a folder of class folders, a parquet file.

Each source lists its rows with their labels and reads only those that it is asked for.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from archgen.errors import InvalidData

MIN_SIZE, MAX_SIZE = 8, 1024
"""Smallest image that is accepted, largest `resize`, in pixels of a side."""
MAX_PIXELS = 50_000_000
"""Largest image that is decoded: what claims more is taken for a decompression bomb."""
MAX_BYTES = 8_000_000_000
"""Most bytes that files may unpack to, and images take as float32: a megabyte may claim a gigabyte."""
MAX_ROWS = 10_000_000
"""Most rows of a parquet file, which may claim any number of equal ones in a few bytes."""
MIN_CLASS = 5
"""Fewest images of a class: three to train on, one to validate, one to test."""

ACCEPTED = (
    "expected the word digits, an .npz file, a folder of class folders of images, or a parquet file (or the folder "
    "of one)"
)
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")  # of Pillow's many decoders, the ones that are needed
_BATCH = 32  # encoded images of a parquet file in memory
_PARTS = {"train": "train", "test": "test", "val": "validation", "validation": "validation"}


class Rows(NamedTuple):
    """What a source holds: `n` rows, not yet read."""

    name: str
    labels: NDArray[Any]
    """`n` integers or strings."""
    parts: NDArray[Any] | None
    """The split of each row (`train`, `validation`, `test`), or None when they are to be drawn."""
    read: Callable[[NDArray[Any], int | None], Tensor]
    """Images of some rows, resized: `b c h w`, uint8 or float32."""


def open_source(what: str) -> Rows:
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


def digits() -> Rows:
    from sklearn.datasets import load_digits  # slow to import, and needed here only

    digits = load_digits()
    images = torch.tensor(digits.images / 16.0, dtype=torch.float32)[:, None]
    return Rows("digits", digits.target, None, lambda rows, size: _resized(images[torch.from_numpy(rows)], size))


def _npz(path: Path) -> Rows:
    keys = [f"{axis}_{part}" for part in ("train", "test", "val") for axis in "xy"]
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise InvalidData(f"{path} unpacks to {size / 1e9:.3g} GB, of which at most {MAX_BYTES / 1e9:g} are read")
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays: dict[str, NDArray[Any]] = {key: file[key] for key in keys if key in file}
    except InvalidData:
        raise
    except Exception as error:  # a damaged archive fails in its own way in zipfile, zlib, numpy's parser ...
        raise InvalidData(f"{path} is not an .npz of plain arrays ({one_line(error)}); write it anew") from None
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
        _check_room(len(rows), pixels.shape[3], pixels.shape[2], pixels.shape[1], size)
        with np.errstate(over="ignore"):  # what float32 can not hold becomes infinite, and is reported as that
            kept = pixels[rows] if pixels.dtype == np.uint8 else pixels[rows].astype(np.float32)
        return _resized(torch.from_numpy(np.ascontiguousarray(kept)), size)

    return Rows(path.stem, y, tags, read)


def _folder(path: Path) -> Rows:
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

    return Rows(path.resolve().name, np.array(labels), np.array(tags) if parts else None, read)


def _subfolders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def _parquet(path: Path) -> Rows:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            column = next((name for name in ("jpeg", "image") if name in names), None)
            if column is None or "label" not in names:
                raise InvalidData(f"{path} has columns {', '.join(names)[:200]}: expected jpeg (or image) and label")
            if file.metadata.num_rows > MAX_ROWS:
                raise InvalidData(f"{path} has {file.metadata.num_rows:,} rows, of which at most {MAX_ROWS:,} are read")
            labels = _texts_once(path, file.schema_arrow, "label")
            given = _texts_once(path, file.schema_arrow, "split") if "split" in names else None
            sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
    except pa.ArrowException as error:
        raise InvalidData(f"{path} is not a whole parquet file ({one_line(error)}); copy it again") from None
    labels = [int(v) if isinstance(v, float) and v.is_integer() else v for v in labels]  # pandas, beside a missing one
    kind = str if labels and isinstance(labels[0], str) else int
    for i, label in enumerate(labels, start=1):
        if not isinstance(label, kind) or isinstance(label, bool):
            raise InvalidData(f"{path} row {i}: label must be an integer or a string, the same in all, got {label!r}")
    longest = max((len(label) for label in labels if kind is str), default=0)
    if 4 * longest * len(labels) > MAX_BYTES:  # as numpy stores them
        raise InvalidData(f"{path}: a label has {longest:,} letters; shorten it")
    tags = None
    if given is not None:
        for i, tag in enumerate(given, start=1):
            if tag not in _PARTS:
                raise InvalidData(f"{path} row {i}: split is {tag!r}, expected {', '.join(_PARTS)}")
        tags = np.array([_PARTS[tag] for tag in given])

    def items(rows: NDArray[Any]) -> Iterator[tuple[str, io.BytesIO]]:
        ends = np.cumsum(sizes, dtype=np.int64)
        groups = np.unique(np.searchsorted(ends, rows, side="right"))  # rows are sorted
        with pq.ParquetFile(path) as file:
            for group in groups.tolist():
                start = int(ends[group]) - sizes[group]
                for batch in file.iter_batches(_BATCH, row_groups=[group], columns=[column]):
                    here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(batch))]
                    for i, value in zip(here, batch.column(0).take(pa.array(here - start)).to_pylist(), strict=True):
                        encoded = value.get("bytes") if isinstance(value, dict) else value
                        if not isinstance(encoded, bytes):
                            raise InvalidData(
                                f"{path} row {i + 1}: {column} must be encoded bytes, got {encoded!r:.40}"
                            )
                        yield f"{path} row {i + 1}", io.BytesIO(encoded)
                    start += len(batch)

    return Rows(path.stem, np.array(labels), tags, lambda rows, size: _decoded(items(rows), len(rows), size))


def _texts_once(path: Path, schema: pa.Schema, name: str) -> list[Any]:
    """Values of a column, an equal text once in memory: a file may claim a long one a million times."""
    kind = schema.field(name).type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    values: list[Any] = []
    with pq.ParquetFile(path, read_dictionary=[name] if text else None) as file:
        for batch in file.iter_batches(65_536, columns=[name]):
            column = batch.column(0)
            if pa.types.is_dictionary(column.type):
                known = column.dictionary.to_pylist()
                values += [None if k is None else known[k] for k in column.indices.to_pylist()]
            else:
                values += column.to_pylist()
    return values


# -- from images to tensors -------------------------------------------------------------------------------------------


def _decoded(items: Iterable[tuple[str, Path | io.BytesIO]], total: int, size: int | None) -> Tensor:
    """Decode encoded images to `b c h w` uint8; `c` is 3 if any of them has colour, else 1."""
    images: list[NDArray[np.uint8]] = []
    first = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; what can not be decoded raises
        for where, source in tqdm(items, "reading images", total, leave=False, disable=None, delay=1.0):
            image = _decode_one(where, source, size, total)
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


def _decode_one(where: str, source: Path | io.BytesIO, size: int | None, total: int) -> NDArray[np.uint8]:
    """The pixels `h w` of a grey image, `h w 3` of a coloured one, if there is room for `total` of its kind."""
    try:
        with Image.open(source, formats=_FORMATS) as opened:
            pixels = opened.width * opened.height  # known from the header, before anything is decoded
            if pixels <= MAX_PIXELS:
                colour = not opened.mode.startswith(("1", "L", "I", "P"))
                _check_room(total, opened.width, opened.height, 3 if colour else 1, size)
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
    except InvalidData:
        raise
    except Image.DecompressionBombError:
        pixels = 2 * MAX_PIXELS
    except Exception as error:  # corrupt bytes lead decoders to errors of every kind
        raise InvalidData(f"{where} can not be decoded as an image ({one_line(error)}); mend or remove it") from None
    raise InvalidData(f"{where} claims more than {MAX_PIXELS // 10**6} megapixels; make it smaller or remove it")


def _check_size(where: str, width: int, height: int, resize: int | None) -> None:
    """Refuse images that are not square or too small, unless they are to be resized."""
    if resize is None and width != height:
        raise InvalidData(f"{where} has {width}x{height} pixels and is not square; make all square with --resize 32")
    if resize is None and width < MIN_SIZE:
        raise InvalidData(
            f"{where} has {width}x{height} pixels, expected {MIN_SIZE}x{MIN_SIZE} at least; enlarge with --resize 32"
        )


def _check_room(total: int, width: int, height: int, channels: int, resize: int | None) -> None:
    """Refuse so many images that, as float32, they fill the memory."""
    width, height = (width, height) if resize is None else (resize, resize)
    taken = total * width * height * channels * 4
    if taken > MAX_BYTES:
        raise InvalidData(
            f"{total:,} images of {width}x{height} pixels take {taken / 1e9:.3g} GB, of which at most "
            f"{MAX_BYTES / 1e9:g} are read; make them smaller by --resize 32, or take fewer by --limit 1000"
        )


def _resized(images: Tensor, size: int | None) -> Tensor:
    if size is None or images.shape[2:] == (size, size):
        return images
    enlarged = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return enlarged.round().to(images.dtype) if images.dtype == torch.uint8 else enlarged


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
