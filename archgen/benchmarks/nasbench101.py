"""NAS-Bench-101 (arXiv 1902.09635), from its published TFRecord files.

`nasbench_only108.tfrecord` and `nasbench_full.tfrecord` hold one record a training run: a JSON list of the module's
hash, the epochs, the adjacency matrix as digits, the operations, and the measurements as a protocol buffer
(`model_metrics.proto`) in base64. Both formats are simple enough to be read here, record by record, without TensorFlow.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from archgen import spaces
from archgen.benchmarks.base import BENCHMARKS, chosen, formatted, needed
from archgen.errors import InvalidTable

LONGEST = 2**20
"""Bytes that a record of the published files never comes near."""

FINAL = 108
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TIME, _TRAIN, _VALIDATION, _TEST = 2, 3, 4, 5
"""Numbers of the fields of `EvaluationData`."""


@BENCHMARKS.register("nas-bench-101")
def read_nasbench101(path: Path | None, dataset: str | None = None) -> pd.DataFrame:
    """The table of an official file, a row a module.

    Columns: `module_hash`; `val_acc`, `test_acc` and `train_acc` in % and `train_seconds` at the end of 108 epochs,
    means over the runs; the same of other lengths with `_4ep`, `_12ep` or `_36ep`; `params`.

    Args:
        path: `nasbench_only108.tfrecord` or `nasbench_full.tfrecord`.
        dataset: `cifar10`, the only one.

    Raises:
        InvalidTable: Not such a file, damaged or cut off; the message says at which record.
        UnknownName: No such data set.
    """
    chosen(dataset, ("cifar10",))
    path = needed(path, "nasbench_only108.tfrecord")
    if not path.is_file():
        raise InvalidTable(f"{path} is not a file: expected a published benchmark; check the path")
    modules: dict[str, tuple[str, str, int]] = {}  # adjacency, operations, parameters
    sums: dict[tuple[str, int], NDArray[np.float64]] = {}  # four measurements and how many runs they are the sums of
    with path.open("rb") as file:
        for number, record in enumerate(records(file, path)):
            try:
                name, epochs, adjacency, operations, packed = json.loads(record)
                params, final = _measured(base64.b64decode(packed, validate=True))
                known = modules.setdefault(name, (adjacency, operations, params))
                if known[:2] != (adjacency, operations):
                    raise ValueError(f"another module has the hash {name}")
                run = np.array([*final, 1.0])
                sums[name, int(epochs)] = sums.get((name, int(epochs)), 0.0) + run
            except (ValueError, TypeError, IndexError, struct.error) as error:
                raise InvalidTable(
                    f"{path}: record {number} is not one of NAS-Bench-101 ({' '.join(str(error).split())[:120]}); "
                    "download the file again"
                ) from None
    if not modules:
        raise InvalidTable(f"{path} is empty: expected records of NAS-Bench-101")
    return _table(path, modules, sums)


def _table(
    path: Path, modules: dict[str, tuple[str, str, int]], sums: dict[tuple[str, int], NDArray[np.float64]]
) -> pd.DataFrame:
    space = spaces.load("nasbench101")
    columns: dict[str, list[object]] = {
        "arch": [formatted(space, _spec(adjacency, ops), path) for adjacency, ops, _ in modules.values()],
        "module_hash": list(modules),
    }
    for epochs in sorted({epochs for _, epochs in sums}, reverse=True):
        suffix = "" if epochs == FINAL else f"_{epochs}ep"
        empty = np.full(5, math.nan)
        means = np.array([(row := sums.get((name, epochs), empty))[:4] / row[4] for name in modules])
        for name, values in zip(("train_seconds", "train_acc", "val_acc", "test_acc"), means.T, strict=True):
            columns[f"{name}{suffix}"] = list(values if name == "train_seconds" else 100 * values)
    return pd.DataFrame({**columns, "params": [params for _, _, params in modules.values()]})


def _spec(adjacency: str, operations: str) -> str:
    """The module as the published `ModelSpec` in JSON."""
    labels = operations.split(",")
    n = len(labels)
    matrix = [[int(digit) for digit in adjacency[row * n : row * n + n]] for row in range(n)]
    return json.dumps({"matrix": matrix, "operations": labels})


# -- TFRecord ----------------------------------------------------------------------------------------------------


def records(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: length (8 bytes), its checksum, data, its checksum (4 bytes each), and so on.

    The checksum of every length is compared, so that a damaged file is not misread from there on; what the data's
    would tell, the formats inside tell too.

    Raises:
        InvalidTable: Not a TFRecord file, or cut off.
    """
    number = 0
    while header := file.read(12):
        if len(header) == 12:
            length, checksum = struct.unpack("<QI", header)
            if length > LONGEST or checksum != masked_crc32c(header[:8]):
                raise InvalidTable(
                    f"{path} is not a TFRecord file of NAS-Bench-101, or damaged at record {number}; download it again"
                )
            data = file.read(length + 4)
            if len(data) == length + 4:
                yield data[:-4]
                number += 1
                continue
        raise InvalidTable(f"{path} is cut off in record {number}; download it again")


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        rest = byte
        for _ in range(8):
            rest = rest >> 1 ^ (0x82F63B78 if rest & 1 else 0)
        table.append(rest)
    return tuple(table)


_CRC = _crc_table()


def masked_crc32c(data: bytes) -> int:
    """TFRecord's checksum: CRC-32C (Castagnoli), turned by 15 bits, plus a constant."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


# -- protocol buffers --------------------------------------------------------------------------------------------


def _measured(message: bytes) -> tuple[int, tuple[float, float, float, float]]:
    """Parameters of a `ModelMetrics`, and training time and three accuracies (in [0, 1]) of its last evaluation.

    The evaluations are those before, halfway through and after training; the last is the one the paper reports.
    """
    params, evaluations = 0, []
    for field, value in fields(message):
        if field == 1 and isinstance(value, bytes):
            evaluations.append(dict(fields(value)))
        elif field == 2 and isinstance(value, int):
            params = value
    if len(evaluations) != 3:
        raise ValueError(f"expected 3 evaluations, got {len(evaluations)}")
    found = [evaluations[2].get(field) for field in (_TIME, _TRAIN, _VALIDATION, _TEST)]
    if not all(isinstance(value, bytes) and len(value) == 8 for value in found):
        raise ValueError("the last evaluation lacks a measurement")
    time, train, validation, test = struct.unpack("<4d", b"".join(value for value in found if isinstance(value, bytes)))
    return params, (time, train, validation, test)


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message: an integer for a varint, bytes for all else.

    Raises:
        ValueError: Cut off, or a group, which is long out of use.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            number, at = _varint(message, at)
            yield key >> 3, number
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} is unknown")
        if at + length > len(message):
            raise ValueError("a message is cut off")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("a message is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has more than 10 bytes")
