"""Diagnostics of a run: its gradients, its Jacobians and its gates.

Let ``s_k`` be the state after step k. Backward in time, the gradient of the loss of
step t meets one Jacobian a step::

    dL_t/ds_k = dL_t/ds_t  ds_t/ds_(t-1)  ...  ds_(k+1)/ds_k

It vanishes where the product of the Jacobians shrinks it, and explodes where the
product grows. :func:`state_gradient_norms` measures the left side,
:func:`jacobian_spectrum` the product over some steps, :func:`lyapunov_exponents` its
growth in the long run, and :func:`saturation` the gates that it is made of.

All are pure functions of arrays, for ``jax.jit`` as for ``jax.vmap``. A state is seen
as one vector of N entries for each row of the batch, its leaves end to end, as by
``jax.flatten_util.ravel_pytree``.
"""

from ._gradient_norms import GradientNorms as GradientNorms
from ._gradient_norms import StateGradientNorms as StateGradientNorms
from ._gradient_norms import gradient_norms as gradient_norms
from ._gradient_norms import state_gradient_norms as state_gradient_norms
from ._gradient_norms import state_gradients as state_gradients
from ._jacobians import JacobianSpectrum as JacobianSpectrum
from ._jacobians import LyapunovExponents as LyapunovExponents
from ._jacobians import jacobian_spectrum as jacobian_spectrum
from ._jacobians import lyapunov_exponents as lyapunov_exponents
from ._saturation import Saturation as Saturation
from ._saturation import residuals as residuals
from ._saturation import saturation as saturation

__all__ = [
    "GradientNorms",
    "JacobianSpectrum",
    "LyapunovExponents",
    "Saturation",
    "StateGradientNorms",
    "gradient_norms",
    "jacobian_spectrum",
    "lyapunov_exponents",
    "residuals",
    "saturation",
    "state_gradient_norms",
    "state_gradients",
]
