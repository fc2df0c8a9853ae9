"""Evaluators, one file a member: they pay for the truth about architectures."""

from archgen.evaluators.base import Evaluator, Measurement
from archgen.evaluators.tabular import TabularEvaluator

__all__ = ["Evaluator", "Measurement", "TabularEvaluator"]
