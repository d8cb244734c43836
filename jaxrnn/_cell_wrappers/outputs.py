"""Other outputs of a run: every state, or none of them but the last."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell, Noise
from .._checks import check_cell, check_integers, check_like
from .._descriptions.spec import described
from .._tree import zeros_like
from .._typing import Array, ArrayLike, Params, State


@described
def all_states(cell: Cell) -> Cell:
    """Make the outputs of a cell its states, for instance ``c`` of an LSTM too.

    Args:
        cell: cell to wrap. Parameters and state stay the same.

    Returns:
        A :class:`Cell`. Its outputs are a state with leaves ``(T, *B, ...)``, the state
        after each step, zero where masked. They are not one array, so a layer of this
        cell can only be the last of a stack.

    Raises:
        TypeError: ``cell`` is not a :class:`Cell`.

    >>> import jaxrnn
    >>> cell = all_states(jaxrnn.lstm(5))
    >>> params = cell.init(jax.random.key(0), 2)
    >>> _, states = jaxrnn.unroll(cell, params, jnp.ones((7, 3, 2)))
    >>> states.c.shape
    (7, 3, 5)
    """
    return _with_output(cell, lambda state: state, cell_size=_state_size(cell))


@described
def no_outputs(cell: Cell) -> Cell:
    """Make the outputs of a cell empty, for runs that need only the final state.

    Without a gradient, nothing is stored for each step. With a mask, the final state is
    the state after the last unmasked step of each sequence.

    Args:
        cell: cell to wrap. Parameters and state stay the same.

    Returns:
        A :class:`Cell` with outputs ``(T, *B, 0)``.

    Raises:
        TypeError: ``cell`` is not a :class:`Cell`.

    >>> import jaxrnn
    >>> cell = no_outputs(jaxrnn.gru(5))
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state, ys = jaxrnn.unroll(cell, params, jnp.ones((7, 3, 2)))
    >>> state.shape, ys.shape
    ((3, 5), (7, 3, 0))
    """

    def empty(state: State) -> Array:
        # A slice rather than new zeros, so that it has the sharding of the state.
        return jax.tree.leaves(state)[0][..., :0]

    return _with_output(cell, empty, cell_size=0)


def with_initial(state: State, states: State) -> State:
    """Put the state before the first step in front of the states of all steps.

    Args:
        state: leaves ``(*B, ...)``.
        states: leaves ``(T, *B, ...)``, from :func:`all_states`.

    Returns:
        A state with leaves ``(T + 1, *B, ...)``; entry t is the state after t steps.

    >>> states = jnp.ones((7, 3, 5))
    >>> with_initial(jnp.zeros((3, 5)), states).shape
    (8, 3, 5)
    """
    one_step = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), states
    )
    state = check_like("state", state, one_step)
    return jax.tree.map(
        lambda first, rest: jnp.concatenate([first[None], rest]), state, states
    )


def at_lengths(states: State, lengths: ArrayLike) -> State:
    """Pick the state of each batch entry after its own number of steps.

    For a single set of lengths, the final state of a run with
    ``mask=lengths_to_mask(lengths, T)`` is the same. This function serves several sets
    of lengths after one run.

    Args:
        states: leaves ``(T + 1, *B, ...)``, from :func:`with_initial`.
        lengths: int ``(*B)`` from 0 to T; other values are clipped.

    Returns:
        A state with leaves ``(*B, ...)``.

    Raises:
        TypeError: ``lengths`` are not integers.
        ValueError: a leaf has other dimensions ``*B`` than ``lengths``.

    >>> states = jnp.arange(4.0).reshape(4, 1, 1) * jnp.ones((4, 2, 1))
    >>> at_lengths(states, jnp.array([3, 0])).tolist()
    [[3.0], [0.0]]
    """
    lengths = check_integers("lengths", lengths)

    def pick(leaf: Array) -> Array:
        if leaf.shape[1 : 1 + lengths.ndim] != lengths.shape:
            raise ValueError(
                f"lengths must have the batch shape of states, which are {leaf.shape}, "
                f"got shape {lengths.shape}"
            )
        index = lengths.reshape(
            1, *lengths.shape, *(1,) * (leaf.ndim - 1 - lengths.ndim)
        )
        return jnp.take_along_axis(leaf, index, axis=0, mode="clip")[0]

    return jax.tree.map(pick, states)


def _state_size(cell: Cell) -> int:
    check_cell("cell", cell)
    state = jax.eval_shape(
        lambda key: cell.initial_state(cell.init(key, 1)), jax.random.key(0)
    )
    return sum(leaf.size for leaf in jax.tree.leaves(state))


def _with_output(cell: Cell, output: Callable[[State], Any], *, cell_size: int) -> Cell:
    """Give a cell other outputs: a linear function of its states."""
    check_cell("cell", cell)
    # The cell that takes the noise is another cell, so its outputs change as well.
    own = cell.noise
    if own is not None:
        noisy = _with_output(own.cell, output, cell_size=cell_size)
        own = Noise(draw=own.draw, cell=noisy)

    def step(params, state, a_x):
        new, _ = cell.step(params, state, a_x)
        return new, output(new)

    return cell._replace(
        step=step,
        output_size=cell_size,
        adjoint=None if cell.adjoint is None else _adjoint(cell, cell.adjoint, output),
        noise=own,
    )


def _adjoint(cell: Cell, inner: Adjoint, output: Callable[[State], Any]) -> Adjoint:
    def forward(params, state, a_x, **options):
        new, _, residual = inner.forward(params, state, a_x, **options)
        return new, output(new), residual

    def backward(params, residual, dstate, dy, **options):
        # The output is linear in the state, so its transpose is the same everywhere.
        _, pull = jax.vjp(output, zeros_like(dstate))
        dstate = jax.tree.map(jnp.add, dstate, *pull(dy))
        zero = _no_cotangent(cell, params, dstate)
        return inner.backward(params, residual, dstate, zero, **options)

    return Adjoint(forward, backward, inner.accumulate)


def _no_cotangent(cell: Cell, params: Params, dstate: State) -> Array:
    """Return zeros as the cotangent of the inner cell's outputs ``(*B, O)``."""
    # The state of one batch entry tells how many axes of dstate are the batch.
    one = jax.tree.leaves(jax.eval_shape(cell.initial_state, params))[0]
    leaf = jax.tree.leaves(dstate)[0]
    batch = leaf.shape[: leaf.ndim - one.ndim]
    dtype = jax.tree.leaves(params)[0].dtype
    return jnp.zeros((*batch, cell.output_size), dtype)
