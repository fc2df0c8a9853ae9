"""`GenerativeSampler` in real Optuna studies, in memory and in SQLite."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState, create_trial

from archgen import at_most, maximize, spaces
from archgen.errors import Infeasible, InvalidObjective, InvalidSpace, UnknownName
from archgen.evaluators.base import Evaluator, Measurement
from archgen.generators import DiscreteFlow
from archgen.graph import Architecture
from archgen.integrations.optuna import CLAIM, GenerativeSampler, suggest
from archgen.spaces import CellSpace, SearchSpace
from archgen.strategies import STRATEGIES, SearchStrategy, pretrained_parts
from archgen.study import COMPLETE, FAILED, Study, Trial, search

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}
TINY = CellSpace("tiny", 3, ROLES, {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8})


class Ordered(SearchStrategy):
    """Proposes the space in its order, and remembers all it was told; proposes the same to all who know the same."""

    told: list[list[Trial]]

    def tell(self, trials: Sequence[Trial]) -> None:
        super().tell(trials)
        type(self).told.append(list(trials))

    def ask(self, n: int) -> list[Architecture]:
        left = [arch for arch in self.space.enumerate() if arch not in self._seen]
        return [arch for arch, good in zip(left, self._screen(left), strict=True) if good][:n]


@pytest.fixture
def ordered() -> type[Ordered]:
    return type("Fresh", (Ordered,), {"told": []})


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(level)


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[optuna.storages.BaseStorage]:
    if request.param == "memory":
        yield optuna.storages.InMemoryStorage()
        return
    rdb = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    yield rdb
    rdb.engine.dispose()


def convolutions(arch: Architecture) -> float:
    return float(sum("conv" in op for op in arch.ops)) + 0.1 * float(arch.ops[1] == "skip_connect")


def study_of(sampler: GenerativeSampler, **arguments: Any) -> optuna.Study:
    return optuna.create_study(sampler=sampler, **{"direction": "maximize", **arguments})


def proposed(study: optuna.Study, space: SearchSpace = TINY) -> list[Architecture]:
    rows = [[options.index(trial.params[n]) for n, options in space.variables.items()] for trial in study.trials]
    return [space.from_choices(dict(zip(space.variables, row, strict=True))) for row in rows]


def strategy_arguments(name: str, space: SearchSpace) -> dict[str, Any]:
    if name != "generative":
        return {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = DiscreteFlow(space.node_domain, space.edge_domain, width=8, layers=1, heads=2).eval()
    return {"generator": flow, "initial": 4, "pool": 8, "steps": 2}


# -- the proposals are the strategy's ---------------------------------------------------------------------------------


class Convolutions(Evaluator):
    metrics = ("value",)

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        return [Measurement({"value": convolutions(arch)}, 0.0) for arch in archs]


@pytest.mark.parametrize("name", ["random", "evolution", "generative"])
def test_trials_are_those_of_the_strategy_in_archgens_own_loop(name: str, space: SearchSpace) -> None:
    arguments = strategy_arguments(name, space)
    study = study_of(GenerativeSampler(space, strategy=name, seed=3, **arguments))
    study.optimize(lambda trial: convolutions(suggest(trial, space)), n_trials=8)
    wishes = [maximize("value")]
    parts = pretrained_parts(STRATEGIES[name], space, arguments)
    strategy = STRATEGIES[name](space, wishes, seed=3, **arguments, **parts)
    expected = search(Study(space, wishes), strategy, Convolutions(), budget=8)
    assert proposed(study, space) == [trial.arch for trial in expected]


def test_same_seed_same_trials_in_every_storage(storage: optuna.storages.BaseStorage) -> None:
    def run(seed: int, where: optuna.storages.BaseStorage | None) -> list[Architecture]:
        study = study_of(GenerativeSampler(TINY, strategy="random", seed=seed), storage=where)
        study.optimize(lambda trial: convolutions(suggest(trial, TINY)), n_trials=9)
        return proposed(study)

    first = run(0, storage)
    assert len(set(first)) == 9
    assert run(0, None) == first
    assert run(1, None) != first


def test_users_own_calls_may_ask_in_any_order_of_names_and_options() -> None:
    def objective(trial: optuna.Trial) -> float:
        asked = {n: trial.suggest_categorical(n, options[::-1]) for n, options in reversed(TINY.variables.items())}
        return convolutions(TINY.from_choices({n: TINY.variables[n].index(asked[n]) for n in TINY.variables}))

    study = study_of(GenerativeSampler(TINY, strategy="random", seed=0))
    study.optimize(objective, n_trials=6)
    same = study_of(GenerativeSampler(TINY, strategy="random", seed=0))
    same.optimize(lambda trial: convolutions(suggest(trial, TINY)), n_trials=6)
    assert proposed(study) == proposed(same)


def test_a_space_with_constraints_gets_valid_architectures_only(rng: np.random.Generator) -> None:
    space = spaces.load("nasbench101")
    study = study_of(GenerativeSampler(space, strategy="evolution", seed=0, population=4, sample=2))
    study.optimize(lambda trial: space.count(suggest(trial, space))["params"], n_trials=8)
    assert len(set(proposed(study, space))) == 8
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


# -- what the strategy is told ----------------------------------------------------------------------------------------


def test_failed_and_pruned_trials_are_told_and_bounds_are_read_from_attributes(ordered: type[Ordered]) -> None:
    def objective(trial: optuna.Trial) -> float:
        suggest(trial, TINY)
        trial.set_user_attr("latency_ms", float(trial.number))
        if trial.number == 1:
            raise optuna.TrialPruned
        return float("nan") if trial.number == 2 else 10.0 * trial.number

    study = study_of(GenerativeSampler(TINY, strategy=ordered, bounds=[at_most("latency_ms", 2.0)]))
    with warnings.catch_warnings():  # the names are an experimental feature of Optuna
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["acc"])
    study.optimize(objective, n_trials=5)
    last = ordered.told[-1]
    assert [trial.state for trial in last] == [COMPLETE, FAILED, FAILED, COMPLETE]
    assert [trial.values for trial in last] == [{"latency_ms": 0, "acc": 0}, {}, {}, {"latency_ms": 3, "acc": 30}]
    assert [trial.arch for trial in last] == TINY.enumerate()[:4]


def test_running_and_queued_trials_count_with_the_mean_as_their_lie(
    storage: optuna.storages.BaseStorage, ordered: type[Ordered]
) -> None:
    study = study_of(GenerativeSampler(TINY, strategy=ordered), storage=storage)
    every = TINY.enumerate()
    for value in (1.0, 4.0):
        trial = study.ask()
        suggest(trial, TINY)
        study.tell(trial, value)
    running = study.ask()
    assert suggest(running, TINY) == every[2]
    queued = every[3]
    chosen = TINY.to_choices(queued).items()
    study.enqueue_trial({name: TINY.variables[name][index] for name, index in chosen})
    # another process knows nothing but the storage
    other = optuna.load_study(
        study_name=study.study_name, storage=storage, sampler=GenerativeSampler(TINY, strategy=ordered)
    )
    assert suggest(other.ask(), TINY) == queued
    assert suggest(other.ask(), TINY) == every[4]
    assert [trial.values for trial in ordered.told[-1]] == [{"value": v} for v in (1.0, 4.0, 2.5, 2.5)]


def test_before_anything_is_measured_pending_trials_are_only_seen(ordered: type[Ordered]) -> None:
    study = study_of(GenerativeSampler(TINY, strategy=ordered))
    assert [suggest(study.ask(), TINY) for _ in range(3)] == TINY.enumerate()[:3]
    assert [trial.state for trial in ordered.told[-1]] == [FAILED, FAILED]


def test_trials_of_another_sampler_are_known(ordered: type[Ordered]) -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: convolutions(suggest(trial, TINY)), n_trials=4)
    known = set(proposed(study))
    study.sampler = GenerativeSampler(TINY, strategy=ordered)
    study.optimize(lambda trial: convolutions(suggest(trial, TINY)), n_trials=3)
    assert proposed(study)[4:] == [arch for arch in TINY.enumerate() if arch not in known][:3]


# -- several at a time ------------------------------------------------------------------------------------------------


def test_threads_never_evaluate_the_same_architecture(storage: optuna.storages.BaseStorage) -> None:
    study = study_of(GenerativeSampler(TINY, strategy="random", seed=0), storage=storage)
    study.optimize(lambda trial: convolutions(suggest(trial, TINY)), n_trials=16, n_jobs=4)
    assert len(set(proposed(study))) == 16


def test_a_claim_that_another_process_made_meanwhile_is_given_up(ordered: type[Ordered]) -> None:
    class Late(GenerativeSampler):
        """While this one writes its claim, another process claims the same architecture."""

        def _claim(self, study: Any, trial: Any, choices: dict[str, int] | None) -> None:
            if choices is not None and rival.number not in claimed:
                claimed[rival.number] = choices
                study._storage.set_trial_system_attr(rival._trial_id, CLAIM, choices)
            super()._claim(study, trial, choices)

    claimed: dict[int, dict[str, int]] = {}
    study = study_of(Late(TINY, strategy=ordered))
    rival, trial = study.ask(), study.ask()
    arch = suggest(trial, TINY)
    assert claimed[rival.number] == TINY.to_choices(TINY.enumerate()[0])
    assert arch != TINY.enumerate()[0]
    assert suggest(rival, TINY) == TINY.enumerate()[0]


def test_a_strategy_may_choose_what_it_knows_once_more() -> None:
    """As one does that evaluates again with more epochs; only what it could not know is a conflict."""

    class Again(Ordered):
        told: list[list[Trial]] = []  # noqa: RUF012

        def ask(self, n: int) -> list[Architecture]:
            return self.space.enumerate()[:1]

    study = study_of(GenerativeSampler(TINY, strategy=Again))
    assert [suggest(study.ask(), TINY) for _ in range(3)] == TINY.enumerate()[:1] * 3


# -- parameters that are given ----------------------------------------------------------------------------------------


def test_parameters_that_were_enqueued_are_kept_and_the_rest_is_proposed(ordered: type[Ordered]) -> None:
    study = study_of(GenerativeSampler(TINY, strategy=ordered))
    study.enqueue_trial({"1->2": "nor_conv_3x3"})
    arch = suggest(study.ask(), TINY)
    assert arch.ops[1:4] == ("none", "none", "nor_conv_3x3")
    assert study.trials[0].system_attrs[CLAIM] == TINY.to_choices(arch)


def test_a_screen_is_kept(ordered: type[Ordered]) -> None:
    sampler = GenerativeSampler(TINY, strategy=ordered, screen=lambda archs: [a.ops[1] != "none" for a in archs])
    study = study_of(sampler)
    assert all(suggest(study.ask(), TINY).ops[1] == "skip_connect" for _ in range(3))


def test_another_sampler_gives_parameters_outside_the_space(ordered: type[Ordered]) -> None:
    def objective(trial: optuna.Trial) -> float:
        return convolutions(suggest(trial, TINY)) * trial.suggest_float("lr", 0.1, 0.2)

    aside = optuna.samplers.RandomSampler(seed=0)
    study = study_of(GenerativeSampler(TINY, strategy=ordered, independent_sampler=aside))
    study.optimize(objective, n_trials=3)
    assert proposed(study) == TINY.enumerate()[:3]
    assert len({trial.params["lr"] for trial in study.trials}) == 3


# -- mistakes ---------------------------------------------------------------------------------------------------------


def test_foreign_parameters_are_refused(ordered: type[Ordered]) -> None:
    study = study_of(GenerativeSampler(TINY, strategy=ordered))
    with pytest.raises(InvalidSpace, match=r"unknown variable of tiny '0->3': did you mean .*independent_sampler"):
        study.ask().suggest_categorical("0->3", ["none"] * 2 + ["skip_connect"])
    with pytest.raises(InvalidSpace, match=r"parameter '0->1' has .*expected the options of tiny"):
        study.ask().suggest_categorical("0->1", ["none", "conv"])
    with pytest.raises(InvalidSpace, match="parameter '0->1' has IntDistribution"):
        study.ask().suggest_int("0->1", 0, 2)


def test_a_study_of_something_else_is_refused(ordered: type[Ordered]) -> None:
    study = study_of(GenerativeSampler(TINY, strategy=ordered))
    lr = optuna.distributions.FloatDistribution(0.0, 1.0)
    study.add_trial(create_trial(params={"lr": 0.5}, distributions={"lr": lr}, value=1.0))
    with pytest.raises(InvalidSpace, match=r"trial 0 of the study has no variable '0->1' of tiny"):
        suggest(study.ask(), TINY)


def test_an_exhausted_space_says_so_and_keeps_no_claim(ordered: type[Ordered]) -> None:
    study = study_of(GenerativeSampler(TINY, strategy=ordered))
    for _ in range(TINY.size):
        suggest(study.ask(), TINY)
    last = study.ask()
    with pytest.raises(Infeasible, match="every architecture of tiny that may be proposed"):
        suggest(last, TINY)
    assert study.trials[-1].system_attrs[CLAIM] is None


def test_directions_are_the_studys(ordered: type[Ordered]) -> None:
    with pytest.raises(InvalidObjective, match="expected bounds only"):
        GenerativeSampler(TINY, strategy=ordered, bounds=[maximize("acc")])
    with pytest.raises(UnknownName, match="did you mean 'random'"):
        GenerativeSampler(TINY, strategy="randm")

    study = study_of(GenerativeSampler(TINY, strategy="evolution"), direction=None, directions=["maximize", "minimize"])
    with pytest.raises(InvalidObjective, match="expected one metric to maximize or minimize"):
        suggest(study.ask(), TINY)

    def loss(trial: optuna.Trial) -> float:
        return -convolutions(suggest(trial, TINY))

    best = {}
    for direction, sign in (("minimize", 1), ("maximize", -1)):
        sampler = GenerativeSampler(TINY, strategy="evolution", seed=0, population=4, sample=4)
        study = study_of(sampler, direction=direction)
        study.optimize(lambda trial, sign=sign: sign * loss(trial), n_trials=14)  # type: ignore[misc]
        best[direction] = proposed(study)
    assert best["minimize"] == best["maximize"]


@pytest.mark.skipif("nsga2" not in STRATEGIES, reason="no strategy takes several directions")
def test_several_directions_reach_a_strategy_that_takes_them() -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        arch = suggest(trial, TINY)
        return convolutions(arch), TINY.count(arch)["params"]

    sampler = GenerativeSampler(TINY, strategy="nsga2", seed=0)
    study = study_of(sampler, direction=None, directions=["maximize", "minimize"])
    study.optimize(objective, n_trials=12)
    assert len(set(proposed(study))) == 12
    told = sampler._told(study, sampler._others(study, study.ask()._get_latest_trial()))
    assert [list(trial.values.values()) for trial in told] == [trial.values for trial in study.trials[:12]]
    assert [trial.values.keys() for trial in told] == [{"value_0", "value_1"}] * 12


def test_what_the_checkpoints_offer_is_the_default(space: SearchSpace) -> None:
    study = study_of(GenerativeSampler(space, seed=0))
    study.optimize(lambda trial: space.count(suggest(trial, space))["flops"], n_trials=2)
    wishes, parts = [maximize("value")], pretrained_parts(STRATEGIES["generative"], space)
    for at, found in enumerate(proposed(study, space)):
        strategy = STRATEGIES["generative"](space, wishes, seed=0, **parts)
        strategy.tell([Trial(i, arch, {"value": 0.0}, 0.0) for i, arch in enumerate(proposed(study, space)[:at])])
        assert strategy.ask(1) == [found]
