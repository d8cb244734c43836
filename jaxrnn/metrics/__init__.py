"""Evaluation metrics over the unmasked steps.

Like the losses, metrics take predictions ``(T, *B, ...)`` first, targets second, and
the mask of the layers ``(T, *B)``. Masked steps have no effect. For one target per
sequence, B stands in the place of T. If all steps are masked, a mean is 0.
"""

from .._deprecated import renamed
from ._classification import accuracy as accuracy
from ._classification import confusion_matrix as confusion_matrix
from ._classification import f1_score as f1_score
from ._classification import macro_f1 as macro_f1
from ._classification import nats_to_bits as nats_to_bits
from ._classification import perplexity as perplexity
from ._edit_distance import edit_distance as edit_distance
from ._edit_distance import token_error_rate as token_error_rate
from ._regression import mean_absolute_error as mean_absolute_error
from ._regression import persistence as persistence
from ._regression import root_mean_squared_error as root_mean_squared_error

__getattr__ = renamed(
    __name__,
    {
        "bits": "nats_to_bits",
        "confusion": "confusion_matrix",
        "error_rate": "token_error_rate",
        "f1": "f1_score",
    },
)

__all__ = [
    "accuracy",
    "confusion_matrix",
    "edit_distance",
    "f1_score",
    "macro_f1",
    "mean_absolute_error",
    "nats_to_bits",
    "perplexity",
    "persistence",
    "root_mean_squared_error",
    "token_error_rate",
]
