"""Zoneout: entries of the state that keep their old value."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell
from .._checks import check_cell
from .._descriptions.spec import described
from .._options import check_rate
from .._tree import state_fields, zeros_like
from .._typing import Array, State
from .noise import add_noise, keep, state_sizes

Kept = dict[str, Array | float]  # of each field, the share that is new


@described
def zoneout(cell: Cell, rate: float, *, cell_rate: float = 0.0) -> Cell:
    """Keep random entries of a cell's state at their old value, in training.

    ``h = k * h_new + (1 - k) * h_prev``, where ``k`` is drawn for each step and entry:
    0 with probability ``rate``, otherwise 1. The same holds for ``c`` with
    ``cell_rate``. Evaluation uses the expectation ``k = 1 - rate``.

    Args:
        cell: cell to wrap. Its state is an array ``h``, or has a field ``h``, which is
            also its output. Parameters and state stay the same.
        rate: probability that an entry of ``h`` keeps its old value.
        cell_rate: probability that an entry of a field ``c`` keeps its old value.

    Returns:
        A :class:`Cell`. A layer of it draws ``k`` if ``apply`` gets a ``key``. Without
        a key, in unrolls and in ``step``, it uses the expectation.

    Raises:
        TypeError: ``cell`` is not a :class:`Cell`, or a rate is not a number.
        ValueError: a rate is not in [0, 1), the state has no such field, the output has
            another size than ``h``, or ``cell_rate`` is given for a cell whose state
            has fields besides h and c that scale c, as :func:`jaxrnn.slstm` has.

    References:
        Krueger et al., Zoneout: regularizing RNNs by randomly preserving hidden
        activations, 2017.

    >>> import jaxrnn
    >>> model = jaxrnn.layer(zoneout(jaxrnn.lstm(5), 0.1, cell_rate=0.3))
    >>> params = model.init(jax.random.key(0), 2)
    >>> model.apply(params, jnp.ones((7, 3, 2)), key=jax.random.key(1))[1].shape
    (7, 3, 5)
    """
    check_cell("cell", cell)
    named = {
        "h": check_rate("rate", rate),
        "c": check_rate("cell_rate", cell_rate),
    }
    rates = {field: rate for field, rate in named.items() if rate}
    _check_fields(cell, rates)
    # Without a rate nothing changes, and the cell keeps its coefficients.
    if not rates:
        return cell

    def size(params):
        return sum(state_sizes(cell, params)[field] for field in rates)

    def draw(key, params, steps):
        sizes = state_sizes(cell, params)
        keys = jax.random.split(key, len(rates))
        kept = [
            keep(k, rate, (*steps, sizes[field]), variational=False)
            for k, (field, rate) in zip(keys, rates.items(), strict=True)
        ]
        return jnp.concatenate(kept, axis=-1)

    def given(cell, params, noise):
        kept, start = {}, 0
        for field in rates:
            end = start + state_sizes(cell, params)[field]
            kept[field] = noise[..., start:end]
            start = end
        return _zoned_out(cell, kept)

    # Evaluation is zoneout too, with expectations in place of draws.
    expected = _zoned_out(cell, {field: 1 - rate for field, rate in rates.items()})
    return expected._replace(noise=add_noise(cell, size=size, draw=draw, given=given))


def _zoned_out(cell: Cell, kept: Kept) -> Cell:
    """Make a cell that mixes old and new states; ``kept`` is the share of the new."""
    stay = {field: 1 - share for field, share in kept.items()}

    def mix(state: State, new: State, y: Array) -> tuple[State, Array]:
        held = _times(state, stay, rest=0)
        new = jax.tree.map(jnp.add, _times(new, kept, rest=1), held)
        return new, state_fields(new)["h"].astype(y.dtype)

    def step(params, state, a_x):
        return mix(state, *cell.step(params, state, a_x))

    return cell._replace(
        step=step,
        adjoint=None if cell.adjoint is None else _adjoint(cell.adjoint, mix, kept),
    )


def _adjoint(
    inner: Adjoint, mix: Callable[..., tuple[State, Array]], kept: Kept
) -> Adjoint:
    stay = {field: 1 - share for field, share in kept.items()}

    def forward(params, state, a_x, **options):
        new, y, residual = inner.forward(params, state, a_x, **options)
        return *mix(state, new, y), residual

    def backward(params, residual, dstate, dy, **options):
        # The output is the mixed h, so its cotangent joins that of h, and the inner
        # cell's own output has none.
        h = state_fields(dstate)["h"]
        dstate = _with_fields(dstate, {"h": h + dy.astype(h.dtype)})
        dnew = _times(dstate, kept, rest=1)
        dprevious, da = inner.backward(
            params, residual, dnew, zeros_like(dy), **options
        )
        held = _times(dstate, stay, rest=0)
        return jax.tree.map(jnp.add, dprevious, held), da

    return Adjoint(forward, backward, inner.accumulate)


def _times(state: State, shares: Kept, *, rest: int) -> State:
    """Multiply each field by its share; fields without a share by ``rest``."""
    fields = state_fields(state)
    changed = {field: fields[field] * share for field, share in shares.items()}
    others = state if rest else zeros_like(state)
    return _with_fields(others, changed)


def _with_fields(state: State, fields: dict[str, Any]) -> State:
    if isinstance(state, tuple) and hasattr(state, "_replace"):
        return state._replace(**fields)
    return fields.get("h", state)


def _check_fields(cell: Cell, rates: dict[str, float]) -> None:
    state = jax.eval_shape(
        lambda key: cell.initial_state(cell.init(key, 1)), jax.random.key(0)
    )
    fields = state_fields(state)
    for field in ("h", *rates):
        if not hasattr(fields.get(field), "shape"):
            raise ValueError(
                f"cell must have a state with {field!r} for zoneout, got "
                f"{', '.join(sorted(fields))}"
            )
    # Fields that scale c, as the normaliser of slstm does, would have to be mixed by
    # the same draw.
    if "c" in rates and set(fields) - {"h", "c"}:
        raise ValueError(
            f"cell_rate must be 0 if the state has fields other than h and c, got "
            f"cell_rate = {rates['c']} and fields {', '.join(sorted(fields))}"
        )
    if fields["h"].shape != (*cell.spatial_shape, cell.output_size):
        raise ValueError(
            "cell must have h as its output for zoneout, got h of shape "
            f"{fields['h'].shape} and output size {cell.output_size}"
        )
