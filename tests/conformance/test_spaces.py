"""Every registered search space keeps the promises of `SearchSpace`."""

import numpy as np
import pytest

from archgen import spaces
from archgen.testing import check_space


@pytest.mark.parametrize("name", spaces.available())
def test_space_keeps_its_promises(name: str, rng: np.random.Generator) -> None:
    check_space(spaces.load(name), n=64, rng=rng)


@pytest.mark.parametrize("name", spaces.available())
def test_space_has_what_the_list_of_spaces_shows(name: str) -> None:
    space = spaces.load(name)
    assert space.name == name
    assert space.summary
    assert space.paper
    assert space.size > 1
