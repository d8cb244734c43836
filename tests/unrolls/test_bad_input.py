"""Each mistake is named: the argument, what was expected and what came."""

import functools

import jax
import jax.numpy as jnp
import pytest
from cases import BASE, CELLS, B, H, I, T, problem, random_params

import jaxrnn

cells = pytest.mark.parametrize("name", BASE)
RUNS = {
    "unroll": jaxrnn.unroll,
    "unroll_bptt": jaxrnn.unroll_bptt,
    "bptt": lambda cell, params, xs, state=None, **flags: jaxrnn.bptt(
        cell, params, xs, jnp.zeros((T, B, H)), state, **flags
    ),
    "layer": lambda cell, params, xs, state=None, **flags: jaxrnn.layer(cell).apply(
        params, xs, state, **flags
    ),
}
runs = pytest.mark.parametrize("run", RUNS)


def setup(name, run):
    cell = CELLS[name].cell
    case = problem(cell)
    # Errors come while tracing, from static facts alone.
    return functools.partial(jax.eval_shape, functools.partial(RUNS[run], cell)), case


SEQUENCES = {
    "features": (
        lambda xs: xs[..., :1],
        ValueError,
        r"xs must have 2 features on its last axis.*got shape \(7, 3, 1\)",
    ),
    "rank": (lambda xs: xs[0, 0], ValueError, r"xs must have shape \(T, \*B, F\)"),
    "integers": (
        lambda xs: jnp.ones(xs.shape, int),
        TypeError,
        r"xs must have dtype float64.*got int64: integer tokens need",
    ),
    "float32": (
        lambda xs: xs.astype(jnp.float32),
        TypeError,
        r"xs must have dtype float64.*got float32: cast with xs.astype\('float64'\)",
    ),
}


@cells
@runs
@pytest.mark.parametrize("mistake", SEQUENCES)
def test_wrong_sequences_are_named(name, run, mistake):
    evaluate, case = setup(name, run)
    change, error, message = SEQUENCES[mistake]
    with pytest.raises(error, match=message):
        evaluate(case.params, change(case.xs))


FLAGS = {
    "transposed": (
        lambda f: f.T,
        ValueError,
        r"must have shape \(T, \*B\) = \(7, 3\), got shape \(3, 7\)",
    ),
    "time-only": (lambda f: f[:, 0], ValueError, r"= \(7, 3\), got shape \(7,\)"),
    "with-features": (lambda f: f[..., None], ValueError, r"got shape \(7, 3, 1\)"),
    "float": (
        lambda f: f.astype(float),
        TypeError,
        "must be boolean, got dtype float64",
    ),
    "integer": (lambda f: f.astype(int), TypeError, "must be boolean, got dtype int64"),
}


@pytest.mark.parametrize("name", ["elman", "lstm"])
@runs
@pytest.mark.parametrize("flag", ["mask", "resets"])
@pytest.mark.parametrize("mistake", FLAGS)
def test_wrong_masks_and_resets_are_named(name, run, flag, mistake):
    evaluate, case = setup(name, run)
    change, error, message = FLAGS[mistake]
    with pytest.raises(error, match=f"{flag} .*{message}|{flag} {message}"):
        evaluate(case.params, case.xs, **{flag: change(case.flags[flag])})


@runs
def test_states_of_another_structure_are_named(run):
    evaluate, case = setup("lstm", run)
    with pytest.raises(ValueError, match="state must be LSTMState, got one array"):
        evaluate(case.params, case.xs, case.state.h)
    with pytest.raises(ValueError, match="state must be LSTMState, got a tuple of 2"):
        evaluate(case.params, case.xs, tuple(case.state))


@cells
@runs
def test_states_of_another_batch_size_or_dtype_are_named(name, run):
    evaluate, case = setup(name, run)
    one = jax.tree.map(lambda s: s[:1], case.state)
    with pytest.raises(
        ValueError, match=r"state.* must have shape \(3, 5\), got shape \(1, 5\)"
    ):
        evaluate(case.params, case.xs, one)
    narrow = jax.tree.map(lambda s: s.astype(jnp.float32), case.state)
    with pytest.raises(
        TypeError, match=r"state.* must have dtype float64, got float32"
    ):
        evaluate(case.params, case.xs, narrow)


def test_the_leaf_of_a_state_is_named():
    evaluate, case = setup("lstm", "unroll")
    state = case.state._replace(c=case.state.c[:, :4])
    with pytest.raises(
        ValueError, match=r"state\.c must have shape \(3, 5\), got shape \(3, 4\)"
    ):
        evaluate(case.params, case.xs, state)


@cells
def test_wrong_cotangents_are_named(name):
    cell = CELLS[name].cell
    case = problem(cell)
    run = functools.partial(jaxrnn.bptt, cell, case.params, case.xs)
    with pytest.raises(
        ValueError, match=r"dys must have shape \(7, 3, 5\), got shape \(7, 3, 4\)"
    ):
        run(case.dys[..., :4])
    with pytest.raises(TypeError, match=r"dys must have dtype float64, got float32"):
        run(case.dys.astype(jnp.float32))
    with pytest.raises(
        ValueError, match=r"dstate.* must have shape \(3, 5\), got shape \(2, 5\)"
    ):
        run(case.dys, dstate=jax.tree.map(lambda s: s[:2], case.dstate))


@pytest.mark.parametrize("run", ["unroll_bptt", "bptt"])
def test_a_cell_without_adjoint_is_named(run):
    cell = jaxrnn.gru(H)._replace(adjoint=None)
    params = random_params(0, cell)
    xs = jnp.zeros((T, B, I))
    with pytest.raises(ValueError, match=r"must have an adjoint.*jaxrnn\.unroll,"):
        jax.eval_shape(functools.partial(RUNS[run], cell), params, xs)
    assert jaxrnn.unroll(cell, params, xs)[1].shape == (T, B, H)


def test_lengths_that_are_no_integers_are_named():
    with pytest.raises(TypeError, match="lengths must be integers, got dtype float64"):
        jaxrnn.lengths_to_mask(jnp.ones(3), T)
    with pytest.raises(ValueError, match="num_steps must be at least 0, got -1"):
        jaxrnn.lengths_to_mask(jnp.ones(3, int), -1)


def test_influences_of_images_are_refused():
    cell = jaxrnn.conv_gru(2, (3,), (4,))
    params = cell.init(jax.random.key(0), I)
    with pytest.raises(ValueError, match="cell must take vectors for real-time"):
        jaxrnn.rtrl(cell, params, jnp.ones((T, B, 4, I)), jnp.ones((T, B, 4, 2)))


@pytest.mark.parametrize("run", [jaxrnn.unroll, jaxrnn.unroll_bptt])
def test_images_of_another_shape_are_named(run):
    cell = jaxrnn.conv_lstm(H, (3, 3), (4, 6))
    params = cell.init(jax.random.key(0), I)
    message = r"xs must have shape \(T, \*B, \*S, F\) with S = \(4, 6\), time first and"
    for shape in [(T, B, 6, 4, I), (T, B, I, 4, 6), (4, 6, I)]:
        with pytest.raises(ValueError, match=message):
            run(cell, params, jnp.ones(shape))
    xs = jnp.ones((T, B, 4, 6, I))
    with pytest.raises(ValueError, match=r"mask must have shape \(T, \*B\) = \(7, 3\)"):
        run(cell, params, xs, mask=jnp.ones(xs.shape[:-1], bool))
    with pytest.raises(ValueError, match="xs must have the spatial axes"):
        cell.project(params, xs[..., :3, :])
