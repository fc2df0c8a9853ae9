"""Pickles are read as data: whatever else they say is refused before it is run."""

from __future__ import annotations

import bz2
import io
import os
import pickle
import subprocess
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from archgen.benchmarks.pickles import WITHHELD, Array, read_pickle
from archgen.errors import InvalidTable

DATA: dict[str, Any] = {
    "numbers": [0, -1, 2**40, 2**80, 1.5, True, None, float("inf")],
    "texts": ("ä", "", b"\x00\xff"),
    "nested": {("a", 1): OrderedDict([(0, 0.5), (1, {2, 3})]), 7: frozenset({1})},
    "default": defaultdict(list, {"x": [1]}),
}


def plain(path: Path, value: Any, protocol: int) -> None:
    path.write_bytes(pickle.dumps(value, protocol))


def packed(path: Path, value: Any, protocol: int) -> None:
    path.write_bytes(bz2.compress(pickle.dumps(value, protocol)))


def torch_zip(path: Path, value: Any, protocol: int) -> None:
    torch.save(value, path, pickle_protocol=max(protocol, 2))


def torch_legacy(path: Path, value: Any, protocol: int) -> None:
    torch.save(value, path, pickle_protocol=max(protocol, 2), _use_new_zipfile_serialization=False)


FORMS = [plain, packed, torch_zip, torch_legacy]


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("write", FORMS)
def test_data_comes_back_as_it_was(tmp_path: Path, write: Callable[..., None], protocol: int) -> None:
    write(tmp_path / "f", DATA, protocol)
    found = read_pickle(tmp_path / "f")
    assert found == DATA
    assert list(found["nested"]["a", 1]) == [0, 1]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", ["<f8", ">f4", "<i8", "|b1", "<U3", "<c16"])
def test_arrays_and_their_numbers_come_back(tmp_path: Path, kind: str, protocol: int) -> None:
    values = np.asfortranarray(np.arange(6).reshape(2, 3).astype(kind))
    plain(tmp_path / "f", [values, values[1, 2], values[0]], protocol)
    array, number, again = read_pickle(tmp_path / "f")
    assert isinstance(array, Array)
    np.testing.assert_array_equal(np.asarray(array), values)
    np.testing.assert_array_equal(np.asarray(again), values[0])
    assert number == values[1, 2]


