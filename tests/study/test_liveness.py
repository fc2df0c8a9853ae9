"""Dead owners are told from living ones by their process where that can be seen, else by their pulse."""

from __future__ import annotations

import os
import threading

import pytest

from archgen.study.liveness import Watch, at_work, beating, new_owner

ELSEWHERE = {"host": "elsewhere", "pid": 1, "token": "a"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def gone() -> int:
    """The number of a process that has ended."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_on_one_host_the_process_decides_at_once() -> None:
    me = new_owner()
    watch = Watch(me)
    assert watch.dead(0, {**me, "pid": gone(), "token": "b"}, 0)
    assert not watch.dead(1, {**me, "pid": os.getppid(), "token": "b"}, 0)


def test_in_one_process_an_owner_lives_while_it_is_at_work() -> None:
    watch, other = Watch(new_owner()), new_owner()
    assert watch.dead(0, other, 0), "the number of this process was another one's before"
    with at_work(other):
        assert not watch.dead(0, other, 0)
    assert watch.dead(0, other, 0)


@pytest.mark.parametrize("owner", [ELSEWHERE, {}, {**new_owner(), "pid": os.getppid()}])
def test_elsewhere_a_pulse_that_stands_still_decides(owner: dict[str, object]) -> None:
    clock = Clock()
    watch = Watch(new_owner(), grace=60.0, clock=clock)
    for now, pulse, dead in [(0, 0, False), (59, 0, False), (61, 1, False), (121, 1, False), (122, 1, True)]:
        clock.now = float(now)
        assert watch.dead(7, owner, pulse) is dead, now
    assert not watch.dead(8, owner, 1), "another trial has its own pulse"


def test_the_pulse_beats_until_the_end_and_survives_an_error() -> None:
    beats, enough = 0, threading.Event()

    def beat() -> None:
        nonlocal beats
        beats += 1
        if beats == 3:
            enough.set()
        raise OSError("the network is away")

    with beating(beat, every=0.001):
        assert enough.wait(30)
    after = beats
    assert not any(thread.name == "archgen pulse" for thread in threading.enumerate())
    assert beats == after
