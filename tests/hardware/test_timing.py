"""Interleaved timing, on a clock of its own: no test here depends on how fast the machine is."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from archgen.hardware.timing import Timing, garbage_paused, interleaved


class Machine:
    """A clock that networks move on by what they cost, times how slow the machine is at that moment."""

    def __init__(self, slow=lambda now: 1.0, noise=0.0):
        self.now, self.slow, self.noise, self.rng = 0.0, slow, noise, np.random.default_rng(0)
        self.calls = []

    def network(self, name, cost_ms):
        def run():
            self.calls.append(name)
            self.now += cost_ms * self.slow(self.now) * (1 + self.noise * self.rng.standard_normal())

        return run

    def clock(self):
        return round(self.now * 1e6)


def measure(machine, costs, rounds=20, **settings):
    runs = [machine.network(i, cost) for i, cost in enumerate(costs)]
    settings = {"block_ms": 1.0, "rng": np.random.default_rng(1), **settings}
    return interleaved(runs, machine.network("reference", 0.1), rounds=rounds, clock=machine.clock, **settings)


def test_a_steady_machine_gives_the_cost_of_every_candidate_and_no_drift():
    costs = [0.05, 0.2, 1.5, 0.1, 0.4]
    timing = measure(Machine(), costs)
    measured = timing.measurements(np.random.default_rng(0))
    assert [m.latency_ms for m in measured] == pytest.approx(costs, rel=1e-3)
    assert all(m.low_ms <= m.latency_ms <= m.high_ms for m in measured)
    assert timing.drift < 1e-3


def test_a_block_holds_as_many_runs_as_fit_and_at_least_one():
    timing = measure(Machine(), [0.05, 0.2, 30.0], block_ms=2.0)
    assert timing.runs == (40, 10, 1)
    assert [m.runs for m in timing.measurements(np.random.default_rng(0))] == [800, 200, 20]


def test_slow_spells_cancel_against_the_reference():
    # A machine three times as slow for half of the time (a quarter of the rounds), in spells of several rounds.
    machine = Machine(slow=lambda now: 3.0 if now // 40 % 2 else 1.0)
    timing = measure(machine, [0.1, 0.2, 0.4, 0.8], rounds=60)
    raw, corrected = (np.percentile(times, [10, 90], axis=0) for times in (timing.blocks, timing.corrected()))
    assert raw[1] / raw[0] == pytest.approx(np.full(4, 3.0), rel=0.05)
    assert corrected[1] / corrected[0] == pytest.approx(np.ones(4), rel=0.05)
    latency = np.array([m.latency_ms for m in timing.measurements(np.random.default_rng(0))])
    assert latency / latency[0] == pytest.approx([1, 2, 4, 8], rel=0.01)


def test_every_round_times_each_candidate_once_in_a_new_order_with_the_reference_before_every_fourth():
    machine = Machine()
    timing = measure(machine, [1.0] * 9, rounds=6)
    assert timing.blocks.shape == (6, 9)
    blocks = [n for k, n in enumerate(machine.calls) if k == 0 or n != machine.calls[k - 1] or n != "reference"]
    in_rounds = blocks[-6 * (9 + 3) :]
    rounds = [in_rounds[k : k + 12] for k in range(0, 72, 12)]
    assert all(r[0] == r[5] == r[10] == "reference" for r in rounds)
    orders = [tuple(n for n in r if n != "reference") for r in rounds]
    assert all(sorted(order) == list(range(9)) for order in orders)
    assert len(set(orders)) > 1


def test_the_same_seed_gives_the_same_order_and_interval():
    first, second = (measure(Machine(noise=0.05), [0.1, 0.3, 0.5]) for _ in range(2))
    assert np.array_equal(first.blocks, second.blocks)
    rng = [np.random.default_rng(4) for _ in range(2)]
    assert first.measurements(rng[0]) == second.measurements(rng[1])


def test_the_interval_covers_the_true_cost_of_a_noisy_machine():
    # 95 % intervals, 30 candidates: fewer than 22 inside has a chance below 1e-4 even at 90 % true coverage.
    machine = Machine(noise=0.1)
    timing = measure(machine, [0.6] * 30, rounds=30)
    measured = timing.measurements(np.random.default_rng(0))
    assert sum(m.low_ms <= 0.6 <= m.high_ms for m in measured) >= 22
    assert all(m.spread_ms > 0 for m in measured)


def test_the_garbage_collector_is_off_while_timing_and_on_afterwards():
    seen = []
    machine = Machine()
    run = machine.network(0, 1.0)

    def watched():
        seen.append(gc.isenabled())
        run()

    assert gc.isenabled()
    interleaved(
        [watched],
        machine.network("reference", 1.0),
        rounds=5,
        block_ms=1.0,
        rng=np.random.default_rng(0),
        clock=machine.clock,
    )
    assert seen[-5:] == [False] * 5
    assert gc.isenabled()


def test_ctrl_c_while_timing_turns_the_garbage_collector_on_again():
    machine, count = Machine(), 0

    def interrupted():
        nonlocal count
        count += 1
        machine.now += 1.0
        if count > 8:
            assert not gc.isenabled()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interleaved(
            [interrupted],
            machine.network("reference", 1.0),
            rounds=20,
            block_ms=1.0,
            rng=np.random.default_rng(0),
            clock=machine.clock,
        )
    assert gc.isenabled()


def test_a_collector_that_was_off_before_stays_off():
    gc.disable()
    try:
        with garbage_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_drift_is_the_relative_spread_of_the_reference():
    reference = np.array([1.0, 1.0, 2.0, 3.0, 3.0])
    assert Timing(np.ones((5, 1)), reference, (1,)).drift == pytest.approx((3.0 - 1.0) / 2.0)


def test_a_later_and_slower_call_reports_for_the_speed_of_the_first():
    first = measure(Machine(slow=lambda now: 1.0), [0.2, 0.4])
    later = measure(Machine(slow=lambda now: 1.5), [0.2, 0.4])
    usual = float(np.median(first.reference))
    raw = [m.latency_ms for m in later.measurements(np.random.default_rng(0))]
    scaled = [m.latency_ms for m in later.measurements(np.random.default_rng(0), usual)]
    assert raw == pytest.approx([0.3, 0.6], rel=1e-3)
    assert scaled == pytest.approx([0.2, 0.4], rel=1e-3)


def test_one_preempted_run_does_not_move_its_block():
    # Every 50th run anywhere waits 5 ms for the core: the mean of a block of 20 runs would be off by half.
    machine = Machine()
    plain = machine.network

    def network(name, cost_ms):
        run = plain(name, cost_ms)

        def sometimes():
            run()
            machine.now += 5.0 if len(machine.calls) % 50 == 0 else 0.0

        return sometimes

    machine.network = network
    latency = [m.latency_ms for m in measure(machine, [0.05, 0.2]).measurements(np.random.default_rng(0))]
    assert latency == pytest.approx([0.05, 0.2], rel=1e-3)
