"""The tables that the property tests run over: a new cell adds a row here."""

import dataclasses
import functools
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

    @functools.cached_property
    def cell(self) -> jaxrnn.Cell:
        """The cell of ``H`` units: one for all tests, which then share programs."""
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

# What the engine's own tests run on; ``check_cell`` looks at the others too.
BASE = tuple(CELLS)


def _heads(make, step, num_heads=2):
    """Heads of the size asked for, so that all together are larger."""
    return CellCase(
        lambda size: jaxrnn.multihead(make, num_heads * size, num_heads),
        oracles.multihead_step(step),
    )


def _conv(make, step, kernel, space):
    return CellCase(lambda size: make(size, kernel, space), oracles.conv_step(step))


CELLS |= {
    "peephole-lstm": CellCase(jaxrnn.peephole_lstm, oracles.peephole_lstm_step),
    "projected-lstm": CellCase(
        lambda size: jaxrnn.projected_lstm(size + 2, size), oracles.projected_lstm_step
    ),
    "coupled-lstm": CellCase(jaxrnn.coupled_lstm, oracles.coupled_lstm_step),
    "clipped-lstm": CellCase(
        lambda size: jaxrnn.lstm(size, cell_clip=0.4), oracles.clipped_lstm_step(0.4)
    ),
    "layer-norm-lstm": CellCase(jaxrnn.layer_norm_lstm, oracles.layer_norm_lstm_step),
    "layer-norm-gru": CellCase(jaxrnn.layer_norm_gru, oracles.layer_norm_gru_step),
    "mgu": CellCase(jaxrnn.mgu, oracles.mgu_step),
    "janet": CellCase(jaxrnn.janet, oracles.janet_step),
    "recurrent-highway": CellCase(
        lambda size: jaxrnn.recurrent_highway(size, depth=3),
        oracles.recurrent_highway_step,
    ),
    "jordan": CellCase(
        lambda size: jaxrnn.jordan(size + 2, size, output_activation=jnp.tanh),
        oracles.jordan_step,
    ),
    "multihead-elman": _heads(jaxrnn.elman, oracles.elman_step(np.tanh)),
    "multihead-lstm": _heads(jaxrnn.lstm, oracles.lstm_step),
    "multihead-gru": _heads(jaxrnn.gru, oracles.gru_step, num_heads=3),
    "multihead-recurrent-highway": _heads(
        jaxrnn.recurrent_highway, oracles.recurrent_highway_step
    ),
    "slstm": CellCase(jaxrnn.slstm, oracles.slstm_step(oracles.sigmoid)),
    "slstm-exponential": CellCase(
        lambda size: jaxrnn.slstm(size, exponential=True), oracles.slstm_step(np.exp)
    ),
    "indrnn": CellCase(jaxrnn.indrnn, oracles.indrnn_step),
    "mingru": CellCase(jaxrnn.mingru, oracles.mingru_step(lambda a: a)),
    "mingru-tanh": CellCase(
        lambda size: jaxrnn.mingru(size, activation=jnp.tanh),
        oracles.mingru_step(np.tanh),
    ),
    "minlstm": CellCase(jaxrnn.minlstm, oracles.minlstm_step(lambda a: a)),
    "minlstm-softplus": CellCase(
        lambda size: jaxrnn.minlstm(size, activation=jax.nn.softplus),
        oracles.minlstm_step(lambda a: np.log1p(np.exp(a))),
    ),
    "lru": CellCase(jaxrnn.lru, oracles.lru_step),
    "leaky-integrator": CellCase(
        lambda size: jaxrnn.leaky_integrator(size, time_constant=4.0),
        oracles.integrator_step(0.75, 0.25),
    ),
    "antisymmetric": CellCase(
        lambda size: jaxrnn.antisymmetric(size, step_size=0.3, diffusion=0.2),
        oracles.antisymmetric_step(0.3, 0.2),
    ),
    "orthogonal": CellCase(
        jaxrnn.orthogonal_rnn, oracles.orthogonal_step(oracles.exponential)
    ),
    "orthogonal-cayley": CellCase(
        lambda size: jaxrnn.orthogonal_rnn(size, map_fn=jaxrnn.cayley_transform),
        oracles.orthogonal_step(oracles.cayley),
    ),
    "echo-state": CellCase(
        lambda size: jaxrnn.echo_state(size, time_constant=2.0),
        oracles.integrator_step(0.5, 0.5),
    ),
    "conv-lstm-1d": _conv(jaxrnn.conv_lstm, oracles.lstm_step, (3,), (4,)),
    "conv-lstm-2d": _conv(jaxrnn.conv_lstm, oracles.lstm_step, (3, 5), (4, 3)),
    "conv-gru-2d": _conv(jaxrnn.conv_gru, oracles.gru_step, (1, 3), (2, 4)),
    "conv-gru-3d": _conv(jaxrnn.conv_gru, oracles.gru_step, (3, 1, 3), (2, 3, 2)),
}


