"""Conformance checks for members of the families, your own included; the package's tests run them on every member.

Each check raises `AssertionError` with a message that names the broken promise. None of them needs pytest:

>>> import numpy as np
>>> from archgen import spaces
>>> check_space(spaces.load("nasbench201"), n=4, rng=np.random.default_rng(0))
"""

from archgen.testing.generators import check_generator
from archgen.testing.predictors import check_predictor
from archgen.testing.spaces import check_space
from archgen.testing.strategies import check_strategy

__all__ = ["check_generator", "check_predictor", "check_space", "check_strategy"]
