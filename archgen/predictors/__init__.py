"""Predictors: one file a member; `PREDICTORS` has them by name."""

from archgen.predictors.base import PREDICTORS, Prediction, Predictor, load_predictor, save_predictor

__all__ = ["PREDICTORS", "Prediction", "Predictor", "load_predictor", "save_predictor"]
