"""Predictors: one file a member; `PREDICTORS` has them by name."""

from archgen.predictors.base import PREDICTORS, Prediction, Predictor, load_predictor, save_predictor
from archgen.predictors.block_table import BlockTable
from archgen.predictors.counts import Count
from archgen.predictors.free_labels import FreeLabels, load_free_labels, pretrained_free_labels, save_free_labels
from archgen.predictors.gbdt import GradientBoosting
from archgen.predictors.gnn import GraphNetwork
from archgen.predictors.judge import judge
from archgen.predictors.latency import LatencyPredictor
from archgen.predictors.meta import MetaPredictor
from archgen.predictors.node_statistics import NodeStatistics
from archgen.predictors.parzc import ParZC
from archgen.predictors.published_blocks import read_published
from archgen.predictors.ranking_losses import RANKING_LOSSES
from archgen.predictors.source_scores import Source
from archgen.predictors.suggest import suggest

__all__ = [
    "PREDICTORS",
    "RANKING_LOSSES",
    "BlockTable",
    "Count",
    "FreeLabels",
    "GradientBoosting",
    "GraphNetwork",
    "LatencyPredictor",
    "MetaPredictor",
    "NodeStatistics",
    "ParZC",
    "Prediction",
    "Predictor",
    "Source",
    "judge",
    "load_free_labels",
    "load_predictor",
    "pretrained_free_labels",
    "read_published",
    "save_free_labels",
    "save_predictor",
    "suggest",
]
