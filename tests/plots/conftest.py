"""A table of trials for the figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def trials() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    latency = rng.uniform(0.08, 0.3, 40)
    return pd.DataFrame(
        {
            "trial": np.arange(40),
            "val_acc": 90 + 25 * latency + rng.normal(0, 0.5, 40),
            "latency_ms": latency,
            "origin": ["random"] * 15 + ["generated"] * 25,
        }
    )
