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
    ],
    ids=["lbfgs", "dog", "reduce-on-plateau", "multi-steps"],
)
def test_update_takes_every_kind_of_transformation(optimizer):
    update, state = start(optimizer)
    seen = []
    for _ in range(4):
        state, metrics = update(state, jnp.ones(3))
        seen.append(float(metrics["loss"]))
    assert seen[-1] < seen[0]


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


def interrupting(batches, at):
    for index, batch in enumerate(batches):
        if index == at:
            os.kill(os.getpid(), signal.SIGINT)
        yield batch


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
        ({"loss": 1.0, "step": 7}, ValueError, "none of them named 'step'"),
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


@pytest.mark.parametrize("make", [jaxrnn.elman, jaxrnn.gru, jaxrnn.lstm])
@pytest.mark.parametrize("unroll_fn", [jaxrnn.unroll, jaxrnn.unroll_bptt])
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
