"""Reading, splitting, normalising and augmenting images."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from archgen import image_sources
from archgen.config import data_dir
from archgen.data import ImageData, Split, augment, batches, load_data, steps
from archgen.errors import InvalidData

Arrays = dict[str, Any]


def arrays(n: int = 40, shape: tuple[int, ...] = (8, 8, 3), classes: int = 4, seed: int = 0) -> Arrays:
    """An .npz's content: `n` random 8-bit training images and half as many test images."""
    rng = np.random.default_rng(seed)
    return {
        "x_train": rng.integers(0, 256, (n, *shape), dtype=np.uint8),
        "y_train": np.arange(n) % classes,
        "x_test": rng.integers(0, 256, (n // 2, *shape), dtype=np.uint8),
        "y_test": np.arange(n // 2) % classes,
    }


def saved(path: Path, content: Arrays) -> str:
    np.savez(path, **content)
    return str(path)


def picture(size: tuple[int, int] = (9, 9), mode: str = "RGB", seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 2**16, size[::-1], dtype=np.uint16))
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    return image.convert(mode)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def class_folders(root: Path, names: tuple[str, ...] = ("ant", "bee"), n: int = 10, **kwargs: Any) -> Path:
    for c, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(n):
            picture(seed=100 * c + i, **kwargs).save(root / name / f"{i}.png")
    return root


def table(path: Path, n: int = 40, column: str = "jpeg", **columns: Any) -> Path:
    images = [encoded(picture(seed=i)) for i in range(n)]
    frame = pd.DataFrame({column: images, "label": [i % 4 for i in range(n)]} | columns)
    frame.to_parquet(path, row_group_size=7)
    return path


def fails(what: object, *words: str, **kwargs: Any) -> None:
    """`load_data` raises `InvalidData` in one line that has all the words."""
    with pytest.raises(InvalidData) as caught:
        load_data(str(what), **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


def sizes(images: ImageData) -> tuple[int, int, int]:
    return len(images.train), len(images.validation), len(images.test)


def pixels(images: ImageData, split: Split) -> torch.Tensor:
    """Undo the normalisation by the fields that are there for it."""
    mean, std = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (images.mean, images.std))
    return split.images * std + mean


# -- digits ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits")


def test_digits_are_split_60_20_20_in_every_class(digits: ImageData) -> None:
    assert sum(sizes(digits)) == 1797
    assert (digits.in_channels, digits.image_size, digits.flip) == (1, 8, False)
    assert digits.classes == tuple("0123456789")
    total = sum(split.labels.bincount() for split in (digits.train, digits.validation, digits.test))
    for split, share in ((digits.train, 0.6), (digits.validation, 0.2), (digits.test, 0.2)):
        assert split.images.dtype == torch.float32
        assert split.labels.dtype == torch.int64
        assert ((split.labels.bincount() - share * total).abs() <= 1).all()
    assert digits.describe().startswith("digits: 1,797 images of 8x8 pixels, 1 channel, 10 classes (1,0")


def test_only_the_training_part_is_standardised_exactly(digits: ImageData) -> None:
    assert digits.train.images.mean().item() == pytest.approx(0, abs=1e-4)
    assert digits.train.images.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert digits.test.images.mean().abs().item() > 1e-4  # its own statistics were not used
    raw = pixels(digits, digits.test) * 16
    torch.testing.assert_close(raw, raw.round(), atol=1e-4, rtol=0)
    assert (raw.min().round(), raw.max().round()) == (0, 16)


def test_the_splits_share_no_row_and_depend_on_the_seed_only(digits: ImageData) -> None:
    again, other = load_data("digits", seed=0), load_data("digits", seed=1)
    for name in ("train", "validation", "test"):
        assert torch.equal(getattr(again, name).images, getattr(digits, name).images)
        assert torch.equal(getattr(again, name).labels, getattr(digits, name).labels)
    assert not torch.equal(other.test.labels, digits.test.labels)
    rows = [row.numpy().tobytes() for s in (digits.train, digits.validation, digits.test) for row in s.images]
    assert len(set(rows)) == 1797  # the digits hold no image twice


# -- .npz -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["n h w", "n h w c", "n c h w", "n h w 1"])
def test_npz_layouts_are_told_apart(tmp_path: Path, layout: str) -> None:
    content = arrays(shape={"n h w": (8, 8), "n h w 1": (8, 8, 1)}.get(layout, (8, 8, 3)))
    expected = torch.from_numpy(content["x_test"]).float() / 255
    expected = expected[:, None] if layout == "n h w" else expected.permute(0, 3, 1, 2)
    if layout == "n c h w":
        content |= {key: content[key].transpose(0, 3, 1, 2) for key in ("x_train", "x_test")}
    images = load_data(saved(tmp_path / "some.npz", content))
    assert images.name == "some"
    assert images.flip == (images.in_channels == 3)
    torch.testing.assert_close(pixels(images, images.test), expected, atol=1e-5, rtol=0)
    assert images.test.labels.tolist() == content["y_test"].tolist()


def test_npz_holds_out_a_fifth_of_the_training_part_and_takes_a_given_validation_part(tmp_path: Path) -> None:
    content = arrays()
    images = load_data(saved(tmp_path / "a.npz", content))
    assert sizes(images) == (32, 8, 20)
    assert images.validation.labels.bincount().tolist() == [2, 2, 2, 2]
    given = content | {"x_val": content["x_test"][:6], "y_val": content["y_test"][:6]}
    assert sizes(load_data(saved(tmp_path / "b.npz", given))) == (40, 6, 20)


def test_float_pixels_keep_their_units_and_labels_any_numbering(tmp_path: Path) -> None:
    content = arrays(shape=(8, 8))
    content |= {key: content[key].astype(np.float64) * 3 for key in ("x_train", "x_test")}
    content |= {"y_train": 10.0 * content["y_train"][:, None] - 10, "y_test": 10 * content["y_test"] - 10}
    images = load_data(saved(tmp_path / "a.npz", content))
    assert images.classes == ("-10", "0", "10", "20")
    assert images.mean[0] == pytest.approx(3 * 127.5, rel=0.05)
    assert images.test.labels.tolist() == [i % 4 for i in range(20)]


def test_a_constant_channel_becomes_zeros(tmp_path: Path) -> None:
    content = arrays()
    content["x_train"][..., 1] = content["x_test"][..., 1] = 77
    images = load_data(saved(tmp_path / "a.npz", content))
    assert images.test.images[:, 1].abs().max() < 1e-5
    assert images.std[1] == 1.0


def test_resize_of_arrays_is_antialiased_and_makes_them_square(tmp_path: Path) -> None:
    content = arrays(shape=(64, 48))
    fails(saved(tmp_path / "a.npz", content), "48x64", "--resize 32")
    images = load_data(str(tmp_path / "a.npz"), resize=8)
    assert images.train.images.shape[1:] == (1, 8, 8)
    # white noise: each pixel averages 48 of them, where plain bilinear would average 4
    assert images.std[0] < 0.5 * 74 / 255 / 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("y_test"), ["no y_test", "x_train, y_train, x_test, y_test"]),
        (lambda a: a.update(x_val=a["x_test"]), ["no y_val"]),
        (lambda a: a.update(y_train=a["y_train"][:-1]), ["40 images", "39 labels"]),
        (lambda a: a.update(y_train=a["y_train"] * 0, y_test=a["y_test"] * 0), ["one class only ('0')"]),
        (lambda a: a.update(y_train=np.where(np.arange(40) < 4, 9, a["y_train"])), ["class '9' has 4 images", "5"]),
        (lambda a: a.update(y_test=a["y_test"] + 1), ["test part has class '4'"]),
        (lambda a: a.update({k: a[k][:0] for k in a}), ["no images"]),
        (lambda a: a.update({k: a[k][:0] for k in ("x_test", "y_test")}), ["no test images"]),
        (lambda a: a.update(x_test=a["x_test"][:, :, :5]), ["(8, 5, 3)", "(8, 8, 3)", "--resize 32"]),
        (lambda a: a.update(x_test=a["x_test"] / 255), ["float64", "uint8"]),
        (lambda a: a.update({k: a[k][:, :7, :7] for k in ("x_train", "x_test")}), ["7x7", "8x8", "--resize 32"]),
        (lambda a: a.update(x_train=a["x_train"].astype(str)), ["x_train must be numbers"]),
        (lambda a: a.update(x_train=a["x_train"].reshape(40, -1)), ["n h w", "(40, 192)"]),
        (lambda a: a.update(y_train=np.eye(4)[a["y_train"]]), ["y_train must be one integer or string", "(40, 4)"]),
        (lambda a: a.update(y_train=a["y_train"] + 0.5), ["y_train must be one integer or string"]),
        (lambda a: a.update(y_train=a["y_train"].astype(str)), ["some labels are strings"]),
        (lambda a: a.update({k: np.tile(a[k], (1, 1, 1, 4)) for k in ("x_train", "x_test")}), ["1 to 4 channels"]),
        (lambda a: a.update(y_train=np.array([{}] * 40)), ["plain arrays"]),  # would have to be unpickled
    ],
)
def test_npz_that_can_not_be_trained_on_is_refused(
    tmp_path: Path, change: Callable[[Arrays], object], words: list[str]
) -> None:
    content = arrays()
    change(content)
    fails(saved(tmp_path / "a.npz", content), *words)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_pixels_that_are_not_finite_are_refused_with_their_place(tmp_path: Path, value: float) -> None:
    content = arrays()
    content |= {key: content[key].astype(np.float64) for key in ("x_train", "x_test")}
    content["x_test"][6, 0, 0, 0] = content["x_test"][8, 1, 1, 1] = value
    fails(saved(tmp_path / "a.npz", content), "2 images", "NaN or infinite", "number 7 of test")


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    for name, content in {"a.npz": b"PK\x03\x04 cut", "b.npz": b"", "c.npz": b"text"}.items():
        (tmp_path / name).write_bytes(content)
        fails(tmp_path / name, name, "not an .npz")
    np.save(tmp_path / "d.npy", np.zeros(3))
    (tmp_path / "d.npy").rename(tmp_path / "d.npz")
    fails(tmp_path / "d.npz", "not an .npz")


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {**arrays(), "x_more": np.zeros((4000, 32, 32), np.uint8)}
    np.savez_compressed(tmp_path / "a.npz", **content)
    assert (tmp_path / "a.npz").stat().st_size < 50_000
    monkeypatch.setattr(np, "load", None)
    monkeypatch.setattr(image_sources, "MAX_BYTES", 4_000_000)
    fails(tmp_path / "a.npz", "unpacks to 0.00411 GB, of which at most 0.004 are read")


