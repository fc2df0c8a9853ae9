"""One protocol for all: every label counts, runs are kept and resumed, none is left out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archgen.errors import ArchgenError, InvalidTable, RunConflict
from archgen.evaluators import Evaluator, Measurement
from archgen.graph import Architecture
from archgen.objectives import maximize
from archgen.protocol import SEEDS, Protocol, processes
from archgen.spaces import SearchSpace
from archgen.strategies import Evolution, Random, SearchStrategy


class Counting(Evaluator):
    """Counts convolutions, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Architecture] = []

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("acc",)

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        self.asked += archs
        return [Measurement({"acc": float(sum("conv" in op for op in arch.ops))}, 1.0) for arch in archs]


@pytest.fixture
def protocol(space: SearchSpace) -> Protocol:
    return Protocol(space, (maximize("acc"),), budget=7, batch=3, seeds=(0, 1))


def task(protocol: Protocol, evaluator: Evaluator | None = None):  # type: ignore[no-untyped-def]
    kinds: dict[str, type[SearchStrategy]] = {"random": Random, "evolution": Evolution}

    def run(name: str, seed: int) -> pd.DataFrame:
        made = lambda s: kinds[name](protocol.space, protocol.objectives, seed=s)  # noqa: E731
        return protocol.run(name, made, evaluator or Counting(), seed=seed)

    return run


def test_thirty_seeds_are_the_default() -> None:
    assert tuple(range(30)) == SEEDS


def test_a_run_is_exactly_the_budget_and_its_trials_are_the_strategys_own(protocol: Protocol) -> None:
    evaluator = Counting()
    frame = task(protocol, evaluator)("random", 1)
    assert list(frame.columns) == [
        "strategy", "seed", "trial", "arch", "acc", "cost_seconds", "state", "overhead_seconds",
    ]  # fmt: skip
    assert len(evaluator.asked) == len(set(evaluator.asked)) == protocol.budget
    assert frame["arch"].tolist() == [protocol.space.format(arch) for arch in evaluator.asked]
    assert (set(frame["strategy"]), set(frame["seed"])) == ({"random"}, {1})
    expected = Random(protocol.space, protocol.objectives, seed=1).ask(3)
    assert evaluator.asked[:3] == expected
    assert (frame["overhead_seconds"] >= 0).all()


