"""`archgen supernet train` that is killed at any moment, and in several processes by `accelerate launch`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from archgen import artifacts
from archgen.inheritance import SupernetRequest, train_in_folder
from archgen.inheritance.folder import TRAINING
from archgen.progress import Bar, Progress

Run = Callable[..., CompletedProcess[str]]
Start = Callable[..., "subprocess.Popen[str]"]
TINY = ["--network", "cells=1", "--network", "channels=2", "--limit", "200"]
TRANSFORMER = Path(__file__).parents[1] / "spaces" / "fixtures" / "tiny_autoformer.toml"
"""A space whose networks have no batch statistics, and whose largest one has all weights."""
REQUEST = SupernetRequest(str(TRANSFORMER), "digits", "sandwich", epochs=2, lr=0.05, limit=200, every=3)


def difference(one: str, two: str) -> float:
    """The largest between the weights in two folders."""
    a, b = (artifacts.read_tensors(Path(folder) / artifacts.WEIGHTS) for folder in (one, two))
    assert a.keys() == b.keys()
    return max(float((value.double() - b[name].double()).abs().max()) for name, value in a.items())


# -- kills


def kill(running: subprocess.Popen[str], kept: Path, writes: int) -> bool:
    """Kill a training when it has written about so many checkpoints, wherever it is then; False where it had ended."""
    seen, last = 0, None
    while running.poll() is None and seen < writes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(0.002)
        with contextlib.suppress(FileNotFoundError):
            now = kept.stat().st_mtime_ns
            seen, last = seen + (now != last), now
    running.kill()
    running.communicate()
    return running.returncode == -signal.SIGKILL


def test_a_training_that_is_killed_again_and_again_ends_as_one_that_was_not(
    workplace: Path, succeeds: Run, process: Start
) -> None:
    """It has 160 steps, after each of which it writes a checkpoint; a kill may well come while it does."""
    arguments = ["supernet", "train", "--space", "nasbench201", *TINY, "--strategy", "pa_da", "--epochs", "20"]
    succeeds(*arguments, "--out", "one")
    rng, kept, resume = np.random.default_rng(), workplace / "two" / TRAINING, list[str]()
    for i in range(3):
        running = process("-m", "archgen", *arguments, "--every", "1", "--out", "two", *resume)
        assert kill(running, kept, int(rng.integers(2, 40))) or i > 0
        resume = ["--resume"]
    succeeds(*arguments, "--resume", "--out", "two")
    assert difference("one", "two") == 0
    assert not kept.exists()


# -- processes


class _Stop(Progress):
    """Is interrupted after an epoch."""

    @contextlib.contextmanager
    def bar(self, what: str, total: int):  # type: ignore[no-untyped-def]
        class Interrupted(Bar):
            def update(self, steps: int = 1, **shown: float) -> None:
                raise KeyboardInterrupt

        yield Interrupted()


@pytest.fixture
def halved(workplace: Path) -> None:
    """A folder `two` with a training that was cut off in the middle, and `one` with the same that was not."""
    train_in_folder(REQUEST, Path("one"))
    with pytest.raises(KeyboardInterrupt):
        train_in_folder(REQUEST, Path("two"), progress=_Stop())


def launch(*options: str, out: str = "two") -> CompletedProcess[str]:
    """Resume a training in two processes."""
    fixed = ["--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    fixed += ["--main_process_port=0", "-m", "archgen", "supernet", "train", "--space", str(TRANSFORMER)]
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, *fixed, "--resume", "--out", out]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def test_two_processes_go_on_with_what_one_began(halved: None) -> None:
    said = launch("--multi_gpu")
    assert said.returncode == 0, said.stderr
    assert said.stdout == "two: supernet of tiny, 38,962 weights\n", "the first process alone speaks"
    assert said.stderr.count("archgen: training the supernet") == 1
    assert difference("one", "two") < 1e-5


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed, and transformers beside it")
@pytest.mark.parametrize("options", [["--zero_stage=1"], ["--zero_stage=2", "--offload_optimizer_device=cpu"]])
def test_zero_goes_on_with_what_one_process_began(halved: None, options: list[str]) -> None:
    said = launch("--use_deepspeed", *options)
    assert said.returncode == 0, said.stderr
    assert difference("one", "two") < 1e-5


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed, and transformers beside it")
def test_zero_that_divides_the_weights_is_refused(halved: None) -> None:
    said = launch("--use_deepspeed", "--zero_stage=3")
    assert said.stderr.count("archgen: ZeRO stage 3 can not train a supernet; set zero_stage to 1 or 2\n") == 1


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """This process is one that accelerate launched alone."""
    from accelerate.state import AcceleratorState

    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    yield monkeypatch
    AcceleratorState._reset_state(reset_partial_state=True)


def test_what_a_launch_can_not_do_is_one_line(launched: pytest.MonkeyPatch, refused: Callable[..., str]) -> None:
    launched.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    told = refused("supernet", "train", "--space", TRANSFORMER, "--limit", 200, "--out", "three")
    assert "unknown precision 'fp8': did you mean 'fp16'? known are: bf16, fp16, no" in told
    launched.setitem(sys.modules, "accelerate", None)
    told = refused("supernet", "train", "--space", TRANSFORMER, "--limit", 200, "--out", "three")
    assert "need accelerate: pip install 'archgen[distributed]'" in told


def test_one_process_that_was_launched_is_one_that_was_not(
    halved: None, launched: pytest.MonkeyPatch, succeeds: Run
) -> None:
    succeeds("supernet", "train", "--space", TRANSFORMER, "--resume", "--out", "two")
    assert difference("one", "two") == 0