# -- folders --------------------------------------------------------------------------------------------------------


def test_class_folders_are_classes_in_sorted_order(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "insects", ("wasp", "ant", "bee"))
    (root / "ant" / "notes.txt").write_text("no image")
    (root / ".cache").mkdir()
    images = load_data(str(root))
    assert (images.name, images.classes, sizes(images)) == ("insects", ("ant", "bee", "wasp"), (18, 6, 6))
    assert (images.in_channels, images.image_size, images.flip) == (3, 9, True)
    shown = np.asarray(picture(seed=0)).transpose(2, 0, 1) / 255  # the first image of "wasp"
    everywhere = [images.train, images.validation, images.test]
    same = torch.cat([(pixels(images, s) - torch.tensor(shown)).abs().amax((1, 2, 3)) < 1e-3 for s in everywhere])
    assert torch.cat([s.labels for s in everywhere])[same].tolist() == [2]


def test_train_and_test_folders_are_the_splits(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "test", n=3)
    assert sizes(load_data(str(tmp_path))) == (16, 4, 6)
    class_folders(tmp_path / "val", n=2)
    assert sizes(load_data(str(tmp_path))) == (20, 4, 6)


def test_a_training_folder_without_a_test_folder_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "val")
    fails(tmp_path, "train, val", "both train and test")


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("I;16", 1), ("P", 3), ("RGBA", 3), ("RGB", 3)]
)
def test_the_channels_follow_the_images_colours(tmp_path: Path, mode: str, channels: int) -> None:
    images = load_data(str(class_folders(tmp_path, mode=mode)))
    assert images.in_channels == channels
    assert pixels(images, images.train).std() > 0.15  # nothing was clipped away


