"""Layouts of weights that several frameworks share."""

from typing import Any

import numpy as np

from .._base import Cell
from .._typing import Shape
from . import _make
from ._arrays import gates, join, reorder

I_G_F_O = (0, 2, 1, 3)  # from i, f, g, o, and back


def conv_lstm_of(
    kernels: list[np.ndarray], b: np.ndarray, space: Shape | None
) -> tuple[Cell, Any]:
    """Make a cell of gates in the order i, g, f, o, with 1 to add to f."""
    if space is None:
        raise ValueError(
            "spatial_shape must be given for a convolutional LSTM: the sizes of its "
            "images are not in the weights"
        )
    i, g, f, o = gates(b, 4)
    w_x, w_h = (reorder(kernel, I_G_F_O) for kernel in kernels)
    b = join([i, f + np.ones_like(f), g, o])
    return _make.conv_lstm(w_x, w_h, b, space)


def conv_lstm_weights(p: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return kernels and bias in the order i, g, f, o, with f less 1."""
    i, f, g, o = gates(p.b, 4)
    b = join([i, g, f - np.ones_like(f), o])
    return reorder(p.w_x, I_G_F_O), reorder(p.w_h, I_G_F_O), b


def input_bias(p: Any) -> np.ndarray:
    """Return the biases of a GRU that add to the input: all but that of n's state."""
    r, z, n = gates(p.b_h, 3)
    return p.b + join([r, z, np.zeros_like(n)])
