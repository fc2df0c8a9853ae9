"""Training strategies of supernets, one paper a file, the loop that runs them, and stand-alone training."""

from archgen.supernets.training.accelerated import launched_processes
from archgen.supernets.training.balanced_mixture import BalancedMixture
from archgen.supernets.training.base import TRAINING_STRATEGIES, Plan, TrainingStrategy, default_strategy
from archgen.supernets.training.darts import Darts
from archgen.supernets.training.fair import Fair
from archgen.supernets.training.gradient_matching import Cut, best_cut
from archgen.supernets.training.loop import Batches, EndTraining, Schedule, train
from archgen.supernets.training.multi_architecture import MultiArchitecture
from archgen.supernets.training.pa_da import PathAndData
from archgen.supernets.training.precision import PRECISIONS, Precision
from archgen.supernets.training.processes import Processes
from archgen.supernets.training.progressive_shrinking import ProgressiveShrinking
from archgen.supernets.training.proxyless import Proxyless
from archgen.supernets.training.sandwich import Sandwich
from archgen.supernets.training.sharpdarts import SharpDarts
from archgen.supernets.training.shiftnas import ShiftNAS
from archgen.supernets.training.single_path_thresholds import SinglePathThresholds
from archgen.supernets.training.splitting import train_and_split
from archgen.supernets.training.standalone import accuracy, batch_size, train_network
from archgen.supernets.training.supernet import train_supernet
from archgen.supernets.training.uniform import Uniform
from archgen.supernets.training.updates import Updates

__all__ = [
    "PRECISIONS",
    "TRAINING_STRATEGIES",
    "BalancedMixture",
    "Batches",
    "Cut",
    "Darts",
    "EndTraining",
    "Fair",
    "MultiArchitecture",
    "PathAndData",
    "Plan",
    "Precision",
    "Processes",
    "ProgressiveShrinking",
    "Proxyless",
    "Sandwich",
    "Schedule",
    "SharpDarts",
    "ShiftNAS",
    "SinglePathThresholds",
    "TrainingStrategy",
    "Uniform",
    "Updates",
    "accuracy",
    "batch_size",
    "best_cut",
    "default_strategy",
    "launched_processes",
    "train",
    "train_and_split",
    "train_network",
    "train_supernet",
]
