"""Reading published pickles without running anything that they say.

`pickle.load` calls whatever a file names. `RestrictedUnpickler` builds containers, numbers, texts and arrays, knows a
few names by heart, and refuses every other one before it is looked up. Weights are not read: a tensor becomes
`WITHHELD`, so torch is not involved, and of a `torch.save` file only the pickle is read.
"""

from __future__ import annotations

import bz2
import pickle
import re
import zipfile
from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from archgen.errors import InvalidTable

Compact = Callable[[object, dict[Any, Any]], None]
"""Called whenever items were put into a dictionary, with the key under which it will be put itself (if it will be)."""

LEGACY_TORCH = 0x1950A86A20F9469CFC6C
"""The number that a `torch.save` file from before torch 1.6 begins with, as a pickle of its own."""


def read_pickle(path: Path, compact: Compact | None = None) -> Any:
    """The data in a pickle, plain or compressed by bzip2, or in a file of `torch.save`, old or new.

    Args:
        path: The file; it is read from front to back, never held in memory.
        compact: May take out of each dictionary what is not needed, so that the whole never is in memory.

    Raises:
        InvalidTable: No such file, not a pickle, cut off, or naming something that is not data; nothing was run.
    """
    if not path.is_file():
        raise InvalidTable(f"{path} is not a file: expected a published benchmark; check the path")
    try:
        with _opened(path) as file:
            value = RestrictedUnpickler(file, compact).load()
            if value == LEGACY_TORCH:  # weights come after what is wanted here
                for _ in ("protocol", "byte order and sizes", "value"):
                    value = RestrictedUnpickler(file, compact).load()
            elif file.read(1):  # at the end of the file, archives compare their checksums
                raise pickle.UnpicklingError("it goes on after its value")
            return value
    except pickle.UnpicklingError as error:
        raise InvalidTable(f"{path} is refused as a pickle: {_one_line(error)}; get it from its publisher") from None
    except Exception as error:  # whatever a damaged stream makes of the decoders: there is no end to the list
        what = f"{type(error).__name__}: {_one_line(error)}"
        raise InvalidTable(f"{path} is not a whole pickle ({what}); download it again") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The stream of the pickle in a file of any of the forms of `read_pickle`."""
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start.startswith(b"BZh"):
            with bz2.open(file) as unpacked:
                yield unpacked
        elif start == b"PK\x03\x04":
            with zipfile.ZipFile(file) as archive:
                inside = [name for name in archive.namelist() if name.endswith("data.pkl")]
                if not inside:
                    raise pickle.UnpicklingError("it is a zip archive without data.pkl")
                with archive.open(inside[0]) as member:
                    yield member
        else:
            yield file


# -- what a pickle may name ----------------------------------------------------------------------------------------


class Withheld:
    """What stands for a tensor, its storage, or something else that belongs to weights."""

    def __repr__(self) -> str:
        return "WITHHELD"


WITHHELD: Final = Withheld()


def _withhold(*_: object) -> Withheld:
    return WITHHELD


class _Kind:
    """numpy's type of numbers or texts, of a plain one: no objects, no records."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?[biufcSU]\d{1,9}|bool", code):
            raise pickle.UnpicklingError(f"it has arrays of {str(code)[:40]!r}, expected numbers or texts")
        self.dtype: np.dtype[Any] = np.dtype(code)

    def set_state(self, state: Any) -> None:
        if state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("it has arrays of records, expected numbers or texts")
        self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """A numpy array of a pickle; `numpy.asarray` gives it."""

    def __init__(self, *_: object) -> None:
        self._values: NDArray[Any] = np.empty(0)

    def set_state(self, state: Any) -> None:
        _, shape, kind, by_columns, data = state
        if not isinstance(kind, _Kind) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("it has an array of something else than numbers or texts")
        self._values = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if by_columns else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self._values, dtype, copy=copy)


def _scalar(kind: _Kind, data: bytes) -> object:
    if not isinstance(kind, _Kind) or not isinstance(data, bytes):
        raise pickle.UnpicklingError("it has a numpy number that is none")
    return np.frombuffer(data, kind.dtype)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it has bytes in {encoding!r}, expected latin1")
    return str.encode(text, "latin1")


