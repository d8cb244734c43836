"""Several cells side by side as one cell: a block-diagonal recurrence."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell, Derived
from .._checks import check_cell
from .._descriptions.spec import described
from .._options import check_size
from .._typing import Array, Params


@described
def multihead(
    make_cell: Callable[[int], Cell], hidden_size: int, num_heads: int
) -> Cell:
    """Make a cell of several heads: smaller cells that read the same input.

    The recurrent weights are block-diagonal, so no head sees the state of another. All
    heads take a step together, in one batched product. There are ``num_heads`` times
    fewer recurrent weights than in one cell of ``hidden_size``.

    Args:
        make_cell: function of a size to a cell, such as ``jaxrnn.lstm``, or a
            ``functools.partial`` of it that sets options.
        hidden_size: H, the size of all heads together.
        num_heads: N, a divisor of H.

    Returns:
        A :class:`Cell`. Its parameters are those of one head with a leading axis
        ``(N, ...)``, the leaves of its state are ``(*B, N, ...)``, and its output
        concatenates the heads' outputs, ``(*B, H)`` for most cells. Not supported:
        ``unroll_associative``, dropout in the step, and zoneout.

    Raises:
        ValueError: a size is below 1, ``num_heads`` does not divide ``hidden_size``, or
            the cells draw noise.
        TypeError: a size is not an int, or ``make_cell`` does not return a cell.

    References:
        Beck et al., xLSTM: extended long short-term memory, 2024, for sLSTM. Kuchaiev
        and Ginsburg, Factorization tricks for LSTM networks, 2017, whose groups each
        see a part of the input only.

    >>> import jax.numpy as jnp, jaxrnn
    >>> cell = multihead(jaxrnn.lstm, 6, num_heads=2)
    >>> params = cell.init(jax.random.key(0), 4)
    >>> state, ys = jaxrnn.unroll_bptt(cell, params, jnp.ones((7, 3, 4)))
    >>> params.w_h.shape, state.c.shape, ys.shape
    ((2, 3, 12), (3, 2, 3), (7, 3, 6))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    num_heads = check_size("num_heads", num_heads)
    if hidden_size % num_heads:
        raise ValueError(
            f"num_heads must divide hidden_size = {hidden_size}, got {num_heads}"
        )
    if not callable(make_cell):
        raise TypeError(
            "make_cell must be a function of a size to a cell, such as jaxrnn.lstm, "
            f"got {type(make_cell).__name__}"
        )
    head = check_cell("make_cell(size)", make_cell(hidden_size // num_heads))
    if head.noise is not None:
        raise ValueError(
            "make_cell must make cells that draw no noise, got one that does: wrap the "
            "layer of all heads in jaxrnn.dropout or jaxrnn.weight_drop"
        )
    return _heads(head, num_heads)


def _heads(head: Cell, num_heads: int) -> Cell:
    # Parameters have the axis of the heads in front, as init maps over keys. States and
    # pre-activations have it behind the batch, whose number of axes is not known here:
    # so every axis is counted from the end.
    axes = _axes(head)

    def init(key, input_size, dtype=None):
        keys = jax.random.split(key, num_heads)
        return jax.vmap(lambda key: head.init(key, input_size, dtype))(keys)

    def initial_state(params, batch_shape=()):
        run = jax.vmap(
            lambda params: head.initial_state(params, batch_shape),
            out_axes=axes.state,
        )
        return run(params)

    def project(params, xs):
        return _side_by_side(jax.vmap(head.project, (0, None), -2)(params, xs))

    def step(params, state, a_x):
        run = jax.vmap(head.step, (0, axes.state, -2), (axes.state, -2))
        state, y = run(params, state, _by_head(a_x, num_heads))
        return state, _side_by_side(y)

    # No coefficients: with them the state would have to be one array (*B, H).
    adjoint = derived = None
    if head.adjoint is not None:
        adjoint = _adjoint(head.adjoint, num_heads, axes)
    if head.derived is not None:
        inner = _heads(head.derived.cell, num_heads)
        derived = Derived(jax.vmap(head.derived.weights), inner)
    return Cell(
        init=init,
        initial_state=initial_state,
        project=project,
        step=step,
        output_size=num_heads * head.output_size,
        adjoint=adjoint,
        derived=derived,
        spatial_shape=head.spatial_shape,
    )


def _side_by_side(values: Array) -> Array:
    return values.reshape(*values.shape[:-2], -1)


def _by_head(values: Array, num_heads: int) -> Array:
    return values.reshape(*values.shape[:-1], num_heads, -1)


class _Axes(NamedTuple):
    """Position of the heads axis in each leaf, counted from the end."""

    state: Any
    residual: Any
    da: Any


def _axes(head: Cell) -> _Axes:
    def shapes(key):
        params = head.init(key, 1)
        state = head.initial_state(params)
        inputs = jnp.zeros((*head.spatial_shape, 1), _dtype(params))
        if head.adjoint is None:
            return _Axes(state, None, None)
        a_x = head.project(params, inputs)
        _, y, residual = head.adjoint.forward(params, state, a_x)
        _, da = head.adjoint.backward(params, residual, state, y)
        return _Axes(state, residual, da)

    found = jax.eval_shape(shapes, jax.random.key(0))
    axes = jax.tree.map(lambda leaf: -leaf.ndim - 1, found)
    if axes.da is None:
        return axes
    # The heads of a pre-activation stand before its features, as in the output.
    return axes._replace(da=(-2, *axes.da[1:]))


def _dtype(params: Params) -> Any:
    """The dtype of the parameters, and therefore of the inputs."""
    return jax.tree.leaves(params)[0].dtype


def _adjoint(inner: Adjoint, num_heads: int, axes: _Axes) -> Adjoint:
    def forward(params, state, a_x):
        run = jax.vmap(
            inner.forward, (0, axes.state, -2), (axes.state, -2, axes.residual)
        )
        state, y, residual = run(params, state, _by_head(a_x, num_heads))
        return state, _side_by_side(y), residual

    def backward(params, residual, dstate, dy):
        run = jax.vmap(
            inner.backward,
            (0, axes.residual, axes.state, -2),
            (axes.state, axes.da),
        )
        dprevious, da = run(params, residual, dstate, _by_head(dy, num_heads))
        return dprevious, (_side_by_side(da[0]), *da[1:])

    def accumulate(params, xs, residuals, da_xs):
        da_xs = (_by_head(da_xs[0], num_heads), *da_xs[1:])
        run = jax.vmap(inner.accumulate, (0, None, axes.residual, axes.da))
        dparams, dxs = run(params, xs, residuals, da_xs)
        # All heads read the same inputs.
        return dparams, dxs.sum(axis=0)

    return Adjoint(forward, backward, accumulate)
