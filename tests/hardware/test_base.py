"""What every meter does: refusals by name, devices that vanish, one reference for several sessions."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from archgen.errors import ArchgenError, UnknownName
from archgen.hardware import RUNTIMES, DeviceLost, LatencyMeter, base
from archgen.hardware.timing import Timing
from archgen.progress import Progress


def latencies(measured):
    return [each.latency_ms for each in measured]


def test_the_runtimes_are_registered_under_their_own_names():
    assert set(RUNTIMES) == {"onnxruntime", "torch", "torch_compile"}
    assert all(issubclass(kind, LatencyMeter) and kind.runtime == name for name, kind in RUNTIMES.items())
    with pytest.raises(UnknownName, match="did you mean 'torch'"):
        RUNTIMES["torhc"]


def test_every_network_gets_its_own_cost(pretended, costly, machine):
    meter = pretended()
    measured = meter.measure([costly(c) for c in (0.5, 2.0, 0.1)], seed=0)
    assert latencies(measured) == pytest.approx([0.5, 2.0, 0.1])
    assert meter.drift == pytest.approx(0.0)
    assert machine.events == ["set", "put back"]


@pytest.mark.parametrize(
    "setting",
    [{"threads": 0}, {"batch": 0}, {"rounds": 4}, {"block_ms": 0.0}, {"reference_ms": 0.0}, {"reference_ms": np.nan}],
    ids=str,
)
def test_a_setting_out_of_range_is_refused(setting, pretended):
    with pytest.raises(ArchgenError, match=next(iter(setting))):
        pretended(**setting)


def test_an_unknown_processor_is_refused_with_those_that_are_known(pretended):
    with pytest.raises(UnknownName, match=r"unknown processor 'gpu': .*known are: cpu, cuda"):
        pretended(processor="gpu")


def test_what_is_missing_is_said_when_the_meter_is_made(pretended):
    class Absent(pretended):
        def check(self):
            raise ArchgenError("no such device")

    with pytest.raises(ArchgenError, match="no such device"):
        Absent()


@pytest.mark.parametrize("when", ["load_error", "run_error"])
def test_a_refused_network_leaves_the_others_as_they_are(when, pretended, costly):
    refused = costly(9.0, **{when: RuntimeError("no kernel for\n  this")})
    networks = [costly(0.5), refused, costly(2.0)]
    first, error, last = pretended().attempt(networks, seed=0)
    assert latencies([first, last]) == pytest.approx([0.5, 2.0])
    assert str(error) == "pretended refuses the network: no kernel for this"
    with pytest.raises(ArchgenError, match="no kernel"):
        pretended().measure(networks, seed=0)


def test_when_every_network_is_refused_nothing_is_timed(pretended, costly, machine):
    outcomes = pretended().attempt([costly(1.0, load_error=RuntimeError())] * 2, seed=0)
    assert [str(error) for error in outcomes] == ["pretended refuses the network: RuntimeError"] * 2
    assert machine.now == 0


def test_a_full_disk_is_no_refusal(pretended, costly):
    with pytest.raises(OSError, match="No space"):
        pretended().attempt([costly(1.0), costly(1.0, load_error=OSError("No space left"))], seed=0)


def test_a_device_that_vanishes_while_networks_are_loaded_is_not_taken_for_a_refusal(pretended, costly, machine):
    machine.breaks_at = 3  # the reference and the first network have run once
    meter = pretended(reference=costly(1.0))
    with pytest.raises(DeviceLost, match=r"pretended on cpu failed .* kept") as caught:
        meter.attempt([costly(1.0)] * 4, seed=0)
    assert "\n" not in str(caught.value)
    assert len(machine.loaded) == 3, "no further network is tried"


def test_a_device_that_vanishes_while_timing_is_an_error_of_one_line(pretended, costly, machine):
    machine.breaks_at = 40
    with pytest.raises(DeviceLost, match="the device is gone") as caught:
        pretended().attempt([costly(0.5), costly(1.0)], seed=0)
    assert "\n" not in str(caught.value)
    assert machine.events == ["set", "put back"]
    assert gc.isenabled()


def test_ctrl_c_while_timing_puts_the_setting_back(pretended, costly, machine):
    with pytest.raises(KeyboardInterrupt):
        pretended().attempt([costly(0.5), costly(1.0, run_error=KeyboardInterrupt())], seed=0)
    assert machine.events == ["set", "put back"]
    assert gc.isenabled()


def test_a_refused_reference_is_said_to_be_one(pretended, costly):
    meter = pretended(reference=costly(1.0, run_error=RuntimeError("no kernel")))
    with pytest.raises(ArchgenError, match="refuses the reference network: no kernel"):
        meter.check_reference()
    with pytest.raises(ArchgenError, match="refuses the reference network: no kernel"):
        meter.attempt([costly(1.0)], seed=0)


def test_the_reference_is_loaded_once_and_again_only_when_it_is_another(pretended, costly, machine):
    reference, other, candidate = costly(1.0), costly(2.0), costly(3.0)
    meter = pretended(reference=reference)
    meter.check_reference()
    meter.measure([candidate], seed=0)
    meter.reference = other
    meter.measure([candidate], seed=0)
    assert machine.loaded == [reference, candidate, other, candidate]


def test_a_later_and_slower_session_reports_for_the_speed_of_the_first(pretended, costly, machine):
    first = pretended(reference=costly(1.0))
    early = first.measure([costly(0.5)], seed=0)
    machine.slow = 3.0
    late = first.measure([costly(0.5)], seed=1)
    resumed = pretended(reference=costly(1.0), reference_ms=first.reference_ms).measure([costly(0.5)], seed=2)
    assert latencies(early + late + resumed) == pytest.approx([0.5] * 3)
    assert latencies(pretended().measure([costly(0.5)], seed=0)) == pytest.approx([1.5]), "without one: as it is"


def test_a_known_key_is_not_loaded_again(pretended, costly, machine):
    meter, small, large = pretended(), costly(0.5), costly(2.0)
    meter.measure([small], seed=0, keys=["small"])
    measured = meter.measure([small, large], seed=0, keys=["small", "large"])
    assert machine.loaded == [small, large]
    assert latencies(measured) == pytest.approx([0.5, 2.0])
    meter.measure([small], seed=0)
    assert machine.loaded == [small, large, small], "without keys nothing is kept"


def test_keys_must_be_as_many_as_networks(pretended, costly):
    with pytest.raises(ArchgenError, match="a key for each of the 1 networks, got 2"):
        pretended().measure([costly(1.0)], seed=0, keys=["a", "b"])


def test_no_network_is_no_measurement(pretended):
    assert pretended().measure([], seed=0) == []


def test_images_are_normal_and_tokens_are_of_every_vocabulary(pretended, costly, machine):
    pretended(torch.zeros(3, 1, 30, 30), batch=2).measure([costly(1.0)], seed=0)
    pretended(torch.zeros(1, 50, dtype=torch.int64), batch=4).measure([costly(1.0)], seed=0)
    image, tokens = machine.inputs
    assert (image.shape, image.dtype) == ((2, 1, 30, 30), torch.float32)
    # 1,800 standard normal values: the standard deviation leaves 1 +- 0.1 with a chance below 1e-8
    assert float(image.std()) == pytest.approx(1.0, abs=0.1)
    assert (tokens.shape, tokens.dtype) == ((4, 50), torch.int64)
    assert set(tokens.unique().tolist()) == {0, 1}


def test_the_same_seed_gives_the_same_inputs(pretended, costly, machine):
    for seed in (3, 3, 4):
        pretended().measure([costly(1.0)], seed=seed)
    first, again, other = machine.inputs
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_record_tells_the_runtime_the_setting_and_the_input(pretended, monkeypatch):
    monkeypatch.setattr(base, "gpu_name", lambda: "A Graphics Processor")
    device = pretended(torch.zeros(1, 128, dtype=torch.int64), threads=3, batch=2).device
    assert (device.runtime, device.version, device.provider, device.gpu) == ("pretended", "1", "cpu", "none")
    assert (device.threads, device.batch, device.shape) == (3, 2, (128,))
    assert pretended(processor="cuda").device.gpu == "A Graphics Processor"


def test_progress_moves_with_networks_and_rounds(pretended, costly):
    seen = []

    class Watched(Progress):
        def bar(self, what, total):
            seen.append((what, total))
            return super().bar(what, total)

    pretended(rounds=7).measure([costly(1.0), costly(2.0)], seed=0, progress=Watched())
    assert seen == [("prepare", 2), ("measure", 7)]


@pytest.mark.parametrize(
    ("spreads", "drift", "unsteady", "calls"),
    [([0.1], 0.1, False, 1), ([0.9, 0.2], 0.2, False, 2), ([0.9, 0.5], 0.5, True, 2), ([0.4, 0.6], 0.4, True, 2)],
)
def test_an_unsteady_machine_is_measured_once_more_and_then_flagged(
    pretended, costly, monkeypatch, spreads, drift, unsteady, calls
):
    given, count, notes = iter(spreads), 0, []

    class Watched(Progress):
        def note(self, line):
            notes.append(line)

    def fake(candidates, reference, **_):
        nonlocal count
        count += 1
        spread = next(given)
        reference_ms = np.array([1 - spread / 2, 1 - spread / 2, 1.0, 1 + spread / 2, 1 + spread / 2])
        return Timing(np.ones((5, len(candidates))), reference_ms, (1,) * len(candidates))

    monkeypatch.setattr(base, "interleaved", fake)
    meter = pretended()
    meter.measure([costly(1.0)], seed=0, progress=Watched())
    assert meter.drift == pytest.approx(drift)
    assert (meter.unsteady, count, len(notes)) == (unsteady, calls, calls - 1)
