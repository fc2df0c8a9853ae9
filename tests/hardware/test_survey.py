"""Measuring many architectures into a file: what is missing, batch by batch, for the speed of one reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archgen.errors import ArchgenError, InvalidArchitecture
from archgen.hardware import DeviceLost, MeasurementFile, draw_distinct, measure_missing, survey
from archgen.progress import Progress


class Plan:
    """What the network of each architecture takes, ms, and which the runtime refuses."""

    def __init__(self, texts):
        self.costs, self.refused = {text: 1.0 + i for i, text in enumerate(texts)}, set()


@pytest.fixture
def archs(space):
    return draw_distinct(space, 7, np.random.default_rng(0))


@pytest.fixture
def plan(space, archs, monkeypatch, costly):
    plan = Plan([space.format(arch) for arch in archs])

    def build(space, arch, seed):
        text = space.format(arch)
        return costly(plan.costs[text], RuntimeError("no kernel") if text in plan.refused else None)

    monkeypatch.setattr(survey, "_build", build)
    monkeypatch.setattr(survey, "BATCH", 3)
    return plan


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.parquet"


class Notes(Progress):
    def __init__(self):
        self.lines = []

    def note(self, line):
        self.lines.append(line)


def measured(path, meter):
    return {arch: each.latency_ms for arch, each in MeasurementFile(path).measured(meter.device.id).items()}


def test_distinct_architectures_compute_something_and_have_no_dead_parts(space):
    drawn = draw_distinct(space, 30, np.random.default_rng(1))
    assert len(drawn) == 30
    assert len({space.canonical(arch) for arch in drawn}) == 30
    assert all(space.computation(arch).edges and space.simplify(arch) == arch for arch in drawn)
    assert drawn[:5] == draw_distinct(space, 30, np.random.default_rng(1))[:5]


def test_a_space_that_has_fewer_gives_those(space, monkeypatch):
    some = space.sample(3, np.random.default_rng(0))
    monkeypatch.setattr(space, "sample", lambda n, rng: (some * n)[:n])
    assert 1 <= len(draw_distinct(space, 10, np.random.default_rng(0))) <= 3


def test_all_are_measured_for_one_speed_though_the_machine_slows_down(space, archs, plan, path, pretended, machine):
    meter, append = pretended(), MeasurementFile.append

    def slower(self, *arguments):
        machine.slow *= 2.0
        append(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeasurementFile, "append", slower)
        done = measure_missing(meter, space, archs, MeasurementFile(path, space.name), seed=0)
    assert (done.measured, done.refused, done.unsteady) == (7, {}, 0)
    assert measured(path, meter) == pytest.approx(plan.costs)


def test_a_session_goes_on_where_the_last_one_was_killed(space, archs, plan, path, pretended, machine):
    machine.breaks_at = 60  # a batch of three takes 44 runs
    meter = pretended()
    with pytest.raises(DeviceLost, match="what was measured before is kept"):
        measure_missing(meter, space, archs, MeasurementFile(path, space.name), seed=0)
    kept = measured(path, meter)
    assert len(kept) == 3
    machine.breaks_at, machine.slow = None, 5.0
    machine.loaded.clear()
    resumed = pretended()
    done = measure_missing(resumed, space, archs, MeasurementFile(path, space.name), seed=1)
    assert done.measured == 7 - len(kept)
    assert len(machine.loaded) == 1 + 7 - len(kept), "the reference, and what was missing"
    assert measured(path, resumed) == pytest.approx(plan.costs), "for the speed of the first session"
    machine.loaded.clear()
    assert measure_missing(pretended(), space, archs, MeasurementFile(path, space.name), seed=2).measured == 0
    assert machine.loaded == []


def test_another_setting_is_another_device_and_measured_anew(space, archs, plan, path, pretended):
    one, two = pretended(), pretended(threads=2)
    for meter in (one, two):
        measure_missing(meter, space, archs[:2], MeasurementFile(path, space.name), seed=0)
    assert len(MeasurementFile(path)) == 4
    assert measured(path, one) == pytest.approx(measured(path, two))


def test_a_refused_architecture_is_named_and_the_others_go_on(space, archs, plan, path, pretended):
    texts = list(plan.costs)
    plan.refused = {texts[0], texts[4]}
    notes = Notes()
    done = measure_missing(pretended(), space, archs, MeasurementFile(path, space.name), seed=0, progress=notes)
    assert done.refused.keys() == plan.refused
    assert all("no kernel" in reason for reason in done.refused.values())
    assert measured(path, pretended()) == pytest.approx({k: v for k, v in plan.costs.items() if k not in plan.refused})
    for text in plan.refused:
        assert sum(line.startswith(f"{text} is left out") for line in notes.lines) == 1


def test_the_reference_is_of_middling_flops_and_not_a_refused_one(space, archs, plan, path, pretended):
    by_flops = sorted(plan.costs, key=lambda text: space.count(space.parse(text))["flops"])
    meter = pretended()
    measure_missing(meter, space, archs, MeasurementFile(path, space.name), seed=0)
    (device,) = MeasurementFile(path).devices.values()
    assert device.reference == by_flops[3]
    assert device.reference_ms == pytest.approx(plan.costs[by_flops[3]])
    plan.refused = {by_flops[3]}
    other = path.with_name("other.parquet")
    done = measure_missing(pretended(), space, archs, MeasurementFile(other, space.name), seed=0)
    (device,) = MeasurementFile(other).devices.values()
    assert device.reference in by_flops[2:5]
    assert (done.measured, list(done.refused)) == (6, [by_flops[3]])


def test_a_runtime_that_refuses_everything_is_an_error_and_writes_nothing(space, archs, plan, path, pretended):
    plan.refused = set(plan.costs)
    with pytest.raises(ArchgenError, match=r"all 7 architectures are refused; the first: .*no kernel") as caught:
        measure_missing(pretended(), space, archs, MeasurementFile(path, space.name), seed=0)
    assert "\n" not in str(caught.value)
    assert not path.exists()


def test_an_architecture_that_can_not_be_built_is_left_out_too(space, archs, plan, path, pretended, monkeypatch):
    build, broken = survey._build, space.format(archs[1])

    def sometimes(space, arch, seed):
        if space.format(arch) == broken:
            raise InvalidArchitecture("it can not be built")
        return build(space, arch, seed)

    monkeypatch.setattr(survey, "_build", sometimes)
    done = measure_missing(pretended(), space, archs, MeasurementFile(path, space.name), seed=0)
    assert done.refused == {broken: "it can not be built"}
    assert done.measured == 6


def test_networks_are_built_without_dead_parts_and_torch_keeps_its_random_state(space):
    arch = next(a for a in space.sample(100, np.random.default_rng(0)) if space.simplify(a) != a)
    before = torch.get_rng_state()
    network, twin = (survey._build(space, arch, seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == space.count(space.simplify(arch))["params"]
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))
    assert not network.training
