"""Training strategies of supernets, one paper a file, and the loop that runs them."""

from archgen.supernets.training.base import TRAINING_STRATEGIES, TrainingStrategy, default_strategy
from archgen.supernets.training.loop import Schedule, train
from archgen.supernets.training.sandwich import Sandwich
from archgen.supernets.training.uniform import Uniform

__all__ = ["TRAINING_STRATEGIES", "Sandwich", "Schedule", "TrainingStrategy", "Uniform", "default_strategy", "train"]
