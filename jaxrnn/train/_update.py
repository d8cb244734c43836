"""The state of a training run and its jitted update."""

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from .._numerics.precision import narrow, widen
from .._options import check_bool, check_function, check_key
from .._tree import select
from .._typing import Array, Key, Params

Batch = Any
Metrics = dict[str, Any]


class TrainState(NamedTuple):
    """State of a training run: everything that an update changes."""

    params: Params
    opt_state: optax.OptState
    step: Array  # int32, number of updates made
    key: Key  # renewed by every update


class LossFn(Protocol):
    """Loss function that :func:`make_update` minimises."""

    def __call__(
        self, params: Params, batch: Batch, key: Key
    ) -> Array | tuple[Array, Metrics]:
        """Return a scalar loss, or the loss and a dict of scalar metrics."""
        ...


Update = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def check_optimizer(optimizer: Any) -> None:
    """Check that ``optimizer`` is a gradient transformation of Optax."""
    if not hasattr(optimizer, "init") or not hasattr(optimizer, "update"):
        raise TypeError(
            "optimizer must be an Optax transformation, such as optax.adam(1e-3), got "
            f"{optimizer!r:.80}"
        )


def check_trainable(params: Params) -> None:
    """Check that every leaf of ``params`` has a gradient."""
    for where, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = jnp.asarray(leaf).dtype
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(
                f"params{jax.tree_util.keystr(where)} must be floating to be trained, "
                f"got dtype {dtype.name}"
            )


def init(
    params: Params, optimizer: optax.GradientTransformation, key: Key
) -> TrainState:
    """Make the state before the first update.

    Args:
        params: initial parameters. They are copied, because the first update donates
            the state.
        optimizer: any Optax transformation.
        key: a ``jax.random`` key; every update gets a key derived from it.

    Returns:
        A :class:`TrainState` at step 0.

    Raises:
        TypeError: ``optimizer`` is not an Optax transformation, ``key`` is not a key,
            or a leaf of ``params`` is not floating.
    """
    check_optimizer(optimizer)
    check_trainable(params)
    params, key = copy((params, check_key("key", key)))
    return TrainState(
        params=params,
        opt_state=copy(optimizer.init(params)),  # some keep the parameters themselves
        step=jnp.zeros((), jnp.int32),
        key=key,
    )


def copy(tree: Params) -> Params:
    """Copy all arrays of a pytree, so that they survive a donation."""
    return jax.tree.map(jnp.array, tree)


class EvaluateFn(Protocol):
    """Function that an update evaluates and differentiates."""

    def __call__(
        self, params: Params, state: Any, batch: Batch, key: Key
    ) -> tuple[Array, tuple[Metrics, dict[str, Any]]]:
        """Return ``(loss, (metrics, changes))``, changes for other fields."""
        ...


def make_update(
    loss_fn: LossFn, optimizer: optax.GradientTransformation, *, donate: bool = True
) -> Update:
    """Make the jitted function of one training step, which donates its state.

    The new state reuses the buffers of the old one, so keep no reference to the old
    state, or pass ``donate=False``, which needs memory for both. A step whose loss,
    gradient or result is not finite returns the state unchanged, including ``step``.

    Args:
        loss_fn: function ``(params, batch, key) -> loss`` or ``-> (loss, metrics)``.
        optimizer: any Optax transformation.
        donate: if True, an update uses up the state that it is given.

    Returns:
        ``update(state, batch) -> (state, metrics)``; to the metrics of ``loss_fn`` it
        adds ``loss`` and ``grad_norm``, the global norm before any clipping.

    Raises:
        TypeError: ``optimizer`` is not an Optax transformation, or, while tracing,
            ``loss_fn`` returns neither of the two, or its loss is not floating.

    >>> def loss_fn(params, batch, key):
    ...     return ((params["w"] - batch) ** 2).sum()
    >>> optimizer = optax.sgd(0.5)
    >>> update = make_update(loss_fn, optimizer)
    >>> state = init({"w": jnp.zeros(2)}, optimizer, jax.random.key(0))
    >>> state, metrics = update(state, jnp.ones(2))
    >>> state.params["w"].tolist(), int(state.step), float(metrics["loss"])
    ([1.0, 1.0], 1, 2.0)
    """
    check_function("loss_fn", loss_fn)

    def evaluate(params, state, batch, key):
        loss, metrics = loss_and_metrics(loss_fn(params, batch, key))
        return loss, (metrics, {})

    return update_by(evaluate, optimizer, donate)


