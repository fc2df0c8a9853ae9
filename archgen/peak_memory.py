"""Memory that a network needs: its weights and the most that is alive at once, from its ONNX graph."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from pathlib import Path

import onnx
from torch import Tensor, nn

from archgen.errors import ArchgenError
from archgen.export import to_onnx

_BYTES = {
    onnx.TensorProto.FLOAT: 4,
    onnx.TensorProto.INT64: 8,
    onnx.TensorProto.INT32: 4,
    onnx.TensorProto.DOUBLE: 8,
    onnx.TensorProto.FLOAT16: 2,
    onnx.TensorProto.BOOL: 1,
    onnx.TensorProto.INT8: 1,
    onnx.TensorProto.UINT8: 1,
}


def peak_memory_mb(network: nn.Module, example: Tensor) -> float:
    """Memory of a network for one input, MB (10^6 bytes): what any runtime needs at least that works in this order.

    Args:
        network: Any that `archgen.export.to_onnx` takes.
        example: What it reads, `b ...`.

    Raises:
        ArchgenError: It can not be written as ONNX.
    """
    with tempfile.TemporaryDirectory(prefix="archgen-") as folder:
        path = Path(folder) / "network.onnx"
        to_onnx(network, example, path)
        return file_memory_mb(path)


def file_memory_mb(path: Path) -> float:
    """Memory of the network in an ONNX file for one input, MB (10^6 bytes); see `graph_memory_mb`.

    Args:
        path: The file, as `archgen.export.to_onnx` writes it.

    Raises:
        ArchgenError: The size of a tensor can not be inferred.
    """
    return graph_memory_mb(onnx.load(path))


def graph_memory_mb(model: onnx.ModelProto) -> float:
    """Memory of an ONNX graph for one input, MB.

    Weights stay; the input and each operation's outputs live from there to their last use. Operations run in the order
    of the file, none in place. The runtime's own memory and what it needs inside an operation are not counted.

    Raises:
        ArchgenError: The size of a tensor can not be inferred.
    """
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    sizes = {v.name: _size(v) for v in (*graph.input, *graph.value_info, *graph.output)}
    weights = {t.name: math.prod(t.dims) * _BYTES.get(t.data_type, 4) for t in graph.initializer}
    last = {name: i for i, node in enumerate(graph.node) for name in node.input}
    last |= {v.name: len(graph.node) for v in graph.output}
    alive = {v.name: sizes[v.name] for v in graph.input if v.name not in weights}
    peak = sum(alive.values())
    for i, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name not in sizes:
                raise ArchgenError(f"the size of the tensor '{name}' of the network is not known before it runs")
            alive[name] = sizes[name]
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last.get(name, -1) > i}
    return float(sum(weights.values()) + peak) / 1e6


def _size(value: onnx.ValueInfoProto) -> int:
    tensor = value.type.tensor_type
    return math.prod(_known(tensor.shape.dim)) * _BYTES.get(tensor.elem_type, 4)


def _known(dimensions: Iterable[onnx.TensorShapeProto.Dimension]) -> list[int]:
    """Lengths for one input: the batch is the one that has a name instead."""
    return [d.dim_value if d.HasField("dim_value") else 1 for d in dimensions]
