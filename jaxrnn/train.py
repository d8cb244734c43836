"""Training: a state, a jitted update, and a loop that watches over both."""

import contextlib
import functools
import itertools
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from ._checks import check_size
from ._precision import widen
from ._scan import select
from ._typing import Array, Key, Params

__all__ = [
    "FitResult",
    "History",
    "LossFn",
    "TrainState",
    "Update",
    "default_optimizer",
    "fit",
    "init",
    "make_update",
    "terminal_progress",
]

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


def default_optimizer(
    learning_rate: optax.ScalarOrSchedule = 1e-3, *, max_norm: float = 1.0
) -> optax.GradientTransformation:
    """Adam after clipping the gradient to a global norm.

    Args:
        learning_rate: a number or an Optax schedule.
        max_norm: largest global norm of the gradient.

    Returns:
        ``optax.chain(clip_by_global_norm(max_norm), adam(learning_rate))``.

    References:
        Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural
        networks, 2013. Kingma and Ba, Adam, 2015.
    """
    return optax.chain(optax.clip_by_global_norm(max_norm), optax.adam(learning_rate))


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
    params, key = _copy((params, key))
    return TrainState(
        params=params,
        opt_state=_copy(optimizer.init(params)),  # some keep the parameters themselves
        step=jnp.zeros((), jnp.int32),
        key=key,
    )


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
    transform = optax.with_extra_args_support(optimizer)

    def with_metrics(params, batch, key):
        out = loss_fn(params, batch, key)
        loss, metrics = out if isinstance(out, tuple) else (out, {})
        if not isinstance(metrics, dict) or any(
            jax.tree.leaves(jax.tree.map(jnp.shape, out))
        ):
            raise TypeError(
                "loss_fn must return a scalar loss, or it and a dict of scalars, got "
                f"{jax.tree.map(jnp.shape, out)}"
            )
        return loss, metrics

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key, loss_key = jax.random.split(state.key)
        gradient_fn = jax.value_and_grad(with_metrics, has_aux=True)
        (loss, metrics), grads = gradient_fn(state.params, batch, loss_key)
        updates, opt_state = transform.update(
            grads,
            state.opt_state,
            state.params,
            value=loss,
            grad=grads,
            value_fn=lambda params: with_metrics(params, batch, loss_key)[0],
        )
        new_state = TrainState(
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            step=state.step + 1,
            key=key,
        )
        grad_norm = optax.tree.norm(widen(grads))
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        metrics = {**metrics, "loss": loss, "grad_norm": grad_norm}
        return select(finite, new_state, state), metrics

    return jax.jit(update, donate_argnums=0)


class History(NamedTuple):
    """What was measured, as arrays to plot against ``["step"]``."""

    train: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]


class FitResult(NamedTuple):
    """What :func:`fit` returns."""

    state: TrainState  # after the last good step
    best_params: Params  # of the lowest finite validation loss, see fit
    history: History
    stopped: str  # "" if all steps were taken, else why not


terminal_progress = functools.partial(tqdm, unit="step", disable=None)
"""tqdm's progress bar, shown only where a terminal is present."""


