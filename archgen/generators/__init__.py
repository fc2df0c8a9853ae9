"""Generators of graphs: one file each, one interface."""

from archgen.generators.adapt import adapt_to_examples, adapt_to_space
from archgen.generators.base import GENERATORS, Generator, Guidance, Projector, Start, load_generator
from archgen.generators.discrete_flow import DiscreteFlow
from archgen.generators.guidance import ImportanceGuidance, ParticleGuidance, SideBySide
from archgen.generators.noised import CleanGuidance, NoisedGuidance, Tilt, expected_log_weight
from archgen.generators.noised_predictor import NoisedPredictor
from archgen.generators.one_step import OneStep
from archgen.generators.score_sde import ScoreSDE
from archgen.generators.train import train_generator, train_noised

__all__ = [
    "GENERATORS",
    "CleanGuidance",
    "DiscreteFlow",
    "Generator",
    "Guidance",
    "ImportanceGuidance",
    "NoisedGuidance",
    "NoisedPredictor",
    "OneStep",
    "ParticleGuidance",
    "Projector",
    "ScoreSDE",
    "SideBySide",
    "Start",
    "Tilt",
    "adapt_to_examples",
    "adapt_to_space",
    "expected_log_weight",
    "load_generator",
    "train_generator",
    "train_noised",
]
