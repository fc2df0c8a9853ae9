"""On a Ray cluster of several nodes, whatever dies: no trial is lost and none doubled."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from archgen.errors import ArchgenError, InvalidOption, MissingExtra
from archgen.evaluators import Cluster, Evaluator, Measurement, Parallel, RayExecutor
from archgen.graph import Architecture
from archgen.objectives import maximize
from archgen.spaces import SearchSpace
from archgen.strategies import Random
from archgen.study import COMPLETE, Study, search

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, and sockets that it leaves to the garbage collector
LONG = 120.0


class Places(Evaluator):
    """The place of an architecture in a list; some kill their process, once or always, or wait until they are let go.

    Args:
        archs: The list.
        folder: Where each evaluation that begins adds its place to `begun`.
        does: `dies once`, `dies`, `hangs` or `waits` by place.
    """

    def __init__(self, archs: Sequence[Architecture], folder: Path, does: dict[int, str] | None = None) -> None:
        self.archs, self.folder, self.does = list(archs), folder, does or {}

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("acc",)

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        return [self.measure(self.archs.index(arch)) for arch in archs]

    def measure(self, place: int) -> Measurement:
        before = self.begun().count(place)
        with (self.folder / "begun").open("a") as file:
            file.write(f"{place} {os.getpid()} {ray_node()}\n")
        does = self.does.get(place)
        if does == "dies" or (does == "dies once" and before == 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if does == "hangs":
            threading.Event().wait(LONG)
        if does == "waits" and before == 0:
            while not (self.folder / "go").exists():
                time.sleep(0.01)
        return Measurement({"acc": float(place)}, 0.0)

    def begun(self) -> list[int]:
        """Places of the evaluations that began, in order."""
        return [int(place) for place, _, _ in self.log()]

    def log(self) -> list[list[str]]:
        """Place, process and node of each evaluation that began."""
        path = self.folder / "begun"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def ray_node() -> str:
    """Of the process that asks."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


@pytest.fixture
def archs(space: SearchSpace) -> list[Architecture]:
    return list(dict.fromkeys(space.sample(16, np.random.default_rng(0))))[:8]


@pytest.fixture
def here(ray_nodes: Any) -> Cluster:
    return Cluster(ray_nodes.address)


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'archgen\[distributed\]'"):
        RayExecutor(2)


