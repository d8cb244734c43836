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
    a = x @ params.w_x + h @ params.w_h
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


def clipped_lstm_step(limit):
    def step(params, state, x):
        h, c = state
        a = x @ params.w_x + h @ params.w_h + params.b
        i, f, g, o = np.split(a, 4, axis=-1)
        c = np.clip(sigmoid(f) * c + sigmoid(i) * np.tanh(g), -limit, limit)
        h = sigmoid(o) * np.tanh(c)
        return type(state)(h, c), h

    return step


def recurrent_highway_step(params, h, x):
    for depth, (w, b) in enumerate(zip(params.w_h, params.b, strict=True)):
        from_x = x @ params.w_x if depth == 0 else 0
        n, t = np.split(from_x + h @ w + b, 2, axis=-1)
        h = np.tanh(n) * sigmoid(t) + h * (1 - sigmoid(t))
    return h, h


def jordan_step(params, y, x):
    h = np.tanh(x @ params.w_x + y @ params.w_h + params.b)
    y = np.tanh(h @ params.w_y + params.b_y)
    return y, y


def multihead_step(head_step):
    """Head by head, each with its own parameters and its part of the state."""

    def step(params, state, x):
        num_heads = len(jax.tree.leaves(params)[0])
        results = []
        for n in range(num_heads):
            own = jax.tree.map(lambda leaf, n=n: leaf[n], params)
            part = jax.tree.map(lambda leaf, n=n: leaf[..., n, :], state)
            results.append(head_step(own, part, x))
        states, ys = zip(*results, strict=True)
        state = jax.tree.map(lambda *leaves: np.stack(leaves, axis=-2), *states)
        return state, np.concatenate(ys, axis=-1)

    return step


def slstm_step(forget):
    """Without a stabiliser, between states that have one."""

    def step(params, state, x):
        h, c, n, m = state
        a = x @ params.w_x + h @ params.w_h + params.b
        a_i, a_f, a_g, a_o = np.split(a, 4, axis=-1)
        i, f = np.exp(a_i), forget(a_f)
        true_c = f * c * np.exp(m) + i * np.tanh(a_g)
        true_n = f * n * np.exp(m) + i
        m = np.where(n == 0, a_i, np.maximum(np.log(f) + m, a_i))
        h = sigmoid(a_o) * true_c / true_n
        return type(state)(h, true_c * np.exp(-m), true_n * np.exp(-m), m), h

    return step


def indrnn_step(params, h, x):
    h = np.maximum(x @ params.w_x + params.u * h + params.b, 0)
    return h, h


def mingru_step(activation):
    def step(params, h, x):
        z, n = np.split(x @ params.w_x + params.b, 2, axis=-1)
        h = (1 - sigmoid(z)) * h + sigmoid(z) * activation(n)
        return h, h

    return step


def minlstm_step(activation):
    def step(params, h, x):
        i, f, n = np.split(x @ params.w_x + params.b, 3, axis=-1)
        i, f = sigmoid(i), sigmoid(f)
        h = f / (f + i) * h + i / (f + i) * activation(n)
        return h, h

    return step


def lru_step(params, h, x):
    decay = np.exp(-np.exp(params.nu) + 1j * np.exp(params.theta))
    real, imaginary = np.split(x @ params.w_x, 2, axis=-1)
    r, j = np.split(h, 2, axis=-1)
    new = decay * (r + 1j * j) + np.exp(params.gamma) * (real + 1j * imaginary)
    h = np.concatenate([new.real, new.imag], axis=-1)
    return h, h


def integrator_step(kept, rate):
    def step(params, h, x):
        new = np.tanh(x @ params.w_x + h @ params.w_h + params.b)
        h = kept * h + rate * new
        return h, h

    return step


def antisymmetric_step(step_size, diffusion):
    def step(params, h, x):
        w = params.w_h - params.w_h.T - diffusion * np.eye(len(params.w_h))
        h = h + step_size * np.tanh(x @ params.w_x + h @ w + params.b)
        return h, h

    return step


def exponential(a):
    """The exponential of an antisymmetric matrix, by its eigenvalues."""
    values, vectors = np.linalg.eigh(1j * a)
    return ((vectors * np.exp(-1j * values)) @ vectors.conj().T).real


def cayley(a):
    one = np.eye(len(a))
    return np.linalg.inv(one - a / 2) @ (one + a / 2)


def orthogonal_step(of_antisymmetric):
    def step(params, h, x):
        q = of_antisymmetric(params.w_h - params.w_h.T)
        h = np.tanh(x @ params.w_x + h @ q + params.b)
        return h, h

    return step


class _Kernel(np.ndarray):
    """A kernel ``(*K, C, O)`` that ``@`` convolves with, place by place."""

    def __rmatmul__(self, x):
        kernel = np.asarray(self)
        sizes = kernel.shape[:-2]
        first = x.ndim - 1 - len(sizes)
        around = [(0, 0)] * first + [(k // 2, k // 2) for k in sizes] + [(0, 0)]
        padded = np.pad(x, around)
        total = 0
        for offset in np.ndindex(*sizes):
            window = tuple(
                slice(o, o + x.shape[first + axis]) for axis, o in enumerate(offset)
            )
            part = padded[(slice(None),) * first + window]
            total = total + np.asarray(part) @ kernel[offset]
        return total

    __array_ufunc__ = None


def conv_step(dense_step):
    """The step of a dense cell, its products with kernels being convolutions."""

    def step(params, state, x):
        kernels = {
            name: np.asarray(getattr(params, name)).view(_Kernel)
            for name in ("w_x", "w_h")
        }
        return dense_step(params._replace(**kernels), state, x)

    return step


def unroll(step, params, xs, state, initial, mask, resets, reverse):
    """The loop over time and over the rows of one batch dimension."""
    num_steps, rows = xs.shape[:2]
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
    one = next(y for line in ys for y in line if y is not None)
    ys = [[np.zeros_like(one) if y is None else y for y in line] for line in ys]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states), np.array(ys)
