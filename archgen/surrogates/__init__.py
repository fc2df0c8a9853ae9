"""Surrogates: predictors with a BoTorch posterior."""

from archgen.surrogates.base import Surrogate
from archgen.surrogates.gp import GaussianProcess

__all__ = ["GaussianProcess", "Surrogate"]