def test_a_grey_palette_is_grey(tmp_path: Path) -> None:
    class_folders(tmp_path, mode="L")
    picture(mode="L").convert("P").save(tmp_path / "ant" / "x.gif")
    assert load_data(str(tmp_path)).in_channels == 1


def test_grey_files_among_coloured_ones_become_rgb(tmp_path: Path) -> None:
    class_folders(tmp_path, mode="L")
    picture().save(tmp_path / "bee" / "0.png")
    images = load_data(str(tmp_path))
    assert images.in_channels == 3
    spread = torch.cat([pixels(images, s) for s in (images.train, images.validation, images.test)])
    grey = (spread.amax(1) - spread.amin(1)).amax((1, 2)) < 1e-4
    assert grey.sum() == 19


def test_files_of_several_sizes_need_resize(tmp_path: Path) -> None:
    class_folders(tmp_path)
    picture((20, 14)).save(tmp_path / "bee" / "x.webp", lossless=True)
    fails(tmp_path, "9x9", "20x14", "x.webp", "--resize 32")
    assert load_data(str(tmp_path), resize=16).image_size == 16


def test_files_that_are_not_square_or_too_small_need_resize(tmp_path: Path) -> None:
    fails(class_folders(tmp_path / "a", size=(12, 9)), "12x9", "not square", "--resize 32")
    fails(class_folders(tmp_path / "b", size=(7, 7)), "7x7", "8x8", "--resize 32")
    assert load_data(str(tmp_path / "b"), resize=8).image_size == 8


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path)
    whole = (tmp_path / "ant" / "3.png").read_bytes()
    for content in (b"", b"no image", whole[:-40], whole[:60] + b"\0" * 60 + whole[120:]):
        (tmp_path / "ant" / "3.png").write_bytes(content)
        fails(tmp_path, "3.png", "can not be decoded")


