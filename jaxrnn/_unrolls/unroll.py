"""``unroll``: project all inputs at once, then scan the step; JAX differentiates."""

from .._base import Cell
from .._descriptions.known import known
from .._eager import compiled
from .._numerics.precision import narrow, widen
from .._typing import Array, ArrayLike, Params, State
from .arguments import Inputs, Run, begin
from .masked_scan import masked_scan


@known
def unroll(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None = None,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
) -> tuple[State, Array]:
    """Run a cell over time.

    The result equals that of this loop, for any number of batch dimensions::

        for t in range(T):                        # reversed(range(T)) if reverse
            if resets is not None and resets[t]:  # reverse: if resets[t + 1]
                state = cell.initial_state(params, batch_shape)
            if mask is None or mask[t]:
                state, ys[t] = cell.step(params, state, cell.project(params, xs[t]))
            else:
                ys[t] = 0                         # and the state is held

    The input projection is one product over the whole sequence; only the recurrent
    product and the gates are in the loop. JAX differentiates it, so ``grad``, ``jvp``,
    ``vmap``, Hessians and checkpointing all apply. If you only need reverse mode,
    :func:`unroll_bptt` gives the same values and gradients faster.

    Args:
        cell: cell to run.
        params: parameters of ``cell``.
        xs: inputs ``(T, *B, I)``, in the dtype of ``params``.
        state: state before the first step taken; None takes the initial state.
        mask: bool ``(T, *B)``. Where it is False, the state is held, the output is
            zero, and the input has no effect, even if it is NaN.
        resets: bool ``(T, *B)``, True at the first step of each segment. The state is
            replaced by the initial state before that input is consumed, and no gradient
            crosses; this holds at masked steps too. In reverse, each segment starts
            afresh at its last step, so packed segments give what separate segments
            give. If you run in reverse in chunks, pass the initial state to a chunk
            when the chunk after it in time begins with a segment: neither chunk sees
            that ``resets[0]``.
        reverse: take the steps from the last to the first. Outputs stay at their own
            time, and padding needs no flips, because the state is held through it.

    Returns:
        ``(state, ys)``: the state after the last step taken and the outputs
        ``(T, *B, O)``.

    Raises:
        ValueError: a shape or the structure of ``state`` does not fit.
        TypeError: a dtype does not fit, ``mask`` or ``resets`` is not boolean, or
            ``cell`` is not a :class:`Cell`.

    Differs from torch in having time first, and masks instead of packed sequences.
    Differs from Keras in that a reversed run does not reverse its outputs.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.gru(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 3, 2)))
    >>> state.shape, ys.shape
    ((3, 5), (7, 3, 5))
    """
    run, params, inputs = begin(cell, params, xs, state, mask, resets, reverse)
    return plain_scan(run, params, inputs)


@compiled(num_static=1)
def plain_scan(run: Run, params: Params, inputs: Inputs) -> tuple[State, Array]:
    """Run over time by one scan of the cell's step, which JAX can differentiate."""
    # The parameters are narrowed inside the step, so that JAX sums the gradient of
    # 16-bit parameters over time in float32.
    wide = widen(params)

    def step(state, a_x):
        return *run.cell.step(narrow(wide, params), state, a_x), None

    a_xs = run.cell.project(params, inputs.xs)
    state, ys, _ = masked_scan(step, run, inputs, a_xs)
    return state, ys
