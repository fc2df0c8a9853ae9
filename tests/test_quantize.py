"""Quantised networks: as accurate as their originals, smaller, and the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from archgen import spaces
from archgen.data import ImageData, load_data
from archgen.errors import ArchgenError, InvalidCheckpoint, InvalidData
from archgen.export import to_onnx
from archgen.hardware import measure_files
from archgen.quantize import onnx_accuracy, quantize
from archgen.supernets.training import Schedule, accuracy, train_network


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits", limit=600)


@pytest.fixture(scope="module")
def exported(data: ImageData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A trained network as a file, and its accuracy on the validation part."""
    space = spaces.load("nasbench201")
    arch = space.parse("|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|nor_conv_3x3~1|avg_pool_3x3~2|")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = space.build(arch, cells=1, channels=16, classes=10, in_channels=1, image_size=8)
    train_network(network, data, Schedule(8), seed=0)
    path = tmp_path_factory.mktemp("onnx") / "network.onnx"
    to_onnx(network.eval(), (1, 8, 8), path)
    return path, accuracy(network, data.validation.images, data.validation.labels)[0]


def test_the_accuracy_of_a_file_is_that_of_its_network(exported: tuple[Path, float], data: ImageData) -> None:
    path, right = exported
    assert right > 60, "it must have learnt something"
    assert onnx_accuracy(path, data.validation.images, data.validation.labels) == pytest.approx(right)


def test_eight_bits_are_smaller_and_nearly_as_accurate(
    exported: tuple[Path, float], data: ImageData, tmp_path: Path
) -> None:
    path, right = exported
    quantize(path, tmp_path / "int8.onnx", data.train.images[:128])
    assert (tmp_path / "int8.onnx").stat().st_size < 0.5 * path.stat().st_size
    assert abs(onnx_accuracy(tmp_path / "int8.onnx", data.validation.images, data.validation.labels) - right) < 4
    graph = onnx.load(tmp_path / "int8.onnx").graph
    kinds = {node.op_type for node in graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert onnx.TensorProto.INT8 in stored.values()
    quantize(path, tmp_path / "again.onnx", data.train.images[:128])
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "int8.onnx").read_bytes()
    fast, slow = measure_files([tmp_path / "int8.onnx", path], data.test.images[:1])
    assert fast.latency_ms > 0
    assert slow.low_ms <= slow.latency_ms <= slow.high_ms


def test_what_can_not_be_quantised_is_refused(exported: tuple[Path, float], tmp_path: Path) -> None:
    path, _ = exported
    out = tmp_path / "int8.onnx"
    with pytest.raises(InvalidData, match="expected images to find the ranges"):
        quantize(path, out, torch.zeros(0, 1, 8, 8))
    with pytest.raises(ArchgenError, match="can not be quantised to 8 bits"):
        quantize(path, out, torch.zeros(4, 3, 8, 8))
    (tmp_path / "not.onnx").write_text("hello")
    with pytest.raises(InvalidCheckpoint, match="can not be opened as an ONNX network"):
        quantize(tmp_path / "not.onnx", out, torch.from_numpy(np.zeros((4, 1, 8, 8), np.float32)))
    assert not out.exists()
