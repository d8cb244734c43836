import functools
import itertools
import os
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from covering import combinations

import jaxrnn
from jaxrnn import decode, losses, train

pytestmark = pytest.mark.usefixtures("standard_promotion")


def quadratic(params, batch, key):
    loss = ((params["w"] - batch) ** 2).sum()
    return loss, {"first": params["w"][0]}


def start(optimizer=None):
    optimizer = optimizer or optax.sgd(0.1)
    params = {"w": jnp.zeros(3)}
    return (
        train.make_update(quadratic, optimizer),
        train.init(params, optimizer, jax.random.key(0)),
    )


def test_update_equals_optax_by_hand():
    optimizer = train.default_optimizer(1e-2, max_norm=0.5)
    update, state = start(optimizer)
    params, opt_state = {"w": jnp.zeros(3)}, optimizer.init({"w": jnp.zeros(3)})
    for step in range(3):
        batch = jnp.arange(3.0) + step
        state, metrics = update(state, batch)
        loss, grads = jax.value_and_grad(lambda p, b: quadratic(p, b, None)[0])(
            params, batch
        )
        np.testing.assert_allclose(metrics["loss"], loss)
        np.testing.assert_allclose(metrics["first"], params["w"][0])
        np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(grads))
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        chex.assert_trees_all_close(state.params, params)
        assert state.step == step + 1


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.lbfgs(),
        optax.contrib.dog(1.0),
        optax.chain(optax.adam(0.1), optax.contrib.reduce_on_plateau()),
        optax.MultiSteps(optax.sgd(0.5), 2),
        optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.05), opaque_mode=True),
    ],
    ids=["lbfgs", "dog", "reduce-on-plateau", "multi-steps", "sam"],
)
def test_update_takes_every_kind_of_transformation(optimizer):
    update, state = start(optimizer)
    seen = []
    for _ in range(4):
        state, metrics = update(state, jnp.ones(3))
        seen.append(float(metrics["loss"]))
    assert seen[-1] < seen[0]


def test_a_line_search_takes_parameters_of_16_bits(standard_promotion):
    layer = jaxrnn.layer(jaxrnn.gru(3))
    xs = jnp.ones((4, 2), jnp.bfloat16)

    def loss_fn(params, batch, key):
        return (layer.apply(params, batch)[1].astype(jnp.float32) ** 2).sum()

    params = layer.init(jax.random.key(0), 2, jnp.bfloat16)
    optimizer = optax.lbfgs()
    update = train.make_update(loss_fn, optimizer)
    state = train.init(params, optimizer, jax.random.key(0))
    losses = []
    for _ in range(3):
        state, metrics = update(state, xs)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]
    assert state.params.w_h.dtype == jnp.bfloat16


def test_the_norm_of_a_float16_gradient_does_not_overflow():
    optimizer = optax.sgd(1e-4)
    update = train.make_update(lambda p, b, k: (300 * p["w"]).sum(), optimizer)
    params = {"w": jnp.zeros(3, jnp.float16)}
    state = train.init(params, optimizer, jax.random.key(0))
    state, metrics = update(state, None)
    np.testing.assert_allclose(metrics["grad_norm"], 300 * np.sqrt(3), rtol=1e-3)
    assert state.step == 1


def test_update_donates_its_state_and_init_copies():
    params = {"w": jnp.zeros(3)}
    optimizer = optax.sgd(0.1)
    update = train.make_update(quadratic, optimizer)
    state = train.init(params, optimizer, jax.random.key(0))
    new_state, _ = update(state, jnp.ones(3))
    assert state.params["w"].is_deleted()
    assert not params["w"].is_deleted()
    assert not new_state.params["w"].is_deleted()


def test_update_gives_each_step_its_own_key_and_traces_once():
    seen = []
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def loss_fn(params, batch, key):
        return params["w"].sum() * 0, {"drawn": jax.random.normal(key)}

    optimizer = optax.sgd(0.1)
    update = train.make_update(loss_fn, optimizer)
    state = train.init({"w": jnp.zeros(3)}, optimizer, jax.random.key(0))
    for _ in range(3):
        state, metrics = update(state, None)
        seen.append(float(metrics["drawn"]))
    assert len(set(seen)) == 3


