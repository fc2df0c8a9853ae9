"""Predictors: one file a member; `PREDICTORS` has them by name."""

from archgen.predictors.base import PREDICTORS, Prediction, Predictor, load_predictor, save_predictor
from archgen.predictors.counts import Count
from archgen.predictors.ensemble import Ensemble
from archgen.predictors.free_labels import FreeLabels, load_free_labels, pretrained_free_labels, save_free_labels
from archgen.predictors.gbdt import GradientBoosting
from archgen.predictors.judge import judge
from archgen.predictors.latency import LatencyPredictor
from archgen.predictors.meta import MetaPredictor
from archgen.predictors.source_scores import Source
from archgen.predictors.suggest import suggest

__all__ = [
    "PREDICTORS",
    "Count",
    "Ensemble",
    "FreeLabels",
    "GradientBoosting",
    "LatencyPredictor",
    "MetaPredictor",
    "Prediction",
    "Predictor",
    "Source",
    "judge",
    "load_free_labels",
    "load_predictor",
    "pretrained_free_labels",
    "save_free_labels",
    "save_predictor",
    "suggest",
]
