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


def test_an_adjoint_that_sums_over_the_wrong_axes_is_named():
    """Unbatched it would be a number, and adding to zeros would hide that."""
    cell = jaxrnn.elman(H)

    def accumulate(params, xs, residuals, da_xs):
        dparams, dxs = cell.adjoint.accumulate(params, xs, residuals, da_xs)
        return dparams._replace(b=da_xs.sum((0, 1))), dxs

    wrong = cell._replace(adjoint=cell.adjoint._replace(accumulate=accumulate))
    params = cell.init(jax.random.key(0), I)
    with pytest.raises(ValueError, match=r"accumulate\.b must have shape \(5,\)"):
        jaxrnn.bptt(wrong, params, jnp.ones((T, I)), jnp.ones((T, H)))


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
def test_wrong_sequences(name, run, mistake):
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
def test_wrong_masks_and_resets(name, run, flag, mistake):
    evaluate, case = setup(name, run)
    change, error, message = FLAGS[mistake]
    with pytest.raises(error, match=f"{flag} .*{message}|{flag} {message}"):
        evaluate(case.params, case.xs, **{flag: change(case.flags[flag])})


@runs
def test_states_of_another_structure(run):
    evaluate, case = setup("lstm", run)
    with pytest.raises(
        ValueError, match=r"state must have the structure .*LSTMState.*got .*\*"
    ):
        evaluate(case.params, case.xs, case.state.h)
    with pytest.raises(ValueError, match="state must have the structure"):
        evaluate(case.params, case.xs, tuple(case.state))


@cells
@runs
def test_states_of_another_batch_size_or_dtype(name, run):
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
def test_wrong_cotangents(name):
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


@pytest.mark.parametrize("make", [jaxrnn.elman, jaxrnn.lstm, jaxrnn.gru, jaxrnn.dense])
def test_wrong_sizes(make):
    name = "size" if make is jaxrnn.dense else "hidden_size"
    for size in (0, -3):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got {size}"):
            make(size)
    for size in (2.0, "5", None, True, (5,)):
        with pytest.raises(TypeError, match=f"{name} must be an int, got"):
            make(size)
    with pytest.raises(ValueError, match="input_size must be at least 1, got 0"):
        make(5).init(jax.random.key(0), 0)
    with pytest.raises(TypeError, match="dtype must be a floating dtype, got int32"):
        make(5).init(jax.random.key(0), 2, jnp.int32)


def test_columns_that_are_no_multiple_of_the_gates():
    init = jaxrnn.initializers.per_gate(jaxrnn.initializers.orthogonal, 4)
    with pytest.raises(ValueError, match=r"a multiple of 4 columns, got \(3, 10\)"):
        init(jax.random.key(0), (3, 10), jnp.float32)


def test_wrong_activation():
    with pytest.raises(
        TypeError, match="activation must be a function of arrays, got 'tanh'"
    ):
        jaxrnn.elman(5, activation="tanh")


@pytest.mark.parametrize("run", ["unroll_bptt", "bptt"])
def test_a_cell_without_adjoint(run):
    cell = jaxrnn.gru(H)._replace(adjoint=None)
    params = random_params(0, cell)
    xs = jnp.zeros((T, B, I))
    with pytest.raises(ValueError, match=r"must have an adjoint.*jaxrnn\.unroll,"):
        jax.eval_shape(functools.partial(RUNS[run], cell), params, xs)
    assert jaxrnn.unroll(cell, params, xs)[1].shape == (T, B, H)


def test_layers_that_do_not_fit():
    with pytest.raises(
        ValueError, match="stack must have at least one layer, got none"
    ):
        jaxrnn.stack()
    with pytest.raises(
        TypeError, match=r"layers\[1\] must be a Layer, got Cell: wrap it in"
    ):
        jaxrnn.stack(jaxrnn.dense(2), jaxrnn.gru(3))