def test_fit_records_everything_and_keeps_the_best():
    update, state = start()
    # Validation is best, at w = 0.4 everywhere, in the middle of the run.
    result = train.fit(
        update,
        state,
        itertools.repeat(jnp.ones(3)),
        num_steps=10,
        validate=lambda params: {"loss": jnp.abs(params["w"] - 0.4).sum()},
        validate_every=2,
    )
    assert result.stopped == ""
    assert int(result.state.step) == 10
    np.testing.assert_array_equal(result.history.train["step"], np.arange(1, 11))
    assert (np.diff(result.history.train["loss"]) < 0).all()
    assert set(result.history.train) == {"step", "loss", "first", "grad_norm"}
    validation = result.history.validation
    np.testing.assert_array_equal(validation["step"], [0, 2, 4, 6, 8, 10])
    best = np.argmin(validation["loss"])
    assert validation["step"][best] == 2
    np.testing.assert_allclose(result.best_params["w"], 1 - 0.8**2, rtol=1e-6)


def test_fit_ends_with_the_batches_and_goes_on_from_a_state():
    update, state = start()
    result = train.fit(update, state, [jnp.ones(3)] * 4)
    chex.assert_trees_all_equal(result.best_params, result.state.params)
    result = train.fit(update, result.state, [jnp.ones(3)] * 3)
    np.testing.assert_array_equal(result.history.train["step"], [5, 6, 7])
    assert result.history.validation["loss"].size == 0


def test_fit_takes_no_more_batches_than_steps():
    update, state = start()
    batches = iter([jnp.ones(3)] * 5)
    train.fit(update, state, batches, num_steps=3)
    assert len(list(batches)) == 2


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_fit_stops_at_a_loss_that_is_not_finite(bad):
    update, state = start()
    good, spoilt = jnp.ones(3), jnp.array([1.0, bad, 1.0])
    result = train.fit(update, state, [good, good, spoilt, good])
    assert "step 3: loss" in result.stopped
    assert "step 2" in result.stopped
    assert int(result.state.step) == 2
    _, expected = start()
    for batch in (good, good):
        expected, _ = update(expected, batch)
    chex.assert_trees_all_equal(result.state.params, expected.params)
    np.testing.assert_array_equal(result.history.train["step"], [1, 2])


def test_fit_stops_at_a_gradient_that_is_not_finite():
    optimizer = optax.sgd(0.1)
    update = train.make_update(lambda p, b, k: jnp.sqrt(p["w"]).sum(), optimizer)
    state = train.init({"w": jnp.zeros(3)}, optimizer, jax.random.key(0))
    result = train.fit(update, state, [None])
    assert "step 1: loss 0.0, gradient norm inf" in result.stopped
    assert not result.state.params["w"].any()


