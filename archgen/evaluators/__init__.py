"""Evaluators, one file a member: they pay for the truth about architectures."""

from archgen.evaluators.annotated import Annotated
from archgen.evaluators.base import Evaluator, Measurement
from archgen.evaluators.supernet import SupernetEvaluator
from archgen.evaluators.tabular import Labels, TabularEvaluator, read_architectures, read_labels, read_proxies

__all__ = [
    "Annotated",
    "Evaluator",
    "Labels",
    "Measurement",
    "SupernetEvaluator",
    "TabularEvaluator",
    "read_architectures",
    "read_labels",
    "read_proxies",
]
