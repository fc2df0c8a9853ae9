"""Exported files: what is in them, that they compute the same, and that damaged ones are refused."""

from __future__ import annotations

import json
import logging
import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from archgen import spaces
from archgen.errors import ArchgenError, InvalidCheckpoint
from archgen.export import check_onnx, evaluating, load_network, open_onnx, random_inputs, save_network, to_onnx

SPACE = spaces.load("nasbench201")
ARCH = SPACE.parse("|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|none~0|nor_conv_1x1~1|skip_connect~2|")
ARGUMENTS = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
SHAPE = (1, 8, 8)


def build():
    """The network with batch-norm statistics that are not the identity."""
    torch.manual_seed(0)
    network = SPACE.build(ARCH, **ARGUMENTS)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(2 * torch.randn(16, *SHAPE) + 1)
    return network


def save(stem, network):
    return save_network(
        stem,
        network,
        ARCH,
        SPACE,
        ARGUMENTS,
        mean=[0.3],
        std=[0.4],
        classes=["a", "b", "c"],
        metrics={"test_acc": 97.5},
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network, its ONNX file, and what the export said aloud."""
    network, path = build(), tmp_path_factory.mktemp("onnx") / "best.onnx"
    records = []

    class Listener(logging.Handler):
        def emit(self, record):
            records.append(record)

    listener = Listener()
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", None)]
    for logger in loggers:
        logger.addHandler(listener)
    try:
        to_onnx(network, SHAPE, path)
    finally:
        for logger in loggers:
            logger.removeHandler(listener)
    return network, path, records


def test_the_file_computes_what_the_network_computes_for_any_number_of_images(exported):
    network, path, _ = exported
    for b in (1, 2, 7):
        assert check_onnx(network, path, torch.randn(b, *SHAPE)) <= 1e-5


def test_a_network_that_reads_tokens_is_exported_with_its_own_input(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(12, 2))
    inputs = random_inputs(torch.zeros(3, 4, dtype=torch.long))
    assert set(inputs.flatten().tolist()) == {0, 1}
    to_onnx(network, inputs, tmp_path / "tokens.onnx")
    (tokens,) = open_onnx(tmp_path / "tokens.onnx").get_inputs()
    assert (tokens.name, tokens.type, tokens.shape) == ("tokens", "tensor(int64)", ["batch", 4])
    assert check_onnx(network, tmp_path / "tokens.onnx", inputs) <= 1e-6


def test_inputs_and_outputs_are_named_and_the_batch_is_free(exported):
    session = open_onnx(exported[1])
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape) == ("image", ["batch", 1, 8, 8])
    assert (logits.name, logits.shape) == ("logits", ["batch", 3])


def test_it_is_one_valid_file_that_tells_nothing_of_the_machine(exported):
    path = exported[1]
    assert [p.name for p in path.parent.iterdir()] == ["best.onnx"]
    onnx.checker.check_model(str(path), full_check=True)
    content = path.read_bytes()
    assert b".py" not in content
    assert b"site-packages" not in content


def test_exporting_is_quiet_and_leaves_loggers_warnings_and_modes_alone(exported, tmp_path, capfd):
    network, path, records = exported
    assert not records
    level, filters = logging.getLogger("torch.onnx").level, list(warnings.filters)
    network.train()
    network.stem.eval()
    to_onnx(network, SHAPE, tmp_path / "again.onnx")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("torch.onnx").level == level
    assert warnings.filters == filters
    assert network.training
    assert not network.stem.training
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes(), "two exports differ"


def test_the_exporters_operators_are_read_once_and_torch_stays_as_it_is(exported, tmp_path, monkeypatch):
    registry = pytest.importorskip("torch.onnx._internal.exporter._registration").ONNXRegistry
    before, read = registry.__dict__["from_torchlib"], []

    def counted(cls, **version):
        read.append(version)
        return before.__get__(None, cls)(**version)

    ours = classmethod(counted)
    monkeypatch.setattr(registry, "from_torchlib", ours)
    for name in ("first", "second"):
        to_onnx(exported[0], SHAPE, tmp_path / name)
        assert registry.__dict__["from_torchlib"] is ours
    assert len(read) == 1
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes() == exported[1].read_bytes()


def test_a_file_of_other_weights_is_refused_in_one_line(exported):
    network, path, _ = exported
    other = build()
    with torch.no_grad():
        other.classifier.bias += 0.01
    with pytest.raises(ArchgenError, match=r"differs from its network by 0\.01") as caught:
        check_onnx(other, path, torch.randn(4, *SHAPE))
    assert "\n" not in str(caught.value)
    assert check_onnx(other, path, torch.randn(4, *SHAPE), tolerance=0.02) == pytest.approx(0.01, abs=1e-4)
    assert check_onnx(network, path, torch.randn(4, *SHAPE)) < 1e-5


def test_a_network_that_gives_nan_is_refused(exported):
    broken = build()
    nn.init.constant_(broken.classifier.bias, float("nan"))
    with pytest.raises(ArchgenError, match="nan"):
        check_onnx(broken, exported[1], torch.randn(2, *SHAPE))


@pytest.mark.parametrize("content", [None, b"", b"no ONNX at all"], ids=["missing", "empty", "foreign"])
def test_a_file_that_is_not_onnx_is_refused_in_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "best.onnx").write_bytes(content)
    with pytest.raises(InvalidCheckpoint, match="can not be opened as an ONNX network") as caught:
        check_onnx(nn.Identity(), tmp_path / "best.onnx", torch.zeros(1, *SHAPE))
    assert "\n" not in str(caught.value)


def test_a_network_that_onnx_can_not_express_is_refused_and_leaves_the_old_file(tmp_path):
    class Branching(nn.Module):
        def forward(self, x):
            return x.flatten(1) if x.sum() > 0 else -x.flatten(1)

    (tmp_path / "best.onnx").write_bytes(b"before")
    with pytest.raises(ArchgenError, match="can not be written as ONNX") as caught:
        to_onnx(Branching(), SHAPE, tmp_path / "best.onnx")
    assert "\n" not in str(caught.value)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"before"]


def test_a_saved_network_is_rebuilt_to_the_bit(tmp_path):
    network = build()
    weights, header = save(tmp_path / "best", network)
    assert (weights.name, header.name) == ("best.safetensors", "best.json")
    loaded, content = load_network(header)
    beside, same = load_network(weights)
    assert same == content
    images = torch.randn(5, *SHAPE)
    with evaluating(network), torch.no_grad():
        assert torch.equal(network(images), loaded(images))
        assert torch.equal(network(images), beside(images))
    assert not loaded.training
    assert content["arch"] == SPACE.format(ARCH)
    assert content["normalisation"] == {"mean": [0.3], "std": [0.4]}
    assert content["classes"] == ["a", "b", "c"]
    assert content["metrics"] == {"test_acc": 97.5}


def test_a_stem_with_a_dot_keeps_it(tmp_path):
    weights, header = save(tmp_path / "best.v2", build())
    assert (weights.name, header.name) == ("best.v2.safetensors", "best.v2.json")
    load_network(header)


def test_numbers_of_numpy_are_saved_as_json(tmp_path):
    network = build()
    _, header = save_network(
        tmp_path / "best",
        network,
        ARCH,
        SPACE,
        {**ARGUMENTS, "cells": np.int64(1)},
        mean=np.array([0.1], dtype=np.float32),
        std=np.ones(1),
        classes=[np.int64(k) for k in range(3)],
        metrics={"val_acc": np.float32(50)},
    )
    assert load_network(header)[1]["classes"] == ["0", "1", "2"]


def change(key, value):
    return lambda content: {**content, key: value}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: [], "kind None"),
        (change("kind", "supernet"), "kind 'supernet'"),
        (change("network", None), "'network' must be"),
        (change("classes", "abc"), "'classes' must be"),
        (change("space", "nasbench211"), "did you mean 'nasbench201'"),
        (change("arch", "|none~0|"), "expected 3 groups"),
        (change("arch", SPACE.example()), "two different architectures"),
        (change("graph", {"ops": []}), "expected an object with space"),
        (change("network", {**ARGUMENTS, "width": 3}), "width"),
        (change("network", {**ARGUMENTS, "channels": "four"}), "describes no network"),
        (change("network", {**ARGUMENTS, "channels": 8}), "does not fit the network"),
    ],
)
def test_a_foreign_description_is_refused_in_one_line(tmp_path, spoil, message):
    _, header = save(tmp_path / "best", build())
    header.write_text(json.dumps(spoil(json.loads(header.read_text()))))
    with pytest.raises(InvalidCheckpoint, match=message) as caught:
        load_network(header)
    assert "\n" not in str(caught.value)


def test_truncated_or_missing_files_are_refused(tmp_path):
    weights, header = save(tmp_path / "best", build())
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidCheckpoint, match="not a whole safetensors file"):
        load_network(header)
    weights.unlink()
    with pytest.raises(InvalidCheckpoint, match="does not exist"):
        load_network(header)
    header.write_text(header.read_text()[:100])
    with pytest.raises(InvalidCheckpoint, match="JSON"):
        load_network(header)
