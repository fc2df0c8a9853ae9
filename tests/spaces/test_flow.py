"""Many architectures at once against one by one, in every space that comes with archgen."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from archgen import spaces
from archgen.errors import InvalidArchitecture
from archgen.graph import Architecture
from archgen.spaces import ChainSpace, SearchSpace
from archgen.spaces.contraction import contract
from archgen.spaces.flow import PASS, Flow


@pytest.fixture(params=spaces.available(), scope="module")
def each(request: pytest.FixtureRequest) -> SearchSpace:
    return spaces.load(request.param)


@pytest.fixture
def archs(each: SearchSpace) -> list[Architecture]:
    return each.sample(60, np.random.default_rng(0))


def contracted(flow: Flow, row: int, labels: tuple[str, ...]) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Labels, and pairs of labels along edges, of the DAG that is left when nodes that pass are contracted."""
    live = flow.live()[row]
    times = flow.reads[min(row, len(flow.reads) - 1)]
    n = len(live)
    reads = [[i for i in range(j) for _ in range(int(times[i, j])) if live[i] and live[j]] for j in range(n)]
    kept, edges = contract(reads, {i for i in range(1, n - 1) if flow.labels[row, i] == PASS or not live[i]})
    found = flow.labels[row, kept[1:-1]]
    ops = ["input", *(labels[i] for i in found), "output"]
    return Counter(ops), Counter({(ops[i], ops[j]): times for (i, j), times in edges.items()})


def test_choices_are_those_of_each(each: SearchSpace, archs: list[Architecture]) -> None:
    assert each.choices(archs).tolist() == [list(each.to_choices(arch).values()) for arch in archs]
    simple = [each.simplify(arch) for arch in archs]
    assert each.simplified(archs) == simple
    assert each.simple_choices(archs).tolist() == [list(each.to_choices(arch).values()) for arch in simple]
    assert each.choices([]).shape == each.simple_choices([]).shape == (0, len(each.variables))


def test_flows_contract_to_the_computations(each: SearchSpace, archs: list[Architecture]) -> None:
    flow = each.flow(archs)
    for row, arch in enumerate(archs):
        dag = each.computation(arch)
        ops, edges = contracted(flow, row, each.computing_labels)
        assert ops == Counter(dag.ops)
        joined: Counter[tuple[str, str]] = Counter()
        for i, j in dag.edges:
            joined[dag.ops[i], dag.ops[j]] += 1
        assert edges.keys() == joined.keys()


def test_workloads_are_those_of_each_to_the_bit(each: SearchSpace, archs: list[Architecture]) -> None:
    if not isinstance(each, ChainSpace):
        pytest.skip("no workload")
    assert np.array_equal(each.workloads(archs), np.array([each.workload(arch) for arch in archs]))


def test_a_wrong_architecture_among_right_ones_is_refused(each: SearchSpace, archs: list[Architecture]) -> None:
    if not isinstance(each, ChainSpace):
        pytest.skip("families of cells trust what they are given")
    ops = archs[0].ops
    for wrong in (
        Architecture(each.name, (*ops[:2], "nonsense", *ops[3:]), archs[0].edges),
        Architecture(each.name, (ops[1], *ops[1:]), archs[0].edges),
        Architecture(each.name, ops[1:], archs[0].edges[:-1]),
        Architecture("other", ops, archs[0].edges),
    ):
        with pytest.raises(InvalidArchitecture):
            each.choices([*archs, wrong])


def test_a_block_after_one_that_is_left_out_is_refused() -> None:
    space = spaces.load("mobilenetv3")
    assert space.extremes is not None
    largest = space.extremes[1]
    third = [*space.variable_nodes].index("stage2.block3") + 1
    hole = Architecture(space.name, (*largest.ops[:third], "skip", *largest.ops[third + 1 :]), largest.edges)
    with pytest.raises(InvalidArchitecture, match="stage2"):
        space.choices([largest, hole])
