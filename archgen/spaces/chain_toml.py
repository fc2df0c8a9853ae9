"""Reading a chain from TOML, with errors that name the table and key.

Either `[[globals]]` and `[[stages]]`, for chains:

    [[globals]]
    name = "resolution"
    labels = ["r160", "r192"]

    [[stages]]
    name = "stage1.block"            # slots stage1.block1, stage1.block2, ... (where `slots` have names of their
    depths = [2, 3, 4]               # own: layer1.operation, layer1.heads, ...)
    slots = [{ labels = ["k3_e3", "k3_e6"] }]

or `[[nodes]]`, for any graph (`archgen.spaces.graph_toml`). `[network]` names the skeleton and gives its integer
arguments; `[order]` gives the labels of the smallest and the largest architecture; `text` names the text form.
With `skeleton = "image"`, stages and nodes have `channels` and `stride`, and `[[operations]]` names your own.
`[sized]` says how the space fits other images (`archgen.spaces.sized`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from archgen.errors import InvalidSpace, UnknownName
from archgen.networks.blocks import BLOCKS
from archgen.networks.image import Place
from archgen.networks.labels import SKIP
from archgen.networks.skeleton import SKELETONS
from archgen.spaces.chain import ChainSpace
from archgen.spaces.custom import custom_operations, try_operation
from archgen.spaces.graph_toml import Graph, read_nodes
from archgen.spaces.stages import Stage
from archgen.spaces.toml_tables import known_keys, take, take_size, take_tables, take_texts

_KEYS = (
    *("name", "family", "summary", "paper", "folder", "text"),
    *("globals", "stages", "nodes", "output", "operations", "network", "order", "sized"),
)
_NAME = re.compile(r"[A-Za-z0-9_.]*[A-Za-z0-9_]")
_RESERVED = ("input", "output", "stem", "head")


def read_chain(description: Mapping[str, Any]) -> ChainSpace:
    """Make the space of a parsed TOML file; `folder` says where it lies.

    Raises:
        InvalidSpace: Naming the table and key.
    """
    known_keys(description, _KEYS, "the file")
    name = take(description, "name", str, "the file")
    network = dict(take(description, "network", dict, "the file"))
    skeleton = take(network, "skeleton", str, "[network]")
    del network["skeleton"]
    for key in network:
        take_size(network, key, "[network]", None)
    if skeleton not in SKELETONS:
        raise InvalidSpace(f"[network]: {UnknownName('skeleton', skeleton, SKELETONS)}")
    shaped = "layout" in inspect.signature(SKELETONS[skeleton].segments).parameters
    slots: dict[str, tuple[str, ...]] = {}
    stages: list[Stage] = []
    if "nodes" in description:
        if not shaped or "stages" in description or "globals" in description:
            raise InvalidSpace("[[nodes]] is for skeleton = 'image', without [[globals]] and [[stages]]")
        graph = read_nodes(description)
        slots.update(graph.slots)
    else:
        if "output" in description:
            raise InvalidSpace("[output] is for [[nodes]]; a chain's last slot is its output")
        _read_globals(description, slots)
        graph = _read_stages(description, slots, stages, shaped)
    for slot in slots:
        if not _NAME.fullmatch(slot) or slot in _RESERVED or hasattr(nn.ModuleDict, slot):
            raise InvalidSpace(f"'{slot}' can not name a slot or node: choose another of letters, digits, '_' and '.'")
    extras = _extras(description, graph) if shaped else {}
    if not shaped and "operations" in description:
        raise InvalidSpace("[[operations]] is for skeleton = 'image'")
    space = _make(name, slots, stages, skeleton, network, extras, graph.edges, description)
    _try_operations(space)
    return space


def _make(
    name: str,
    slots: dict[str, tuple[str, ...]],
    stages: list[Stage],
    skeleton: str,
    network: dict[str, int],
    extras: dict[str, Any],
    edges: list[tuple[int, int]] | None,
    description: Mapping[str, Any],
) -> ChainSpace:
    try:
        return ChainSpace(
            name,
            slots,
            stages,
            skeleton=skeleton,
            network=network,
            extras=extras,
            edges=edges,
            text=take(description, "text", str, "the file", "labels"),
            order=_read_order(description),
            summary=take(description, "summary", str, "the file", ""),
            paper=take(description, "paper", str, "the file", ""),
        )
    except UnknownName as error:
        raise InvalidSpace(str(error)) from None


def _read_globals(description: Mapping[str, Any], slots: dict[str, tuple[str, ...]]) -> None:
    for where, entry in take_tables(description, "globals"):
        known_keys(entry, ("name", "labels"), where)
        slots[entry["name"]] = take_texts(entry, "labels", where)


def _read_stages(
    description: Mapping[str, Any], slots: dict[str, tuple[str, ...]], stages: list[Stage], shaped: bool
) -> Graph:
    layout: dict[str, Place] = {}
    before = "input"
    for where, entry in take_tables(description, "stages"):
        known_keys(entry, ("name", "depths", "slots", *(("channels", "stride") if shaped else ())), where)
        depths = take(entry, "depths", list, where)
        if not depths or not all(type(d) is int and d >= 0 for d in depths) or sorted(set(depths)) != depths:
            raise InvalidSpace(f"{where}: depths = {depths} must be different numbers of blocks, ascending, from 0")
        if depths[-1] == 0:
            raise InvalidSpace(f"{where}: depths = {depths} leaves no block, so the stage is empty")
        channels, stride = take_size(entry, "channels", where, None), take_size(entry, "stride", where, 1)
        if depths[0] == 0 and (channels is not None or stride != 1):
            raise InvalidSpace(f"{where}: a stage with channels or a stride has at least one block, got depth 0")
        blocks = [_read_block(entry, number, where, slots) for number in range(1, depths[-1] + 1)]
        stages.append(Stage(entry["name"], tuple(depths), tuple(blocks)))
        if shaped and len(blocks[0]) > 1:
            raise InvalidSpace(f"{where}: a block has one slot with skeleton = 'image', got {len(blocks[0])}")
        for i, (slot, *_) in enumerate(blocks):
            layout[slot] = Place((before,), channels, stride or 1) if i == 0 else Place((before,))
            before = slot
    if not stages:
        raise InvalidSpace("the file has neither [[stages]] nor [[nodes]], so the space is empty")
    return Graph(slots, layout, (before,), None)


def _read_block(
    entry: Mapping[str, Any], number: int, where: str, slots: dict[str, tuple[str, ...]]
) -> tuple[str, ...]:
    patterns = take(entry, "slots", list, where)
    if not patterns:
        raise InvalidSpace(f"{where}: slots is empty, so the space is empty: give at least one")
    names = []
    for i, pattern in enumerate(patterns, start=1):
        place = f"{where} slots number {i}"
        if not isinstance(pattern, dict):
            raise InvalidSpace(f"{place}: expected a table with labels, got {pattern!r}")
        known_keys(pattern, ("name", "labels"), place)
        suffix = take(pattern, "name", str, place, "")
        name = f"{entry['name']}{number}" + (f".{suffix}" if suffix else "")
        if name in slots:
            raise InvalidSpace(f"{place}: there are two slots with the name '{name}'")
        slots[name] = take_texts(pattern, "labels", place)
        names.append(name)
    return tuple(names)


def _read_order(description: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    order = take(description, "order", dict, "the file", None)
    if order is None:
        return None
    known_keys(order, ("smallest", "largest"), "[order]")
    return take_texts(order, "smallest", "[order]"), take_texts(order, "largest", "[order]")


def _extras(description: Mapping[str, Any], graph: Graph) -> dict[str, Any]:
    """Arguments of the image skeleton that are no integers."""
    entries = take_tables(description, "operations")
    for where, entry in entries:
        known_keys(entry, ("name", "import"), where)
        take(entry, "import", str, where)
    own = custom_operations(entries, Path(description.get("folder", ".")), BLOCKS)
    kind = "nodes" if graph.edges else "stages"
    for slot, labels in graph.slots.items():
        for label in labels if slot in graph.layout else ():
            if label not in own and label not in BLOCKS:
                raise InvalidSpace(f"[[{kind}]] '{slot}': {UnknownName('operation', label, [*own, *BLOCKS])}")
    for slot in graph.slots.keys() - graph.layout.keys() - {"resolution"}:
        raise InvalidSpace(f"[[globals]] '{slot}': skeleton = 'image' knows only the global 'resolution'")
    return {"layout": graph.layout, "outputs": graph.outputs, "operations": own}


def _try_operations(space: ChainSpace) -> None:
    """Make each of the user's operations once for each shape that it is used with."""
    own = space.extras.get("operations", {})
    for label in own:
        slots = {slot: label if label in labels else labels[0] for slot, labels in space.active.items()}
        tried = set()
        for segment in space.skeleton(slots, **space.network_defaults, **space.extras):
            if isinstance(segment.key, tuple) and segment.key[0] == label and segment.key not in tried:
                tried.add(segment.key)
                _, inputs, outputs, stride = segment.key
                size = -(-8 // stride)
                where = f"[[operations]] '{label}'"
                try_operation(own[label], (inputs, outputs, stride), inputs, (1, outputs, size, size), where)


assert SKIP in BLOCKS, "blocks that a stage leaves out are built by the operation of that name"
