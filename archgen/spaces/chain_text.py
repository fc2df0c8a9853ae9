"""Published text forms of chains: how the labels of the slots are written on one line."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from archgen.errors import InvalidArchitecture, InvalidSpace
from archgen.registry import Registry
from archgen.spaces.stages import SKIP

if TYPE_CHECKING:
    from archgen.spaces.chain import ChainSpace

TEXT_FORMS: Registry[type[TextForm]] = Registry("text form of a chain")
"""By the name that a TOML file's `text` gives."""


class TextForm(ABC):
    """Writes and reads the labels of a chain's slots.

    Args:
        space: The space whose architectures are written; made before its variables are used.

    Raises:
        InvalidSpace: The form can not write the architectures of this space.
    """

    def __init__(self, space: ChainSpace) -> None:
        self.space = space

    @abstractmethod
    def format(self, labels: Mapping[str, str]) -> str:
        """One line of text for the label of each slot."""

    @abstractmethod
    def parse(self, text: str) -> dict[str, str]:
        """Label of each slot; raises `InvalidArchitecture`. The space checks labels and depths afterwards."""


def slot_texts(space: ChainSpace, parts: list[str], text: str, joined: str) -> dict[str, str]:
    """Hand the parts of a text to the slots in order; raises `InvalidArchitecture` if their number is another."""
    if len(parts) != len(space.slots):
        raise InvalidArchitecture(
            f"expected {len(space.slots)} entries {joined}, such as '{space.example()}', got {len(parts)} in "
            f"{text[:120]!r}"
        )
    return dict(zip(space.slots, parts, strict=True))


@TEXT_FORMS.register("labels")
class Labels(TextForm):
    """The labels of all slots joined by `|`."""

    def format(self, labels: Mapping[str, str]) -> str:
        return "|".join(labels.values())

    def parse(self, text: str) -> dict[str, str]:
        return slot_texts(self.space, text.strip().split("|"), text, "joined by '|'")


@TEXT_FORMS.register("indices")
class Indices(TextForm):
    """The position of each slot's label among the labels that it may carry, joined by `_`."""

    separator = "_"

    def format(self, labels: Mapping[str, str]) -> str:
        slots = self.space.slots
        return self.separator.join(str(slots[name].index(label)) for name, label in labels.items())

    def parse(self, text: str) -> dict[str, str]:
        parts = text.strip().split(self.separator) if self.separator else list(text.strip())
        how = f"joined by '{self.separator}'" if self.separator else "without gaps"
        labels = {}
        for name, part in slot_texts(self.space, parts, text, how).items():
            allowed = self.space.slots[name]
            if not (part.isascii() and part.isdigit() and part == str(int(part)) and int(part) < len(allowed)):
                raise InvalidArchitecture(f"{name} must be a number from 0 to {len(allowed) - 1}, got '{part[:60]}'")
            labels[name] = allowed[int(part)]
        return labels


@TEXT_FORMS.register("digits")
class Digits(Indices):
    """`indices` without a separator, for slots of at most ten labels."""

    separator = ""

    def __init__(self, space: ChainSpace) -> None:
        super().__init__(space)
        if any(len(labels) > 10 for labels in space.slots.values()):
            raise InvalidSpace("text = 'digits' is for slots of at most ten labels, use 'indices'")


@TEXT_FORMS.register("once_for_all")
class OnceForAll(TextForm):
    """Once-for-All's dictionary as JSON: `{"ks": [7, ...], "e": [6, ...], "d": [4, ...], "r": [224]}`.

    `ks` and `e` are the kernel and expansion of all blocks of all stages, `d` the depth of each stage, `r` the
    resolution. Blocks that are left out are written as 0; any number is accepted there, as the published code
    leaves what it drew. `image_size` is accepted for `r`, `wid` is ignored.
    """

    def __init__(self, space: ChainSpace) -> None:
        super().__init__(space)
        staged = [slot for stage in space.stages for slot in stage.slots]
        if list(space.slots) != ["resolution", *staged] or any(len(s.slots) != len(s.blocks) for s in space.stages):
            raise InvalidSpace("text = 'once_for_all' is for a 'resolution' and stages with one slot a block")

    def format(self, labels: Mapping[str, str]) -> str:
        blocks = [label.split("_") if label != SKIP else ["k0", "e0"] for label in list(labels.values())[1:]]
        kernels, expansions = [int(k[1:]) for k, _ in blocks], [int(e[1:]) for _, e in blocks]
        depths = [stage.depth(labels) for stage in self.space.stages]
        return json.dumps({"ks": kernels, "e": expansions, "d": depths, "r": [int(labels["resolution"][1:])]})

    def parse(self, text: str) -> dict[str, str]:
        try:
            value = json.loads(text)
            given = {key: value[key] for key in ("ks", "e", "d")}
            given["r"] = value["r"] if "r" in value else value["image_size"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidArchitecture(f"expected '{self.space.example()}', got {text[:120]!r} ({error!r})") from None
        stages = self.space.stages
        blocks = sum(len(stage.blocks) for stage in stages)
        lengths = {"ks": blocks, "e": blocks, "d": len(stages), "r": 1}
        given["r"] = given["r"] if isinstance(given["r"], list) else [given["r"]]
        for key, length in lengths.items():
            right = isinstance(given[key], list) and all(type(number) is int for number in given[key])
            if not right or len(given[key]) != length:
                raise InvalidArchitecture(f"'{key}' must be {length} integers, got {str(given[key])[:120]}")
        numbers = iter(zip(given["ks"], given["e"], strict=True))
        labels = {"resolution": f"r{given['r'][0]}"}
        for stage, depth in zip(stages, given["d"], strict=True):
            for i, ((slot,), (kernel, expansion)) in enumerate(zip(stage.blocks, numbers, strict=False)):
                labels[slot] = f"k{kernel}_e{expansion}" if i < depth else SKIP
        return labels
