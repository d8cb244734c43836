"""The state of a training run, and the jitted update of it."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from ._precision import widen
from ._scan import select
from ._typing import Array, Key, Params

Batch = Any
Metrics = dict[str, Any]


class TrainState(NamedTuple):
    """Everything that an update changes: a pytree of arrays."""

    params: Params
    opt_state: optax.OptState
    step: Array  # int32, number of updates made
    key: Key  # renewed by every update


class LossFn(Protocol):
    """What :func:`make_update` minimises."""

    def __call__(
        self, params: Params, batch: Batch, key: Key
    ) -> Array | tuple[Array, Metrics]:
        """Return a scalar loss, or the loss and a dict of scalar metrics."""
        ...


Update = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def init(
    params: Params, optimizer: optax.GradientTransformation, key: Key
) -> TrainState:
    """The state before the first update.

    Args:
        params: initial parameters; copied, as the first update donates the state.
        optimizer: any Optax transformation.
        key: a ``jax.random`` key, from which every update gets its own.

    Returns:
        A :class:`TrainState` at step 0.
    """
    params, key = copy((params, key))
    return TrainState(
        params=params,
        opt_state=copy(optimizer.init(params)),  # some keep the parameters themselves
        step=jnp.zeros((), jnp.int32),
        key=key,
    )


def copy(tree: Params) -> Params:
    """A pytree of new arrays, which survive when the old ones are donated."""
    return jax.tree.map(jnp.array, tree)


class EvaluateFn(Protocol):
    """What an update evaluates, and differentiates."""

    def __call__(
        self, params: Params, state: Any, batch: Batch, key: Key
    ) -> tuple[Array, tuple[Metrics, dict[str, Any]]]:
        """Return ``(loss, (metrics, changes))``, changes being of other fields."""
        ...


def make_update(loss_fn: LossFn, optimizer: optax.GradientTransformation) -> Update:
    """Make one step of training, jitted, that donates the state it is given.

    The old state's buffers are reused for the new one, so keep no reference to it. A
    step whose loss or gradient is not finite changes nothing: it returns the state as
    it was, and the metrics say so.

    Args:
        loss_fn: ``(params, batch, key) -> loss`` or ``-> (loss, metrics)``.
        optimizer: any Optax transformation.

    Returns:
        ``update(state, batch) -> (state, metrics)``; to the metrics of ``loss_fn`` it
        adds ``loss`` and ``grad_norm``, the global norm before any clipping.

    Raises:
        TypeError: while tracing, what ``loss_fn`` returns is neither.

    >>> def loss_fn(params, batch, key):
    ...     return ((params["w"] - batch) ** 2).sum()
    >>> optimizer = optax.sgd(0.5)
    >>> update = make_update(loss_fn, optimizer)
    >>> state = init({"w": jnp.zeros(2)}, optimizer, jax.random.key(0))
    >>> state, metrics = update(state, jnp.ones(2))
    >>> state.params["w"].tolist(), int(state.step), float(metrics["loss"])
    ([1.0, 1.0], 1, 2.0)
    """

    def evaluate(params, state, batch, key):
        loss, metrics = loss_and_metrics(loss_fn(params, batch, key))
        return loss, (metrics, {})

    return update_by(evaluate, optimizer)


def loss_and_metrics(out: Any) -> tuple[Array, Metrics]:
    """What a loss function returned, checked: a scalar loss and scalar metrics."""
    loss, metrics = out if isinstance(out, tuple) else (out, {})
    if not isinstance(metrics, dict) or any(
        jax.tree.leaves(jax.tree.map(jnp.shape, out))
    ):
        raise TypeError(
            "loss_fn must return a scalar loss, or it and a dict of scalars, got "
            f"{jax.tree.map(jnp.shape, out)}"
        )
    return loss, metrics


def update_by(
    evaluate: EvaluateFn, optimizer: optax.GradientTransformation
) -> Callable[[Any, Batch], tuple[Any, Metrics]]:
    """An update of any state that has the fields of :class:`TrainState`."""
    transform = optax.with_extra_args_support(optimizer)

    def update(state, batch):
        key, loss_key = jax.random.split(state.key)
        gradient_fn = jax.value_and_grad(evaluate, has_aux=True)
        (loss, (metrics, changes)), grads = gradient_fn(
            state.params, state, batch, loss_key
        )
        updates, opt_state = transform.update(
            grads,
            state.opt_state,
            state.params,
            value=loss,
            grad=grads,
            value_fn=lambda params: evaluate(params, state, batch, loss_key)[0],
        )
        new_state = state._replace(
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            step=state.step + 1,
            key=key,
            **changes,
        )
        grad_norm = optax.tree.norm(widen(grads))
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        metrics = {**metrics, "loss": loss, "grad_norm": grad_norm}
        return select(finite, new_state, state), metrics

    return jax.jit(update, donate_argnums=0)
