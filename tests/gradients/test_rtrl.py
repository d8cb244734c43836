"""Forward in time, the gradient is the same; and it is there at every step."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import BASE, CELLS, B, H, I, T, assert_close, problem, unroll
from covering import combinations

import jaxrnn

REVERSE = {"forward": False, "reverse": True}

slow = pytest.mark.slow


class ElementwiseParams(NamedTuple):
    w_x: jax.Array  # (I, H)
    u: jax.Array  # (H,)
    start: jax.Array  # (H,)


def elementwise(size):
    """An independently recurrent network with a learned start: no unit sees another."""

    def initial_state(params, batch_shape=()):
        return jnp.broadcast_to(jnp.tanh(params.start), (*batch_shape, size))

    def step(params, state, a_x):
        h = jnp.tanh(a_x + state * params.u)
        return h, h

    def init(key, input_size, dtype=None):
        key_x, key_u = jax.random.split(key)
        return ElementwiseParams(
            w_x=jax.random.normal(key_x, (input_size, size), dtype),
            u=jax.random.normal(key_u, (size,), dtype),
            start=jnp.zeros((size,), dtype),
        )

    return jaxrnn.Cell(
        init=init,
        initial_state=initial_state,
        project=lambda params, xs: xs @ params.w_x,
        step=step,
        output_size=size,
    )


def two_gates(size):
    """An elementwise recurrence with two blocks of columns in each parameter."""

    def step(params, state, a_x):
        f, n = jnp.split(a_x + jnp.tile(state, 2) * params.u, 2, axis=-1)
        f = jax.nn.sigmoid(f)
        h = f * state + (1 - f) * jnp.tanh(n)
        return h, h

    def init(key, input_size, dtype=None):
        return elementwise(2 * size).init(key, input_size, dtype)

    def initial_state(params, batch_shape=()):
        return jnp.zeros((*batch_shape, size), params.u.dtype)

    return elementwise(size)._replace(init=init, step=step, initial_state=initial_state)


def both(cell, case, reverse, state=True, **options):
    """The gradient backward in time, and forward in time."""
    given = {
        **case.flags,
        "dstate": case.dstate,
        "reverse": reverse,
        "state": case.state if state else None,
    }

    @jax.jit
    def run(params, xs, dys):
        def values(params):
            flags = {k: v for k, v in given.items() if k != "dstate"}
            return jaxrnn.unroll(cell, params, xs, **flags)

        _, pull = jax.vjp(values, params)
        forward = jaxrnn.rtrl(cell, params, xs, dys, **given, **options)
        return forward, pull((given["dstate"], dys))[0]

    return run(case.params, case.xs, case.dys)


@combinations(strength=1, name=BASE, reverse=REVERSE)
def test_forward_in_time_equals_backward(name, reverse):
    cell = CELLS[name].cell
    assert_close(*both(cell, problem(cell), reverse), 1e-12)


@combinations(strength=1, batch=[(), (2, 3)], flags=[False, True])
def test_forward_in_time_takes_any_batch_dimensions(batch, flags):
    cell = jaxrnn.lstm(3)
    case = problem(cell, batch, mask=flags, resets=flags)
    case = type(case)(**{**vars(case), "dys": case.dys[..., :3]})
    assert_close(*both(cell, case, False), 1e-12)


@combinations(strength=1, reverse=REVERSE, state=[False, True])
def test_a_learned_initial_state_has_its_influence(reverse, state):
    cell = jaxrnn.learned_state(jaxrnn.gru(H))
    case = problem(cell)
    forward, backward = both(cell, case, reverse, state=state)
    assert jnp.abs(backward.state).max() > 0.1  # through resets at least
    assert_close(forward, backward, 1e-12)


@combinations(
    make=[elementwise, two_gates],
    batch=[(), (2, B)],
    reverse=REVERSE,
    state=[False, True],
)
def test_the_diagonal_influence_is_exact_for_elementwise_recurrences(
    make, batch, reverse, state
):
    cell = make(H)
    case = problem(cell, batch)
    diagonal = jaxrnn.diagonal_influence
    forward, backward = both(cell, case, reverse, state, influence=diagonal)
    assert_close(forward, backward, 1e-12)


@pytest.mark.parametrize(
    "make",
    [
        jaxrnn.mingru,
        lambda size: jaxrnn.learned_state(jaxrnn.lru(size)),
        *(pytest.param(cell, marks=slow) for cell in (jaxrnn.indrnn, jaxrnn.minlstm)),
    ],
)
def test_the_diagonal_influence_is_exact_for_cells_of_the_library(make):
    cell = make(H)
    case = problem(cell)
    forward, backward = both(
        cell, case, False, True, influence=jaxrnn.diagonal_influence
    )
    assert_close(forward, backward, 1e-11)


@pytest.mark.parametrize(
    "name",
    [
        "gru",
        *(pytest.param(name, marks=slow) for name in ("elman", "janet", "mgu")),
    ],
)
def test_the_diagonal_influence_is_refused_where_units_meet(name):
    cell = CELLS[name].cell
    params = cell.init(jax.random.key(0), I)
    xs, dys = jnp.ones((T, B, I)), jnp.ones((T, B, H))
    influence = jaxrnn.diagonal_influence
    message = "must be jaxrnn.dense_influence for a cell whose units depend on each"
    run = jax.jit(lambda p: jaxrnn.rtrl(cell, p, xs, dys, influence=influence))
    with pytest.raises(ValueError, match=message):
        run(params)
    with pytest.raises(ValueError, match=message):
        jaxrnn.rtrl_init(cell, params, (B,), influence=influence)


def test_an_influence_has_the_size_that_is_promised():
    cell = elementwise(H)
    params = cell.init(jax.random.key(0), I)
    for influence, size in (
        (jaxrnn.dense_influence, (B, H, I, H)),
        (jaxrnn.diagonal_influence, (B, I, H)),
    ):
        carry = jaxrnn.rtrl_init(cell, params, (B,), influence=influence)
        assert carry.influence.w_x.shape == size


@pytest.mark.parametrize("name", ["elman", "lstm", "gru"])
def test_each_step_has_the_gradient_of_its_own_loss(name):
    """One step at a time, masked and reset; ``pull`` crosses jit as a pytree."""
    cell = CELLS[name].cell
    case = problem(cell)
    step = jax.jit(functools.partial(jaxrnn.rtrl_step, cell))
    pulled = jax.jit(lambda pull, dy: pull(dy))

    @jax.jit
    def prefix_gradient(dys):
        """Of the losses of all steps, less those that ``dys`` leaves out."""
        flags = {"state": case.state, **case.flags}
        return jaxrnn.bptt(cell, case.params, case.xs, dys, **flags)[0]

    _, ys = unroll(cell, case.params, case.xs, case.state, **case.flags)
    carry = jaxrnn.rtrl_init(cell, case.params, (B,), case.state)
    xs, mask, resets, ys = map(np.asarray, (case.xs, case.mask, case.resets, ys))
    for t in range(T):
        flags = {"mask": mask[t], "reset": resets[t]}
        carry, y, pull = step(case.params, carry, xs[t], **flags)
        assert_close(y, ys[t], 1e-12)
        alone = np.zeros(case.dys.shape)
        alone[t] = case.dys[t]
        assert_close(pulled(pull, case.dys[t]), prefix_gradient(alone), 1e-12)


def test_nan_before_a_reset_and_under_a_mask_reaches_nothing():
    cell = jaxrnn.gru(3)
    case = problem(cell, resets=False)
    first = jnp.zeros_like(case.mask).at[0].set(True)
    xs = jnp.where(case.mask[..., None], case.xs, jnp.nan)
    state = jnp.full_like(case.state, jnp.nan)

    @jax.jit
    def both(params, dys):
        clean = jaxrnn.rtrl(cell, params, case.xs, dys, mask=case.mask)
        flags = {"mask": case.mask, "resets": first}
        return jaxrnn.rtrl(cell, params, xs, dys, state, **flags), clean

    assert_close(*both(case.params, case.dys[..., :3]), 1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_sixteen_bit_parameters_are_summed_in_float32(dtype):
    cell = jaxrnn.lstm(H)
    case = problem(cell, dtype=dtype, steps=30)
    args = (cell, case.params, case.xs, case.dys, case.state)
    forward = jax.jit(lambda: jaxrnn.rtrl(*args, **case.flags))()
    backward, _, _ = jax.jit(lambda: jaxrnn.bptt(*args, **case.flags))()
    # Both round to 16 bits once, at the end; but bptt multiplies in 16 bits.
    assert_close(forward, backward, 2e-2 if dtype == jnp.bfloat16 else 4e-3)
    carry = jaxrnn.rtrl_init(cell, case.params, (B,))
    assert carry.influence.w_h.dtype == jnp.float32


def test_online_learning_follows_a_signal():
    """Updates while time goes on: the use that it is made for."""
    cell = jaxrnn.gru(8)
    params = cell.init(jax.random.key(0), 1, jnp.float32)
    xs = jnp.sin(0.5 * jnp.arange(400, dtype=jnp.float32))[:, None]

    def step(loop, pair):
        params, carry = loop
        x, target = pair
        carry, y, pull = jaxrnn.rtrl_step(cell, params, carry, x)
        error = y[0] - target[0]
        dparams = pull(jnp.zeros_like(y).at[0].set(2 * error))
        params = jax.tree.map(lambda p, g: p - jnp.float32(0.03) * g, params, dparams)
        return (params, carry), error**2

    loop = (params, jaxrnn.rtrl_init(cell, params))
    _, losses = jax.lax.scan(step, loop, (xs[:-1], xs[1:]))
    assert losses[-50:].mean() < 0.1 * losses[:50].mean()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"xs": jnp.ones((T, B, I + 1))}, ValueError, "xs must have 2 features"),
        (
            {"dys": jnp.ones((T, B, H + 1))},
            ValueError,
            r"dys must have shape \(7, 3, 5\)",
        ),
        ({"dstate": jnp.ones((B, H + 1))}, ValueError, "dstate must have shape"),
        ({"mask": jnp.ones((T, B))}, TypeError, "mask must be boolean"),
        ({"state": jnp.ones((H,))}, ValueError, "state must have shape"),
        ({"cell": jaxrnn.dense(3)}, TypeError, "cell must be a Cell"),
    ],
)
@pytest.mark.parametrize("fn", [jaxrnn.rtrl, jaxrnn.gradient_by_lag])
def test_wrong_sequences_are_named(fn, change, error, message):
    cell = jaxrnn.elman(H)
    case = problem(cell)
    given = {
        "cell": cell,
        "params": case.params,
        "xs": case.xs,
        "dys": case.dys,
        **change,
    }
    with pytest.raises(error, match=message):
        fn(**given)


def test_bad_steps_are_named():
    cell = jaxrnn.elman(H)
    params = cell.init(jax.random.key(0), I)
    carry = jaxrnn.rtrl_init(cell, params, (B,))
    step = functools.partial(jaxrnn.rtrl_step, cell, params)
    x = jnp.ones((B, I))
    with pytest.raises(ValueError, match=r"x must have shape \(\*B, I\)"):
        step(carry, jnp.float64(1))
    with pytest.raises(ValueError, match="carry"):
        step(carry, x[:2])
    with pytest.raises(ValueError, match=r"mask must have shape \(\*B\) = \(3,\)"):
        step(carry, x, mask=jnp.ones((2,), bool))
    with pytest.raises(TypeError, match="reset must be boolean"):
        step(carry, x, reset=jnp.ones((B,)))
    with pytest.raises(ValueError, match="state must have shape"):
        jaxrnn.rtrl_init(cell, params, (B,), jnp.ones((H,)))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (jaxrnn.lstm(H), "a state that is not one array"),
        (
            elementwise(H)._replace(
                init=lambda key, size, dtype=None: ElementwiseParams(
                    jnp.ones((size, H)), jnp.ones(()), jnp.ones(H)
                ),
                step=lambda p, s, a_x: (jnp.tanh(a_x + p.u * s),) * 2,
            ),
            r"not a multiple of the 5 units, got .* shape \(\)",
        ),
    ],
)
def test_a_cell_that_no_diagonal_influence_fits_is_named(cell, message):
    params = cell.init(jax.random.key(0), I)
    xs, dys = jnp.ones((T, B, I)), jnp.ones((T, B, H))
    with pytest.raises(ValueError, match=message):
        jaxrnn.rtrl(cell, params, xs, dys, influence=jaxrnn.diagonal_influence)
