"""The antisymmetric recurrent network: states that neither fade nor explode.

Forward, with ``s`` any activation, step size ``e`` and diffusion ``d``::

    W   = W_h - W_h^T - d I                     once for all steps
    a_x = x W_x                                 project
    h   = h_prev + e * s(a_x + h_prev W + b)
    y   = h

``W_h - W_h^T`` has imaginary eigenvalues, so that by the differential equation of which
this is an Euler step small differences neither grow nor fade exponentially; ``d`` makes
up for what the steps add. Backward it is the integrator of
:mod:`jaxrnn._cells.leaky_integrator`, with the cotangent ``dW`` that this gives, and::

    dW_h = dW - dW^T
"""

import jax.numpy as jnp

from .._base import Cell
from .._cell_wrappers.reparametrized import reparametrized
from .._descriptions.spec import described
from .._numerics.activation import Activation
from .._options import check_positive, check_rate
from ..initializers import Initializer, glorot_uniform, orthogonal
from .elman import ElmanParams
from .leaky_integrator import integrator


@described
def antisymmetric(
    hidden_size: int,
    *,
    step_size: float = 0.1,
    diffusion: float = 0.01,
    activation: Activation = jnp.tanh,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> Cell:
    """Antisymmetric network: ``h = h_prev + e s(x W_x + h_prev W + b)``.

    ``W = W_h - W_h^T - d I``. An unroll computes it once for all steps; streaming
    computes it in every step.

    The state is ``h (*B, H)`` and so is the output.

    Args:
        hidden_size: H.
        step_size: e, of the Euler step.
        diffusion: d, subtracted from the diagonal, at least 0 and below 1.
        activation: s, any function of arrays.
        w_x_init: initialiser of ``w_x (I, H)``.
        w_h_init: initialiser of ``w_h (H, H)``, of which only the antisymmetric part
            counts.

    Returns:
        A :class:`Cell` with parameters :class:`ElmanParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1, ``step_size`` is not positive, or
            ``diffusion`` is not in [0, 1).
        TypeError: ``hidden_size`` is not an int, ``step_size`` or ``diffusion`` is not
            a number, or ``activation`` is not callable.

    torch, Keras and Flax have no such cell.

    References:
        Chang et al., AntisymmetricRNN: a dynamical system view on recurrent neural
        networks, 2019.

    >>> import jax
    >>> cell = antisymmetric(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> y.shape
    (3, 5)
    """
    rate = check_positive("step_size", step_size)
    damping = check_rate("diffusion", diffusion)

    def weights(params: ElmanParams) -> ElmanParams:
        w = params.w_h
        return params._replace(w_h=w - w.T - damping * jnp.eye(len(w), dtype=w.dtype))

    cell = integrator(hidden_size, 1.0, rate, activation, w_x_init, w_h_init)
    return reparametrized(cell, weights)
