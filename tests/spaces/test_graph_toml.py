"""Graphs of one's own in TOML: order of the nodes, edges, outputs, and every mistake by the name of its node."""

import tomllib

import pytest

from archgen.errors import InvalidSpace
from archgen.networks.image import Place
from archgen.spaces.graph_toml import Graph, read_nodes

NODE = '[[nodes]]\nname = "{}"\ninputs = {}\noperations = ["conv_3x3", "skip"]\n'
BRANCHES = [("first", '["input"]'), ("left", '["first"]'), ("right", '["first"]'), ("join", '["left", "right"]')]
TEXT = "".join(NODE.format(*node) for node in BRANCHES)


def read(text: str) -> Graph:
    return read_nodes(tomllib.loads(text))


# -- what is read -----------------------------------------------------------------------------------------------


def test_edges_are_pairs_of_positions_between_the_input_and_the_output() -> None:
    graph = read(TEXT)
    assert graph.slots == dict.fromkeys(("first", "left", "right", "join"), ("conv_3x3", "skip"))
    assert graph.edges == [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (4, 5)]
    assert graph.outputs == ("join",)


def test_channels_and_stride_are_those_of_the_node_or_none_and_one() -> None:
    layout = read(TEXT.replace('name = "left"\n', 'name = "left"\nchannels = 32\nstride = 2\n')).layout
    assert layout["left"] == Place(("first",), 32, 2)
    assert layout["join"] == Place(("left", "right"), None, 1)


@pytest.mark.parametrize(
    ("order", "slots"),
    [
        ([3, 2, 1, 0], ["first", "right", "left", "join"]),
        ([0, 3, 1, 2], ["first", "left", "right", "join"]),
        ([0, 2, 1, 3], ["first", "right", "left", "join"]),
    ],
)
def test_nodes_may_come_in_any_order_and_stay_in_it_where_they_can(order: list[int], slots: list[str]) -> None:
    graph = read("".join(NODE.format(*BRANCHES[i]) for i in order))
    assert list(graph.slots) == list(graph.layout) == slots
    assert sorted(graph.edges or []) == [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (4, 5)]


def test_nodes_that_no_other_reads_are_the_outputs() -> None:
    graph = read(TEXT.replace('["left", "right"]', '["left"]'))
    assert graph.outputs == ("right", "join")
    assert [edge for edge in graph.edges or [] if edge[1] == 5] == [(3, 5), (4, 5)]


def test_outputs_that_are_given_may_be_read_by_others_too() -> None:
    graph = read(TEXT + '[output]\ninputs = ["join", "first"]\n')
    assert graph.outputs == ("join", "first")
    assert [edge for edge in graph.edges or [] if edge[1] == 5] == [(4, 5), (1, 5)]


def test_a_node_may_read_the_input_beside_another_node() -> None:
    graph = read(TEXT.replace('["left", "right"]', '["input", "left", "right"]'))
    assert {(0, 1), (0, 4)} <= set(graph.edges or [])


# -- mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param(
            '["first"]',
            '["join"]',
            r"\[\[nodes\]\] 'left': its inputs form a cycle: left reads join reads left$",
            id="cycle",
        ),
        pytest.param('["first"]', '["left"]', "'left': its inputs form a cycle: left reads left$", id="loop"),
        pytest.param(
            '["first"]',
            '["frist"]',
            r"^\[\[nodes\]\] 'left': unknown input 'frist': did you mean 'first'",
            id="unknown input",
        ),
        pytest.param('["first"]', '["output"]', "'left': unknown input 'output'", id="reads the output"),
        pytest.param('["first"]', "[]", "'left': nothing leads to it from the input", id="no input"),
        pytest.param('inputs = ["first"]\n', "", "'left': 'inputs' is missing, expected a list", id="inputs missing"),
        pytest.param('["first"]', '"first"', "'left': inputs = 'first' is of the wrong type", id="input of a text"),
        pytest.param('["left", "right"]', '["left", "left"]', "'join': inputs names one twice", id="input twice"),
        pytest.param('["conv_3x3", "skip"]', "[]", "'first': operations is empty", id="no operations"),
        pytest.param("operations", "operation", "unknown key 'operation': did you mean 'operations'", id="key"),
        pytest.param(
            'name = "left"', 'name = "left"\nstride = 0', "'left': stride = 0 must be at least 1", id="stride"
        ),
        pytest.param(
            'name = "left"', 'name = "left"\nchannels = 0', "'left': channels = 0 must be at least 1", id="channels"
        ),
        pytest.param('name = "right"', 'name = "left"', "'left': the name is given 2 times", id="name twice"),
        pytest.param('name = "right"', 'name = "output"', "'output': the name means the whole network's", id="output"),
        pytest.param('name = "right"', 'name = "input"', "'input': the name means the whole network's", id="input"),
    ],
)
def test_a_node_with_a_mistake_is_refused(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(InvalidSpace, match=message) as caught:
        read(TEXT.replace(old, new, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        pytest.param('inputs = ["right"]', r"\[\[nodes\]\] 'left': it does not lead to the output", id="leads nowhere"),
        pytest.param('inputs = ["jon"]', r"^\[output\]: unknown node 'jon': did you mean 'join'", id="unknown node"),
        pytest.param('inputs = ["input"]', r"^\[output\]: unknown node 'input'", id="the input itself"),
        pytest.param("", r"^\[output\]: 'inputs' is missing", id="empty"),
        pytest.param("inputs = []", r"^\[output\]: inputs is empty", id="no inputs"),
        pytest.param('input = ["join"]', r"^\[output\]: unknown key 'input': did you mean 'inputs'", id="key"),
    ],
)
def test_an_output_with_a_mistake_is_refused(output: str, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        read(f"{TEXT}[output]\n{output}\n")


def test_a_cycle_behind_a_node_that_waits_for_it_is_named_alone() -> None:
    nodes = [("waits", '["a"]'), ("a", '["b"]'), ("b", '["input", "a"]')]
    with pytest.raises(InvalidSpace, match=r"^\[\[nodes\]\] 'a': its inputs form a cycle: a reads b reads a$"):
        read("".join(NODE.format(*node) for node in nodes))


@pytest.mark.parametrize("text", ["", "nodes = []"])
def test_a_graph_without_nodes_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpace, match=r"^\[\[nodes\]\] is empty, so the space is empty"):
        read(text)
