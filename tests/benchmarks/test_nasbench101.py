"""NAS-Bench-101's TFRecord files: records and messages by their published definitions."""

from __future__ import annotations

import base64
import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from archgen import spaces
from archgen.benchmarks import read_nasbench101
from archgen.benchmarks.nasbench101 import fields, masked_crc32c, records
from archgen.errors import InvalidTable, UnknownName
from archgen.evaluators import TabularEvaluator
from archgen.spaces import ModuleSpace

CONV = ("0100001000010000", "input,conv3x3-bn-relu,maxpool3x3,output")
LINE = ("010001000", "input,conv1x1-bn-relu,output")


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def message(params: int, evaluations: list[tuple[float, ...]]) -> bytes:
    """`ModelMetrics` with fields of every wire type that the published definition has."""
    out = b""
    for values in evaluations:
        inner = b"".join(varint(field << 3 | 1) + struct.pack("<d", v) for field, v in enumerate(values, start=1))
        inner += varint(6 << 3 | 2) + varint(4) + b"/ckp"
        out += varint(1 << 3 | 2) + varint(len(inner)) + inner
    return out + varint(2 << 3) + varint(params) + varint(3 << 3 | 1) + struct.pack("<d", 1234.5)


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def row(name: str, module: tuple[str, str], epochs: int, final: tuple[float, ...], params: int = 10) -> bytes:
    packed = message(params, [(0.0, 0.0, 0.1, 0.1, 0.1), (0.5, 9.0, 0.5, 0.5, 0.5), (1.0, *final)])
    return record(json.dumps([name, epochs, *module, base64.b64encode(packed).decode()]).encode())


ROWS = [
    row("a1", CONV, 108, (1000.0, 1.0, 0.9375, 0.9), 300_000),
    row("b2", LINE, 108, (500.0, 0.75, 0.625, 0.5), 2),
    row("a1", CONV, 108, (1100.0, 1.0, 0.9125, 0.92), 300_000),
    row("a1", CONV, 12, (100.0, 0.5, 0.25, 0.125), 300_000),
]


@pytest.fixture
def modules() -> ModuleSpace:
    space = spaces.load("nasbench101")
    assert isinstance(space, ModuleSpace)
    return space


def test_runs_of_a_module_are_averaged(tmp_path: Path, modules: ModuleSpace) -> None:
    (tmp_path / "f.tfrecord").write_bytes(b"".join(ROWS))
    frame = read_nasbench101(tmp_path / "f.tfrecord")
    assert frame["module_hash"].tolist() == ["a1", "b2"]
    expected = {"train_seconds": 1050.0, "train_acc": 100.0, "val_acc": 92.5, "test_acc": 91.0, "params": 300_000}
    assert frame.loc[0, list(expected)].to_dict() == pytest.approx(expected)
    assert frame["val_acc_12ep"].tolist() == pytest.approx([25.0, np.nan], nan_ok=True)
    first = modules.from_graph(["conv3x3-bn-relu", "maxpool3x3"], [(0, 1), (1, 2), (2, 3)])
    assert modules.parse(frame["arch"][0]) == first
    frame.to_parquet(tmp_path / "t.parquet")
    table = TabularEvaluator(modules, tmp_path / "t.parquet", needed=["test_acc"], partial=True)
    assert table.evaluate([first], seed=0)[0].values["test_acc"] == pytest.approx(91.0)


def test_the_checksum_is_that_of_tfrecord() -> None:
    """CRC-32C of "123456789" is the published check value E3069283; masking turns and adds."""
    rotated = (0xE3069283 >> 15 | 0xE3069283 << 17) & 0xFFFFFFFF
    assert masked_crc32c(b"123456789") == (rotated + 0xA282EAD8) & 0xFFFFFFFF


def test_records_are_read_one_by_one(tmp_path: Path) -> None:
    file = io.BytesIO(b"".join(ROWS))
    reader = records(file, tmp_path)
    next(reader)
    assert file.tell() == len(ROWS[0])
    assert len(list(reader)) == 3
    assert list(records(io.BytesIO(b""), tmp_path)) == []


def test_fields_of_every_wire_type() -> None:
    """The varint and text examples of the protocol buffers' encoding guide, and both fixed widths."""
    assert list(fields(b"\x08\x96\x01\x12\x07testing")) == [(1, 150), (2, b"testing")]
    assert list(fields(b"\x19" + b"\x01" * 8 + b"\x25" + b"\x02" * 4)) == [(3, b"\x01" * 8), (4, b"\x02" * 4)]
    for damaged in (b"\x08", b"\x12\x07test", b"\x19\x01", b"\x0b", b"\x08" + b"\xff" * 11):
        with pytest.raises(ValueError, match=r"cut off|unknown|10 bytes"):
            list(fields(damaged))


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    whole = b"".join(ROWS)
    for cut in range(len(ROWS[0]) + 1, len(whole), 97):
        if cut in np.cumsum([len(r) for r in ROWS]):
            continue
        (tmp_path / "f").write_bytes(whole[:cut])
        with pytest.raises(InvalidTable, match="is cut off in record"):
            read_nasbench101(tmp_path / "f")


def test_other_files_are_refused(tmp_path: Path) -> None:
    def refuse(content: bytes, match: str) -> None:
        (tmp_path / "f").write_bytes(content)
        with pytest.raises(InvalidTable, match=match) as caught:
            read_nasbench101(tmp_path / "f")
        assert "\n" not in str(caught.value)

    refuse(b"", "is empty")
    refuse(b"arch,acc\n" * 9, "is not a TFRecord file of NAS-Bench-101, or damaged at record 0")
    refuse(ROWS[0] + b"\x00" + ROWS[1][1:], "damaged at record 1")
    refuse(record(b"no json"), "record 0 is not one of NAS-Bench-101")
    refuse(record(b'["a", 108]'), "record 0 is not one of NAS-Bench-101")
    refuse(record(json.dumps(["a", 108, *LINE, "?"]).encode()), "record 0")
    two = base64.b64encode(message(1, [(0.0,) * 5] * 2)).decode()
    refuse(record(json.dumps(["a", 108, *LINE, two]).encode()), "expected 3 evaluations, got 2")
    short = base64.b64encode(message(1, [(0.0,) * 3] * 3)).decode()
    refuse(record(json.dumps(["a", 108, *LINE, short]).encode()), "lacks a measurement")
    refuse(ROWS[0] + row("a1", LINE, 108, (1.0, 1.0, 1.0, 1.0)), "another module has the hash a1")
    unknown = (LINE[0], "input,conv9x9,output")
    refuse(row("c", unknown, 108, (1.0, 1.0, 1.0, 1.0)), "is not of the space nasbench101")
    with pytest.raises(InvalidTable, match="is not a file"):
        read_nasbench101(tmp_path / "none")
    with pytest.raises(UnknownName, match="did you mean 'cifar10'"):
        read_nasbench101(tmp_path / "f", "cifar100")
