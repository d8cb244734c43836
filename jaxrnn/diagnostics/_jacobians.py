"""Jacobians of the step: singular values of their products, Lyapunov exponents."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .._base import Cell
from .._eager import compiled
from .._gradients.rows import flat, over_rows
from .._gradients.transition import entering_states, transition
from .._options import check_size
from .._typing import Array, ArrayLike, Params, State
from .._unrolls.arguments import Inputs, Run, batch_shape, prepare
from .._unrolls.masked_scan import masked_scan
from ..initializers import orthogonal


class JacobianSpectrum(NamedTuple):
    """Jacobians over windows of steps; result of :func:`jacobian_spectrum`."""

    jacobians: Array  # (T - window + 1, *B, N, N)
    singular_values: Array  # (T - window + 1, *B, N), from the largest down
    norms: Array  # (T - window + 1, *B), the largest singular value


class LyapunovExponents(NamedTuple):
    """Growth of small changes of the state; result of :func:`lyapunov_exponents`."""

    exponents: Array  # (*B, K), in nats a step, mean of ``growth`` over valid steps
    growth: Array  # (T, *B, K), log of the factor that each step grows by


def _window_products(jacobians: Array, window: int) -> Array:
    """Multiply ``J_(t+window-1) ... J_t`` by repeated doubling of the window."""
    if window == 1:
        return jacobians
    count = len(jacobians) - window + 1
    half = window // 2
    halves = _window_products(jacobians, half)
    products = halves[half : half + count] @ halves[:count]
    return jacobians[window - 1 :] @ products if window % 2 else products


def jacobian_spectrum(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None = None,
    *,
    window: int = 1,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
) -> JacobianSpectrum:
    """Compute Jacobians of the state over ``window`` steps, and their singular values.

    Entry t covers the steps t to ``t + window - 1``. It is the derivative of the state
    after the last of these steps with respect to the state that enters the first,
    ``J[i, j] = ds_i/ds_j``. A gradient that goes back over these steps grows by at most
    the largest singular value, and shrinks by at most the smallest. The Jacobian of a
    masked step is the identity, and a reset makes it zero.

    The product over a window is formed by doubling, in about ``log2(window)`` batched
    products. Memory is O(T B N^2), and the singular values cost O(T B N^3).

    Args:
        cell, params, xs, state, mask, resets, reverse: see :func:`jaxrnn.unroll`.
        window: number of consecutive steps, from 1 to T.

    Returns:
        :class:`JacobianSpectrum`: ``jacobians (T - window + 1, *B, N, N)``, their
        ``singular_values (T - window + 1, *B, N)`` from the largest down, and ``norms
        (T - window + 1, *B)``, the largest of them.

    Raises:
        ValueError: ``window`` is below 1 or above T, or see :func:`jaxrnn.unroll`.
        TypeError: ``window`` is not an int, or see :func:`jaxrnn.unroll`.

    References:
        Pennington, Schoenholz and Ganguli, Resurrecting the sigmoid in deep learning
        through dynamical isometry, 2017. Chen, Pennington and Schoenholz, Dynamical
        isometry and a mean field theory of RNNs, 2018.

    >>> import jaxrnn
    >>> cell = jaxrnn.elman(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> spectrum = jacobian_spectrum(cell, params, jnp.ones((7, 3, 2)), window=4)
    >>> spectrum.jacobians.shape, spectrum.singular_values.shape, spectrum.norms.shape
    ((4, 3, 5, 5), (4, 3, 5), (4, 3))
    """
    window = check_size("window", window)
    run, inputs = prepare(cell, params, xs, state, mask, resets, reverse)
    num_steps = inputs.xs.shape[0]
    if window > num_steps:
        raise ValueError(
            f"window must be at most the number of steps, {num_steps}, got {window}"
        )
    states, _, _ = entering_states(run, params, inputs)

    def jacobian(state, at_step):
        vector, unravel = ravel_pytree(state)

        def step(vector):
            return flat(transition(cell, params, unravel(vector), at_step)[0])

        return jax.jacrev(step)(vector)

    sequences = (inputs.xs, inputs.mask, inputs.resets)
    num_axes = len(batch_shape(cell, inputs.xs))
    steps = over_rows(jacobian, num_axes)(states, sequences)
    # Products need the order in which the steps are taken.
    order = slice(None, None, -1 if reverse else 1)
    jacobians = _window_products(steps[order], window)[order]
    values = jnp.linalg.svd(jacobians, compute_uv=False)
    return JacobianSpectrum(
        jacobians=jacobians, singular_values=values, norms=values[..., 0]
    )


def lyapunov_exponents(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None = None,
    *,
    num_exponents: int | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
) -> LyapunovExponents:
    """Compute the largest Lyapunov exponents: the growth of small state changes.

    K orthonormal vectors are pushed through the Jacobian ``J`` of each step, and made
    orthonormal again. The lengths that this removes are their growth::

        Q_t R_t = J_t Q_(t-1)        growth_t = log |diag R_t|

    In the long run the first vector grows like the largest product of Jacobians, by a
    factor of e to the first exponent in each step. The volume that the first k vectors
    span grows by e to the sum of the first k exponents. Gradients explode if an
    exponent is above zero, and vanish if all are below. The exponents are in descending
    order once the vectors have turned into place. For short runs leave out the first
    steps, as in ``growth[100:].mean(0)``.

    A masked step holds the vectors and does not count. A reset starts again with the
    initial vectors, so only growth within segments counts. A step costs K tangents.

    Args:
        cell, params, xs, state, mask, resets, reverse: see :func:`jaxrnn.unroll`.
        num_exponents: K, from 1 to N; None takes all N.

    Returns:
        :class:`LyapunovExponents`: ``exponents (*B, K)`` in nats per step, the largest
        first, which are the means over unmasked steps of ``growth (T, *B, K)``. Growth
        is -inf if a direction is lost, for instance by dead units. A batch entry whose
        steps are all masked has NaN.

    Raises:
        ValueError: ``num_exponents`` is below 1 or above N, there is no step, or see
            :func:`jaxrnn.unroll`.
        TypeError: ``num_exponents`` is not an int, or see :func:`jaxrnn.unroll`.

    References:
        Benettin et al., Lyapunov characteristic exponents for smooth dynamical systems
        and for Hamiltonian systems: a method for computing all of them, 1980. Vogt et
        al., On Lyapunov exponents for RNNs, 2020.

    >>> import jaxrnn
    >>> cell = jaxrnn.gru(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> result = lyapunov_exponents(cell, params, jnp.ones((70, 3, 2)), num_exponents=2)
    >>> result.exponents.shape, result.growth.shape
    ((3, 2), (70, 3, 2))
    >>> bool((result.exponents < 0).all())
    True
    """
    run, inputs = prepare(cell, params, xs, state, mask, resets, reverse)
    if not len(inputs.xs):
        raise ValueError(f"xs must have at least one step, got shape {inputs.xs.shape}")
    like = flat(cell.initial_state(params))
    count = like.size
    if num_exponents is not None:
        count = check_size("num_exponents", num_exponents)
    if count > like.size:
        raise ValueError(
            f"num_exponents must be at most the size of the state, {like.size}, got "
            f"{count}"
        )

    return _lyapunov_exponents(run, count, params, inputs)


@compiled(num_static=2)
def _lyapunov_exponents(
    run: Run, count: int, params: Params, inputs: Inputs
) -> LyapunovExponents:
    cell = run.cell
    like = flat(cell.initial_state(params))

    def row(state, frame, a_x):
        vector, unravel = ravel_pytree(state)

        def advance(vector):
            return flat(cell.step(params, unravel(vector), a_x)[0])

        vector, push = jax.linearize(advance, vector)
        frame, r = jnp.linalg.qr(jax.vmap(push, 1, 1)(frame))
        return (unravel(vector), frame), jnp.log(jnp.abs(jnp.diagonal(r)))

    batch = batch_shape(cell, inputs.xs)[1:]
    rows = over_rows(row, len(batch))

    def step(carry, a_x):
        return *rows(*carry, a_x), None

    # Random vectors: unit vectors would be special for a cell whose units do not
    # interact. The first ones are the same for every number of exponents.
    frame = orthogonal(jax.random.key(0), (like.size, like.size), like.dtype)
    frame = jnp.broadcast_to(frame[:, :count], (*batch, like.size, count))
    with_frame = inputs._replace(
        state=(inputs.state, frame), fresh=(inputs.fresh, frame)
    )
    a_xs = cell.project(params, inputs.xs)
    _, growth, _ = masked_scan(step, run, with_frame, a_xs)
    valid = None if inputs.mask is None else inputs.mask[..., None]
    return LyapunovExponents(exponents=growth.mean(axis=0, where=valid), growth=growth)
