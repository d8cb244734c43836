"""What ``unroll_bptt`` and ``unroll_chunked`` take, refuse and say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    B,
    H,
    I,
    T,
    assert_close,
    problem,
    random_params,
    unroll_bptt,
)

import jaxrnn


def test_the_chunk_size_of_a_layer():
    unroll_fn = functools.partial(jaxrnn.unroll_chunked, chunk_size=2)
    model = jaxrnn.layer(jaxrnn.elman(H), unroll_fn=unroll_fn)
    params = random_params(0, model)
    _, ys = jax.eval_shape(model.apply, params, np.ones((T, B, I)))
    assert ys.shape == (T, B, H)


@pytest.mark.parametrize(
    ("chunk_size", "error", "message"),
    [
        (0, ValueError, "chunk_size must be at least 1, got 0"),
        (-3, ValueError, "chunk_size must be at least 1, got -3"),
        (2.5, TypeError, "chunk_size must be an int"),
    ],
)
def test_a_bad_chunk_size_is_named(chunk_size, error, message):
    cell = jaxrnn.elman(H)
    params = random_params(0, cell)
    with pytest.raises(error, match=message):
        jaxrnn.unroll_chunked(cell, params, jnp.ones((T, I)), chunk_size=chunk_size)


@pytest.mark.parametrize("unroll_fn", [jaxrnn.unroll_bptt, jaxrnn.unroll_chunked])
def test_forward_mode_says_what_to_pass_instead(unroll_fn):
    cell = jaxrnn.elman(H)
    params = random_params(0, cell)
    model = jaxrnn.layer(cell, unroll_fn=unroll_fn)
    with pytest.raises(TypeError, match=r"pass unroll_fn=jaxrnn\.unroll to the layer"):
        jax.jacfwd(lambda params: model.apply(params, jnp.ones((T, I)))[1])(params)


@pytest.mark.parametrize("unroll_fn", [jaxrnn.unroll_bptt, jaxrnn.unroll_chunked])
def test_other_mistakes_are_not_taken_for_forward_mode(unroll_fn):
    cell = jaxrnn.elman(H)
    params = random_params(0, cell)

    def run(reverse):
        return unroll_fn(cell, params, jnp.ones((T, I)), reverse=reverse)

    with pytest.raises(TypeError) as raised:
        jax.jit(run)(True)
    assert "forward-mode" not in str(raised.value)


def test_a_parameter_gradient_of_the_wrong_shape_is_named_in_chunks_too():
    cell = jaxrnn.elman(H)

    def accumulate(params, xs, residuals, da_xs):
        dparams, dxs = cell.adjoint.accumulate(params, xs, residuals, da_xs)
        return dparams._replace(b=dparams.b.sum()), dxs

    wrong = cell._replace(adjoint=cell.adjoint._replace(accumulate=accumulate))
    params = random_params(0, cell)

    def loss(params):
        return jaxrnn.unroll_chunked(wrong, params, jnp.ones((T, I)))[1].sum()

    with pytest.raises(ValueError, match=r"accumulate\.b must have shape \(5,\)"):
        jax.grad(loss)(params)


def counting(cell):
    """A cell with an integer beside its state, which nothing depends on."""

    def step(params, state, a_x):
        new, y = cell.step(params, state[0], a_x)
        return (new, state[1] + 1), y

    def forward(params, state, a_x):
        new, y, residual = cell.adjoint.forward(params, state[0], a_x)
        return (new, state[1] + 1), y, residual

    def backward(params, residual, dstate, dy):
        dnew, da_x = cell.adjoint.backward(params, residual, dstate[0], dy)
        return (dnew, dstate[1]), da_x

    def initial_state(params, batch_shape=()):
        return cell.initial_state(params, batch_shape), jnp.zeros(batch_shape, int)

    return cell._replace(
        initial_state=initial_state,
        step=step,
        adjoint=jaxrnn.Adjoint(forward, backward, cell.adjoint.accumulate),
    )


@pytest.mark.parametrize("flags", [False, True])
def test_a_state_may_hold_integers(flags):
    cell = counting(jaxrnn.elman(H))
    case = problem(jaxrnn.elman(H), mask=flags, resets=flags)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(unroll_fn):
        def loss(params):
            _, ys = unroll_fn(cell, params, case.xs, **case.flags)
            return (ys * case.dys).sum()

        return jax.grad(loss)(case.params)

    expected = gradient(jaxrnn.unroll)
    assert_close(gradient(jaxrnn.unroll_bptt), expected, 1e-10)
    assert_close(gradient(jaxrnn.unroll_chunked), expected, 1e-10)


def test_an_empty_batch_gives_empty_outputs():
    cell = jaxrnn.gru(H)
    params = random_params(0, cell)
    state, ys = unroll_bptt(cell, params, np.ones((T, 0, I)))
    assert (state.shape, ys.shape) == ((0, H), (T, 0, H))


@pytest.mark.parametrize("unroll_fn", [jaxrnn.unroll_bptt, jaxrnn.unroll_chunked])
@pytest.mark.parametrize("explicit", [False, True], ids=["shard_map", "explicit"])
def test_sharded_batches_have_the_gradient_of_one_device(unroll_fn, explicit):
    cell = jaxrnn.gru(H)
    case = problem(cell)
    kind = jax.sharding.AxisType.Explicit if explicit else jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((1,), ("data",), axis_types=(kind,))
    spec = jax.sharding.PartitionSpec
    rows = spec(None, "data"), spec("data")

    def gradient(run, params, xs, state):
        def loss(params):
            return (run(cell, params, xs, state)[1] ** 2).sum()

        return jax.grad(loss)(params)

    sharded = functools.partial(gradient, unroll_fn)
    arguments = case.params, case.xs, case.state
    with jax.set_mesh(mesh):
        if explicit:
            arguments = tuple(
                jax.device_put(a, jax.sharding.NamedSharding(mesh, s))
                for a, s in zip(arguments, (spec(), *rows), strict=True)
            )
        else:
            sharded = jax.shard_map(
                sharded, mesh=mesh, in_specs=(spec(), *rows), out_specs=spec()
            )
        actual = jax.jit(sharded)(*arguments)
    expected = jax.jit(functools.partial(gradient, jaxrnn.unroll))(
        case.params, case.xs, case.state
    )
    assert_close(jax.device_get(actual), jax.device_get(expected), 1e-10)
