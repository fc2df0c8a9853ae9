"""Search strategies: ask and tell, one file each."""

from archgen.strategies.base import STRATEGIES, SearchStrategy
from archgen.strategies.boshnas import BoshnasSearch
from archgen.strategies.evolution import Evolution
from archgen.strategies.generative import Generative
from archgen.strategies.random import Random
from archgen.strategies.robot import Robot

__all__ = ["STRATEGIES", "BoshnasSearch", "Evolution", "Generative", "Random", "Robot", "SearchStrategy"]
