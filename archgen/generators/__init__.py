"""Generators of graphs: one file each, one interface."""

from archgen.generators.base import GENERATORS, Generator, Guidance, load_generator
from archgen.generators.discrete_flow import DiscreteFlow
from archgen.generators.guidance import ArchitectureGuidance
from archgen.generators.train import train_generator

__all__ = [
    "GENERATORS",
    "ArchitectureGuidance",
    "DiscreteFlow",
    "Generator",
    "Guidance",
    "load_generator",
    "train_generator",
]