def test_a_decompression_bomb_is_not_decoded(tmp_path: Path) -> None:
    class_folders(tmp_path)
    for width in (7_000, 10_000, 14_000):  # above the bound, above Pillow's warning, above Pillow's refusal
        Image.new("1", (width, 14_000)).save(tmp_path / "bee" / "bomb.png")
        fails(tmp_path, "bomb.png", "50 megapixels", resize=8)


def test_images_that_fill_the_memory_together_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header of the first is enough; what they are resized to counts."""
    folder = class_folders(tmp_path / "insects", size=(100, 100))
    table(tmp_path / "a.parquet", 20)
    decoded = []
    real = image_sources.ImageOps.exif_transpose
    monkeypatch.setattr(image_sources.ImageOps, "exif_transpose", lambda image: decoded.append(1) or real(image))
    monkeypatch.setattr(image_sources, "MAX_BYTES", 20 * 100 * 100 * 3 * 4 - 1)
    fails(folder, "20 images of 100x100 pixels take 0.0024 GB", "--resize 32", "--limit 1000")
    fails(tmp_path / "a.parquet", "20 images of 200x200 pixels", resize=200)
    assert not decoded
    assert load_data(str(tmp_path / "a.parquet")).image_size == 9
    monkeypatch.setattr(image_sources, "MAX_BYTES", 100_000)
    fails(saved(tmp_path / "b.npz", arrays()), "60 images of 32x32 pixels", resize=32)


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    fails(tmp_path, "no folders")
    class_folders(tmp_path)
    (tmp_path / "cat").mkdir()
    fails(tmp_path, "cat", "no images")


def test_a_class_of_too_few_files_is_refused_and_of_five_accepted(tmp_path: Path) -> None:
    fails(class_folders(tmp_path / "a", n=4), "class 'ant' has 4 images", "at least 5")
    assert sizes(load_data(str(class_folders(tmp_path / "b", n=5)))) == (6, 2, 2)


# -- parquet --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["jpeg", "image"])
def test_parquet_reads_encoded_images_in_every_row_group(tmp_path: Path, column: str) -> None:
    path = table(tmp_path / "a.parquet", column=column, split=["train"] * 24 + ["test"] * 16)
    images = load_data(str(path))
    assert sizes(images) == (20, 4, 16)
    expected = np.stack([np.asarray(picture(seed=i)).transpose(2, 0, 1) for i in range(24, 40)]) / 255
    torch.testing.assert_close(pixels(images, images.test).numpy(), expected.astype(np.float32), atol=1e-5, rtol=0)
    assert images.test.labels.tolist() == [i % 4 for i in range(24, 40)]


def test_parquet_takes_structs_of_bytes_string_labels_and_a_folder_of_one_file(tmp_path: Path) -> None:
    structs = [{"bytes": encoded(picture(seed=i), "JPEG"), "path": None} for i in range(40)]
    labels = [("cat", "dog")[i % 2] for i in range(40)]
    (tmp_path / "pets").mkdir()
    table(tmp_path / "pets" / "a.parquet", column="image", image=structs, label=labels)
    images = load_data(str(tmp_path / "pets"))
    assert (images.name, images.classes, sizes(images)) == ("pets", ("cat", "dog"), (24, 8, 8))
    table(tmp_path / "pets" / "b.parquet")
    fails(tmp_path / "pets", "2 parquet files")


def test_parquet_split_column_may_name_a_validation_part(tmp_path: Path) -> None:
    splits = ["train"] * 24 + ["val", "validation"] * 4 + ["test"] * 8
    assert sizes(load_data(str(table(tmp_path / "a.parquet", split=splits)))) == (24, 8, 8)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": [0, 1] * 19 + [0, None]}, ["row 40", "None"]),
        ({"label": [0.5, 1.0] * 20}, ["row 1", "integer or a string", "0.5"]),
        ({"split": ["train"] * 39 + ["tset"]}, ["row 40", "tset", "train, test"]),
        ({"split": ["train"] * 40}, ["no test images"]),
        ({"jpeg": [b"junk"] * 40}, ["row 1 ", "can not be decoded"]),
        ({"jpeg": [None] * 40}, ["row 1", "encoded bytes"]),
        ({"jpeg": ["text"] * 40}, ["row 1", "encoded bytes"]),
    ],
)
def test_parquet_with_a_bad_row_names_it(tmp_path: Path, columns: dict[str, Any], words: list[str]) -> None:
    fails(table(tmp_path / "a.parquet", **columns), *words)


def test_a_parquet_of_any_number_of_equal_rows_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "a.parquet")
    monkeypatch.setattr(image_sources, "_texts_once", None)  # the count stands in the file's metadata
    monkeypatch.setattr(image_sources, "MAX_ROWS", 39)
    fails(path, "has 40 rows, of which at most 39 are read")


def test_a_long_label_of_many_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "a.parquet", label=["a" * 1000, "b"] * 20)
    assert load_data(str(path)).classes == ("a" * 1000, "b")
    monkeypatch.setattr(image_sources, "MAX_BYTES", 4 * 1000 * 40 - 1)
    fails(path, "a label has 1,000 letters")


def test_parquet_rows_are_read_in_batches_whatever_the_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "a.parquet", 100)
    for size in (3, 7, 50):
        pd.read_parquet(path).to_parquet(tmp_path / "b.parquet", row_group_size=size)
        monkeypatch.setattr(image_sources, "_BATCH", 5)
        for limit in (None, 30):
            whole, batched = (load_data(str(p), limit=limit) for p in (path, tmp_path / "b.parquet"))
            assert torch.equal(whole.train.images, batched.train.images)
            assert torch.equal(whole.test.labels, batched.test.labels)


def test_parquet_without_its_columns_or_its_end_is_refused(tmp_path: Path) -> None:
    fails(table(tmp_path / "a.parquet", column="picture"), "picture, label", "jpeg (or image) and label")
    whole = table(tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    fails(tmp_path / "b.parquet", "not a whole parquet file")
    fails(table(tmp_path / "c.parquet", n=0), "no images")
    damaged = bytearray(table(tmp_path / "d.parquet").read_bytes())
    damaged[4:2000] = bytes(1996)  # the first pages of images; the footer is whole
    (tmp_path / "d.parquet").write_bytes(damaged)
    fails(tmp_path / "d.parquet", "can not be read")


# -- limit, and what is no data at all -------------------------------------------------------------------------------


def test_limit_decodes_only_what_it_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    original = image_sources.Image.open

    def counting(*args: Any, **kwargs: Any) -> Any:
        opened.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(image_sources.Image, "open", counting)
    path = table(tmp_path / "a.parquet", n=120, split=["train"] * 80 + ["test"] * 40)
    images = load_data(str(path), limit=30)
    assert len(opened) == sum(sizes(images)) == 30
    assert len(load_data(str(path), limit=30).train) == len(images.train)


@pytest.mark.parametrize("limit", [30, 31, 59, 100, 500, 1797, 5000])
def test_limit_keeps_splits_and_classes_in_proportion(limit: int) -> None:
    images = load_data("digits", limit=limit)
    kept = sizes(images)
    assert sum(kept) == min(limit, 1797)
    for split in (images.train, images.validation, images.test):
        assert split.labels.bincount(minlength=10).min() >= 1
    if limit >= 100:
        np.testing.assert_allclose(kept, np.array([0.6, 0.2, 0.2]) * min(limit, 1797), atol=10)


@pytest.mark.parametrize("limit", [-1, 0, 29])
def test_a_limit_below_one_image_of_each_class_in_each_split_is_refused(limit: int) -> None:
    fails("digits", f"--limit {limit}", "30", limit=limit)


@pytest.mark.parametrize("resize", [0, 7, 100_000])
def test_resize_outside_its_range_is_refused(resize: int) -> None:
    fails("digits", "8 to 1024", str(resize), resize=resize)


def test_resize_enlarges_digits() -> None:
    assert load_data("digits", resize=12, limit=50).train.images.shape[1:] == (1, 12, 12)


def test_what_is_not_data_is_refused_with_what_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    for what in ("digit", "", str(tmp_path / "none.npz"), str(tmp_path / "a.txt"), "x" * 5000):
        fails(what, "digits", ".npz", "class folders", "parquet")


def test_the_published_cifar10_has_its_splits() -> None:
    folder = data_dir()
    if folder is None or not (folder / "cifar10").is_dir():
        pytest.skip("the benchmark data is absent")
    images = load_data(str(folder / "cifar10"), limit=600)
    assert sizes(images) == (400, 100, 100)
    assert (images.in_channels, images.image_size, len(images.classes), images.flip) == (3, 32, 10, True)
    assert images.mean == pytest.approx((0.491, 0.482, 0.447), abs=0.03)


# -- batches and augmentation ----------------------------------------------------------------------------------------


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_augment_shifts_by_an_eighth_at_most_and_fills_with_zeros() -> None:
    image = torch.arange(1.0, 2 * 16 * 24 + 1).reshape(2, 16, 24)
    padded = torch.nn.functional.pad(image, (3, 3, 2, 2))
    windows = {(y, x): padded[:, y : y + 16, x : x + 24].numpy().tobytes() for y in range(5) for x in range(7)}
    out = augment(image.expand(2000, -1, -1, -1), generator=seeded())
    seen = {row.numpy().tobytes() for row in out}
    assert seen == set(windows.values())  # a window is missed with probability 35 (34 / 35)^2000 < 1e-23


def test_augment_mirrors_half_of_the_images_if_asked() -> None:
    images = torch.arange(8.0).expand(1000, 1, 8, 8)
    mirrored = (augment(images, flip=True, generator=seeded()).diff(dim=-1)[:, 0, 4, 3] < 0).float().mean()
    assert 0.42 < mirrored < 0.58  # outside with probability 4e-7
    assert (augment(images, generator=seeded()).diff(dim=-1)[:, 0, 4, 3] > 0).all()


def test_augment_repeats_with_the_generator_and_leaves_its_input() -> None:
    images = torch.randn(10, 3, 8, 8, generator=seeded())
    before = images.clone()
    first = augment(images, flip=True, generator=seeded(1))
    assert torch.equal(first, augment(images, flip=True, generator=seeded(1)))
    assert not torch.equal(first, augment(images, flip=True, generator=seeded(2)))
    assert torch.equal(images, before)


def numbered(n: int) -> Split:
    """Images that show their label."""
    return Split(torch.arange(float(n))[:, None, None, None].expand(n, 1, 8, 8), torch.arange(n))


def test_an_epoch_has_every_image_once_with_its_label_in_an_order_of_the_seed() -> None:
    epoch = list(batches(numbered(40), 16, generator=seeded()))
    assert [len(y) for _, y in epoch] == [16, 16, 8]
    order = torch.cat([y for _, y in epoch])
    assert torch.equal(torch.cat([x[:, 0, 0, 0] for x, _ in epoch]), order.float())
    assert sorted(order.tolist()) == list(range(40)) != order.tolist()
    assert torch.equal(order, torch.cat([y for _, y in batches(numbered(40), 16, generator=seeded())]))
    assert not torch.equal(order, torch.cat([y for _, y in batches(numbered(40), 16, generator=seeded(1))]))


def test_a_poor_last_batch_is_dropped_unless_it_is_the_only_one() -> None:
    assert [len(y) for _, y in batches(numbered(39), 16, generator=seeded())] == [16, 16]
    assert [len(y) for _, y in batches(numbered(3), 16, generator=seeded())] == [3]


def test_augmented_batches_are_shifted(digits: ImageData) -> None:
    plain = next(batches(digits.train, 64, generator=seeded()))
    shifted = next(batches(digits.train, 64, generator=seeded(), augmented=True, flip=digits.flip))
    assert torch.equal(plain[1], shifted[1])
    assert not torch.equal(plain[0], shifted[0])


def test_an_epoch_takes_the_images_that_are_asked_for() -> None:
    split = load_data("digits", limit=200).train
    order = torch.tensor([3, 3, 7, 0, 7])
    drawn = list(batches(split, 2, generator=torch.Generator(), order=order))
    assert [len(labels) for _, labels in drawn] == [2, 2], "a single image has no statistics"
    assert torch.equal(torch.cat([images for images, _ in drawn]), split.images[order[:4]])


@pytest.mark.parametrize(
    ("images", "size"), [(7, 8), (8, 8), (11, 8), (12, 8), (16, 8), (1, 1), (3, 1), (3, 2), (7, 3)]
)
def test_batches_are_as_many_as_they_are_said_to_be(images: int, size: int) -> None:
    split = Split(torch.zeros(images, 1, 8, 8), torch.zeros(images, dtype=torch.long))
    assert steps(images, size) == len(list(batches(split, size, generator=torch.Generator())))