_HARMLESS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): Array,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _HARMLESS |= {(_module, "scalar"): _scalar, (_module, "_reconstruct"): Array}
for _module in ("builtins", "__builtin__"):
    _HARMLESS |= {(_module, kind.__name__): kind for kind in (set, frozenset, list, dict, int, float, bytes)}

_OF_WEIGHTS = re.compile(
    r"torch\.([A-Z][A-Za-z0-9]*Storage|Size|device|[a-z]+\d*)|torch\._utils\._rebuild_[a-z0-9_]+"
    r"|torch\.storage\.\w+|torch\.nn\.parameter\.Parameter"
)


class _Memo:
    """What an unpickler remembers by number, with equal texts held once and four bytes for each mention of one.

    A published table of gigabytes is mostly such texts: the names of epochs, again for every training run.
    """

    def __init__(self) -> None:
        self._mentions = array("I")  # for each number the place of its text, from 1; 0 for what is no text
        self._places: dict[str, int] = {}
        self._texts: list[str] = [""]
        self._others: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._mentions)

    def __setitem__(self, number: int, value: Any) -> None:
        place = 0
        if type(value) is str:
            place = self._places.setdefault(value, len(self._texts))
            if place == len(self._texts):
                self._texts.append(value)
        if number == len(self._mentions):
            self._mentions.append(place)
        elif number < len(self._mentions):
            self._mentions[number] = place
        else:  # numbers that leave some out, which no pickler writes
            place = 0
        if place == 0:
            self._others[number] = value

    def __getitem__(self, number: int) -> Any:
        place = self._mentions[number] if number < len(self._mentions) else 0
        return self._texts[place] if place else self._others[number]


_OPCODES: dict[int, Any] = pickle._Unpickler.dispatch


class RestrictedUnpickler(pickle._Unpickler):
    """Unpickles data and nothing else; dictionaries may be made smaller while the file is being read.

    It derives from the unpickler of the standard library that is written in Python: only there a dictionary can be seen
    before the whole file is in memory. It reads about a million numbers a second.

    Args:
        file: At the start of a pickle.
        compact: See `read_pickle`.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(_OPCODES)
    stack: list[Any]

    def __init__(self, file: IO[bytes], compact: Compact | None = None) -> None:
        super().__init__(file, encoding="latin1")  # texts of Python 2
        self._compact = compact
        self.memo: Any = _Memo()

    def find_class(self, module: str, name: str, /) -> Any:
        """The harmless thing of that name; raises `UnpicklingError` for every other one."""
        if (module, name) in _HARMLESS:
            return _HARMLESS[module, name]
        if _OF_WEIGHTS.fullmatch(f"{module}.{name}"):
            return _withhold
        raise pickle.UnpicklingError(f"it names {f'{module}.{name}'[:80]!r}, which is not data")

    def persistent_load(self, pid: Any) -> Any:
        """The storage of a tensor."""
        return WITHHELD

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it makes objects in a way that data has no need of")

    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Kind | Array):
            target.set_state(state)
        elif not isinstance(target, OrderedDict | Withheld):  # their states are notes beside weights
            self._refuse()

    def _filled(self) -> None:
        if self._compact is not None and isinstance(self.stack[-1], dict):
            self._compact(self.stack[-2] if len(self.stack) > 1 else None, self.stack[-1])

    def _setitem(self) -> None:
        _OPCODES[pickle.SETITEM[0]](self)
        self._filled()

    def _setitems(self) -> None:
        _OPCODES[pickle.SETITEMS[0]](self)
        self._filled()

    dispatch |= dict.fromkeys([code[0] for code in (pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX)], _refuse)
    dispatch |= dict.fromkeys([code[0] for code in (pickle.EXT1, pickle.EXT2, pickle.EXT4)], _refuse)
    dispatch |= dict.fromkeys([c[0] for c in (pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER)], _refuse)
    dispatch |= {pickle.BUILD[0]: _build, pickle.SETITEM[0]: _setitem, pickle.SETITEMS[0]: _setitems}