def test_numbers_that_older_numpy_wrote_come_back(tmp_path: Path) -> None:
    new = pickle.dumps(np.float64(0.25), 2)
    assert b"numpy._core.multiarray" in new
    (tmp_path / "f").write_bytes(new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_pickle(tmp_path / "f") == 0.25


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_weights_are_left_out(tmp_path: Path, write: Callable[..., None]) -> None:
    weights = torch.nn.Linear(2, 3).state_dict()
    write(tmp_path / "f", {"net": weights, "p": torch.nn.Parameter(torch.ones(1)), "acc": 91.5}, 2)
    assert read_pickle(tmp_path / "f") == {"net": {"weight": WITHHELD, "bias": WITHHELD}, "p": WITHHELD, "acc": 91.5}


def test_dictionaries_can_be_made_smaller_while_they_are_read(tmp_path: Path) -> None:
    seen = []

    def compact(key: object, found: dict[Any, Any]) -> None:
        if key == "long":
            seen.append(len(found))
            total = sum(found.values())
            found.clear()
            found["sum"] = total

    whole = {"a": {"long": dict.fromkeys(range(2500), 1), "b": 2}, "c": {"long": {5: 3}}}
    plain(tmp_path / "f", whole, 4)
    assert read_pickle(tmp_path / "f", compact) == {"a": {"long": {"sum": 2500}, "b": 2}, "c": {"long": {"sum": 3}}}
    assert max(seen) <= 1001  # never the 2,500 of them


def test_what_is_remembered_may_have_any_numbers(tmp_path: Path) -> None:
    """A list `r` is put at 900, a text at 0 and again at 900: what is got is what was put there last."""
    (tmp_path / "f").write_bytes(b"(lp900\nVa\np0\nag900\nag0\nag900\n0Vb\np900\nag900\na.")
    found = read_pickle(tmp_path / "f")
    assert found[0] == "a"
    assert found[1] is found
    assert found[2:] == ["a", "b", "b"]


# -- what must not run ------------------------------------------------------------------------------------------------


class Runs:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Plain:
    """An object of a class that nobody knows."""


ATTACKS = {
    "system": lambda mark: Runs(os.system, f"touch {mark}"),
    "open": lambda mark: Runs(open, str(mark), "w"),
    "eval": lambda mark: Runs(eval, f"open({str(mark)!r}, 'w')"),
    "subprocess": lambda mark: Runs(subprocess.check_call, ["touch", str(mark)]),
    "getattr": lambda mark: Runs(getattr, "", "join"),
    "in a dictionary": lambda mark: {"fine": 1, "worse": [Runs(os.mkdir, str(mark))]},
    "a class": lambda mark: Plain(),
    "numpy from a file": lambda mark: Runs(np.memmap, str(mark), "float64", "w+", 0, (3,)),
    "objects in an array": lambda mark: np.array([Runs(os.mkdir, str(mark))], dtype=object),
    "records": lambda mark: np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]),
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize("attack", list(ATTACKS))
def test_nothing_runs(tmp_path: Path, attack: str, write: Callable[..., None], protocol: int) -> None:
    mark = tmp_path / "mark"
    value = ATTACKS[attack](mark)
    write(tmp_path / "f", value, protocol)
    with pytest.raises(InvalidTable, match=r"is refused as a pickle: .*; get it from its publisher"):
        read_pickle(tmp_path / "f")
    assert not mark.exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"(S'x'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'x'\no.",  # OBJ
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",  # NEWOBJ, even of what is known
        b"\x80\x04ccollections\nOrderedDict\n)}\x92.",  # NEWOBJ_EX
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x02ccollections\nOrderedDict\n}S'x'\nI1\nsb.",  # BUILD on a class
        b"\x80\x02c_codecs\nencode\n}S'__code__'\nI1\nsb.",  # BUILD on a function
        b"\x80\x04\x8c\x0bcollections\x8c\x12OrderedDict.update\x93.",  # an attribute of what is known
        b"\x80\x05\x97.",  # a buffer from elsewhere
    ],
)
def test_crafted_streams_are_refused(tmp_path: Path, opcodes: bytes) -> None:
    (tmp_path / "f").write_bytes(opcodes)
    with pytest.raises(InvalidTable, match="is refused as a pickle"):
        read_pickle(tmp_path / "f")


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", FORMS)
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "f", {"rows": [{"acc": float(i), "name": f"n{i}"} for i in range(30)]}, 4)
    whole = (tmp_path / "f").read_bytes()
    end = len(whole) if write is not torch_legacy else whole.index(b"n29")  # after the value come empty lists
    for cut in {*np.linspace(0, end - 1, 25).astype(int).tolist()}:
        (tmp_path / "f").write_bytes(whole[:cut])
        with pytest.raises(InvalidTable, match=r"not a whole pickle|refused"):
            read_pickle(tmp_path / "f")


def test_what_is_no_pickle_is_refused_in_one_line(tmp_path: Path) -> None:
    for content in (
        b"arch,acc\na,1\n",
        b"\x00" * 99,
        b"BZh9 no",
        b"PK\x03\x04 no",
        np.random.default_rng(0).bytes(200),
    ):
        (tmp_path / "f").write_bytes(content)
        with pytest.raises(InvalidTable) as caught:
            read_pickle(tmp_path / "f")
        assert "\n" not in str(caught.value)
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(2))
    (tmp_path / "f").write_bytes(buffer.getvalue())
    with pytest.raises(InvalidTable, match=r"a zip archive without data\.pkl"):
        read_pickle(tmp_path / "f")
    with pytest.raises(InvalidTable, match="is not a file"):
        read_pickle(tmp_path)
