"""Memory of a network: closed forms on small graphs, and the networks of the spaces."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from archgen import spaces
from archgen.errors import ArchgenError
from archgen.peak_memory import graph_memory_mb, peak_memory_mb


def value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def model(nodes: list[onnx.NodeProto], out: onnx.ValueInfoProto, weights: dict[str, int]) -> onnx.ModelProto:
    initializers = [helper.make_tensor(n, TensorProto.FLOAT, [k], [0.0] * k) for n, k in weights.items()]
    graph = helper.make_graph(nodes, "g", [value("x", "batch", 1000)], [out], initializers)
    return helper.make_model(graph)


def test_a_chain_keeps_two_tensors_at_a_time() -> None:
    names = ["x", "a", "b", "c"]
    nodes = [helper.make_node("Relu", [i], [o]) for i, o in itertools.pairwise(names)]
    assert graph_memory_mb(model(nodes, value("c", "batch", 1000), {})) == pytest.approx(2 * 4000 / 1e6)


def test_a_skip_connection_keeps_its_input_alive_and_weights_stay() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Add", ["b", "x"], ["c"]),
        helper.make_node("Add", ["c", "w"], ["y"]),
    ]
    found = graph_memory_mb(model(nodes, value("y", "batch", 1000), {"w": 1000}))
    assert found == pytest.approx(4 * 4000 / 1e6), "three activations and the weights"


def test_an_unknown_size_is_refused() -> None:
    node = helper.make_node("Unheard", ["x"], ["y0"], domain="mine")
    built = model([node, helper.make_node("Relu", ["y0"], ["y"])], value("y", "batch", 1000), {})
    built.opset_import.append(helper.make_opsetid("mine", 1))
    with pytest.raises(ArchgenError, match="'y0' of the network is not known before it runs"):
        graph_memory_mb(built)


def test_one_linear_layer_is_its_weights_input_and_output() -> None:
    network = nn.Linear(500, 100)
    assert peak_memory_mb(network, torch.zeros(1, 500)) == pytest.approx(4 * (50_100 + 600) / 1e6, rel=1e-3)


def test_wider_networks_need_more() -> None:
    space = spaces.load("nasbench201")
    arch = space.simplify(space.sample(1, np.random.default_rng(0))[0])  # what is dead is not exported
    found = [peak_memory_mb(space.build(arch, cells=1, channels=c).eval(), space.example_input(1)) for c in (8, 16, 32)]
    params = [4 * space.count(arch, cells=1, channels=c)["params"] / 1e6 for c in (8, 16, 32)]
    assert found == sorted(found)
    assert all(memory > weights for memory, weights in zip(found, params, strict=True))
