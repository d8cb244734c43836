"""``unroll_with``: :func:`jaxrnn.unroll` with options for its scan."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .._base import UnrollFn
from .._descriptions.spec import described
from .._eager import compiled
from .._options import check_function, check_size
from .._typing import Array, Params, State
from .arguments import Inputs, Run, begin
from .unroll import plain_scan


@described
def unroll_with(
    *,
    unroll: int = 1,
    chunk_size: int | None = None,
    policy: Callable[..., Any] | None = None,
) -> UnrollFn:
    """Make an ``unroll_fn``: :func:`jaxrnn.unroll` with the options of its scan.

    Every transformation of JAX applies to it, and values and gradients are those of
    ``unroll``. For reverse mode of a cell with an adjoint,
    :func:`jaxrnn.unroll_chunked` needs less memory and time.

    Args:
        unroll: number of steps in one iteration of the loop. More steps make a larger
            program with fewer iterations.
        chunk_size: number of steps in a chunk that is rematerialised. The forward pass
            keeps the state before each chunk and the values that ``policy`` saves, and
            the backward pass runs the chunk once more. About ``sqrt(T)`` needs the
            least memory. None keeps everything.
        policy: one of ``jax.checkpoint_policies``, which selects values to save within
            a chunk; None saves no values.

    Returns:
        A function with the signature of :func:`jaxrnn.unroll`.

    Raises:
        ValueError: a size is below 1, or ``policy`` is given without ``chunk_size``.
        TypeError: a size is not an int, or ``policy`` is not a function.

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
            "policy must come with chunk_size, the size of a chunk that is "
            "rematerialised, got chunk_size = None"
        )

    chunks = None if chunk_size is None else _Chunks(chunk_size, policy)

    def unroll_fn(
        cell, params, xs, state=None, *, mask=None, resets=None, reverse=False
    ) -> tuple[State, Array]:
        run, params, inputs = begin(cell, params, xs, state, mask, resets, reverse)
        run = run._replace(steps_at_once=steps_at_once)
        if chunks is None:
            return plain_scan(run, params, inputs)
        return _scan_chunks(run, chunks, params, inputs)

    return unroll_fn


class _Chunks(NamedTuple):
    """How ``jax.checkpoint`` treats the chunks of a run."""

    size: int  # steps
    policy: Callable[..., bool] | None


@compiled(num_static=2)
def _scan_chunks(
    run: Run, chunks: _Chunks, params: Params, inputs: Inputs
) -> tuple[State, Array]:
    """Scan over chunks of time, each a scan that the backward pass runs once more."""

    def take(state, part):
        xs, mask, resets = part
        chunk = Inputs(xs, state, inputs.fresh, mask, resets)
        return plain_scan(run, params, chunk)

    take_again = jax.checkpoint(take, policy=chunks.policy)
    count = len(inputs.xs) // chunks.size
    num_even = count * chunks.size
    sequences = (inputs.xs, inputs.mask, inputs.resets)
    even = jax.tree.map(
        lambda leaf: leaf[:num_even].reshape(count, chunks.size, *leaf.shape[1:]),
        sequences,
    )

    def take_even(state):
        state, ys = lax.scan(take_again, state, even, reverse=run.reverse)
        return state, jax.tree.map(lambda y: y.reshape(num_even, *y.shape[2:]), ys)

    if num_even == len(inputs.xs):
        return take_even(inputs.state)
    # The steps that remain are the last ones in time, and a chunk of their own.
    rest = jax.tree.map(lambda leaf: leaf[num_even:], sequences)
    if run.reverse:
        state, last = take_again(inputs.state, rest)
        state, first = take_even(state)
    else:
        state, first = take_even(inputs.state)
        state, last = take_again(state, rest)
    return state, jax.tree.map(lambda *parts: jnp.concatenate(parts), first, last)
