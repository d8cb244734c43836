"""The network of bptt_by_hand.py in NumPy: forward, and backward by hand.

Columns are vectors, as in the listing: ``W_x (H, I)``, ``W_h (H, H)``, ``W_y (O, H)``.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import jaxrnn
from jaxrnn import losses

INPUT_SIZE, HIDDEN_SIZE, OUTPUT_SIZE = 3, 2, 2


class Output(NamedTuple):
    """An activation of the outputs, and the loss for which dL/do = y - target."""

    activation: Callable  # o -> y, for one step
    loss: Callable  # (y, target) -> loss, for one step
    library_loss: Callable  # from jaxrnn.losses, a function of o
    times: float  # our loss / the library's loss, which is a mean over outputs


def sigmoid(o):
    return 1 / (1 + np.exp(-o))


def softmax(o):
    exponentials = np.exp(o - o.max())
    return exponentials / exponentials.sum()


OUTPUTS = {
    "sigmoid": Output(
        sigmoid,
        lambda y, target: -(target * np.log(y) + (1 - target) * np.log(1 - y)).sum(),
        losses.sigmoid_cross_entropy,
        OUTPUT_SIZE,
    ),
    "softmax": Output(
        softmax,
        lambda y, target: -(target * np.log(y)).sum(),
        losses.softmax_cross_entropy,
        1,
    ),
    "identity": Output(
        lambda o: o,
        lambda y, target: ((y - target) ** 2).sum() / 2,
        losses.mean_squared_error,
        OUTPUT_SIZE / 2,
    ),
}


class Forward(NamedTuple):
    """Values of each step; ``h[t]`` is the state before step t, ``h[t + 1]`` after."""

    a: np.ndarray
    h: np.ndarray
    o: np.ndarray
    y: np.ndarray
    loss: np.ndarray


class Backward(NamedTuple):
    """Gradients of the loss with respect to the values of each step."""

    do: np.ndarray
    from_next: np.ndarray  # dL/dh, through the next step only
    dh: np.ndarray  # dL/dh, through the next step and the output
    da: np.ndarray


def draw(rng, steps, output):
    """Draw weights, inputs ``(T, I)`` and targets ``(T, O)``; biases are zero."""
    p = {
        "W_x": rng.standard_normal((HIDDEN_SIZE, INPUT_SIZE)),
        "W_h": rng.standard_normal((HIDDEN_SIZE, HIDDEN_SIZE)),
        "b_h": np.zeros(HIDDEN_SIZE),
        "W_y": rng.standard_normal((OUTPUT_SIZE, HIDDEN_SIZE)),
        "b_y": np.zeros(OUTPUT_SIZE),
    }
    x = rng.standard_normal((steps, INPUT_SIZE))
    target = rng.integers(0, 2, (steps, OUTPUT_SIZE)).astype(float)
    if output == "softmax":
        target[:, 1] = 1 - target[:, 0]  # one class at each step
    return p, x, target


def forward(p, x, target, output, initial=(0,) * HIDDEN_SIZE):
    h, rows = [np.asarray(initial)], []
    for x_t, target_t in zip(x, target, strict=True):
        a = p["W_x"] @ x_t + p["W_h"] @ h[-1] + p["b_h"]
        h.append(np.tanh(a))
        o = p["W_y"] @ h[-1] + p["b_y"]
        y = OUTPUTS[output].activation(o)
        rows.append((a, o, y, OUTPUTS[output].loss(y, target_t)))
    a, o, y, loss = map(np.array, zip(*rows, strict=True))
    return Forward(a=a, h=np.array(h), o=o, y=y, loss=loss)


def backward(p, x, target, f, *, entering, slope):
    """Compute the gradients with respect to the weights, and their intermediate values.

    ``entering`` holds the state before each step, and ``slope(h)`` is tanh'(a): the
    listing has errors in both.
    """
    d = {name: np.zeros_like(weights) for name, weights in p.items()}
    rows, from_next = [], np.zeros(HIDDEN_SIZE)
    for t in reversed(range(len(x))):
        h = f.h[t + 1]
        do = f.y[t] - target[t]
        dh = p["W_y"].T @ do + from_next
        da = slope(h) * dh
        rows.insert(0, (do, from_next, dh, da))
        d["W_y"] += np.outer(do, h)
        d["b_y"] += do
        d["W_h"] += np.outer(da, entering[t])
        d["W_x"] += np.outer(da, x[t])
        d["b_h"] += da
        from_next = p["W_h"].T @ da
    return d, Backward(*map(np.array, zip(*rows, strict=True)))


def mended(p, x, target, f):
    """Compute the correct gradients: h is tanh(a), so tanh'(a) is 1 - h^2."""
    return backward(p, x, target, f, entering=f.h[:-1], slope=lambda h: 1 - h**2)


def as_listed(p, x, target, f):
    """Compute the listing's gradients: step 1 reads h[-1], and tanh' is taken at h."""
    last_first = np.roll(f.h[1:], 1, axis=0)
    return backward(
        p, x, target, f, entering=last_first, slope=lambda h: 1 - np.tanh(h) ** 2
    )


def terms(p, f, row, used):
    """Compute the terms of steps 3, 2 and 1, where W was multiplied by ``used[k - 1]``.

    ``row`` is dE_3/dS_3; each step back multiplies it by the Jacobian of that step.
    """
    found = []
    for k in (3, 2, 1):
        slope = 1 - f.h[k] ** 2
        found.append(np.outer(row * slope, used[k - 1]))
        row = row @ np.diag(slope) @ p["W_h"]
    return np.array(found)


def to_jaxrnn(p):
    """Convert to parameters of ``elman`` and ``dense``, which use row vectors."""
    return (
        jaxrnn.ElmanParams(w_x=p["W_x"].T, w_h=p["W_h"].T, b=p["b_h"]),
        jaxrnn.DenseParams(w=p["W_y"].T, b=p["b_y"]),
    )


def from_jaxrnn(params):
    hidden, readout = params
    return {
        "W_x": np.asarray(hidden.w_x).T,
        "W_h": np.asarray(hidden.w_h).T,
        "b_h": np.asarray(hidden.b),
        "W_y": np.asarray(readout.w).T,
        "b_y": np.asarray(readout.b),
    }
