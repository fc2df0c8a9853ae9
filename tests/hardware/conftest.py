"""A pretended runtime on a clock of its own: nothing here depends on how fast the machine is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import nn

from archgen.hardware import LatencyMeter, base
from archgen.hardware.timing import interleaved

SHAPE = (1, 8, 8)


class Machine:
    """A clock that networks move on by what they cost, times how slow the machine is; the device may vanish."""

    def __init__(self):
        self.now, self.slow, self.runs, self.breaks_at = 0.0, 1.0, 0, None
        self.loaded, self.inputs, self.events = [], [], []

    def run(self, cost_ms):
        self.runs += 1
        if self.breaks_at is not None and self.runs >= self.breaks_at:
            raise RuntimeError("the device\nis gone")
        self.now += cost_ms * self.slow

    def clock(self):
        return round(self.now * 1e6)


class Costly(nn.Module):
    """A network that takes `cost` ms; the runtime refuses it, when loaded or when run, with an error that is given."""

    def __init__(self, cost, load_error=None, run_error=None):
        super().__init__()
        self.cost, self.load_error, self.run_error = cost, load_error, run_error


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(base, "interleaved", partial(interleaved, clock=machine.clock))
    return machine


@pytest.fixture
def costly():
    return Costly


@pytest.fixture
def pretended(machine):
    """The class of a meter whose networks are `Costly`."""

    class Pretended(LatencyMeter):
        runtime, version = "pretended", "1"

        def __init__(self, example=SHAPE, **settings):
            super().__init__(example, **{"rounds": 5, "block_ms": 1.0, **settings})

        def check(self):
            pass

        @contextmanager
        def setting(self) -> Iterator[None]:
            machine.events.append("set")
            try:
                yield
            finally:
                machine.events.append("put back")

        def load(self, network):
            assert machine.events[-1] == "set"
            machine.loaded.append(network)
            if network.load_error is not None:
                raise network.load_error

            def bind(inputs: torch.Tensor):
                machine.inputs.append(inputs)

                def run():
                    if network.run_error is not None:
                        raise network.run_error
                    machine.run(network.cost)

                return run

            return bind

    return Pretended
