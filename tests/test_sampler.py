"""The guided sampler keeps its bounds, follows its wishes, repeats itself by seed and says why when it can not."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from archgen import config
from archgen.errors import (
    ArchgenError,
    ArchgenWarning,
    Infeasible,
    InvalidCheckpoint,
    InvalidObjective,
    UnknownMetric,
    UnknownName,
)
from archgen.generators import DiscreteFlow
from archgen.graph import Architecture
from archgen.objectives import Objective, at_least, at_most, maximize, minimize
from archgen.predictors import Predictor, save_predictor
from archgen.predictors.base import Floats, Prediction
from archgen.predictors.counts import Count
from archgen.sampler import GuidedSampler, pretrained_generator
from archgen.spaces import CellSpace, SearchSpace
from archgen.surrogates import GaussianProcess

FAILS = 1e-6
"""Probability with which a statistical test here fails although the code is right; seeds are fixed besides."""

GENERATOR = "nasbench201-discrete_flow"


class Latency(Predictor):
    """Additive over the choices, with an error of 0.3 ms; mean 6 ms, spread about 1.7 ms."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space, "latency_ms")
        self.weights = np.random.default_rng(3).uniform(0, 2, (len(space.variables), 5))

    def fit(self, archs: Sequence[Architecture], y: Floats) -> Latency:
        return self

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        choices = [list(self.space.to_choices(arch).values()) for arch in archs]
        mean = np.array([sum(self.weights[v, c] for v, c in enumerate(row)) for row in choices])
        return Prediction(mean, np.full(len(mean), 0.3))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, {}

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Latency:
        return cls(space)


@pytest.fixture(scope="module")
def sampler(space: SearchSpace) -> GuidedSampler:
    return GuidedSampler(space, pretrained_generator(space), {"latency_ms": Latency(space)})


@pytest.fixture(scope="module")
def tiny() -> GuidedSampler:
    """A space of 27 and an untrained generator."""
    roles = {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}
    network = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
    space = CellSpace("tiny", 3, roles, network)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = DiscreteFlow(space.node_domain, space.edge_domain, width=8, layers=1, heads=2)
    return GuidedSampler(space, flow.eval())


# -- wishes ------------------------------------------------------------------------------------------------------


BOUNDS: dict[str, list[Objective]] = {
    "one": [at_most("latency_ms", 4.5)],
    "exact count": [at_most("params", 3e5)],
    "both sides": [at_least("latency_ms", 5.0), at_most("latency_ms", 5.5)],
    "two metrics": [at_most("latency_ms", 6.0), at_least("params", 6e5)],
    "against the wish": [maximize("params"), at_most("latency_ms", 5.0)],
}


@pytest.mark.parametrize("case", list(BOUNDS))
def test_bounds_are_always_met_as_predicted(sampler: GuidedSampler, case: str) -> None:
    wishes = BOUNDS[case]
    samples = sampler.sample(24, wishes, steps=8, seed=1)
    assert len(samples) == 24
    frame = samples.to_frame()
    for wish in wishes:
        assert all(wish.met(value) for value in frame[wish.metric])
        assert frame[wish.metric].tolist() == sampler.predictor(wish.metric).predict(samples.archs).mean.tolist()


def test_an_exact_bound_that_a_single_architecture_meets_is_reached(sampler: GuidedSampler) -> None:
    """Of 15,625 only the cell of six 3x3 convolutions has the most parameters; the bound alone must show the way."""
    most = sampler.space.parse(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
        + "|".join(["", *(f"nor_conv_3x3~{i}" for i in range(3)), ""])
    )
    (params,) = Count(sampler.space, "params").predict([most]).mean
    assert sampler.sample(1, [at_least("params", float(params))], steps=8).archs == [most]


@pytest.mark.parametrize("wish", [maximize("latency_ms"), minimize("latency_ms"), maximize("flops")])
def test_a_direction_moves_the_predicted_metric_clearly(sampler: GuidedSampler, wish: Objective) -> None:
    """By more than a standard deviation of the space in the mean of 48.

    Two unguided means differ by 0.2 standard deviations, one of theirs, so luck reaches 1 with probability below
    `FAILS`.
    """
    free = sampler.predictor(wish.metric).predict(sampler.sample(48, steps=8, unique=False).archs).mean
    guided = sampler.sample(48, [wish], steps=8, unique=False).predicted[wish.metric]
    assert wish.sign * (guided.mean() - free.mean()) > free.std()


