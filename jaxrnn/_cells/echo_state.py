"""The echo-state network: a random reservoir that is not trained, and its readout.

The reservoir is the leaky integrator of :mod:`jaxrnn._cells.leaky_integrator`, with
its equations in both directions, at random weights: sparse, and scaled such that the
largest modulus of an eigenvalue of ``W_h``, its spectral radius, is what was asked for.
Below 1 or so, the state forgets where it began, and echoes the inputs. Only a linear
readout is fitted, in closed form, with states H and targets Y less their means::

    W = (H^T H + r I)^-1 H^T Y        b = mean(Y) - mean(H) W
"""

import functools

import jax
import jax.numpy as jnp

from .._base import Cell
from .._descriptions.spec import described
from .._numerics.activation import Activation
from .._numerics.precision import accumulation_dtype
from .._options import check_positive, check_size
from .._typing import Array, DTypeLike, Key
from ._shared import checked_init
from .elman import ElmanParams
from .leaky_integrator import leaky_integrator


def echo_state_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    spectral_radius: float,
    connections: int,
    input_scale: float,
) -> ElmanParams:
    """Draw the reservoir; input weights and biases are uniform up to ``input_scale``.

    Each unit has an incoming connection from each of ``connections`` permutations. So
    there are cycles, and a spectral radius to scale by.
    """
    key, input_size, float_dtype = checked_init(key, input_size, dtype)
    wide = accumulation_dtype(float_dtype)
    key_x, key_b, key_w, *keys = jax.random.split(key, 3 + connections)
    weights = jax.random.normal(key_w, (connections, hidden_size), wide)
    units = jnp.arange(hidden_size)
    w_h = jnp.zeros((hidden_size, hidden_size), wide)
    for heard, w in zip(keys, weights, strict=True):
        w_h = w_h.at[jax.random.permutation(heard, units), units].add(w)
    radius = abs(jnp.linalg.eigvals(w_h)).max()
    scale = input_scale * jnp.ones((), wide)

    def uniform(key: Key, shape: tuple[int, ...]) -> Array:
        drawn = jax.random.uniform(key, shape, wide, -1, 1) * scale
        return drawn.astype(float_dtype)

    return ElmanParams(
        w_x=uniform(key_x, (input_size, hidden_size)),
        w_h=(w_h * (spectral_radius / radius)).astype(float_dtype),
        b=uniform(key_b, (hidden_size,)),
    )


@described
def echo_state(
    hidden_size: int,
    *,
    spectral_radius: float = 0.9,
    connections: int | None = None,
    input_scale: float = 1.0,
    time_constant: float = 1.0,
    step_size: float = 1.0,
    activation: Activation = jnp.tanh,
) -> Cell:
    """Reservoir of an echo-state network: a leaky integrator with fixed random weights.

    Run it, and fit a readout to its states with :func:`jaxrnn.ridge_readout`. The
    parameters are ordinary arrays: leave them out of the ones that you optimise.

    Args:
        hidden_size: H.
        spectral_radius: largest modulus of an eigenvalue of ``W_h``, without the leak.
        connections: number of incoming connections of each unit, which may repeat and
            may come from the unit itself; None uses ``min(10, hidden_size)``.
        input_scale: largest absolute value of input weights and biases.
        time_constant: time constant of the leak, in the unit of ``step_size``.
        step_size: time from one input to the next. If it equals ``time_constant``,
            there is no leak.
        activation: s, any function of arrays.

    Returns:
        A :class:`Cell` with parameters :class:`ElmanParams`. ``init`` needs eigenvalues
        of a general matrix: where JAX has none on an accelerator, draw on a CPU.

    Raises:
        ValueError: a size is below 1, ``connections`` is above ``hidden_size``, or the
            radius, the scale or a time is not positive; see
            :func:`jaxrnn.leaky_integrator`.
        TypeError: a size is not an int, a numeric argument is not a number, or
            ``activation`` is not callable.

    torch, Keras and Flax have no such cell.

    References:
        Jaeger, The "echo state" approach to analysing and training recurrent neural
        networks, 2001. Lukoševičius, A practical guide to applying echo state networks,
        2012.

    >>> cell = echo_state(50, spectral_radius=0.8)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> radius = abs(jnp.linalg.eigvals(params.w_h)).max()
    >>> round(float(radius), 3)
    0.8
    """
    hidden_size = check_size("hidden_size", hidden_size)
    if connections is None:
        connections = min(10, hidden_size)
    connections = check_size("connections", connections)
    if connections > hidden_size:
        raise ValueError(
            f"connections must be at most hidden_size = {hidden_size}, got "
            f"{connections}"
        )
    cell = leaky_integrator(
        hidden_size,
        time_constant=time_constant,
        step_size=step_size,
        activation=activation,
    )
    return cell._replace(
        init=functools.partial(
            echo_state_init,
            hidden_size=hidden_size,
            spectral_radius=check_positive("spectral_radius", spectral_radius),
            connections=connections,
            input_scale=check_positive("input_scale", input_scale),
        )
    )
