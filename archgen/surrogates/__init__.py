"""Surrogates: predictors with a BoTorch posterior, acquisition functions on them, and an ensemble of predictors."""

from archgen.surrogates.acquisition import ACQUISITIONS, make_acquisition, propose
from archgen.surrogates.adahessian import AdaHessian
from archgen.surrogates.base import Surrogate
from archgen.surrogates.boshnas import EMBEDDINGS, Boshnas, UncertaintyBound
from archgen.surrogates.cost import Cost, cooled, fit_log_cost
from archgen.surrogates.ensemble import Ensemble
from archgen.surrogates.gobi import OptimumTilt, ascend
from archgen.surrogates.gp import GaussianProcess
from archgen.surrogates.problem import Constraint, Problem
from archgen.surrogates.schedule import Refits

__all__ = [
    "ACQUISITIONS",
    "EMBEDDINGS",
    "AdaHessian",
    "Boshnas",
    "Constraint",
    "Cost",
    "Ensemble",
    "GaussianProcess",
    "OptimumTilt",
    "Problem",
    "Refits",
    "Surrogate",
    "UncertaintyBound",
    "ascend",
    "cooled",
    "fit_log_cost",
    "make_acquisition",
    "propose",
]