def test_a_stronger_pull_goes_further_and_none_goes_nowhere(space: SearchSpace) -> None:
    """Standard deviations above the space's mean: strength 0 stays (missed by 0.8 with probability below `FAILS`)."""
    reached = []
    for strength in (0.0, 1.0, 6.0):
        sampler = GuidedSampler(space, pretrained_generator(space), {"latency_ms": Latency(space)}, strength)
        latency = sampler.sample(48, [maximize("latency_ms")], steps=8, unique=False).predicted["latency_ms"]
        everywhere = Latency(space).predict(space.enumerate()).mean
        reached.append((latency.mean() - everywhere.mean()) / everywhere.std())
    assert abs(reached[0]) < 0.8
    assert reached[0] + 0.4 < reached[1] < reached[2] - 0.4


def test_without_wishes_the_generator_is_sampled_as_it_is(sampler: GuidedSampler) -> None:
    noise = torch.Generator().manual_seed(5)
    batch = sampler.generator.sample(40, steps=4, generator=noise)
    assert sampler.sample(40, steps=4, seed=5, unique=False).archs == sampler.space.decode(batch)


# -- what comes back ---------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_architectures_whatever_was_drawn_before(sampler: GuidedSampler) -> None:
    wishes = [maximize("params"), at_most("latency_ms", 5.0)]
    fresh = GuidedSampler(sampler.space, sampler.generator, {"latency_ms": Latency(sampler.space)})
    first = fresh.sample(16, wishes, steps=4, seed=3)
    fresh.sample(16, [minimize("flops")], steps=4, seed=9)
    again = fresh.sample(16, wishes, steps=4, seed=3)
    other = fresh.sample(16, wishes, steps=4, seed=4)
    assert first.archs == again.archs != other.archs
    pd.testing.assert_frame_equal(first.to_frame(), again.to_frame())


def test_sampling_leaves_the_global_generators_alone(sampler: GuidedSampler) -> None:
    before, legacy = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002  the state that must not move
    sampler.sample(4, [maximize("params")], steps=2)
    assert torch.equal(before, torch.get_rng_state())
    assert (legacy == np.random.get_state()[1]).all()  # noqa: NPY002


def test_architectures_differ_unless_repetition_is_wanted(tiny: GuidedSampler) -> None:
    samples = tiny.sample(12, steps=4)
    assert len(set(samples.archs)) == 12
    repeated = tiny.sample(60, steps=4, unique=False)
    assert len(repeated) == 60
    assert len(set(repeated.archs)) <= 27


def test_fewer_come_back_with_a_warning_when_fewer_exist(tiny: GuidedSampler) -> None:
    with pytest.warns(ArchgenWarning, match=r"only \d+ of 40 architectures were found that differ") as caught:
        samples = tiny.sample(40, steps=4)
    assert len(caught) == 1
    assert len(set(samples.archs)) == len(samples) <= 27
    assert f"only {len(samples)} of 40" in str(caught[0].message)


def test_the_warning_names_the_bounds_and_all_that_meet_them_are_distinct(tiny: GuidedSampler) -> None:
    count = Count(tiny.space, "params")
    values = count.predict(tiny.space.enumerate()).mean
    largest = values.max()
    with pytest.warns(ArchgenWarning, match=r"at_least\('params'"):
        samples = tiny.sample(20, [at_least("params", float(largest))], steps=8)
    assert set(samples.predicted["params"]) == {largest}
    assert 1 <= len(samples) <= (values == largest).sum()


def test_no_warning_when_all_were_found(sampler: GuidedSampler) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sampler.sample(8, [at_most("params", 1e6)], steps=4)
    assert caught == []


def test_diagnostics_are_shares_in_percent(sampler: GuidedSampler) -> None:
    free = sampler.sample(32, steps=4, unique=False).diagnostics
    assert {k: free[k] for k in ("drawn", "valid", "accepted")} == {"drawn": 32.0, "valid": 100.0, "accepted": 100.0}
    bounded = sampler.sample(16, [at_most("latency_ms", 3.0)], steps=4).diagnostics
    assert bounded["accepted"] == pytest.approx(100 * 16 / bounded["drawn"])
    assert 0 < bounded["unique"] <= 100
    assert bounded["seconds"] >= 0


