"""Two processes on CPUs train what one does: same paths, same weights in both, gradients of the whole batch."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from archgen import artifacts
from archgen.supernets.training import Processes

SCRIPT = Path(__file__).with_name("together.py")
Ends = list[tuple[int, str]]


@pytest.fixture(scope="module")
def together() -> ModuleType:
    spec = importlib.util.spec_from_file_location("together", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ends]:
    """What two processes wrote, and how each ended. They are started by hand, so that each one's end is seen."""
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    common |= {"ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder)],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=300)[1] for process in running]
    finally:
        for process in running:
            process.kill()  # nothing, where it has ended
    return folder, [(process.returncode, text) for process, text in zip(running, said, strict=True)]


def read(both: tuple[Path, Ends], name: str) -> dict[str, Tensor]:
    """What the first process has, which must be what the second has, to the bit."""
    first, second = (artifacts.read_tensors(both[0] / f"{name}{rank}.safetensors") for rank in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    return first


def test_without_normalisation_two_processes_are_one(together: ModuleType, both: tuple[Path, Ends]) -> None:
    """Batches of 13 images, of which one process has six; the weights of a path that is never taken do not decay."""
    alone, shared = together.paths(Processes()), read(both, "paths")
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, rtol=0, atol=1e-5, msg=name)
    assert torch.equal(shared["2.weight"], alone["2.weight"])


@pytest.mark.parametrize("strategy", ["sandwich", "pa_da", "multi_architecture"])
def test_with_it_they_have_nearly_the_loss_curve_of_one(
    together: ModuleType, both: tuple[Path, Ends], strategy: str
) -> None:
    """Each normalises 15 or 16 images where one process normalises 31, so the curves are alike and not equal.

    A share of 16 images is enough for two architectures, one of 15 is not: both train one.
    """
    alone, shared = together.WORK[strategy](Processes()), read(both, strategy)
    assert alone["losses"].shape == shared["losses"].shape
    torch.testing.assert_close(shared["losses"], alone["losses"], rtol=0.15, atol=0)


def test_what_a_strategy_learns_is_of_the_whole_batch(together: ModuleType, both: tuple[Path, Ends]) -> None:
    """PA&DA's distributions are the same in both processes, and near those of one."""
    alone, shared = together.WORK["pa_da"](Processes()), read(both, "pa_da")
    for name in ("learnt.path_probabilities", "learnt.image_probabilities"):
        assert float((alone[name] - shared[name]).abs().max()) < 0.2 * float(alone[name].max()), name
        assert float(shared[name].sum(-1).mean()) == pytest.approx(1)


@pytest.mark.parametrize("strategy", ["shiftnas", "balanced_mixture"])
def test_what_depends_on_losses_is_learnt_alike(both: tuple[Path, Ends], strategy: str) -> None:
    shared = read(both, strategy)
    assert all(bool(value.isfinite().all()) for value in shared.values() if value.is_floating_point())
    assert int(shared["learnt.steps" if strategy == "balanced_mixture" else "learnt._steps"]) > 0


def test_gradients_are_means_over_all_images_and_values_come_in_order(
    together: ModuleType, both: tuple[Path, Ends]
) -> None:
    """Of five images, 0 to 4, the first process has two; the second one alone has a gradient of another weight."""
    alone, shared = together.gathered(Processes()), read(both, "gathered")
    for found in (alone, shared):
        assert found["gradient"].item() == found["applied"].item() == 2
        assert found["values"].tolist() == [0, 1, 2, 3, 4]
        assert bool(found["agree"])
        assert not bool(found["absent"]), "a weight without a gradient in any process has none"
    assert not bool(shared["disagree"])


def test_one_process_that_fails_ends_both_with_one_line(both: tuple[Path, Ends]) -> None:
    (first, said), (second, told) = both[1]
    assert (first, second) == (2, 2)
    assert said == "archgen: the first one speaks\n"
    assert told == "archgen: no more images\n"
