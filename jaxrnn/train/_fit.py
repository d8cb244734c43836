"""The training loop, with validation, early stopping and interrupts."""

import contextlib
import functools
import inspect
import itertools
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from tqdm import tqdm

from .._options import check_function, check_positive, check_size
from .._typing import Params
from ._update import Batch, Metrics, TrainState, Update, copy


def default_optimizer(
    learning_rate: optax.ScalarOrSchedule = 1e-3, *, max_norm: float = 1.0
) -> optax.GradientTransformation:
    """Make Adam with the gradient clipped to a global norm.

    Args:
        learning_rate: number above 0, or an Optax schedule.
        max_norm: largest global norm of the gradient, above 0.

    Returns:
        ``optax.chain(clip_by_global_norm(max_norm), adam(learning_rate))``.

    Raises:
        ValueError: ``learning_rate`` or ``max_norm`` is not positive and finite.
        TypeError: ``learning_rate`` or ``max_norm`` is not a number.

    References:
        Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural
        networks, 2013. Kingma and Ba, Adam, 2015.
    """
    for name, value in (("learning_rate", learning_rate), ("max_norm", max_norm)):
        # Optax passes traced numbers if they are hyperparameters of an optimiser.
        if not callable(value) and not isinstance(value, jax.core.Tracer):
            check_positive(name, value)
    return optax.chain(optax.clip_by_global_norm(max_norm), optax.adam(learning_rate))


class History(NamedTuple):
    """Metrics of a run, as arrays to plot against ``["step"]``."""

    train: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]


class Best(NamedTuple):
    """Parameters of the lowest finite validation loss so far."""

    params: Params
    loss: float = math.inf
    step: int = 0  # updates made before it was found


class FitResult(NamedTuple):
    """Result of :func:`fit`."""

    state: TrainState  # after the last good step
    best: Best  # to go on from: fit(..., best=result.best)
    history: History
    stopped: str  # "" if all went well; else why it ended, or that no loss was finite

    @property
    def best_params(self) -> Params:
        """Return the parameters of the lowest finite validation loss."""
        return self.best.params


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
    patience: int | None = None,
    best: Best | None = None,
    progress: Callable[..., tqdm] = terminal_progress,
) -> FitResult:
    """Train until the batches, or the steps, are used up.

    Training stops early, and the result so far is returned, in three cases:

    - The loss, its gradient or the updated state is not finite. ``stopped`` names the
      step, and ``state`` is the state before it.
    - ``patience`` validations in a row were no better than the best one.
    - The user presses Ctrl-C. The current step is finished first; a second Ctrl-C
      raises KeyboardInterrupt at once.

    Args:
        update: function that :func:`make_update` made, or one of that signature. Its
            metrics must contain ``loss``, and it must count the steps that it takes in
            ``state.step``.
        state: state that :func:`init` made, or the state of an earlier result. It is
            donated.
        batches: iterable with one batch for each step. It is not repeated, so pass a
            generator for several epochs.
        num_steps: largest number of steps to take; None takes all batches.
        validate: function ``params -> {"loss": scalar, ...}``, called before the first
            step, every ``validate_every`` steps, and after the last step.
        validate_every: number of steps between validations.
        patience: number of validations without a better loss after which training
            stops; None never stops for that reason.
        best: the ``best`` of an earlier result, if this call continues it. It counts
            for ``patience``, and is returned if no validation is better.
        progress: function of ``total=`` to a progress bar, such as tqdm. The default
            shows a bar only in a terminal.

    Returns:
        A :class:`FitResult`. Its ``best_params`` have the lowest finite validation
        loss. Without ``validate`` they are the last parameters. If no validation loss
        was finite they are the initial ones, and ``stopped`` says so.

    Raises:
        ValueError: ``num_steps``, ``validate_every`` or ``patience`` is below 1,
            ``patience`` is given without ``validate``, or an earlier update has taken
            the buffers of ``state``.
        TypeError: an argument is of the wrong type, or ``update`` or ``validate`` does
            not return a dict with a ``loss``.
        ValueError: a metric is not a scalar, or is named ``step``.
        Exception: an error of ``batches`` or ``validate``. The given state has been
            donated by then, so keep a copy of what you cannot lose.
    """
    if num_steps is not None:
        num_steps = check_size("num_steps", num_steps)
    validate_every = check_size("validate_every", validate_every)
    if validate is not None:
        check_function("validate", validate)
    if patience is not None:
        patience = check_size("patience", patience)
        if validate is None:
            raise ValueError("patience must come with validate, got validate=None")
    _check_run(update, state, batches, best)
    train: list[Metrics] = []
    validation: list[Metrics] = []
    step, stopped = int(state.step), ""
    best = Best(copy(state.params), step=step) if best is None else best

    def run_validation() -> None:
        nonlocal best
        if validate is None or (validation and validation[-1]["step"] == step):
            return
        row = _row("validate", step, validate(state.params))
        validation.append(row)
        if row["loss"] < best.loss and math.isfinite(row["loss"]):
            best = Best(copy(state.params), row["loss"], step)

    with _deferred_interrupt() as interrupted, progress(total=num_steps) as bar:
        run_validation()
        coming = itertools.islice(batches, num_steps)
        batch = _next(coming, interrupted)
        while batch is not _END and not interrupted.is_set():
            state, metrics = update(state, batch)
            batch = _next(coming, interrupted)  # while the device is at work
            row = _row("update", step + 1, metrics)
            if reason := _refused(row, int(state.step) == step):
                stopped = f"step {step + 1}: {reason}; the state is that of step {step}"
                break
            step += 1
            train.append(row)
            if step % validate_every == 0:
                run_validation()
            bar.set_postfix(_postfix(row, validation), refresh=False)
            bar.update()
            if patience is not None and step - best.step >= patience * validate_every:
                stopped = (
                    f"step {step}: no better validation in {patience}, the best was at "
                    f"step {best.step}"
                )
                break
        if interrupted.is_set():
            stopped = stopped or f"interrupted after step {step}"
        else:
            run_validation()
    if not stopped and len(train) < (num_steps or 0):
        stopped = f"the batches ended after step {step}"
    if not stopped and validation and not math.isfinite(best.loss):
        stopped = f"no validation was finite; best_params are those of step {best.step}"
    if validate is None:
        best = Best(copy(state.params), step=step)
    return FitResult(
        state=state,
        best=best,
        history=History(train=_columns(train), validation=_columns(validation)),
        stopped=stopped,
    )


