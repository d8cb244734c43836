"""Training: the state, the jitted update, and the loop around them."""

from ._fit import Best as Best
from ._fit import FitResult as FitResult
from ._fit import History as History
from ._fit import default_optimizer as default_optimizer
from ._fit import fit as fit
from ._fit import terminal_progress as terminal_progress
from ._update import LossFn as LossFn
from ._update import TrainState as TrainState
from ._update import Update as Update
from ._update import init as init
from ._update import make_update as make_update

__all__ = [
    "Best",
    "FitResult",
    "History",
    "LossFn",
    "TrainState",
    "Update",
    "default_optimizer",
    "fit",
    "init",
    "make_update",
    "terminal_progress",
]
