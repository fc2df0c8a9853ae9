"""What computes on the CPU and on a GPU: here on the first, and on the second wherever there is one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from archgen.data import ImageData, Split, load_data
from archgen.hardware import RUNTIMES, LatencyMeter
from archgen.hardware.onnx_latency import PROVIDERS
from archgen.spaces import load
from archgen.supernets import calibrated, make_supernet
from archgen.supernets.training import Processes, Schedule, Uniform, accuracy, train_supernet
from archgen.supernets.training import supernet as training

GPU = torch.cuda.is_available()
DEVICES = ["cpu", *["cuda"] * GPU]
SMALL = {"cells": 1, "channels": 8, "classes": 10, "in_channels": 1, "image_size": 8}


def meter(runtime: str, processor: str) -> LatencyMeter:
    if processor == "cuda" and runtime == "onnxruntime":
        onnxruntime = pytest.importorskip("onnxruntime")
        if PROVIDERS["cuda"] not in onnxruntime.get_available_providers():
            pytest.skip("this onnxruntime is built for the CPU alone")
    return RUNTIMES[runtime]((3, 64, 64), processor=processor, rounds=7, block_ms=2.0)


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
@pytest.mark.parametrize("processor", DEVICES)
def test_a_network_of_a_thousandfold_work_is_slower_on_every_device(runtime: str, processor: str) -> None:
    def network(width: int, layers: int) -> nn.Module:
        inner = [nn.Conv2d(width, width, 3, padding=1) for _ in range(layers)]
        return nn.Sequential(nn.Conv2d(3, width, 3), *inner)

    small, large = meter(runtime, processor).measure([network(2, 1), network(64, 16)], seed=0)
    assert 0 < small.low_ms <= small.latency_ms <= small.high_ms < large.low_ms


@pytest.mark.parametrize("processor", DEVICES)
def test_a_record_says_what_was_measured_on(processor: str) -> None:
    device = meter("torch", processor).device
    assert device.provider == processor
    assert (device.gpu != "none") == (processor == "cuda")


class There(Processes):
    """This process, on a device."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_supernet_learns_in_every_precision_on_every_device(data: ImageData, precision: str, device: str) -> None:
    space, losses = load("nasbench201"), []
    torch.manual_seed(0)
    supernet = make_supernet(space, **SMALL)
    train_supernet(
        supernet,
        Uniform(),
        data,
        Schedule(8),
        seed=0,
        precision=precision,
        processes=There(device),
        on_epoch=lambda _, mean: losses.append(mean["loss"]),
    )
    assert {p.device.type for p in supernet.parameters()} == {device}
    assert losses[-1] < 0.92 * losses[0]
    arch = space.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_3x3~2|")
    shown, tested = data.train.images[:256].to(device), data.validation
    network = calibrated(supernet, arch, shown)
    assert accuracy(network, tested.images.to(device), tested.labels.to(device))[0] > 25.0, "ten classes"


def test_images_go_to_a_gpu_that_has_room_for_them(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    size, moved = data.train.images.nbytes + data.train.labels.nbytes, []

    def to(self: torch.Tensor, device: torch.device) -> torch.Tensor:
        moved.append(device.type)
        return self

    monkeypatch.setattr(torch.Tensor, "to", to, raising=False)
    assert training.placed(data.train, torch.device("cpu")) is data.train
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * size - 1, 10 * size))
    assert training.placed(data.train, torch.device("cuda")) is data.train, "batches go there one by one"
    assert not moved
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * size, 10 * size))
    assert isinstance(training.placed(data.train, torch.device("cuda")), Split)
    assert moved == ["cuda", "cuda"]
