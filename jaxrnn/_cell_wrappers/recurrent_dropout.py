"""Dropout inside a step: of the state in recurrent products, and of the candidate."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell
from .._checks import check_cell
from .._descriptions.spec import described
from .._numerics.precision import dot_in_loop, dot_transposed
from .._options import check_bool, check_rate
from .._typing import Array, Params, Residual
from .noise import NoisyResidual, add_noise, keep, state_sizes


@described
def recurrent_dropout(cell: Cell, rate: float, *, variational: bool = True) -> Cell:
    """Drop entries of the state in the recurrent products of a cell, in training.

    Kept entries are scaled by ``1 / (1 - rate)``, so that expectations stay the same.
    The state that a gate carries over, as the update gate of a GRU does, is not
    dropped.

    Args:
        cell: cell to wrap. Parameters and state stay the same.
        rate: probability that an entry of the state is zero in the products.
        variational: if True, all steps of a sequence share one mask; if False, each
            step has its own. A run in chunks draws a mask for each chunk, unless the
            chunks get the same key.

    Returns:
        A :class:`Cell`. A layer of it drops entries if ``apply`` gets a ``key``.
        Without a key, in unrolls and in ``step``, it evaluates.

    Raises:
        TypeError: ``cell`` is not a :class:`Cell`, or ``rate`` is not a number.
        ValueError: ``rate`` is not in [0, 1), or the cell has no adjoint whose
            ``forward`` takes ``recurrent_dot``, as those of elman, lstm and gru do.

    References:
        Gal and Ghahramani, A theoretically grounded application of dropout in recurrent
        neural networks, 2016.

    >>> import jaxrnn
    >>> model = jaxrnn.layer(recurrent_dropout(jaxrnn.gru(5), 0.3))
    >>> params = model.init(jax.random.key(0), 2)
    >>> model.apply(params, jnp.ones((7, 3, 2)), key=jax.random.key(1))[1].shape
    (7, 3, 5)
    """
    check_cell("cell", cell)
    rate = check_rate("rate", rate)
    residual = _check_takes(cell, recurrent_dot=dot_in_loop)
    while isinstance(residual, NoisyResidual):
        residual = residual.cell
    if not hasattr(residual, "h_prev"):
        raise ValueError(
            "cell must have an adjoint whose residual has a field h_prev, the state "
            f"that entered the recurrent products, got {type(residual).__name__}"
        )

    def given(cell, params, kept):
        adjoint, scale = cell.adjoint, kept / (1 - rate)

        def forward(params, state, a_x, *, recurrent_dot=dot_in_loop, **options):
            options["recurrent_dot"] = lambda h, w: recurrent_dot(h * scale, w)
            return adjoint.forward(params, state, a_x, **options)

        def backward(
            params,
            residual,
            dstate,
            dy,
            *,
            recurrent_dot_transposed=dot_transposed,
            **options,
        ):
            def dropped(da, w):
                return recurrent_dot_transposed(da, w) * scale

            options["recurrent_dot_transposed"] = dropped
            return adjoint.backward(params, residual, dstate, dy, **options)

        def accumulate(params, xs, residuals, da_xs):
            # The gradient of a recurrent weight is a product with the state as it
            # entered the product, which is the dropped one.
            residuals = _as_multiplied(residuals, scale)
            return adjoint.accumulate(params, xs, residuals, da_xs)

        return _stepped_by(cell, Adjoint(forward, backward, accumulate))

    return _dropping(cell, rate, variational, given, size=lambda sizes: sizes["h"])


@described
def candidate_dropout(cell: Cell, rate: float, *, variational: bool = False) -> Cell:
    """Drop entries of the candidate of a cell before it enters the state, in training.

    The candidate is ``g`` of an LSTM and ``n`` of a GRU. The content of the state is
    not dropped, so memory is not lost over long sequences. Kept entries are scaled by
    ``1 / (1 - rate)``.

    Args:
        cell: cell to wrap. Parameters and state stay the same.
        rate: probability that an entry of the candidate is zero.
        variational: if True, all steps of a sequence share one mask.

    Returns:
        A :class:`Cell`. A layer of it drops entries if ``apply`` gets a ``key``.
        Without a key, in unrolls and in ``step``, it evaluates.

    Raises:
        TypeError: ``cell`` is not a :class:`Cell`, or ``rate`` is not a number.
        ValueError: ``rate`` is not in [0, 1), or the cell has no adjoint whose
            ``forward`` takes ``candidate_scale``, as those of lstm and gru do.

    References:
        Semeniuta, Severyn and Barth, Recurrent dropout without memory loss, 2016.

    >>> import jaxrnn
    >>> model = jaxrnn.layer(candidate_dropout(jaxrnn.lstm(5), 0.3))
    >>> params = model.init(jax.random.key(0), 2)
    >>> model.apply(params, jnp.ones((7, 3, 2)), key=jax.random.key(1))[1].shape
    (7, 3, 5)
    """
    check_cell("cell", cell)
    rate = check_rate("rate", rate)
    _check_takes(cell, candidate_scale=jnp.ones((cell.output_size,)))

    def given(cell, params, kept):
        adjoint, scale = cell.adjoint, kept / (1 - rate)

        # The candidate is scaled inside the step, so accumulate needs no change: da_x
        # contains the scale already.
        def forward(params, state, a_x, **options):
            options["candidate_scale"] = scale
            return adjoint.forward(params, state, a_x, **options)

        def backward(params, residual, dstate, dy, **options):
            options["candidate_scale"] = scale
            return adjoint.backward(params, residual, dstate, dy, **options)

        return _stepped_by(cell, Adjoint(forward, backward, adjoint.accumulate))

    return _dropping(
        cell, rate, variational, given, size=lambda sizes: sizes.get("c", sizes["h"])
    )


def _stepped_by(cell: Cell, adjoint: Adjoint) -> Cell:
    """Replace the adjoint of a cell, and its step by ``adjoint.forward``."""
    return cell._replace(
        step=lambda params, state, a_x: adjoint.forward(params, state, a_x)[:2],
        adjoint=adjoint,
    )


def _as_multiplied(residuals: Residual, scale: Array) -> Residual:
    """Multiply ``h_prev`` in the residuals by the dropout scale of the state."""
    if isinstance(residuals, NoisyResidual):
        return residuals._replace(cell=_as_multiplied(residuals.cell, scale))
    h_prev = jax.tree.map(lambda h: h * scale, residuals.h_prev)
    return residuals._replace(h_prev=h_prev)


def _dropping(
    cell: Cell,
    rate: float,
    variational: bool,
    given: Callable[[Cell, Params, Array], Cell],
    *,
    size: Callable[[dict[str, int]], int],
) -> Cell:
    """Make a cell whose noise is a dropout mask of the size of a field of its state."""
    variational = check_bool("variational", variational)

    def mask_size(params):
        return size(state_sizes(cell, params))

    def draw(key, params, steps):
        shape = (*steps, mask_size(params))
        return keep(key, rate, shape, variational=variational)

    return cell._replace(noise=add_noise(cell, size=mask_size, draw=draw, given=given))


def takes(cell: Cell, **options: Any) -> bool:
    """Test whether the ``forward`` of a cell's adjoint takes these options."""
    try:
        return cell.adjoint is not None and _residual(cell, options) is not None
    except (TypeError, ValueError):  # a project that needs more inputs than one, too
        return False


def _check_takes(cell: Cell, **options: Any) -> Residual:
    """Check that ``forward`` takes these options; return the shapes of its residual."""
    names = ", ".join(options)
    if cell.adjoint is None:
        raise ValueError(
            f"cell must have an adjoint whose forward takes {names}, got "
            "cell.adjoint = None"
        )
    try:
        return _residual(cell, options)
    except TypeError as error:
        raise ValueError(
            f"cell must have an adjoint whose forward takes {names}, such as lstm or "
            f"gru, got {cell!r:.80}: {error}"
        ) from error


def _residual(cell: Cell, options: dict[str, Any]) -> Residual:
    def forward(key):
        params = cell.init(key, 1)
        a_x = cell.project(params, jnp.zeros((*cell.spatial_shape, 1)))
        state = cell.initial_state(params)
        assert cell.adjoint is not None
        return cell.adjoint.forward(params, state, a_x, **options)[2]

    return jax.eval_shape(forward, jax.random.key(0))
