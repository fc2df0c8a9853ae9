"""Surrogates: predictors with a BoTorch posterior, and the ensemble that joins them with other predictors."""

from archgen.surrogates.base import Surrogate
from archgen.surrogates.ensemble import Ensemble
from archgen.surrogates.gp import GaussianProcess

__all__ = ["Ensemble", "GaussianProcess", "Surrogate"]
