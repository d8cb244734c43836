"""Projections of recurrent weights, for use with Optax."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import optax

from ._checks import leaf_name
from ._options import check_names, check_positive
from ._typing import Array, Params

__all__ = ["project_spectral_norm"]


def project_spectral_norm(
    max_norm: float, *, names: str | Iterable[str] = "w_h"
) -> optax.GradientTransformation:
    """Limit the spectral norm of recurrent weights to ``max_norm``.

    Use it as the last member of an ``optax.chain``. It changes the update so that the
    new weights are the nearest ones (in the Frobenius norm) whose singular values are
    at most ``max_norm``. Weights of several gates, ``(H, G H)``, are projected gate by
    gate.

    Args:
        max_norm: largest singular value of each square block.
        names: field name, or names, of the parameters to project.

    Returns:
        An Optax transformation without state.

    Raises:
        ValueError: ``max_norm`` is not above 0, or ``update`` gets no parameters, no
            parameter of these names, or one that is not made of square blocks.

    References:
        Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural
        networks, 2013, on the norm; Sedghi, Gupta and Long, The singular values of
        convolutional layers, 2019, on clipping them as a projection.

    >>> import jaxrnn
    >>> optimizer = optax.chain(optax.sgd(0.1), project_spectral_norm(0.9))
    >>> params = jaxrnn.lstm(5).init(jax.random.key(0), 2)
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> w_h = optax.apply_updates(params, updates).w_h
    >>> bool(jnp.linalg.norm(w_h[:, :5], 2) < 0.9 + 1e-5)
    True
    """
    max_norm = check_positive("max_norm", max_norm)
    fields = check_names("names", names)

    def init(params: Params) -> optax.EmptyState:
        return optax.EmptyState()

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "params must be given to update, which projects them, got None"
            )
        found = []

        def project(path, leaf, change):
            if leaf_name(path) not in fields:
                return change
            found.append(path)
            where = jax.tree_util.keystr(path)
            return _project(where, leaf + change, max_norm) - leaf

        projected = jax.tree_util.tree_map_with_path(project, params, updates)
        if not found:
            raise ValueError(
                f"params must have a leaf named {' or '.join(fields)}, got "
                f"{jax.tree.structure(params)}"
            )
        return projected, state

    return optax.GradientTransformation(init, update)


def _project(where: str, w: Array, max_norm: float) -> Array:
    if w.ndim != 2 or w.shape[1] % w.shape[0]:
        raise ValueError(
            f"{where} must be made of square blocks (H, H), side by side, got shape "
            f"{w.shape}"
        )
    size = w.shape[0]
    blocks = w.reshape(size, -1, size).swapaxes(0, 1)
    u, singular, v = jnp.linalg.svd(blocks, full_matrices=False)
    clipped = (u * jnp.minimum(singular, max_norm)[:, None, :]) @ v
    return clipped.swapaxes(0, 1).reshape(w.shape)
