"""Every registered generator keeps the promises of `Generator`, trained or not."""

from pathlib import Path

import pytest
import torch

from archgen.generators import GENERATORS
from archgen.spaces import SearchSpace
from archgen.testing import check_generator


@pytest.mark.parametrize("name", list(GENERATORS))
def test_generator_keeps_its_promises(name: str, space: SearchSpace, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = GENERATORS[name](space.node_domain, space.edge_domain)  # type: ignore[call-arg]
    check_generator(generator, space, folder=tmp_path)
