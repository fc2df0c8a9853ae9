"""What tests of training share."""

from __future__ import annotations

import pytest

from archgen.data import ImageData, load_data


@pytest.fixture(scope="session")
def data() -> ImageData:
    """200 digits; a module that wants other ones has its own."""
    return load_data("digits", limit=200)