def test_the_table_has_the_wishes_first_then_the_counts(sampler: GuidedSampler) -> None:
    wishes = [at_most("latency_ms", 6.0), maximize("flops")]
    samples = sampler.sample(5, wishes, steps=4)
    frame = samples.to_frame()
    assert list(frame) == ["arch", "latency_ms", "flops", "params", "valid"]
    assert [sampler.space.parse(text) for text in frame["arch"]] == samples.archs
    assert frame["valid"].tolist() == [True] * 5
    assert list(sampler.sample(2, steps=2).to_frame()) == ["arch", "params", "flops", "valid"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_table_is_saved_whole_and_alone(sampler: GuidedSampler, tmp_path: Path, suffix: str) -> None:
    samples = sampler.sample(5, [maximize("latency_ms")], steps=2)
    path = tmp_path / "new" / f"samples{suffix}"
    samples.save(path)
    read = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    pd.testing.assert_frame_equal(read, samples.to_frame())
    assert [p.name for p in path.parent.iterdir()] == [path.name]


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "best"),
    [(at_most("params", 1_000), min), (at_most("latency_ms", -1.0), None), (at_least("latency_ms", 99.0), None)],
)
def test_a_bound_that_nothing_meets_names_what_can_be_reached(
    sampler: GuidedSampler, wish: Objective, best: Callable[[Floats], float] | None
) -> None:
    """What is reached lies in the outermost per cent of the space; the least count is met exactly (1 in 20 has it)."""
    with pytest.raises(Infeasible, match=r"no architecture of nasbench201 was found with .*; move a bound") as error:
        sampler.sample(4, [wish], steps=8)
    text = str(error.value)
    assert "\n" not in text
    assert f"{wish.metric} {'at most' if wish.sign < 0 else 'at least'} {wish.bound:g} (reachable: " in text
    reached = float(text.split("reachable: ")[1].split(")")[0])
    values = sampler.predictor(wish.metric).predict(sampler.space.enumerate()).mean
    if best is not None:
        assert reached == pytest.approx(best(values), rel=1e-3)
    assert values.min() * 0.999 <= reached <= values.max() * 1.001
    assert np.mean(wish.sign * values > wish.sign * reached + 1e-3 * abs(reached)) < 0.01


def test_bounds_that_only_together_can_not_be_met_are_all_named(sampler: GuidedSampler) -> None:
    values = Count(sampler.space, "params").predict(sampler.space.enumerate()).mean
    wishes = [at_least("params", float(values.max())), at_most("flops", 1e7)]
    with pytest.raises(Infeasible, match=r"params at least .*\(reachable: .* and flops at most .*\(reachable: "):
        sampler.sample(4, wishes, steps=4)


def test_an_unknown_metric_gets_a_hint_and_the_known_ones(sampler: GuidedSampler) -> None:
    with pytest.raises(UnknownMetric, match=r"'latency': did you mean 'latency_ms'\? known are: flops, latency_ms, pa"):
        sampler.sample(4, [at_most("latency", 1.0)])
    assert sampler.metrics == ("params", "flops", "latency_ms")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n=0 and steps=16"),
        ({"n": -3}, "n=-3"),
        ({"n": 4, "steps": 0}, "n=4 and steps=0"),
        ({"n": 4, "objectives": [maximize("params"), minimize("params")]}, "both maximized and minimized"),
        ({"n": 4, "objectives": [at_least("flops", 2.0), at_most("flops", 1.0)]}, "at least 2 and at most 1"),
    ],
)
def test_what_makes_no_sense_is_refused(sampler: GuidedSampler, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidObjective, match=message):
        sampler.sample(**arguments)


# -- checkpoints -------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the committed generator in a folder of checkpoints of its own."""
    shutil.copytree(config.checkpoints_dir() / "generators" / GENERATOR, tmp_path / "generators" / GENERATOR)
    return tmp_path


def test_the_committed_sampler_is_three_lines() -> None:
    sampler = GuidedSampler.from_pretrained("nasbench201")
    frame = sampler.sample(8, [maximize("params"), at_most("flops", 1e8)], steps=4, seed=0).to_frame()
    assert len(frame) == 8
    assert (frame["flops"] <= 1e8).all()


