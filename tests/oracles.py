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


def peephole_lstm_step(params, state, x):
    h, c = state
    i, f, g, o = np.split(x @ params.w_x + h @ params.w_h + params.b, 4, axis=-1)
    new = sigmoid(f + params.p_f * c) * c + sigmoid(i + params.p_i * c) * np.tanh(g)
    h = sigmoid(o + params.p_o * new) * np.tanh(new)
    return type(state)(h, new), h


def projected_lstm_step(params, state, x):
    state, m = lstm_step(params, state, x)
    h = m @ params.w_r
    return state._replace(h=h), h


def coupled_lstm_step(params, state, x):
    h, c = state
    f, g, o = np.split(x @ params.w_x + h @ params.w_h + params.b, 3, axis=-1)
    i = sigmoid(-f)
    c = (1 - i) * c + i * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return type(state)(h, c), h


def standardized(v):
    return (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5)


def layer_norm_lstm_step(params, state, x):
    h, c = state
    a = params.k_x * standardized(x @ params.w_x)
    a = a + params.k_h * standardized(h @ params.w_h) + params.b
    i, f, g, o = np.split(a, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(params.k_c * standardized(c) + params.b_c)
    return type(state)(h, c), h


def layer_norm_gru_step(params, h, x):
    size = h.shape[-1]

    def normal(v):
        gates, candidate = v[..., : 2 * size], v[..., 2 * size :]
        parts = standardized(gates), standardized(candidate)
        return np.concatenate(parts, axis=-1)

    of_x = params.k_x * normal(x @ params.w_x) + params.b
    of_h = params.k_h * normal(h @ params.w_h) + params.b_h
    x_r, x_z, x_n = np.split(of_x, 3, axis=-1)
    h_r, h_z, h_n = np.split(of_h, 3, axis=-1)
    z = sigmoid(x_z + h_z)
    h = (1 - z) * np.tanh(x_n + sigmoid(x_r + h_r) * h_n) + z * h
    return h, h


def mgu_step(params, h, x):
    w_f, w_n = np.split(params.w_h, 2, axis=-1)
    x_f, x_n = np.split(x @ params.w_x + params.b, 2, axis=-1)
    f = sigmoid(x_f + h @ w_f)
    h = (1 - f) * h + f * np.tanh(x_n + (f * h) @ w_n)
    return h, h


def janet_step(params, h, x):
    f, g = np.split(x @ params.w_x + h @ params.w_h + params.b, 2, axis=-1)
    h = sigmoid(f) * h + (1 - sigmoid(f - 1)) * np.tanh(g)
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
