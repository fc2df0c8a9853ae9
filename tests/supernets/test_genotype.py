"""The supernet of DARTS: every operation on every edge of both cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archgen import spaces
from archgen.spaces import GenotypeSpace
from archgen.supernets import GenotypeSupernet

NETWORK = {"cells": 3, "channels": 4, "classes": 3, "image_size": 16, "auxiliary": 0}


def space() -> GenotypeSpace:
    found = spaces.load("darts")
    assert isinstance(found, GenotypeSpace)
    return found


@pytest.fixture(scope="module")
def supernet() -> GenotypeSupernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GenotypeSupernet(space(), NETWORK).eval()


def test_it_holds_each_operation_on_each_of_the_fourteen_edges(supernet: GenotypeSupernet) -> None:
    for cell in supernet.skeleton.cells:
        edges = cell.edges  # type: ignore[union-attr]
        assert len(edges) == 14  # type: ignore[arg-type]
        assert all(len(operations) == 7 for operations in edges.values())  # type: ignore[union-attr, operator]


def test_one_source_and_operation_twice_at_a_node_has_the_same_weights_twice(supernet: GenotypeSupernet) -> None:
    choices = dict.fromkeys(space().variables, 0)
    conv = space().operations.index("sep_conv_3x3")
    arch = space().from_choices({name: conv if name.endswith("operation") else 0 for name in choices})
    state = supernet.inherited(arch)
    assert state["cells.0.operations.0.1.weight"] is state["cells.0.operations.1.1.weight"]
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, arch), supernet.subnet(arch)(x), rtol=0, atol=1e-6)


def test_normal_and_reduction_cells_follow_their_own_genotype(supernet: GenotypeSupernet) -> None:
    one, other = space().sample(2, np.random.default_rng(0))
    mixed = space().from_cells(space().cells(one)[0], space().cells(other)[1])
    state, normal, reduce = (supernet.inherited(arch) for arch in (mixed, one, other))
    for i, cell in enumerate(supernet.skeleton.cells):
        wanted = reduce if cell.reduction else normal
        names = [name for name in wanted if name.startswith(f"cells.{i}.")]
        assert names
        assert all(state[name] is wanted[name] for name in names)


def test_the_auxiliary_head_is_inherited() -> None:
    with torch.random.fork_rng():
        supernet = GenotypeSupernet(space(), {**NETWORK, "auxiliary": 1, "image_size": 32})
    (arch,) = space().sample(1, np.random.default_rng(0))
    head = supernet.subnet(arch).get_parameter("auxiliary_head.2.weight")
    assert torch.equal(head, supernet.skeleton.get_parameter("auxiliary_head.2.weight"))


def test_it_serves_genotypes_alone() -> None:
    with pytest.raises(TypeError, match="serves spaces of genotypes, got CellSpace"):
        GenotypeSupernet(spaces.load("nasbench201"), {})
