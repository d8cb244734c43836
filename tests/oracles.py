"""Each cell's step, and the unroll, in plain NumPy, written without the library's."""

import jax
import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def elman_step(activation):
    def step(params, h, x):
        h = activation(x @ params.w_x + h @ params.w_h + params.b)
        return h, h

    return step


def lstm_step(params, state, x):
    h, c = state
    a = np.concatenate([x, h], axis=-1) @ np.concatenate([params.w_x, params.w_h])
    i, f, g, o = np.split(a + params.b, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return type(state)(h, c), h


def gru_step(params, h, x):
    x_r, x_z, x_n = np.split(x @ params.w_x + params.b, 3, axis=-1)
    h_r, h_z, h_n = np.split(h @ params.w_h + params.b_h, 3, axis=-1)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    h = (1 - z) * np.tanh(x_n + r * h_n) + z * h
    return h, h


def gru_before_step(params, h, x):
    w_r, w_z, w_n = np.split(params.w_h, 3, axis=-1)
    b_r, b_z, b_n = np.split(params.b + params.b_h, 3, axis=-1)
    x_r, x_z, x_n = np.split(x @ params.w_x, 3, axis=-1)
    r, z = sigmoid(x_r + h @ w_r + b_r), sigmoid(x_z + h @ w_z + b_z)
    h = (1 - z) * np.tanh(x_n + (r * h) @ w_n + b_n) + z * h
    return h, h


def unroll(step, params, xs, state, initial, mask, resets, reverse):
    """The loop over time and over the rows of one batch dimension."""
    num_steps, rows, _ = xs.shape
    params = jax.tree.map(np.asarray, params)
    states = [jax.tree.map(lambda s, r=r: np.asarray(s)[r], state) for r in range(rows)]
    ys = [[None] * rows for _ in range(num_steps)]
    for row in range(rows):
        times = range(num_steps)
        for t in reversed(times) if reverse else times:
            start = t + 1 if reverse else t
            if resets is not None and start < num_steps and resets[start, row]:
                states[row] = jax.tree.map(lambda s, r=row: np.asarray(s)[r], initial)
            if mask is None or mask[t, row]:
                states[row], ys[t][row] = step(
                    params, states[row], np.asarray(xs[t, row])
                )
    width = next(y.shape[-1] for line in ys for y in line if y is not None)
    ys = [[np.zeros(width) if y is None else y for y in line] for line in ys]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states), np.array(ys)