@pytest.fixture
def hears_ctrl_c():
    """As in a terminal: some runners, nohup too, have their programs ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupting(batches, at):
    for index, batch in enumerate(batches):
        if index == at:
            os.kill(os.getpid(), signal.SIGINT)
        yield batch


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_finishes_the_step_and_keeps_the_best():
    update, state = start()
    before = signal.getsignal(signal.SIGINT)
    result = train.fit(
        update,
        state,
        interrupting(itertools.repeat(jnp.ones(3)), 7),
        num_steps=1000,
        validate=lambda params: {"loss": jnp.abs(params["w"] - 1).sum()},
        validate_every=2,
    )
    assert signal.getsignal(signal.SIGINT) is before
    steps = int(result.state.step)
    assert result.stopped == f"interrupted after step {steps}"
    assert steps in (7, 8)
    # Validated last at step 6, and every step was an improvement.
    np.testing.assert_allclose(result.best_params["w"], 1 - 0.8**6, rtol=1e-6)
    chex.assert_tree_all_finite(result.state.params)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_a_second_ctrl_c_raises():
    update, state = start()

    def batches():
        yield jnp.ones(3)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        yield jnp.ones(3)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train.fit(update, state, batches())
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_raised_by_the_batches_keeps_the_state():
    update, state = start()

    def batches():
        yield jnp.ones(3)
        raise KeyboardInterrupt

    result = train.fit(update, state, batches())
    assert result.stopped == "interrupted after step 1"
    np.testing.assert_array_equal(result.history.train["step"], [1])
    np.testing.assert_allclose(result.best_params["w"], 0.2, rtol=1e-6)


def test_metrics_that_come_and_go_leave_gaps():
    update, state = start()
    rows = iter([{"loss": 1.0, "a": 2.0}, {"loss": 1.0}, {"loss": 1.0, "b": 3.0}])
    result = train.fit(
        update,
        state,
        [jnp.ones(3)] * 2,
        validate=lambda params: next(rows),
        validate_every=1,
    )
    np.testing.assert_array_equal(result.history.validation["a"], [2, np.nan, np.nan])
    np.testing.assert_array_equal(result.history.validation["b"], [np.nan, np.nan, 3])


def test_progress_is_quiet_without_a_terminal_and_shown_on_request(capsys):
    update, state = start()
    train.fit(update, state, [jnp.ones(3)] * 2)
    assert capsys.readouterr() == ("", "")
    _, state = start()
    progress = functools.partial(train.terminal_progress, disable=False)
    train.fit(update, state, [jnp.ones(3)] * 2, num_steps=2, progress=progress)
    assert "loss=" in capsys.readouterr().err


def test_fit_says_that_the_batches_ended():
    update, state = start()
    result = train.fit(update, state, [jnp.ones(3)] * 4, num_steps=9)
    assert result.stopped == "the batches ended after step 4"


def test_a_validation_that_is_never_finite_keeps_the_initial_parameters():
    update, state = start()
    result = train.fit(
        update, state, [jnp.ones(3)], validate=lambda params: {"loss": jnp.nan}
    )
    assert not result.best_params["w"].any()
    assert result.state.params["w"].all()
    assert result.stopped == "no validation was finite; best_params are those of step 0"


def nan_at(step):
    """A schedule that is NaN from some step on."""
    return lambda count: jnp.where(count < step, 0.1, jnp.nan)


@pytest.mark.parametrize(
    ("optimizer", "dtype", "good"),
    [
        (optax.adam(1e-2), jnp.float16, 0),  # a gradient of exactly zero: 0 / 0
        (optax.inject_hyperparams(optax.adam)(1e-2), jnp.float16, 0),
        (optax.sgd(nan_at(2)), jnp.float32, 2),
        (optax.adam(nan_at(2)), jnp.float32, 2),
    ],
)
def test_fit_stops_where_the_optimiser_makes_nan_of_finite_gradients(
    optimizer, dtype, good
):
    def loss_fn(params, batch, key):
        return ((params["w"] - 1) ** 2).sum() + 0 * params["unused"].sum()

    params = {"w": jnp.zeros(3, dtype), "unused": jnp.zeros(2, dtype)}
    state = train.init(params, optimizer, jax.random.key(0))
    update = train.make_update(loss_fn, optimizer)
    result = train.fit(update, state, [None] * 5)
    assert result.stopped.startswith(f"step {good + 1}: loss ")
    assert "what the optimiser makes of them is not" in result.stopped
    assert int(result.state.step) == good
    chex.assert_tree_all_finite((result.state.params, result.best_params))
    chex.assert_tree_all_finite(
        jax.tree.map(lambda leaf: jnp.asarray(leaf, float), result.state.opt_state)
    )


def bowl(params):
    """Best at w = 0.4, which training passes by."""
    return {"loss": jnp.abs(params["w"] - 0.4).sum()}


def test_fit_stops_when_its_patience_is_over():
    update, state = start()
    result = train.fit(
        update,
        state,
        itertools.repeat(jnp.ones(3)),
        num_steps=100,
        validate=bowl,
        validate_every=2,
        patience=3,
    )
    assert result.stopped == (
        "step 8: no better validation in 3, the best was at step 2"
    )
    assert (int(result.state.step), result.best.step) == (8, 2)
    np.testing.assert_allclose(result.best_params["w"], 1 - 0.8**2, rtol=1e-6)


def test_the_best_and_the_patience_survive_a_restart():
    update, state = start()
    options = {"validate": bowl, "validate_every": 2, "patience": 3}
    best, steps = train.Best(state.params), 0
    for _ in range(10):  # as a job that is cut off every three steps
        result = train.fit(update, state, [jnp.ones(3)] * 3, best=best, **options)
        state, best = result.state, result.best
        steps = int(state.step)
        if "no better" in result.stopped:
            break
    assert (steps, best.step) == (8, 2)
    np.testing.assert_allclose(best.params["w"], 1 - 0.8**2, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"state": {"w": 1}}, TypeError, "state must be a TrainState.* got dict"),
        (
            {"update": quadratic},
            TypeError,
            r"must take \(state, batch\).*params, batch",
        ),
        ({"update": 3}, TypeError, "update must be the result of make_update, got 3"),
        ({"batches": 5}, TypeError, "batches must be an iterable .* got 5"),
        ({"patience": 3}, ValueError, "patience must come with validate"),
        ({"patience": 0}, ValueError, "patience must be at least 1, got 0"),
        ({"best": {"w": 1}}, TypeError, "best must be the best of an earlier .* dict"),
    ],
)
def test_wrong_arguments_of_fit_are_named(change, error, message):
    update, state = start()
    arguments = {"update": update, "state": state, "batches": [], **change}
    with pytest.raises(error, match=message):
        train.fit(**arguments)


def test_an_update_that_does_not_donate_leaves_its_state():
    optimizer = optax.adam(0.1)
    _, state = start(optimizer)
    update = train.make_update(quadratic, optimizer, donate=False)
    once, _ = update(state, jnp.ones(3))
    again, _ = update(state, jnp.ones(3))
    chex.assert_trees_all_equal(once.params, again.params)
    assert not state.params["w"].any()


def test_a_state_that_was_used_up_is_named():
    update, state = start()
    update(state, jnp.ones(3))
    with pytest.raises(ValueError, match="an earlier update has reused"):
        train.fit(update, state, [jnp.ones(3)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, k: train.init(p, "adam", k), "optimizer must be .* got 'adam'"),
        (lambda p, k: train.make_update(quadratic, 0.01), "optimizer must be .* 0.01"),
        (
            lambda p, k: train.init(p, optax.sgd(1), 0),
            "key must be a key, .* got 0",
        ),
        (
            lambda p, k: train.init({"n": np.arange(3)}, optax.sgd(1), k),
            r"params\['n'\] must be floating to be trained, got dtype int64",
        ),
    ],
)
def test_wrong_arguments_of_init_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call({"w": jnp.zeros(3)}, jax.random.key(0))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda w: 1, "must return a floating loss, got dtype int"),
        (lambda w: w.sum() * 1j, "must return a floating loss, got dtype complex"),
        (lambda w: "low", "must return a scalar loss, .* got 'low'"),
        (lambda w: (w.sum(), w.sum()), "must return a scalar loss"),
        (lambda w: None, "must return a scalar loss"),
    ],
)
def test_a_loss_that_cannot_be_trained_is_named(loss, message):
    update = train.make_update(lambda p, b, k: loss(p["w"]), optax.sgd(0.1))
    state = train.init({"w": jnp.zeros(3)}, optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(TypeError, match=message):
        update(state, None)


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (
            jnp.zeros(()),
            TypeError,
            "validate must return a dict of scalars with a 'loss'",
        ),
        ({"bits": 1.0}, TypeError, "validate must return a dict .* got {'bits': 1.0}"),
        ({"loss": jnp.ones(3)}, ValueError, r"validate .* got loss of shape \(3,\)"),
        ({"loss": 1.0, "step": 7}, ValueError, "that are not named 'step'"),
    ],
)
def test_metrics_that_are_no_scalars_are_named(metrics, error, message):
    update, state = start()
    with pytest.raises(error, match=message):
        train.fit(update, state, [], validate=lambda params: metrics)


def test_a_loss_function_that_returns_something_else_is_named():
    optimizer = optax.sgd(0.1)
    for wrong in (lambda p, b, k: p["w"], lambda p, b, k: (p["w"].sum(), p["w"])):
        update = train.make_update(wrong, optimizer)
        state = train.init({"w": jnp.zeros(3)}, optimizer, jax.random.key(0))
        with pytest.raises(TypeError, match="loss_fn must return a scalar loss"):
            update(state, None)


@pytest.mark.parametrize("name", ["num_steps", "validate_every"])
def test_bad_counts_are_named(name):
    update, state = start()
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        train.fit(update, state, [], **{name: 0})


@combinations(
    strength=1,
    make=[jaxrnn.elman, jaxrnn.gru, jaxrnn.lstm],
    unroll_fn=[jaxrnn.unroll, jaxrnn.unroll_bptt],
)
def test_training_memorises_hello(make, unroll_fn):
    """From each prefix of "hello", its next character."""
    symbols = "helo."
    word = jnp.array([symbols.index(c) for c in "hello."])
    model = jaxrnn.stack(
        jaxrnn.embedding(len(symbols), 4),
        jaxrnn.layer(make(8), unroll_fn=unroll_fn),
        jaxrnn.dense(len(symbols)),
    )
    params = model.init(jax.random.key(0), None, jnp.float32)

    def loss_fn(params, batch, key):
        _, logits = model.apply(params, batch[:-1])
        loss = losses.softmax_cross_entropy(logits, batch[1:])
        return loss, {"accuracy": (logits.argmax(-1) == batch[1:]).mean()}

    optimizer = train.default_optimizer(2e-2)
    result = train.fit(
        train.make_update(loss_fn, optimizer),
        train.init(params, optimizer, jax.random.key(1)),
        itertools.repeat(word),
        num_steps=200,
    )
    assert result.history.train["accuracy"][-1] == 1
    assert result.history.train["loss"][-1] < 0.05
    _, drawn = decode.generate(
        model, result.state.params, word[:1], 5, key=jax.random.key(2)
    )
    assert "".join(symbols[i] for i in drawn) == "ello."