# All that the engine can tell apart: a state of one array, and a state of two.
KINDS = ("elman", "lstm")


# Drawn by NumPy: what jax.random draws is a program to compile for each shape.


def random_like(seed, tree, scale=1.0):
    """Draw normal numbers in a pytree with the shapes and dtypes of ``tree``."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(scale * rng.standard_normal(leaf.shape), leaf.dtype),
        tree,
    )


def random_normal(seed, shape, dtype=jnp.float64):
    """Draw an array of normal numbers."""
    return random_like(seed, jax.ShapeDtypeStruct(shape, dtype))


def random_flags(seed, shape, probability):
    """Draw a boolean array that is True with this probability."""
    return jnp.asarray(np.random.default_rng(seed).random(shape) < probability)


@functools.lru_cache
def initial_params(cell, input_size=I):
    """The parameters that a cell or layer begins with, made once for all tests."""
    draw = jax.jit(cell.init, static_argnums=(1, 2))
    return draw(jax.random.key(0), input_size, jnp.float64)


@functools.cache
def param_shapes(cell, input_size=I):
    """The structure, shapes and dtypes of the parameters of a cell or layer."""
    return jax.eval_shape(lambda: cell.init(jax.random.key(0), input_size, jnp.float64))


def random_params(seed, cell, dtype=jnp.float64, input_size=I, scale=0.5):
    """Draw parameters of normal numbers, as a bias of zero would hide a mistake.

    To compile ``init`` for every cell and layer takes longer than most tests.
    """
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype),
        param_shapes(cell, input_size),
    )
    return random_like(seed, shapes, scale)


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


# Eager calls compile each operation alone: here each run is one program.
unroll = jax.jit(jaxrnn.unroll, static_argnames=("cell", "reverse"))
unroll_bptt = jax.jit(jaxrnn.unroll_bptt, static_argnames=("cell", "reverse"))


def compiled(layer):
    """The layer with its functions jitted."""
    return layer._replace(
        init=jax.jit(layer.init, static_argnames=("input_size", "dtype")),
        initial_state=jax.jit(layer.initial_state, static_argnames="batch_shape"),
        apply=jax.jit(layer.apply),
        step=jax.jit(layer.step),
    )


def random_state(seed, cell, params, batch):
    """A state with no zeros in it; a normaliser is as large as one that was reached."""
    shapes = jax.eval_shape(lambda p: cell.initial_state(p, batch), params)
    state = random_like(seed, shapes)
    if isinstance(state, jaxrnn.SLSTMState):
        state = state._replace(n=1 + abs(state.n))
    return state


def problem(
    cell, batch=(B,), dtype=jnp.float64, steps=T, mask=True, resets=True, seed=0
):
    """Draw a problem of a cell."""
    seeds = [(seed, n) for n in range(7)]
    params = random_params(seeds[0], cell, dtype)
    state = random_state(seeds[1], cell, params, batch)
    shape = (steps, *batch)
    positions = (*shape, *cell.spatial_shape)
    return Problem(
        params=params,
        xs=random_normal(seeds[2], (*positions, I), dtype),
        state=state,
        mask=random_flags(seeds[3], shape, 0.7) if mask else None,
        resets=random_flags(seeds[4], shape, 0.3) if resets else None,
        dys=random_normal(seeds[5], (*positions, cell.output_size), dtype),
        dstate=random_like(seeds[6], state),
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


def gradients(unroll_fn, cell, problem, reverse=False):
    """Values of an unroll, and its gradients by params, inputs and state."""

    def run(params, xs, state):
        return unroll_fn(cell, params, xs, state, **problem.flags, reverse=reverse)

    values, pull = jax.vjp(run, *problem.args)
    return values, pull((problem.dstate, problem.dys))
