"""Every registered generator keeps the promises of `Generator`, trained or not, in spaces of each kind."""

from pathlib import Path

import pytest
import torch

from archgen import spaces
from archgen.generators import GENERATORS
from archgen.testing import check_generator

SPACES = {"nasbench201": 64, "nasbench101": 32, "mobilenetv3": 24}
"""Fixed and free topology, a chain; and how many graphs are drawn."""


@pytest.mark.parametrize("space_name", list(SPACES))
@pytest.mark.parametrize("name", list(GENERATORS))
def test_generator_keeps_its_promises(name: str, space_name: str, tmp_path: Path) -> None:
    space = spaces.load(space_name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = GENERATORS[name](space.node_domain, space.edge_domain)  # type: ignore[call-arg]
    check_generator(generator, space, folder=tmp_path, n=SPACES[space_name], steps=4)
