"""Measuring networks with PyTorch; what is asserted holds on any machine, however busy."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from archgen.errors import ArchgenError
from archgen.hardware import TorchLatency

SHAPE = (1, 8, 8)
SEEN = []


class Watched(nn.Module):
    """Notes under which settings it, or a copy of it, runs."""

    def __init__(self):
        super().__init__()
        self.linear, self.dropout = nn.Linear(64, 3), nn.Dropout()

    def forward(self, x):
        settings = (torch.get_num_threads(), torch.is_inference_mode_enabled(), self.dropout.training, tuple(x.shape))
        SEEN.append(settings)
        return self.dropout(self.linear(x.flatten(1)))


@pytest.fixture
def watched():
    SEEN.clear()
    return Watched().train()


def test_a_network_of_thousandfold_work_is_slower():
    def network(width):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, width), nn.Linear(width, 3))

    small, large = TorchLatency(SHAPE, rounds=7, block_ms=0.5).measure([network(4), network(1500)], seed=0)
    assert 0 < small.low_ms <= small.latency_ms <= small.high_ms
    assert small.latency_ms < large.latency_ms


def test_a_network_runs_in_evaluation_and_inference_mode_with_the_threads_and_the_batch(watched):
    TorchLatency(SHAPE, threads=2, batch=3, rounds=5, block_ms=0.01).measure([watched], seed=0)
    assert set(SEEN) == {(2, True, False, (3, *SHAPE))}


def test_nothing_of_the_process_or_the_network_is_changed(watched):
    before = torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    weights = watched.linear.weight.clone()
    TorchLatency(SHAPE, threads=before[0] + 1, rounds=5, block_ms=0.01).measure([watched], seed=0)
    assert (torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    assert watched.training
    assert watched.dropout.training
    assert torch.equal(watched.linear.weight, weights)


def test_the_number_of_threads_is_put_back_after_a_refusal_and_an_interrupt(monkeypatch):
    before = torch.get_num_threads()
    meter = TorchLatency(SHAPE, threads=before + 1, rounds=5)
    with pytest.raises(ArchgenError, match="torch refuses the network: mat1 and mat2"):
        meter.measure([nn.Linear(5, 5)], seed=0)
    assert torch.get_num_threads() == before
    monkeypatch.setattr(nn.Identity, "forward", lambda self, x: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        meter.measure([nn.Identity()], seed=0)
    assert torch.get_num_threads() == before


def test_a_network_that_reads_tokens_is_measured():
    reader = nn.Sequential(nn.Embedding(2, 4), nn.Flatten(), nn.Linear(5 * 4, 2))
    (reading,) = TorchLatency(torch.zeros(1, 5, dtype=torch.int64), rounds=5, block_ms=0.05).measure([reader], seed=0)
    assert reading.latency_ms > 0


@pytest.mark.parametrize(("built", "missing"), [(None, "was built without CUDA"), ("12.8", "finds no CUDA device")])
def test_what_keeps_pytorch_from_cuda_is_named(built, missing, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    with pytest.raises(ArchgenError, match=missing) as caught:
        TorchLatency(SHAPE, processor="cuda")
    assert "\n" not in str(caught.value)


def test_on_cuda_every_run_waits_for_the_device_and_inputs_are_copied_once(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: calls.append("wait"))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, place: calls.append(place) or self, raising=False)
    monkeypatch.setattr(nn.Identity, "forward", lambda self, x: calls.append("run"))
    meter = TorchLatency(SHAPE, processor="cuda")
    run = meter.load(nn.Identity())(torch.zeros(1, *SHAPE))
    run()
    run()
    assert calls == ["cuda", "run", "wait", "run", "wait"]