def test_what_is_no_cell():
    lstm = jaxrnn.lstm(H)
    params = lstm.init(jax.random.key(0), I)
    xs = jnp.zeros((T, I))
    layer = jaxrnn.layer(lstm)
    by_apply = "must be a Cell, got Layer: a layer is run by its own apply"
    for call, message in [
        (lambda: jaxrnn.unroll(layer, params, xs), f"cell {by_apply}"),
        (lambda: jaxrnn.unroll_bptt(layer, params, xs), f"cell {by_apply}"),
        (lambda: jaxrnn.bptt(layer, params, xs, xs), f"cell {by_apply}"),
        (lambda: jaxrnn.layer(layer), f"cell {by_apply}"),
        (lambda: jaxrnn.bidirectional(lstm, layer), f"backward {by_apply}"),
        (lambda: jaxrnn.layer(jaxrnn.lstm), "got function: call the factory"),
        (
            lambda: jaxrnn.unroll(params, lstm, xs),
            "cell must be a Cell, got LSTMParams",
        ),
        (lambda: jaxrnn.stack([layer]), r"layers\[0\] .* got list: unpack it"),
        (lambda: jaxrnn.dense(2, activation="relu"), "activation must be a function"),
    ]:
        with pytest.raises(TypeError, match=message):
            call()


def test_steps_of_layers():
    layer = jaxrnn.layer(jaxrnn.lstm(H))
    params = layer.init(jax.random.key(0), I)
    state = layer.initial_state(params, (B,))
    with pytest.raises(ValueError, match="2 features"):
        layer.step(params, state, jnp.zeros((B, 1)))
    with pytest.raises(ValueError, match=r"state\.h must have shape \(4, 5\)"):
        layer.step(params, state, jnp.zeros((4, I)))
    both = jaxrnn.bidirectional(jaxrnn.gru(2), jaxrnn.gru(2))
    with pytest.raises(ValueError, match=r"a bidirectional layer.*later inputs"):
        jaxrnn.stack(layer, both).step((params, None), (state, None), jnp.zeros((B, I)))


def test_states_of_stacks():
    layer = jaxrnn.layer(jaxrnn.gru(I))
    model = jaxrnn.stack(layer, layer, layer)
    params = model.init(jax.random.key(0), I)
    with pytest.raises(
        ValueError, match="state must be a tuple with 3 entries, one for each"
    ):
        model.apply(params, jnp.zeros((T, I)), jnp.zeros(I))
    with pytest.raises(ValueError, match="state must be a tuple with 3 entries"):
        model.step(params, model.initial_state(params)[:2], jnp.zeros(I))
    with pytest.raises(ValueError, match="params must be a tuple with 3 entries"):
        model.apply(params[:2], jnp.zeros((T, I)))


def test_embeddings_of_what_is_no_token():
    layer = jaxrnn.embedding(4, 3)
    params = layer.init(jax.random.key(0), 4)
    with pytest.raises(TypeError, match="xs must be integers, got dtype float64"):
        layer.apply(params, jnp.zeros((T, B)))
    with pytest.raises(ValueError, match=r"mask must have shape \(T, \*B\) = \(7, 3\)"):
        layer.apply(params, jnp.zeros((T, B), int), mask=jnp.ones((T,), bool))
    with pytest.raises(ValueError, match="vocab_size must be at least 1, got 0"):
        jaxrnn.embedding(0, 3)


def test_lengths_that_are_no_integers():
    with pytest.raises(TypeError, match="lengths must be integers, got dtype float64"):
        jaxrnn.lengths_to_mask(jnp.ones(3), T)
    with pytest.raises(ValueError, match="num_steps must be at least 0, got -1"):
        jaxrnn.lengths_to_mask(jnp.ones(3, int), -1)


