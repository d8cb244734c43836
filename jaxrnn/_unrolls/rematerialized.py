"""Scans that JAX differentiates, unrolled and rematerialised as one likes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .._base import Cell, UnrollFn
from .._descriptions.spec import described
from .._eager import compiled
from .._options import check_function, check_size
from .._typing import Array, Params, State
from .arguments import Sequence, hoisted, prepare
from .unroll import unroll_sequence


@described
def unroll_with(
    *,
    unroll: int = 1,
    chunk_size: int | None = None,
    policy: Callable[..., Any] | None = None,
) -> UnrollFn:
    """Make an ``unroll_fn``: :func:`jaxrnn.unroll` with the options of its scan.

    Every transformation of JAX applies to it, as to ``unroll``: it has the same values
    and gradients. :func:`jaxrnn.unroll_chunked` needs less memory and time for reverse
    mode alone, of cells with an adjoint.

    Args:
        unroll: steps in one iteration of the loop: larger programs, fewer iterations.
        chunk_size: steps in a chunk that is rematerialised: the backward pass keeps the
            state before each chunk, and what ``policy`` saves, and runs the chunk once
            more. None keeps everything. About ``sqrt(T)`` needs least memory.
        policy: one of ``jax.checkpoint_policies``, which says what to save within a
            chunk nevertheless; None saves nothing.

    Returns:
        A function of the signature of :func:`jaxrnn.unroll`.

    Raises:
        ValueError: a size is below 1, or there is a policy without ``chunk_size``.
        TypeError: a size is not an int, or ``policy`` not a function.

    References:
        Chen et al., Training deep nets with sublinear memory cost, 2016.

    >>> import jaxrnn
    >>> run = unroll_with(chunk_size=10, unroll=2)
    >>> model = jaxrnn.layer(jaxrnn.gru(5), unroll_fn=run)
    >>> params = model.init(jax.random.key(0), 2)
    >>> model.apply(params, jnp.ones((100, 3, 2)))[1].shape
    (100, 3, 5)
    """
    steps_at_once = check_size("unroll", unroll)
    if policy is not None:
        check_function("policy", policy)
    if chunk_size is not None:
        chunk_size = check_size("chunk_size", chunk_size)
    elif policy is not None:
        raise ValueError(
            "policy must be None where nothing is rematerialised, got one without "
            "chunk_size: give both"
        )

    def run(
        cell, params, xs, state=None, *, mask=None, resets=None, reverse=False
    ) -> tuple[State, Array]:
        cell, params = hoisted(cell, params)
        sequence = prepare(cell, params, xs, state, mask, resets, reverse)

        if chunk_size is None:
            return unroll_sequence(cell, reverse, steps_at_once, params, sequence)
        return _rematerialized(
            cell, reverse, steps_at_once, chunk_size, policy, params, sequence
        )

    return run


@compiled(num_static=5)
def _rematerialized(
    cell: Cell,
    reverse: bool,
    steps_at_once: int,
    chunk_size: int,
    policy: Callable[..., bool] | None,
    params: Params,
    sequence: Sequence,
) -> tuple[State, Array]:
    def take(state, part):
        xs, mask, resets = part
        chunk = Sequence(xs, state, sequence.fresh, mask, resets)
        return unroll_sequence(cell, reverse, steps_at_once, params, chunk)

    whole = (sequence.xs, sequence.mask, sequence.resets)
    taken_again = jax.checkpoint(take, policy=policy)
    return _in_chunks(taken_again, sequence.state, whole, chunk_size, reverse)


def _in_chunks(
    take: Callable[[State, Any], tuple[State, Array]],
    state: State,
    whole: Any,
    chunk_size: int,
    reverse: bool,
) -> tuple[State, Array]:
    """Scan ``take`` over chunks of time; the last steps of time may be fewer."""
    num_steps = len(jax.tree.leaves(whole)[0])
    count = num_steps // chunk_size
    even = count * chunk_size
    rest = jax.tree.map(lambda leaf: leaf[even:], whole)

    def cut(leaf: Array) -> Array:
        return leaf[:even].reshape(count, chunk_size, *leaf.shape[1:])

    def run_even(state):
        state, ys = lax.scan(take, state, jax.tree.map(cut, whole), reverse=reverse)
        return state, jax.tree.map(lambda y: y.reshape(even, *y.shape[2:]), ys)

    if even == num_steps:
        return run_even(state)
    if reverse:
        state, last = take(state, rest)
        state, first = run_even(state)
    else:
        state, first = run_even(state)
        state, last = take(state, rest)
    return state, jax.tree.map(lambda *parts: jnp.concatenate(parts), first, last)
