"""Supernets from images to ranks: what is to be trained, its resumable folder, scores by inherited weights."""

from archgen.inheritance.folder import load_supernet, train_in_folder
from archgen.inheritance.ranks import rank
from archgen.inheritance.request import CALIBRATION, SupernetRequest, TrainedSupernet

__all__ = ["CALIBRATION", "SupernetRequest", "TrainedSupernet", "load_supernet", "rank", "train_in_folder"]
