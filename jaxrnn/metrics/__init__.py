"""Evaluation metrics over the unmasked steps.

As the losses, metrics take predictions ``(T, *B, ...)`` first, targets second and the
mask of the layers ``(T, *B)``; what lies under it reaches nothing. For one target per
sequence B stands in the place of T. Without a valid step a mean is 0.
"""

from ._classification import accuracy as accuracy
from ._classification import bits as bits
from ._classification import confusion as confusion
from ._classification import f1 as f1
from ._classification import macro_f1 as macro_f1
from ._classification import perplexity as perplexity
from ._edit_distance import edit_distance as edit_distance
from ._edit_distance import error_rate as error_rate
from ._regression import mean_absolute_error as mean_absolute_error
from ._regression import persistence as persistence
from ._regression import root_mean_squared_error as root_mean_squared_error

__all__ = [
    "accuracy",
    "bits",
    "confusion",
    "edit_distance",
    "error_rate",
    "f1",
    "macro_f1",
    "mean_absolute_error",
    "perplexity",
    "persistence",
    "root_mean_squared_error",
]