CELLS_THAT_CANNOT_BE = {
    "projection": (
        lambda: jaxrnn.projected_lstm(5, 5),
        ValueError,
        r"projection_size must be .*below hidden_size.*got 5",
    ),
    "heads": (
        lambda: jaxrnn.multihead(jaxrnn.lstm, 8, 3),
        ValueError,
        "num_heads must divide hidden_size = 8, got 3",
    ),
    "no head": (
        lambda: jaxrnn.multihead(lambda size: size, 8, 2),
        TypeError,
        r"make_cell\(size\) must be a Cell, got int",
    ),
    "a cell for heads": (
        lambda: jaxrnn.multihead(jaxrnn.lstm(4), 8, 2),
        TypeError,
        "make_cell must be a function that makes a cell of a size, as jaxrnn.lstm, got",
    ),
    "noisy heads": (
        lambda: jaxrnn.multihead(
            lambda size: jaxrnn.zoneout(jaxrnn.gru(size), 0.1), 8, 2
        ),
        ValueError,
        "make_cell must make cells that draw no noise",
    ),
    "even kernel": (
        lambda: jaxrnn.conv_lstm(5, (3, 4), (8, 8)),
        ValueError,
        r"kernel_shape must be odd, so that a kernel has a middle, got \(3, 4\)",
    ),
    "kernel of other dimensions": (
        lambda: jaxrnn.conv_gru(5, (3,), (8, 8)),
        ValueError,
        r"kernel_shape must have one size for each axis of spatial_shape = \(8, 8\)",
    ),
    "kernel of one number": (
        lambda: jaxrnn.conv_lstm(5, 3, (8, 8)),
        ValueError,
        r"kernel_shape must be a tuple of one to three sizes, as \(3, 3\), got 3",
    ),
    "four dimensions": (
        lambda: jaxrnn.conv_lstm(5, (3,) * 4, (8,) * 4),
        ValueError,
        "kernel_shape must be a tuple of one to three sizes",
    ),
    "spectral radius": (
        lambda: jaxrnn.echo_state(5, spectral_radius=0),
        ValueError,
        "spectral_radius must be positive and finite, got 0",
    ),
    "connections": (
        lambda: jaxrnn.echo_state(5, connections=6),
        ValueError,
        "connections must be at most hidden_size = 5, got 6",
    ),
    "time constant": (
        lambda: jaxrnn.leaky_integrator(5, time_constant=0.5),
        ValueError,
        "step_size must be at most time_constant = 0.5, got 1.0",
    ),
    "no time constant": (
        lambda: jaxrnn.leaky_integrator(5, time_constant=-1),
        ValueError,
        "time_constant must be positive and finite, got -1",
    ),
    "no number": (
        lambda: jaxrnn.leaky_integrator(5, time_constant="1"),
        TypeError,
        "time_constant must be a number, got '1'",
    ),
    "antisymmetric step": (
        lambda: jaxrnn.antisymmetric(5, step_size=float("inf")),
        ValueError,
        "step_size must be positive and finite, got inf",
    ),
    "decays": (
        lambda: jaxrnn.lru(5, least_decay=0.9, most_decay=0.5),
        ValueError,
        r"most_decay must be above least_decay = 0\.9, got 0\.5",
    ),
    "unstable decay": (
        lambda: jaxrnn.lru(5, most_decay=1),
        ValueError,
        "most_decay must be at least 0 and below 1, got 1",
    ),
    "depth": (
        lambda: jaxrnn.recurrent_highway(5, depth=0),
        ValueError,
        "depth must be at least 1, got 0",
    ),
    "cell clip": (
        lambda: jaxrnn.lstm(5, cell_clip=0),
        ValueError,
        "cell_clip must be positive and finite, got 0",
    ),
    "map": (
        lambda: jaxrnn.orthogonal_rnn(5, map_fn="cayley"),
        TypeError,
        "map_fn must be a function of a matrix, got 'cayley'",
    ),
    "activation": (
        lambda: jaxrnn.jordan(5, 2, output_activation="tanh"),
        TypeError,
        "output_activation must be a function of arrays, got 'tanh'",
    ),
    "transformation": (
        lambda: jaxrnn.reparametrized(jaxrnn.elman(5), 1.0),
        TypeError,
        "transform must be a function, got 1.0",
    ),
}


@pytest.mark.parametrize("name", CELLS_THAT_CANNOT_BE)
def test_a_cell_that_cannot_be_is_named(name):
    make, error, message = CELLS_THAT_CANNOT_BE[name]
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "transform",
    [lambda p: p._replace(b=p.b[:1]), lambda p: p._replace(b=0.0), tuple],
    ids=["shape", "number", "tuple"],
)
def test_a_transformation_to_something_else_is_named(transform):
    cell = jaxrnn.reparametrized(jaxrnn.elman(5), transform)
    params = cell.init(jax.random.key(0), I)
    with pytest.raises(TypeError, match="transform must give what it gets"):
        jaxrnn.unroll(cell, params, jnp.ones((T, I)))


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
    with pytest.raises(ValueError, match="xs must have the axes of space"):
        cell.project(params, xs[..., :3, :])


RIDGE = {
    "rows": (
        (T, 4),
        (T - 1, 1),
        {},
        ValueError,
        "targets must have the steps and rows",
    ),
    "penalty": ((T, 4), (T, 1), {"penalty": 0}, ValueError, "penalty must be positive"),
    "mask": ((T, 4), (T, 1), {"mask": [1] * T}, TypeError, "mask must be boolean"),
}


@pytest.mark.parametrize("name", RIDGE)
def test_a_readout_that_cannot_be_fitted_is_named(name):
    features, targets, options, error, message = RIDGE[name]
    with pytest.raises(error, match=message):
        jaxrnn.ridge_readout(
            jnp.ones(features), jnp.ones(targets), **{"penalty": 1.0, **options}
        )