def test_predictors_are_read_when_first_asked_for(space: SearchSpace, rng: np.random.Generator, root: Path) -> None:
    archs = space.sample(15, rng)
    surrogate = GaussianProcess(space, "val_acc").fit(archs, rng.normal(size=15))
    for name in ("nasbench201-val_acc", ".nasbench201-half", "otherspace-val_acc"):
        save_predictor(surrogate, "gp", root / "predictors" / name, "# card\n")
    sampler = GuidedSampler.from_pretrained("nasbench201", checkpoints=root)
    assert sampler.metrics == ("params", "flops", "val_acc")
    samples = sampler.sample(4, [maximize("val_acc")], steps=2)
    assert samples.predicted["val_acc"] == pytest.approx(surrogate.predict(samples.archs).mean)
    (root / "predictors" / "nasbench201-val_acc" / "model.safetensors").write_bytes(b"cut")
    again = GuidedSampler.from_pretrained("nasbench201", checkpoints=root)
    again.sample(4, [maximize("params")], steps=2)
    with pytest.raises(InvalidCheckpoint, match="not a whole safetensors file"):
        again.sample(4, [maximize("val_acc")], steps=2)


def _truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def _edit(folder: Path, **changes: object) -> None:
    header = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**header, **changes}))


def _foreign_space(folder: Path) -> None:
    roles = {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}
    other = CellSpace("nasbench201", 3, roles, {})
    DiscreteFlow(other.node_domain, other.edge_domain, width=8, layers=1, heads=2).save(
        "discrete_flow", folder, {}, "# card\n"
    )


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights cut short": (_truncate, "not a whole safetensors file"),
    "weights empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "not a whole safetensors file"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "does not exist"),
    "no config": (lambda f: (f / "config.json").unlink(), "does not exist"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), "can not be read as JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "not an archgen checkpoint"),
    "a predictor": (lambda f: _edit(f, kind="predictor"), "holds a predictor, expected a generator"),
    "other arguments": (lambda f: _edit(f, config={"arguments": {"width": 32}}), "does not fit the network"),
    "unknown arguments": (lambda f: _edit(f, config={"arguments": {"depth": 3}}), "not a whole discrete_flow"),
    "of another space": (_foreign_space, "trained on another space than nasbench201"),
    "nothing there": (shutil.rmtree, "train one: archgen train generator --space nasbench201"),
}


@pytest.mark.parametrize("case", list(DAMAGES))
def test_a_damaged_or_foreign_generator_is_refused_in_one_line(root: Path, case: str) -> None:
    damage, message = DAMAGES[case]
    damage(root / "generators" / GENERATOR)
    with pytest.raises(InvalidCheckpoint, match=message) as error:
        GuidedSampler.from_pretrained("nasbench201", checkpoints=root)
    assert "\n" not in str(error.value)
    assert str(root) in str(error.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"config": []}', '{"config": {"metric": 3}}'])
def test_a_predictor_that_can_not_be_read_is_refused_in_one_line(root: Path, text: str) -> None:
    folder = root / "predictors" / "nasbench201-broken"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(text)
    with pytest.raises(InvalidCheckpoint, match="nasbench201-broken") as error:
        GuidedSampler.from_pretrained("nasbench201", checkpoints=root)
    assert "\n" not in str(error.value)


def test_names_that_do_not_exist_are_refused(root: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'nasbench201'"):
        GuidedSampler.from_pretrained("nasbench210")
    with pytest.raises(InvalidCheckpoint, match="no one_step generator for nasbench201 in"):
        GuidedSampler.from_pretrained("nasbench201", generator="one_step", checkpoints=root)
    _edit(root / "generators" / GENERATOR, name="dream")
    with pytest.raises(ArchgenError, match="unknown generator 'dream'"):
        GuidedSampler.from_pretrained("nasbench201", checkpoints=root)


def test_the_environment_says_where_the_checkpoints_are(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHGEN_CHECKPOINTS", str(root))
    assert len(GuidedSampler.from_pretrained("nasbench201").sample(2, steps=2)) == 2
    monkeypatch.setenv("ARCHGEN_CHECKPOINTS", str(root / "absent"))
    with pytest.raises(InvalidCheckpoint, match="absent"):
        GuidedSampler.from_pretrained("nasbench201")