def fit(
    update: Update,
    state: TrainState,
    batches: Iterable[Batch],
    *,
    num_steps: int | None = None,
    validate: Callable[[Params], Metrics] | None = None,
    validate_every: int = 100,
    progress: Callable[..., tqdm] = terminal_progress,
) -> FitResult:
    """Train until the batches, or the steps, are used up.

    Training stops early, and everything gained so far is returned, when

    - the loss or its gradient is no longer finite: ``stopped`` names the step, and
      ``state`` is the one before it;
    - it is interrupted (Ctrl-C): the step under way is finished first; a second
      Ctrl-C raises KeyboardInterrupt at once.

    Args:
        update: what :func:`make_update` made, or a function of that signature. Its
            metrics must contain ``loss``.
        state: what :func:`init` made, or an earlier result; donated.
        batches: an iterable with one batch a step; it is not repeated, so give a
            generator for several epochs.
        num_steps: the most steps to take; None takes all batches.
        validate: ``params -> {"loss": scalar, ...}``, called before the first step,
            every ``validate_every`` steps, and after the last.
        validate_every: steps between validations.
        progress: makes the progress bar from ``total=``, as tqdm does; by default it
            shows only where a terminal is present.

    Returns:
        A :class:`FitResult`. Its ``best_params`` are those of the lowest finite
        validation loss; the initial ones if there was none; without ``validate``, the
        last.

    Raises:
        ValueError: ``num_steps`` or ``validate_every`` is below 1.
        TypeError: ``update`` or ``validate`` returns no dict with a ``loss``.
        ValueError: a metric is not a scalar, or is named ``step``.
        Exception: whatever ``batches`` or ``validate`` raise. The state given was
            donated by then: keep what you cannot lose.
    """
    if num_steps is not None:
        num_steps = check_size("num_steps", num_steps)
    validate_every = check_size("validate_every", validate_every)
    train: list[Metrics] = []
    validation: list[Metrics] = []
    best_params, best_loss = _copy(state.params), math.inf
    step, stopped = int(state.step), ""

    def run_validation() -> None:
        nonlocal best_params, best_loss
        if validate is None or (validation and validation[-1]["step"] == step):
            return
        row = _row("validate", step, validate(state.params))
        validation.append(row)
        if row["loss"] < best_loss:
            best_params, best_loss = _copy(state.params), row["loss"]

    with _deferred_interrupt() as interrupted, progress(total=num_steps) as bar:
        run_validation()
        coming = itertools.islice(batches, num_steps)
        batch = _next(coming, interrupted)
        while batch is not _END and not interrupted.is_set():
            state, metrics = update(state, batch)
            batch = _next(coming, interrupted)  # while the device is at work
            row = _row("update", step + 1, metrics)
            if not all(map(math.isfinite, (row["loss"], row.get("grad_norm", 0)))):
                stopped = (
                    f"step {step + 1}: loss {row['loss']}, gradient norm "
                    f"{row.get('grad_norm')}; the state is that of step {step}"
                )
                break
            step += 1
            train.append(row)
            if step % validate_every == 0:
                run_validation()
            bar.set_postfix(_postfix(row, validation), refresh=False)
            bar.update()
        if interrupted.is_set():
            stopped = stopped or f"interrupted after step {step}"
        else:
            run_validation()
    if not stopped and len(train) < (num_steps or 0):
        stopped = f"the batches ended after step {step}"
    if validate is None:
        best_params = _copy(state.params)
    return FitResult(
        state=state,
        best_params=best_params,
        history=History(train=_columns(train), validation=_columns(validation)),
        stopped=stopped,
    )


_END = object()


def _next(batches: Iterator[Batch], interrupted: threading.Event) -> Batch:
    """The next batch; an interrupt that an iterator raises itself ends them."""
    try:
        return next(batches, _END)
    except KeyboardInterrupt:
        if interrupted.is_set():
            raise
        interrupted.set()
        return _END


def _copy(tree: Params) -> Params:
    return jax.tree.map(jnp.array, tree)


def _row(source: str, step: int, metrics: Metrics) -> Metrics:
    if not isinstance(metrics, dict) or "loss" not in metrics:
        raise TypeError(
            f"{source} must return a dict of scalars with a 'loss', got {metrics!r:.80}"
        )
    row: Metrics = {"step": step}
    for name, value in metrics.items():
        if name == "step" or np.size(value) != 1:
            raise ValueError(
                f"{source} must return scalars, none of them named 'step', got "
                f"{name} of shape {np.shape(value)}"
            )
        row[name] = float(value)
    return row


def _columns(rows: list[Metrics]) -> dict[str, np.ndarray]:
    names = dict.fromkeys(itertools.chain(("step", "loss"), *rows))
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}


def _postfix(row: Metrics, validation: list[Metrics]) -> dict[str, str]:
    latest = validation[-1] if validation else {}
    shown = {"loss": row["loss"]}
    shown |= {f"val_{name}": latest[name] for name in latest if name != "step"}
    return {name: f"{value:.3f}" for name, value in shown.items()}


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event: an update in flight owns the state."""
    requested = threading.Event()
    previous = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or previous in (None, signal.SIG_IGN):
        yield requested
        return

    def handle(signum, frame):
        requested.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handle)
    try:
        yield requested
    finally:
        signal.signal(signal.SIGINT, previous)
