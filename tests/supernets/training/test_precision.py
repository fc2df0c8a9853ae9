"""Mixed precision: what is trained in 16 bits learns, weights keep 32, and small gradients survive fp16."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archgen import artifacts
from archgen.data import ImageData, load_data
from archgen.errors import UnknownName
from archgen.spaces import CellSpace
from archgen.supernets import Supernet, make_supernet
from archgen.supernets.training import Batches, Precision, Sandwich, Schedule, Updates, train, train_supernet
from archgen.supernets.training.precision import LARGEST, PATIENCE
from archgen.supernets.training.updates import image_format

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 8, "classes": 10, "in_channels": 1, "image_size": 8}
SPACE = CellSpace("ordered", 3, ROLES, NETWORK, ("skip_connect", "nor_conv_3x3"))


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits", limit=250)


def trained(data: ImageData, epochs: int, **options: object) -> tuple[Supernet, list[float]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = make_supernet(SPACE)
    losses: list[float] = []
    train_supernet(
        supernet,
        Sandwich(random=1),
        data,
        Schedule(epochs),
        seed=0,
        on_epoch=lambda number, mean: losses.append(mean["largest"]),
        **options,  # type: ignore[arg-type]
    )
    return supernet, losses


@pytest.mark.parametrize(("precision", "channels_last"), [("bf16", False), ("bf16", True), ("fp16", True)])
def test_half_precision_learns_and_weights_stay_in_32_bits(
    data: ImageData, precision: str, channels_last: bool
) -> None:
    """After eight epochs full precision has 0.58 of the first one's loss."""
    supernet, losses = trained(data, 8, precision=precision, channels_last=channels_last)
    assert losses[-1] < 0.8 * losses[0]
    for name, value in supernet.state_dict().items():
        assert value.dtype in (torch.float32, torch.int64), name
        assert bool(value.isfinite().all()), name


def test_forward_passes_are_in_half_precision_and_the_strategy_gets_whole_gradients() -> None:
    """What a strategy sees of a gradient is divided by the scale that the loss was multiplied by."""
    net = nn.Linear(3, 2)
    for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        updates = Updates(net, Schedule(1).optimizer(net), precision=name)
        updates.clear()
        with updates.precision.autocast(updates.device):
            logits = net(torch.ones(4, 3))
            updates.backward(logits.float().mean())
        assert logits.dtype == dtype
        (gradient,) = updates.of([net.bias])
        torch.testing.assert_close(gradient, torch.full((2,), 0.5), rtol=1e-2, atol=0)


def test_another_precision_is_refused() -> None:
    with pytest.raises(UnknownName, match="unknown precision 'bf15': did you mean 'bf16'"):
        Precision("bf15")


# -- the scale of the losses


def biased(gradient: Callable[[float], float]) -> tuple[nn.Linear, Updates]:
    """A bias whose gradient, times the scale, is as given; its weight has none."""
    net = nn.Linear(1, 1)
    updates = Updates(net, Schedule(1).optimizer(net), precision="fp16")
    net.bias.grad = torch.tensor([gradient(updates.precision.scale)])
    return net, updates


def test_gradients_are_divided_by_the_scale_before_they_are_clipped() -> None:
    net, updates = biased(lambda scale: 3 * scale)
    start = net.bias.item()
    updates.optimizer.param_groups[1]["lr"] = 0.1
    assert updates.apply(2.0) == 3
    assert start - net.bias.item() == pytest.approx(1.9 * 0.1 * 2.0, rel=1e-4)


def test_an_overflow_leaves_the_step_out_and_halves_the_scale() -> None:
    net, updates = biased(lambda scale: math.inf)
    start = net.bias.item()
    assert updates.apply(2.0) == 0
    assert net.bias.item() == start
    assert updates.precision.scale == LARGEST / 2


def test_what_is_not_finite_at_the_least_scale_is_told() -> None:
    _, updates = biased(lambda scale: math.nan)
    for _ in range(16):
        assert updates.apply(2.0) == 0
    assert updates.precision.scale == 1
    assert math.isnan(updates.apply(2.0))


def test_the_scale_doubles_after_many_steps_without_an_overflow_and_is_kept() -> None:
    precision = Precision("fp16")
    precision.overflowed()
    for _ in range(PATIENCE - 1):
        precision.succeeded()
    assert precision.scale == LARGEST / 2
    again = Precision("fp16")
    again.load_state(precision.state())
    again.succeeded()
    assert again.scale == LARGEST


@pytest.mark.parametrize("name", ["no", "bf16"])
def test_the_range_of_32_bits_needs_no_scale(name: str) -> None:
    precision = Precision(name)
    precision.succeeded()
    assert not precision.overflowed()
    assert (precision.scale, precision.state()) == (1.0, {})


def test_a_resumed_fp16_training_is_the_uninterrupted_one(data: ImageData, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def stop(number: int, losses: dict[str, float]) -> None:
        if number == 2:
            raise Killed

    def run(net: nn.Module, path: Path | None, **options: object) -> None:
        updates = Updates(net, Schedule(3).optimizer(net), precision="fp16")

        def step(batch: tuple[Tensor, Tensor], rng: np.random.Generator) -> dict[str, float]:
            loss = F.cross_entropy(net(batch[0]), batch[1]) * 1e4  # overflows at first
            updates.backward(loss)
            return {"loss": float(loss.detach())}

        batch = data.train.images[:32], data.train.labels[:32]
        batches = Batches(5, lambda generator: [batch] * 5)
        train(net, step, batches, Schedule(3), seed=0, checkpoint=path, every=4, updates=updates, **options)  # type: ignore[arg-type]

    def fresh(seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    whole, part, resumed = fresh(0), fresh(0), fresh(1)
    run(whole, None)
    path = tmp_path / "kept.safetensors"
    with pytest.raises(Killed):
        run(part, path, on_epoch=stop)
    assert float(artifacts.read_tensors(path)["precision.scale"][0]) < LARGEST / 8
    run(resumed, path)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


# -- channels last


@pytest.mark.parametrize(
    ("device", "capability", "last"), [("cpu", "AVX2", 0), ("cpu", "AVX512", 1), ("cuda", "AVX2", 1)]
)
def test_channels_are_first_where_torch_writes_beyond_its_memory(
    monkeypatch: pytest.MonkeyPatch, device: str, capability: str, last: int
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert (image_format(torch.device(device)) == torch.channels_last) == bool(last)


def test_channels_last_is_a_matter_of_storage_alone(data: ImageData) -> None:
    plain, stored = trained(data, 1)[0], trained(data, 1, channels_last=True)[0]
    images = [p for p in stored.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[-1] > 1]
    assert images
    assert all(p.is_contiguous(memory_format=image_format(torch.device("cpu"))) for p in images)
    for (name, a), b in zip(plain.state_dict().items(), stored.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3, msg=name)