def test_the_time_of_evaluating_is_no_overhead(protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only evaluating and asking move: 100 an evaluation, 6 a batch."""
    now = 0.0
    monkeypatch.setattr("archgen.protocol.time.process_time", lambda: now)

    class Slow(Counting):
        def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
            nonlocal now
            now += 100.0
            return super().evaluate(archs, seed=seed)

    class Thinking(Random):
        def ask(self, n: int) -> list[Architecture]:
            nonlocal now
            now += 6.0
            return super().ask(n)

    frame = protocol.run("x", lambda s: Thinking(protocol.space, protocol.objectives, seed=s), Slow(), seed=0)
    assert frame["overhead_seconds"].tolist() == [6.0, 0.0, 0.0, 6.0, 0.0, 0.0, 6.0]


def test_labels_that_were_paid_before_are_the_first_trials_and_are_not_asked_again(
    protocol: Protocol, rng: np.random.Generator
) -> None:
    paid, evaluator = protocol.space.sample(4, rng), Counting()
    frame = protocol.run(
        "x", lambda s: Random(protocol.space, protocol.objectives, seed=s), evaluator, seed=0, paid=[*paid, paid[0]]
    )
    assert evaluator.asked[:4] == paid
    assert len(frame) == len(set(evaluator.asked)) == protocol.budget


def test_a_strategy_that_runs_out_of_proposals_is_an_error(protocol: Protocol) -> None:
    class Spent(Random):
        def ask(self, n: int) -> list[Architecture]:
            return super().ask(n) if len(self.trials) < 4 else []

    with pytest.raises(ArchgenError, match="'x' with seed 0 had nothing left to propose after 6 of 7"):
        protocol.run("x", lambda s: Spent(protocol.space, protocol.objectives, seed=s), Counting(), seed=0)


def test_every_strategy_gets_every_seed_and_runs_are_kept(protocol: Protocol, tmp_path: Path) -> None:
    runs = protocol.complete(tmp_path, ["evolution", "random"], task(protocol))
    assert (runs.strategies, runs.seeds, runs.budget) == (("evolution", "random"), (0, 1), 7)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet"))
    assert names == [f"{name}/seed_00{seed}.parquet" for name in ("evolution", "random") for seed in (0, 1)]
    whole = protocol.read(tmp_path, ["random"]).values("acc")["random"]
    np.testing.assert_array_equal(whole, runs.values("acc")["random"])


def test_what_is_there_is_not_done_again(protocol: Protocol, tmp_path: Path) -> None:
    done: list[tuple[str, int]] = []

    def counted(name: str, seed: int) -> pd.DataFrame:
        done.append((name, seed))
        if name == "evolution" and seed == 1:
            raise KeyboardInterrupt
        return task(protocol)(name, seed)

    with pytest.raises(KeyboardInterrupt):
        protocol.complete(tmp_path, ["random", "evolution"], counted)
    assert done == [("random", 0), ("evolution", 0), ("random", 1), ("evolution", 1)]
    with pytest.raises(InvalidTable, match="lacks seed 1 of 'evolution'; every run counts"):
        protocol.read(tmp_path, ["random", "evolution"])
    done.clear()
    runs = replace(protocol, seeds=(0, 1, 2)).complete(tmp_path, ["random"], counted)
    assert done == [("random", 2)]
    assert runs.seeds == (0, 1, 2)


def test_runs_in_an_executor_are_those_without(protocol: Protocol, tmp_path: Path) -> None:
    alone = protocol.complete(tmp_path / "alone", ["random"], task(protocol))
    with ThreadPoolExecutor(2) as pool:
        together = protocol.complete(tmp_path / "together", ["random"], task(protocol), executor=pool)
    columns = ["strategy", "seed", "trial", "arch", "acc"]
    pd.testing.assert_frame_equal(alone.trials[columns], together.trials[columns])


def test_a_task_that_fails_in_an_executor_fails_all_but_what_is_done_is_kept(
    protocol: Protocol, tmp_path: Path
) -> None:
    def broken(name: str, seed: int) -> pd.DataFrame:
        if seed == 1:
            raise ArchgenError("no such table")
        return task(protocol)(name, seed)

    with ThreadPoolExecutor(1) as pool, pytest.raises(ArchgenError, match="no such table"):
        protocol.complete(tmp_path, ["random"], broken, executor=pool)
    assert [path.name for path in (tmp_path / "random").iterdir()] == ["seed_000.parquet"]


def test_worker_processes_start_anew() -> None:
    with processes(1) as pool:  # no process is started before there is work
        assert pool._mp_context.get_start_method() == "spawn"


def test_a_folder_of_another_protocol_is_left_alone(protocol: Protocol, tmp_path: Path) -> None:
    protocol.complete(tmp_path, ["random"], task(protocol))
    for other in (replace(protocol, budget=8), replace(protocol, batch=1), replace(protocol, objectives=())):
        with pytest.raises(RunConflict, match=r"holds runs of .*'budget': 7.* use another folder"):
            other.complete(tmp_path, ["random"], task(other))


def test_the_seed_and_the_evaluator_of_a_resumed_series_are_those_of_one_without_a_stop(
    protocol: Protocol, tmp_path: Path
) -> None:
    first = task(protocol)("evolution", 1)
    again = task(protocol)("evolution", 1)
    pd.testing.assert_frame_equal(first.drop(columns="overhead_seconds"), again.drop(columns="overhead_seconds"))
    assert first["arch"].tolist() != task(protocol)("evolution", 0)["arch"].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": 0}, "at least 1, got 0 and 3"),
        ({"batch": 0}, "at least 1, got 7 and 0"),
        ({"seeds": ()}, "distinct seeds"),
        ({"seeds": (1, 1)}, "distinct seeds"),
        ({"seeds": (-1,)}, "distinct seeds"),
    ],
)
def test_protocols_of_nothing_are_refused(protocol: Protocol, change: dict[str, object], message: str) -> None:
    with pytest.raises(ArchgenError, match=message):
        replace(protocol, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x"])
def test_names_that_lead_out_of_the_folder_are_refused(protocol: Protocol, tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchgenError, match="can not name a folder of runs"):
        protocol.complete(tmp_path, [name], task(protocol))
    assert not list(tmp_path.iterdir())


# -- a known optimum ----------------------------------------------------------------------------------------------


def test_a_run_ends_when_the_optimum_is_found_and_the_rest_is_spared(protocol: Protocol) -> None:
    """Up to 6 convolutions; 3 are taken for the best there is, which a tenth of random cells has or beats."""
    known = replace(protocol, budget=100, batch=4, optimum=3.0)
    evaluator = Counting()
    frame = task(known, evaluator)("random", 0)
    found = int((frame["acc"] >= 3.0).to_numpy().argmax())
    assert len(frame) == 100
    assert len(evaluator.asked) == found + 1 < 100
    assert (frame["state"] == ["complete"] * (found + 1) + ["spared"] * (99 - found)).all()
    assert frame["acc"].isna().tolist() == [False] * (found + 1) + [True] * (99 - found)
    assert frame["trial"].tolist() == list(range(100))
    whole = task(replace(known, optimum=None))("random", 0)
    assert frame["arch"].tolist()[: found + 1] == whole["arch"].tolist()[: found + 1]


def test_runs_with_spared_trials_are_whole_and_their_overhead_is_of_the_others(
    protocol: Protocol, tmp_path: Path
) -> None:
    known = replace(protocol, budget=60, optimum=3.0)
    runs = known.complete(tmp_path, ["random"], task(known))
    assert runs.budget == 60
    values = runs.values("acc")["random"]
    assert np.nanmax(values, axis=1).min() >= 3.0
    overhead = runs.overhead_seconds()
    assert overhead is not None
    assert np.isfinite(overhead["random"]).all()
    with pytest.raises(RunConflict, match="optimum"):
        replace(known, optimum=None).complete(tmp_path, ["random"], task(known))


def test_an_optimum_is_of_one_direction(space: SearchSpace) -> None:
    with pytest.raises(ArchgenError, match="optimum of one direction"):
        Protocol(space, (maximize("acc"), maximize("speed")), budget=2, optimum=1.0)