def loss_and_metrics(out: Any) -> tuple[Array, Metrics]:
    """Check the result of a loss function; return scalar loss and scalar metrics."""
    parts = out if isinstance(out, tuple) else (out, {})
    if (
        len(parts) != 2
        or not _is_scalar(parts[0])
        or not isinstance(parts[1], dict)
        or not all(map(_is_scalar, jax.tree.leaves(parts[1])))
    ):
        shapes = jax.tree.map(lambda leaf: getattr(leaf, "shape", repr(leaf)), out)
        raise TypeError(
            "loss_fn must return a scalar loss, or it and a dict of scalars, got "
            f"{shapes}"
        )
    loss, metrics = parts
    dtype = jnp.result_type(loss)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"loss_fn must return a floating loss, got dtype {dtype.name}")
    return loss, metrics


def _is_scalar(value: Any) -> bool:
    if isinstance(value, int | float | complex):
        return True
    return getattr(value, "shape", None) == ()


def update_by(
    evaluate: EvaluateFn, optimizer: optax.GradientTransformation, donate: bool = True
) -> Callable[[Any, Batch], tuple[Any, Metrics]]:
    """Make an update of any state that has the fields of :class:`TrainState`."""
    check_optimizer(optimizer)
    transform = optax.with_extra_args_support(optimizer)
    taken = _extra_arguments(transform.update)

    def update(state, batch):
        key, loss_key = jax.random.split(state.key)
        gradient_fn = jax.value_and_grad(evaluate, has_aux=True)
        (loss, (metrics, changes)), grads = gradient_fn(
            state.params, state, batch, loss_key
        )

        def value_and_grad(params):
            # A line search returns float32 even if the parameters have 16 bits.
            params = narrow(params, state.params)
            return gradient_fn(params, state, batch, loss_key)

        def value(params):
            params = narrow(params, state.params)
            return evaluate(params, state, batch, loss_key)[0]

        extra = {
            "value": loss,
            "grad": grads,
            "value_fn": value,
            "grad_fn": lambda params, *_: value_and_grad(params)[1],
        }
        updates, opt_state = transform.update(
            grads,
            state.opt_state,
            state.params,
            **{name: extra[name] for name in taken},
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
        # Finite gradients can make an infinite step: an optimiser may divide by a value
        # that is zero in 16 bits, a schedule may give NaN.
        for name in ("params", "opt_state"):
            finite &= _stays_finite(getattr(state, name), getattr(new_state, name))
        metrics = {**metrics, "loss": loss, "grad_norm": grad_norm}
        return select(finite, new_state, state), metrics

    donated = 0 if check_bool("donate", donate) else ()
    return jax.jit(update, donate_argnums=donated)


def _extra_arguments(update: Callable[..., Any]) -> list[str]:
    """Return the names of further arguments that an optimiser takes.

    One that takes anything hands it on, to line searches for instance, which know three
    of the names. One that lists its arguments gets those.
    """
    parameters = inspect.signature(update).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return ["value", "grad", "value_fn"]
    return [
        name for name in ("value", "grad", "value_fn", "grad_fn") if name in parameters
    ]


def _stays_finite(old: Any, new: Any) -> Array:
    """Test whether all values that were finite still are."""

    def stays(old, new):
        if not jnp.issubdtype(jnp.result_type(new), jnp.inexact):
            return True
        return (jnp.isfinite(new) | ~jnp.isfinite(old)).all()

    verdicts = jax.tree.leaves(jax.tree.map(stays, old, new))
    return functools.reduce(operator.and_, verdicts, jnp.array(True))
