"""The tables that the property tests run over: a new cell adds a row here."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles

import jaxrnn

# Small, odd and all different, so that a swapped axis fails.
T, B, I, H = 7, 3, 2, 5  # noqa: E741
BATCHES = {"unbatched": (), "batch": (B,), "two-batch-dims": (2, B)}


@dataclasses.dataclass(frozen=True)
class CellCase:
    """A cell, and one step of it in plain NumPy."""

    make: Callable[[int], jaxrnn.Cell]
    numpy_step: Callable[[Any, Any, np.ndarray], tuple[Any, np.ndarray]]

    @property
    def cell(self) -> jaxrnn.Cell:
        return self.make(H)


def _elman(activation, numpy_activation):
    return CellCase(
        lambda size: jaxrnn.elman(size, activation=activation),
        oracles.elman_step(numpy_activation),
    )


CELLS = {
    "elman": _elman(jnp.tanh, np.tanh),
    "elman-relu": _elman(jax.nn.relu, lambda a: np.maximum(a, 0)),
    "elman-leaky-relu": _elman(
        jax.nn.leaky_relu, lambda a: np.where(a > 0, a, 0.01 * a)
    ),
    "elman-softplus": _elman(jax.nn.softplus, lambda a: np.log1p(np.exp(a))),
    "lstm": CellCase(jaxrnn.lstm, oracles.lstm_step),
    "gru": CellCase(jaxrnn.gru, oracles.gru_step),
    "gru-before": CellCase(
        lambda size: jaxrnn.gru(size, reset_after=False), oracles.gru_before_step
    ),
}

# Variants of these. ``check_cell`` looks at them too; to the engine they are the same.
VARIANTS = {
    "peephole-lstm": CellCase(jaxrnn.peephole_lstm, oracles.peephole_lstm_step),
    "projected-lstm": CellCase(
        lambda size: jaxrnn.projected_lstm(size + 2, size), oracles.projected_lstm_step
    ),
    "coupled-lstm": CellCase(jaxrnn.coupled_lstm, oracles.coupled_lstm_step),
    "layer-norm-lstm": CellCase(jaxrnn.layer_norm_lstm, oracles.layer_norm_lstm_step),
    "layer-norm-gru": CellCase(jaxrnn.layer_norm_gru, oracles.layer_norm_gru_step),
    "mgu": CellCase(jaxrnn.mgu, oracles.mgu_step),
    "janet": CellCase(jaxrnn.janet, oracles.janet_step),
}


# All that the engine can tell apart: a state of one array, and a state of two.
KINDS = ("elman", "lstm")


def random_like(key, tree, scale=1.0):
    """A pytree of normal numbers with the shapes and dtypes of ``tree``."""
    leaves, treedef = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.normal(k, leaf.shape, leaf.dtype) * jnp.asarray(scale, leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, drawn)


def random_params(key, cell, dtype=jnp.float64, input_size=I):
    """Parameters with no zeros in them: a bias of zero would hide a mistake."""
    init_key, noise_key = jax.random.split(key)
    params = cell.init(init_key, input_size, dtype)
    return jax.tree.map(jnp.add, params, random_like(noise_key, params, 0.3))


@dataclasses.dataclass(frozen=True)
class Problem:
    """Random arguments of an unroll, and cotangents of what it returns."""

    params: Any
    xs: Any
    state: Any
    mask: Any
    resets: Any
    dys: Any
    dstate: Any

    @property
    def args(self):
        return self.params, self.xs, self.state

    @property
    def flags(self):
        return {"mask": self.mask, "resets": self.resets}


def problem(
    cell, batch=(B,), dtype=jnp.float64, steps=T, mask=True, resets=True, seed=0
):
    keys = jax.random.split(jax.random.key(seed), 7)
    params = random_params(keys[0], cell, dtype)
    state = random_like(keys[1], cell.initial_state(params, batch))
    shape = (steps, *batch)
    return Problem(
        params=params,
        xs=jax.random.normal(keys[2], (*shape, I), dtype),
        state=state,
        mask=jax.random.bernoulli(keys[3], 0.7, shape) if mask else None,
        resets=jax.random.bernoulli(keys[4], 0.3, shape) if resets else None,
        dys=jax.random.normal(keys[5], (*shape, H), dtype),
        dstate=random_like(keys[6], state),
    )


def assert_close(actual, expected, rtol):
    """Largest difference at most ``rtol`` times the largest entry, leaf by leaf."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    named = jax.tree_util.tree_leaves_with_path(actual)
    for (path, a), e in zip(named, jax.tree.leaves(expected), strict=True):
        assert a.shape == e.shape, jax.tree_util.keystr(path)
        assert a.dtype == e.dtype, jax.tree_util.keystr(path)
        a, e = (np.asarray(v).astype(np.float64) for v in (a, e))
        scale = max(np.abs(e).max(initial=0), 1.0)
        np.testing.assert_allclose(
            a, e, rtol=0, atol=rtol * scale, err_msg=jax.tree_util.keystr(path)
        )


def gradients(unroll_fn, cell, problem, reverse):
    """Values of an unroll, and its gradients by params, inputs and state."""

    def run(params, xs, state):
        return unroll_fn(cell, params, xs, state, **problem.flags, reverse=reverse)

    values, pull = jax.vjp(run, *problem.args)
    return values, pull((problem.dstate, problem.dys))
