"""Studies: trials in Optuna's storage, shared by any number of processes, and the loop that serves every strategy."""

from archgen.study.loop import search
from archgen.study.study import Claim, Study
from archgen.study.trial import COMPLETE, FAILED, Trial

__all__ = ["COMPLETE", "FAILED", "Claim", "Study", "Trial", "search"]
