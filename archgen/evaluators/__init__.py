"""Evaluators, one file a member: they pay for the truth about architectures."""

from archgen.evaluators.annotated import Annotated
from archgen.evaluators.base import Evaluator, Measurement
from archgen.evaluators.supernet import SupernetEvaluator
from archgen.evaluators.tabular import TabularEvaluator, read_architectures

__all__ = ["Annotated", "Evaluator", "Measurement", "SupernetEvaluator", "TabularEvaluator", "read_architectures"]
