"""Shapes in annotations are checked while these tests run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from archgen.networks.mbconv import SqueezeExcite

PACKAGES = ("encoders", "generators", "networks", "surrogates")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_that_states_shapes_is_checked(package: str, request: pytest.FixtureRequest) -> None:
    root = Path(__file__).parents[1]
    checked = request.config.getoption("jaxtyping_packages").split(",")
    stated = [
        p for p in (root / "archgen" / package).rglob("*.py") if re.search("^from jaxtyping", p.read_text(), re.M)
    ]
    assert stated
    for path in stated:
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        assert any(name == listed or name.startswith(f"{listed}.") for listed in checked), f"{name} is not checked"


def test_a_wrong_shape_is_an_error() -> None:
    with pytest.raises(Exception, match="Type-check error"):
        SqueezeExcite(8)(torch.zeros(1, 8, 4))
