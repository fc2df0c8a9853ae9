"""Evaluators, one file a member: they pay for the truth about architectures. Wrappers change or spread the work."""

from archgen.evaluators.annotated import Annotated
from archgen.evaluators.base import Evaluator, Measurement, Wrapper
from archgen.evaluators.cached import Cached
from archgen.evaluators.noisy import Noisy, OneOfSeveral
from archgen.evaluators.parallel import Parallel
from archgen.evaluators.supernet import SupernetEvaluator
from archgen.evaluators.tabular import Labels, TabularEvaluator, read_architectures, read_labels, read_proxies
from archgen.evaluators.train import TrainEvaluator, image_network
from archgen.ray_cluster import Cluster, RayExecutor

__all__ = [
    "Annotated",
    "Cached",
    "Cluster",
    "Evaluator",
    "Labels",
    "Measurement",
    "Noisy",
    "OneOfSeveral",
    "Parallel",
    "RayExecutor",
    "SupernetEvaluator",
    "TabularEvaluator",
    "TrainEvaluator",
    "Wrapper",
    "image_network",
    "read_architectures",
    "read_labels",
    "read_proxies",
]