def _check_run(update: Any, state: Any, batches: Any, best: Any) -> None:
    """Check the arguments of :func:`fit` before anything is donated."""
    if not callable(update):
        raise TypeError(f"update must be the result of make_update, got {update!r:.80}")
    try:
        inspect.signature(update).bind(state, batches)
    except TypeError:
        raise TypeError(
            "update must take (state, batch), like the result of make_update, got a "
            f"function of {inspect.signature(update)}"
        ) from None
    except ValueError:  # a function of C without a signature
        pass
    if not (hasattr(state, "params") and hasattr(state, "step")):
        raise TypeError(
            "state must be a TrainState, which init makes of parameters, got "
            f"{type(state).__name__}"
        )
    for leaf in jax.tree.leaves(state):
        if isinstance(leaf, jax.Array) and leaf.is_deleted():
            raise ValueError(
                "state must be the latest one, got one whose buffers an earlier update "
                "has reused: continue from the state that it returned"
            )
    if not isinstance(batches, Iterable):
        raise TypeError(
            f"batches must be an iterable with one batch a step, got {batches!r:.80}"
        )
    if best is not None and not isinstance(best, Best):
        raise TypeError(
            f"best must be the best of an earlier result, got {type(best).__name__}"
        )


def _refused(row: Metrics, not_counted: bool) -> str:
    """Say why a step was refused; empty if it was taken."""
    loss, norm = row["loss"], row.get("grad_norm")
    if not all(map(math.isfinite, (loss, norm or 0.0))):
        return f"loss {loss}, gradient norm {norm}"
    if not_counted:
        return (
            f"loss {loss} and gradient norm {norm} are finite, what the optimiser "
            "makes of them is not"
        )
    return ""


_END = object()


def _next(batches: Iterator[Batch], interrupted: threading.Event) -> Batch:
    """Return the next batch; an interrupt inside the iterator ends the batches."""
    try:
        return next(batches, _END)
    except KeyboardInterrupt:
        if interrupted.is_set():
            raise
        interrupted.set()
        return _END


def _row(source: str, step: int, metrics: Metrics) -> Metrics:
    if not isinstance(metrics, dict) or "loss" not in metrics:
        raise TypeError(
            f"{source} must return a dict of scalars with a 'loss', got {metrics!r:.80}"
        )
    row: Metrics = {"step": step}
    for name, value in metrics.items():
        if name == "step" or np.size(value) != 1:
            raise ValueError(
                f"{source} must return scalars that are not named 'step', got "
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
