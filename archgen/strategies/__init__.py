"""Search strategies: ask and tell, one file each."""

from archgen.strategies.bananas import Bananas
from archgen.strategies.base import STRATEGIES, SearchStrategy
from archgen.strategies.bayes import Bayes
from archgen.strategies.boshnas import BoshnasSearch
from archgen.strategies.evolution import Evolution
from archgen.strategies.generative import Generative
from archgen.strategies.local import LocalSearch
from archgen.strategies.nsga2 import NSGA2
from archgen.strategies.pretrained import pretrained_parts
from archgen.strategies.random import Random
from archgen.strategies.robot import Robot
from archgen.strategies.successive import Successive

__all__ = [
    "NSGA2",
    "STRATEGIES",
    "Bananas",
    "Bayes",
    "BoshnasSearch",
    "Evolution",
    "Generative",
    "LocalSearch",
    "Random",
    "Robot",
    "SearchStrategy",
    "Successive",
    "pretrained_parts",
]
