"""Measuring networks with onnxruntime; what is asserted holds on any machine, however busy."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from torch import nn

from archgen.errors import ArchgenError
from archgen.hardware import OnnxLatency, onnx_latency
from archgen.hardware.timing import Timing
from archgen.progress import Bar, Progress

SHAPE = (1, 8, 8)


def network(width):
    torch.manual_seed(width)
    layers = [nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3)]
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def measured():
    """One measurement of a small and a very much larger network, with what the meter said of it."""
    meter = OnnxLatency(SHAPE, rounds=7, block_ms=0.5)
    return meter, meter.measure([network(4), network(1500)], seed=0, keys=["small", "large"])


def test_a_network_of_thousandfold_work_is_slower(measured):
    small, large = measured[1]
    assert 0 < small.low_ms <= small.latency_ms <= small.high_ms
    assert small.latency_ms < large.latency_ms
    assert small.runs >= large.runs >= 7


def test_the_record_tells_the_runtime_and_the_setting(measured):
    device = measured[0].device
    assert (device.runtime, device.provider) == ("onnxruntime", "CPUExecutionProvider")
    assert (device.threads, device.batch, device.shape) == (1, 1, SHAPE)


def test_a_known_key_is_not_exported_again(measured, monkeypatch):
    meter = measured[0]
    monkeypatch.setattr(onnx_latency, "to_onnx", lambda *_: pytest.fail("exported again"))
    (again,) = meter.measure([network(4)], seed=1, keys=["small"])
    assert again.latency_ms > 0
    assert gc.isenabled()


def test_progress_moves_with_exports_and_rounds(measured, monkeypatch):
    meter, seen = measured[0], []

    class Watched(Progress):
        def bar(self, what, total):
            seen.append((what, total))
            return super().bar(what, total)

    monkeypatch.setattr(Bar, "update", lambda self, steps=1, **shown: seen.append("step"))
    meter.measure([network(4)], seed=0, keys=["small"], progress=Watched())
    assert seen[:3] == [("export", 1), "step", ("measure", 7)]
    assert seen.count("step") in (1 + 7, 1 + 14)


@pytest.mark.parametrize(
    ("spreads", "drift", "unsteady", "calls"),
    [([0.1], 0.1, False, 1), ([0.9, 0.2], 0.2, False, 2), ([0.9, 0.5], 0.5, True, 2), ([0.4, 0.6], 0.4, True, 2)],
)
def test_an_unsteady_machine_is_measured_once_more_and_then_flagged(
    measured, monkeypatch, spreads, drift, unsteady, calls
):
    meter, given = measured[0], iter(spreads)
    count = 0

    def fake(candidates, reference, **_):
        nonlocal count
        count += 1
        spread = next(given)
        reference_ms = np.array([1 - spread / 2, 1 - spread / 2, 1.0, 1 + spread / 2, 1 + spread / 2])
        return Timing(np.ones((5, len(candidates))), reference_ms, (1,) * len(candidates))

    monkeypatch.setattr(onnx_latency, "interleaved", fake)
    meter.measure([network(4)], seed=0, keys=["small"])
    assert meter.drift == pytest.approx(drift)
    assert (meter.unsteady, count) == (unsteady, calls)


def test_a_given_reference_is_timed_instead_of_the_first_network(monkeypatch):
    exported = []
    monkeypatch.setattr(onnx_latency, "to_onnx", lambda network, *_: exported.append(network))

    class Session:
        def run(self, names, feed):
            assert feed["image"].shape == (2, *SHAPE)
            return names

    monkeypatch.setattr(onnx_latency, "open_onnx", lambda path, threads: Session())
    reference, candidate = network(2), network(3)
    meter = OnnxLatency(SHAPE, threads=3, batch=2, rounds=5, block_ms=0.05, reference=reference)
    meter.measure([candidate], seed=0)
    meter.measure([candidate], seed=0)
    assert exported == [candidate, reference, candidate], "the reference is exported once"


def test_no_network_is_no_measurement():
    assert OnnxLatency(SHAPE).measure([], seed=0) == []


@pytest.mark.parametrize("setting", [{"threads": 0}, {"batch": 0}, {"rounds": 4}, {"block_ms": 0.0}], ids=str)
def test_a_setting_out_of_range_is_refused(setting):
    with pytest.raises(ArchgenError, match=next(iter(setting))):
        OnnxLatency(SHAPE, **setting)


def test_keys_must_be_as_many_as_networks():
    with pytest.raises(ArchgenError, match="a key for each of the 1 networks, got 2"):
        OnnxLatency(SHAPE).measure([network(2)], seed=0, keys=["a", "b"])