def test_where_there_is_no_cluster_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(*_: Any, **__: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nPlease start one")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    with pytest.raises(ArchgenError, match=r"^no Ray cluster at 'auto': Could not find .* start one by `ray start"):
        RayExecutor(address="auto")


def test_a_cluster_has_places_for_what_an_evaluation_asks_for(here: Cluster) -> None:
    assert here.slots() == 2
    assert Cluster(here.address, {"second": 1.0}).slots() == 1
    assert Cluster(here.address, {"CPU": 0.5}).slots() == 4
    assert Cluster(here.address, {"CPU": 0.1}).slots() == 20
    assert Cluster(here.address, {"CPU": 0.0, "second": 0.5}).slots() == 2
    with pytest.raises(ArchgenError, match=r"asks for CPU=1, GPU=1, more than any node has \(CPU=1, GPU=0 \|"):
        Cluster(here.address, {"GPU": 1.0}).slots()


@pytest.mark.parametrize("asked", [{"CPU": 2.0}, {"first": 1.0, "second": 1.0}])
def test_what_only_all_nodes_together_have_is_refused(here: Cluster, asked: dict[str, float]) -> None:
    """Ray would wait for a node that has it, without end."""
    with pytest.raises(ArchgenError, match="more than any node has"):
        Cluster(here.address, asked).slots()


def test_an_evaluation_that_asks_for_nothing_is_refused() -> None:
    with pytest.raises(InvalidOption, match="asks for nothing"):
        Cluster("nowhere", {"CPU": 0.0}).slots()


def test_an_evaluation_runs_where_its_resource_is(here: Cluster) -> None:
    import ray

    def where() -> list[str]:
        return [name for name in ray.get_runtime_context().get_assigned_resources() if name == "second"]

    with Cluster(here.address, {"second": 1.0}).executor() as executor:
        assert executor.submit(where).result() == ["second"]


def test_evaluations_on_the_cluster_are_those_of_the_evaluator(
    here: Cluster, archs: list[Architecture], tmp_path: Path
) -> None:
    places = Places(archs, tmp_path)
    with closing(Parallel(places, workers=2, executor=here.executor)) as parallel:
        assert [m.values["acc"] for m in parallel.evaluate(archs, seed=0)] == list(range(8))


def test_a_worker_that_is_killed_loses_no_trial_and_doubles_none(
    here: Cluster, space: SearchSpace, tmp_path: Path
) -> None:
    asked = Random(space, [maximize("acc")]).ask(8)
    places = Places(asked, tmp_path, {2: "dies once", 5: "dies once"})
    study = Study(space, [maximize("acc")], storage=tmp_path / "study.db")
    with closing(Parallel(places, workers=2, executor=here.executor)) as parallel:
        trials = search(study, Random(space, [maximize("acc")]), parallel, budget=8, batch=8)
    assert [(t.arch, t.state, t.values["acc"]) for t in trials] == [
        (arch, COMPLETE, float(place)) for place, arch in enumerate(asked)
    ]
    assert sorted(places.begun()) == sorted([*range(8), 2, 5]), "only what was killed was done again"


def test_a_node_that_is_lost_loses_no_trial_and_doubles_none(
    ray_nodes: Any, here: Cluster, space: SearchSpace, tmp_path: Path
) -> None:
    lost = ray_nodes.add_node(num_cpus=1, resources={"third": 1})
    asked = Random(space, [maximize("acc")]).ask(8)
    places = Places(asked, tmp_path, dict.fromkeys(range(3), "waits"))  # one on each node, till the node is gone

    def lose() -> None:
        while len(places.begun()) < 3:
            time.sleep(0.01)
        (process,) = [int(pid) for _, pid, node in places.log() if node == lost.node_id]
        ray_nodes.remove_node(lost, allow_graceful=False)
        while Path(f"/proc/{process}").exists():  # its worker outlives a node for a moment
            time.sleep(0.01)
        (tmp_path / "go").touch()

    thread = threading.Thread(target=lose)
    thread.start()
    study = Study(space, [maximize("acc")], storage=tmp_path / "study.db")
    with closing(Parallel(places, workers=3, executor=here.executor)) as parallel:
        trials = search(study, Random(space, [maximize("acc")]), parallel, budget=8, batch=8)
    thread.join()
    assert [(t.arch, t.values.get("acc")) for t in trials] == [(arch, float(i)) for i, arch in enumerate(asked)]
    assert len(places.begun()) == 9, "what ran on the lost node was done again, and nothing else"


def test_what_kills_every_worker_fails_alone(here: Cluster, archs: list[Architecture], tmp_path: Path) -> None:
    places = Places(archs, tmp_path, {1: "dies"})
    with closing(Parallel(places, workers=2, executor=here.executor)) as parallel:
        measured = parallel.evaluate(archs, seed=0)
    assert [i for i, m in enumerate(measured) if m.error is not None] == [1]
    assert "WorkerCrashedError" in str(measured[1].error)
    assert places.begun().count(1) == 3


def test_a_time_out_ends_one_evaluation_and_leaves_the_others_alone(
    here: Cluster, archs: list[Architecture], tmp_path: Path
) -> None:
    places = Places(archs, tmp_path, {0: "hangs"})
    with closing(Parallel(places, workers=2, executor=here.executor)) as parallel:
        parallel.evaluate(archs[1:], seed=0)  # starts the processes, which is not what is timed
        parallel.timeout = 20.0  # a process that Ray starts meanwhile, on a busy machine, takes several seconds
        measured = parallel.evaluate(archs, seed=0)
    assert [m.error for m in measured] == ["took more than 20 s", *[None] * 7]
    assert sorted(places.begun()) == sorted([*range(1, 8), *range(8)])


def test_an_exception_is_the_evaluations_own(here: Cluster) -> None:
    def fails() -> None:
        raise LookupError("no such layer")

    with here.executor() as executor, pytest.raises(LookupError, match="no such layer"):
        executor.submit(fails).result()
