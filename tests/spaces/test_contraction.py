"""Contracting nodes that pass on the sum of their inputs."""

from collections import Counter

from archgen.spaces.contraction import contract


def test_identities_hand_their_inputs_on() -> None:
    kept, edges = contract([[], [0], [1], [2]], {2})
    assert (kept, edges) == ([0, 1, 3], Counter({(0, 1): 1, (1, 2): 1}))


def test_what_comes_twice_is_counted_twice() -> None:
    # 1 and 2 pass the input on, so 3 reads it three times
    kept, edges = contract([[], [0], [0, 1], [0, 2]], {1, 2})
    assert (kept, edges) == ([0, 3], Counter({(0, 1): 3}))


def test_without_identities_the_graph_stays() -> None:
    reads: list[list[int]] = [[], [0], [0, 1], [1, 2]]
    kept, edges = contract(reads, set())
    assert kept == [0, 1, 2, 3]
    assert set(edges) == {(i, j) for j, sources in enumerate(reads) for i in sources}
