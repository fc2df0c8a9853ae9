"""Reading a user's own graph from TOML.

[[nodes]]
name = "b"
inputs = ["input", "a"]          # summed
operations = ["conv_3x3", "skip"]
channels = 32                    # as many as come in, if not given
stride = 2                       # 1, if not given

[output]
inputs = ["b"]                   # the nodes that no other one reads, if not given
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archgen.errors import InvalidSpace, UnknownName
from archgen.networks.image import Place
from archgen.spaces.toml_tables import known_keys, take, take_size, take_tables, take_texts


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order.

    Args:
        slots: Labels of each node (and of globals).
        layout: Place of each node.
        outputs: Nodes that the output reads.
        edges: Pairs of positions, 0 is the input; None is a chain.
    """

    slots: dict[str, tuple[str, ...]]
    layout: dict[str, Place]
    outputs: tuple[str, ...]
    edges: list[tuple[int, int]] | None


def read_nodes(description: Mapping[str, Any]) -> Graph:
    """The graph of `[[nodes]]` and `[output]`.

    Raises:
        InvalidSpace: A cycle, an unknown input, a node that nothing leads to or that leads nowhere, or a missing key;
            the message names the node.
    """
    entries = {entry["name"]: (where, entry) for where, entry in take_tables(description, "nodes")}
    if not entries:
        raise InvalidSpace("[[nodes]] is empty, so the space is empty: give at least one")
    for name in ("input", "output"):
        if name in entries:
            raise InvalidSpace(f"[[nodes]] '{name}': the name means the whole network's {name}, choose another")
    reads: dict[str, tuple[str, ...]] = {}
    for name, (where, entry) in entries.items():
        known_keys(entry, ("name", "inputs", "operations", "channels", "stride"), where)
        if take(entry, "inputs", list, where) == []:
            raise InvalidSpace(f"{where}: nothing leads to it from the input, because inputs is empty")
        reads[name] = take_texts(entry, "inputs", where)
        for source in reads[name]:
            if source != "input" and source not in entries:
                raise InvalidSpace(f"{where}: {UnknownName('input', source, ['input', *entries])}")
    order = _topological(reads)
    outputs = _outputs(description, reads)
    slots = {name: take_texts(entries[name][1], "operations", entries[name][0]) for name in order}
    layout = {}
    for name in order:
        where, entry = entries[name]
        stride = take_size(entry, "stride", where, 1) or 1
        layout[name] = Place(reads[name], take_size(entry, "channels", where, None), stride)
    at = {"input": 0, **{name: i for i, name in enumerate(order, start=1)}}
    edges = [(at[source], at[name]) for name in order for source in reads[name]]
    edges += [(at[name], len(order) + 1) for name in outputs]
    return Graph(slots, layout, outputs, edges)


def _topological(reads: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Names in an order in which each comes after its inputs, as in the file where possible."""
    order: list[str] = []
    while len(order) < len(reads):
        ready = [n for n in reads if n not in order and all(s == "input" or s in order for s in reads[n])]
        if not ready:
            raise InvalidSpace(_cycle({n: [s for s in reads[n] if s not in order] for n in reads if n not in order}))
        order.append(ready[0])
    return order


def _cycle(waiting: Mapping[str, list[str]]) -> str:
    """Says which nodes wait for each other; each has an input that waits too."""
    path = [next(iter(waiting))]
    while True:
        source = next(s for s in waiting[path[-1]] if s in waiting)
        if source in path:
            circle = [*path[path.index(source) :], source]
            return f"[[nodes]] '{circle[0]}': its inputs form a cycle: {' reads '.join(circle)}"
        path.append(source)


def _outputs(description: Mapping[str, Any], reads: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    read = {source for sources in reads.values() for source in sources}
    if "output" not in description:
        return tuple(name for name in reads if name not in read)
    output = take(description, "output", dict, "the file")
    known_keys(output, ("inputs",), "[output]")
    outputs = take_texts(output, "inputs", "[output]")
    for name in outputs:
        if name not in reads:
            raise InvalidSpace(f"[output]: {UnknownName('node', name, reads)}")
    alive = set(outputs)
    while grown := {source for name in alive for source in reads.get(name, ())} - alive:
        alive |= grown
    for name in reads:
        if name not in alive:
            raise InvalidSpace(f"[[nodes]] '{name}': it does not lead to the output; drop it or let a node read it")
    return outputs
