"""Published text forms of the spaces of transformers: FlexiBERT, AutoFormer, ViT-ResNAS."""

from __future__ import annotations

import ast
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.networks.labels import layers, read_label
from archgen.spaces.chain_text import TEXT_FORMS, TextForm
from archgen.spaces.stages import SKIP, Stage

if TYPE_CHECKING:
    from archgen.spaces.chain import ChainSpace


class _Literal(TextForm):
    """A text that is read as a literal of Python, which JSON without true, false and null is too."""

    name: ClassVar[str]

    def check(self) -> None:
        """Raise `InvalidSpace` unless every label of the space comes back as it is written."""
        active = self.space.active
        for i in range(max(map(len, active.values()))):
            labels = {slot: known[i % len(known)] for slot, known in active.items()}
            try:
                same = self.parse(self.format(labels)) == labels
            except (InvalidArchitecture, ValueError):
                same = False
            if not same:
                raise InvalidSpace(
                    f"text = '{self.name}' can not write and read the labels {', '.join(labels.values())}"
                )

    def read(self, text: str, kind: type) -> Any:
        """The value that a text stands for, of the given type."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)  # of texts such as "1is", which are refused anyway
                value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            value = None
        if not isinstance(value, kind):
            raise self.wrong(f"got {text[:120]!r}")
        return value

    def wrong(self, what: str) -> InvalidArchitecture:
        """An error that shows what a text looks like."""
        example = self.format({slot: labels[0] for slot, labels in self.space.active.items()})
        return InvalidArchitecture(f"expected a text such as '{example}', {what}")

    def label(self, slot: str, label: str) -> str:
        """A label, if the slot may carry it."""
        if label not in self.space.active[slot]:
            shown = label if label.isprintable() else repr(label)
            raise InvalidArchitecture(str(UnknownName(f"label of {slot}", shown[:60], self.space.active[slot])))
        return label

    def dictionary(self, text: str, keys: Sequence[str], depth: str, stage: Stage) -> dict[str, Any]:
        """A dictionary of these keys, of which `depth` has the number of layers."""
        value: dict[str, Any] = self.read(text, dict)
        if value.keys() != set(keys):
            raise self.wrong(f"with the keys {', '.join(keys)}, got {list(value)!r:.120}")
        if type(value[depth]) is not int or value[depth] not in stage.depths:
            known = " or ".join(map(str, stage.depths))
            raise InvalidArchitecture(f"'{depth}', the number of layers, must be {known}, got {value[depth]!r:.60}")
        return value


def _per_layer(value: Any, name: str, kinds: tuple[type, ...], depth: int) -> list[Any]:
    """`value` if it is a list of one entry of the given types for each layer."""
    if not isinstance(value, list) or len(value) != depth or not all(type(entry) in kinds for entry in value):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise InvalidArchitecture(
            f"'{name}' must be a list of one {wanted} for each of the {depth} layers, got {value!r:.80}"
        )
    return value


@TEXT_FORMS.register("flexibert")
class FlexiBERT(_Literal):
    """The model dictionary of FlexiBERT's code: `{"l": 2, "o": ["sa", "c"], "h": ..., "n": ..., "f": ..., "p": ...}`.

    `l` layers; for each its operation `o` with parameter `p`, hidden size `h`, number of heads `n` and the sizes `f`
    of the feed-forward network's hidden layers. Written as JSON; Python's way of writing it is read too. The `hetero`
    form of FlexiBERT 2.0 describes other networks, with an operation of its own for each head.
    """

    name = "flexibert"
    keys = ("l", "o", "h", "n", "f", "p")

    def __init__(self, space: ChainSpace) -> None:
        super().__init__(space)
        if len(space.stages) != 1 or space.stages[0].slots != tuple(space.slots) or len(space.stages[0].blocks[0]) != 3:
            raise InvalidSpace("text = 'flexibert' is for one stage with three slots a layer")
        self.stage = space.stages[0]
        self.check()

    def format(self, labels: Mapping[str, str]) -> str:
        values: dict[str, Any] = {key: [] for key in self.keys}
        for _, (operation, hidden, stack) in layers(labels, each=3):
            name, parameter, heads = operation.split("-")
            values["o"].append(name)
            values["h"].append(int(hidden.removeprefix("hidden")))
            values["n"].append(int(heads.removeprefix("h")))
            values["f"].append([int(size) for size in stack.removeprefix("ff").split("-")])
            values["p"].append(int(parameter) if parameter.isdecimal() else parameter)
        return json.dumps({**values, "l": len(values["o"])})

    def parse(self, text: str) -> dict[str, str]:
        value = self.dictionary(text, self.keys, "l", self.stage)
        kinds = {"o": (str,), "h": (int,), "n": (int,), "f": (list,), "p": (str, int)}
        rows = zip(*(_per_layer(value[key], key, kinds[key], value["l"]) for key in kinds), strict=True)
        labels = dict.fromkeys(self.space.slots, SKIP)
        for block, (operation, hidden, heads, stack, parameter) in zip(self.stage.blocks, rows, strict=False):
            row = (f"{operation}-{parameter}-h{heads}", f"hidden{hidden}", f"ff{'-'.join(map(str, stack))}")
            labels.update({slot: self.label(slot, label) for slot, label in zip(block, row, strict=True)})
        return labels


@TEXT_FORMS.register("autoformer")
class AutoFormer(_Literal):
    """As published with Auto-Prox (arXiv 2312.09059), in JSON.

    `{"hidden_dim": 192, "mlp_ratio": [3.5, ...], "depth": 12, "num_heads": [3, ...]}`, an entry for each layer.
    """

    name = "autoformer"
    keys = ("hidden_dim", "mlp_ratio", "depth", "num_heads")

    def __init__(self, space: ChainSpace) -> None:
        super().__init__(space)
        stages = space.stages
        if len(stages) != 1 or list(space.slots) != ["width", *stages[0].slots] or len(stages[0].blocks[0]) != 2:
            raise InvalidSpace("text = 'autoformer' is for a slot 'width' and one stage with two slots a layer")
        self.stage = stages[0]
        self.check()

    def format(self, labels: Mapping[str, str]) -> str:
        (_, (width,)), *rest = layers(labels, each=2, alone="width")
        ratios = [float(mlp.removeprefix("mlp")) for _, (_, mlp) in rest]
        heads = [int(heads.removeprefix("heads")) for _, (heads, _) in rest]
        values = (int(width.removeprefix("width")), ratios, len(rest), heads)
        return json.dumps(dict(zip(self.keys, values, strict=True)))

    def parse(self, text: str) -> dict[str, str]:
        value = self.dictionary(text, self.keys, "depth", self.stage)
        ratios = _per_layer(value["mlp_ratio"], "mlp_ratio", (float, int), value["depth"])
        heads = _per_layer(value["num_heads"], "num_heads", (int,), value["depth"])
        labels = dict.fromkeys(self.space.slots, SKIP)
        labels["width"] = self.label("width", f"width{value['hidden_dim']}")
        for (first, second), ratio, number in zip(self.stage.blocks, ratios, heads, strict=False):
            labels[first] = self.label(first, f"heads{number}")
            known = {float(*read_label(label, "mlp<r>")): label for label in self.space.active[second]}
            labels[second] = known.get(ratio) or self.label(second, f"mlp{ratio}")
        return labels


EMBED, BLOCK, HEAD, REDUCE = 4, 1, 2, 3
"""First entries of the parts of a network definition of ViT-ResNAS."""


@TEXT_FORMS.register("network_def")
class NetworkDef(_Literal):
    """The network definition of ViT-ResNAS's code, a tuple.

    `(4, width)` embeds patches by convolutions; `(1, (width, heads, head_width), (width, hidden), 1)` is a block, with
    0 at the end one that is left out; `(3, width, out_width)` reduces; `(2, width, classes)` is the head. Blocks that
    are left out are not written, and the number of classes is not part of the architecture.
    """

    name = "network_def"

    def __init__(self, space: ChainSpace) -> None:
        super().__init__(space)
        widths, blocks = space.stages[::2], space.stages[1::2]
        fits = len(widths) == len(blocks) and all(len(stage.slots) == 1 for stage in widths)
        if not fits or not blocks or not all(len(b) == 2 for stage in blocks for b in stage.blocks):
            raise InvalidSpace(
                "text = 'network_def' is for stages of one slot (the width) and of two slots a block in turns"
            )
        self.pairs = list(zip((stage.slots[0] for stage in widths), blocks, strict=True))
        self.check()

    def format(self, labels: Mapping[str, str]) -> str:
        parts: list[tuple[Any, ...]] = []
        width = 0
        for _, row in layers(labels, each=2, alone="width"):
            if len(row) == 1:
                before, width = width, int(row[0].removeprefix("width"))
                parts.append((REDUCE, before, width) if parts else (EMBED, width))
            else:
                heads, size = map(int, read_label(row[0], "heads<n>x<n>"))
                parts.append((BLOCK, (width, heads, size), (width, _hidden(row[1])), 1))
        return str((*parts, (HEAD, width, self.space.network_defaults.get("classes", 1000))))

    def parse(self, text: str) -> dict[str, str]:
        parts = [part for part in self.read(text, tuple) if not _left_out(part)]
        starts = [i for i, part in enumerate(parts) if not isinstance(part, tuple) or part[:1] != (BLOCK,)]
        if len(starts) != len(self.pairs) + 1 or starts[-1] != len(parts) - 1:
            raise self.wrong(f"with {len(self.pairs)} stages, each begun by {EMBED} or {REDUCE}, and {HEAD} at the end")
        labels = dict.fromkeys(self.space.slots, SKIP)
        width = 0
        for (slot, stage), start, end in zip(self.pairs, starts, starts[1:], strict=False):
            expected = (REDUCE, width) if width else (EMBED,)
            width = self._width(parts[start], expected)
            labels[slot] = self.label(slot, f"width{width}")
            blocks = parts[start + 1 : end]
            if len(blocks) not in stage.depths:
                depths = " or ".join(map(str, stage.depths))
                raise InvalidArchitecture(f"'{stage.name}' must have {depths} blocks, got {len(blocks)}")
            for (heads, mlp), block in zip(stage.blocks, blocks, strict=False):
                labels[heads], labels[mlp] = self._block(block, width, heads, mlp)
        self._width(parts[-1], (HEAD, width))
        return labels

    def _width(self, part: Any, expected: tuple[int, ...]) -> int:
        if not isinstance(part, tuple) or part[:-1] != expected or type(part[-1]) is not int or part[-1] < 1:
            raise self.wrong(f"where ({', '.join(map(str, expected))}, <number>) was expected, got {part!r:.80}")
        return part[-1]

    def _block(self, part: Any, width: int, heads: str, mlp: str) -> tuple[str, str]:
        match part:
            case (1, (int(a), int(number), int(size)), (int(b), int(hidden)), 1) if a == b == width:
                known = {_hidden(label): label for label in self.space.active[mlp]}
                if hidden not in known:
                    sizes = ", ".join(map(str, known))
                    raise InvalidArchitecture(f"the hidden features of {mlp} must be one of {sizes}, got {hidden}")
                return self.label(heads, f"heads{number}x{size}"), known[hidden]
        raise self.wrong(
            f"where (1, ({width}, heads, head width), ({width}, hidden), 1) was expected, got {part!r:.80}"
        )

    def wrong(self, what: str) -> InvalidArchitecture:
        """An error that shows what a text looks like; a whole one would be too long."""
        form = "((4, width), (1, (width, heads, head width), (width, hidden), 1), ..., (3, width, wider), ..., "
        return InvalidArchitecture(f"expected a text of the form {form}(2, width, classes)), {what}")


def _left_out(part: Any) -> bool:
    return isinstance(part, tuple) and len(part) == 4 and part[0] == BLOCK and part[3] == 0


def _hidden(label: str) -> int:
    return math.prod(map(int, read_label(label, "mlp<n>x<n>")))
