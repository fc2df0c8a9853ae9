"""Measuring networks with onnxruntime; what is asserted holds on any machine, however busy."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from archgen.errors import ArchgenError
from archgen.export import open_onnx, to_onnx
from archgen.hardware import DeviceLost, OnnxLatency, Timing, base, onnx_latency
from archgen.hardware.onnx_latency import bound

SHAPE = (1, 8, 8)


def network(width):
    torch.manual_seed(width)
    layers = [nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3)]
    return nn.Sequential(*layers)


class Branching(nn.Module):
    """A network that ONNX can not express."""

    def forward(self, x):
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


@pytest.fixture(scope="module")
def measured():
    """A small network, one that can not be exported and a very much larger one, with the meter."""
    meter = OnnxLatency(SHAPE, rounds=7, block_ms=0.5)
    return meter, meter.attempt([network(4), Branching(), network(1500)], seed=0)


def test_a_network_of_thousandfold_work_is_slower(measured):
    small, _, large = measured[1]
    assert 0 < small.low_ms <= small.latency_ms <= small.high_ms
    assert small.latency_ms < large.latency_ms
    assert small.runs >= large.runs >= 7


def test_a_network_that_onnx_can_not_express_is_refused_in_one_line(measured):
    error = measured[1][1]
    assert isinstance(error, ArchgenError)
    assert str(error).startswith("onnxruntime refuses the network: the network can not be written as ONNX")
    assert "\n" not in str(error)


def test_the_record_tells_the_runtime_and_the_setting(measured):
    device = measured[0].device
    assert (device.runtime, device.version) == ("onnxruntime", onnxruntime.__version__)
    assert (device.provider, device.gpu) == ("CPUExecutionProvider", "none")
    assert (device.threads, device.batch, device.shape) == (1, 1, SHAPE)


def test_a_network_that_reads_tokens_is_measured():
    reader = nn.Sequential(nn.Embedding(2, 4), nn.Flatten(), nn.Linear(5 * 4, 2))
    meter = OnnxLatency(torch.zeros(1, 5, dtype=torch.int64), batch=3, rounds=5, block_ms=0.05)
    (reading,) = meter.measure([reader], seed=0)
    assert reading.latency_ms > 0
    assert meter.device.shape == (5,)


def test_the_session_gets_the_batch_the_threads_and_the_provider(monkeypatch):
    exported, opened, fed = [], [], []
    monkeypatch.setattr(onnx_latency, "to_onnx", lambda network, *_: exported.append(network))

    class Session:
        def get_inputs(self):
            return [SimpleNamespace(name="image")]

        def run(self, names, feed):
            fed.append(feed["image"].shape)

    def opening(path, threads, provider):
        opened.append((threads, provider))
        return Session()

    monkeypatch.setattr(onnx_latency, "open_onnx", opening)
    candidate = network(3)
    OnnxLatency(SHAPE, threads=3, batch=2, rounds=5, block_ms=0.01).measure([candidate], seed=0)
    assert exported == [candidate]
    assert opened == [(3, "CPUExecutionProvider")]
    assert set(fed) == {(2, *SHAPE)}


def test_an_onnxruntime_without_cuda_is_named(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(
        ArchgenError, match=r"no CUDAExecutionProvider \(it has CPUExecutionProvider\): install"
    ) as caught:
        OnnxLatency(SHAPE, processor="cuda")
    assert "\n" not in str(caught.value)


def test_a_provider_that_does_not_start_is_not_measured_on_the_cpu_instead(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(onnx_latency.PROVIDERS.values()))
    monkeypatch.setattr(onnx_latency, "to_onnx", lambda *_: None)
    fallen_back = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnx_latency, "open_onnx", lambda *_: fallen_back)
    with pytest.raises(DeviceLost, match="could not start CUDAExecutionProvider"):
        OnnxLatency(SHAPE, processor="cuda").attempt([network(2), network(3)], seed=0)


def test_a_bound_run_gives_the_output_of_a_plain_one(tmp_path):
    to_onnx(network(4), SHAPE, tmp_path / "network.onnx")
    session = open_onnx(tmp_path / "network.onnx")
    image = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    given = []
    plain = session.run(None, {"image": image.numpy()})[0]

    class Watched:
        """The session, whose binding is kept to look at."""

        def __getattr__(self, name):
            return getattr(session, name)

        def io_binding(self):
            given.append(session.io_binding())
            return given[0]

    bound(Watched(), image, "cpu")()
    assert np.array_equal(given[0].copy_outputs_to_cpu()[0], plain)


def test_files_are_measured_beside_the_reference_for_its_speed(tmp_path, monkeypatch):
    timed = []

    def interleaved(runs, reference, *, rounds, **_):
        timed.append([run() for run in (*runs, reference)])  # each runs
        return Timing(np.tile([2.0, 1.0], (rounds, 1)), np.full(rounds, 4.0), (1, 1))

    monkeypatch.setattr(base, "interleaved", interleaved)
    files = [tmp_path / f"{width}.onnx" for width in (3, 4)]
    for width, path in zip((3, 4), files, strict=True):
        to_onnx(network(width), torch.zeros(1, *SHAPE), path)
    meter = OnnxLatency(SHAPE, rounds=5, reference=network(5), reference_ms=8.0)
    assert meter.reference_now_ms is None
    assert [each.latency_ms for each in meter.measure_files(files, seed=0)] == [4.0, 2.0]
    assert meter.reference_now_ms == 4.0
    assert len(timed) == 1
