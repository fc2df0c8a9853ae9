"""Which trees are one architecture: the cases of the published code, one by one."""

from __future__ import annotations

import pytest

from archgen.spaces.tree_forms import canonical_tree, distinct_trees, links

SKIP = 8


def test_the_macro_spaces_are_the_nine_of_the_paper() -> None:
    published = ["0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123"]
    assert ["".join(map(str, link)) for link in links(4)] == published
    assert [len(links(n)) for n in (1, 2, 3, 4, 5)] == [1, 2, 4, 9, 20]  # rooted trees of n + 1 nodes, OEIS A000081


@pytest.mark.parametrize(
    ("tree", "form"),
    [
        (("0000", (3, 1, 2, 0)), ("0000", (0, 1, 2, 3))),  # leaves in any order
        (("0021", (1, 2, 3, 4)), ("0012", (1, 2, 4, 3))),  # branches in any order
        (("0121", (1, 2, 7, 3)), ("0112", (1, 2, 3, 7))),
        (("0123", (1, SKIP, 2, 3)), ("0123", (SKIP, 1, 2, 3))),  # an identity that is read goes to the front
        (("0123", (1, 2, 3, SKIP)), ("0123", (SKIP, 1, 2, 3))),  # and one that nothing stands beside
        (("0000", (SKIP, 1, 2, 3)), ("0111", (SKIP, 1, 2, 3))),  # and raw features at the output
        (("0011", (SKIP, 1, SKIP, 2)), ("0122", (SKIP, SKIP, 1, 2))),  # after another one that it reads
        (("0111", (1, 2, 3, SKIP)), ("0111", (1, 2, 3, SKIP))),  # beside others it joins what it reads to the output
        (("0111", (1, 2, SKIP, SKIP)), ("0111", (1, 2, SKIP, SKIP))),
    ],
)
def test_trees_that_compute_the_same_have_one_form(
    tree: tuple[str, tuple[int, ...]], form: tuple[str, tuple[int, ...]]
) -> None:
    link, labels = canonical_tree(tuple(map(int, tree[0])), tree[1], SKIP)
    assert ("".join(map(str, link)), labels) == form
    assert canonical_tree(link, labels, SKIP) == (link, labels)


def test_listed_trees_are_the_forms() -> None:
    for link, rows in distinct_trees(4, 3, 2):
        forms = set(map(tuple, rows.tolist()))
        every = [(a, b, c, d) for a in range(3) for b in range(3) for c in range(3) for d in range(3)]
        alone = {(2, 2, 2, 2)}
        assert forms == {labels for labels in every if canonical_tree(link, labels, 2) == (link, labels)} - alone
