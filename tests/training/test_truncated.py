"""Truncated backpropagation through time, against loops and full gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import assert_close, random_params

import jaxrnn
from jaxrnn import truncated

pytestmark = pytest.mark.usefixtures("standard_promotion")

N, B, I, K1 = 60, 3, 2, 4  # noqa: E741
key = jax.random.key(4)
model = jaxrnn.stack(jaxrnn.layer(jaxrnn.lstm(5)), jaxrnn.dense(2))
params = random_params(0, model, input_size=I)
rng = np.random.default_rng(0)
stream, targets = rng.normal(size=(N, I)), rng.normal(size=(N, 2))
starts = rng.random(N) < 0.1
optimizer = optax.sgd(0.1)


def loss_fn(ys, window):
    return jaxrnn.losses.mean_squared_error(ys, window.targets, mask=window.mask)


def windows(k1=K1, mask=False):
    found = truncated.contiguous_windows(
        stream, targets, batch_size=B, k1=k1, resets=starts
    )
    for index, window in enumerate(found):
        valid = np.random.default_rng(index).random(window.resets.shape) < 0.8
        yield window._replace(mask=valid if mask else None)


def start(k2=None, k1=K1):
    first = next(windows(k1))
    return truncated.init(model, params, optimizer, key, first, k2=k2)


@jax.jit
def run_by_step(params, state, xs, resets, masks, window):
    """The loss of the last window, its gradient, and the state after each step."""

    def loss(params):
        ys, current, seen = [], state, []
        for t in range(len(xs)):
            flags = {"resets": resets[t : t + 1], "mask": masks[t : t + 1]}
            current, y = model.apply(params, xs[t : t + 1], current, **flags)
            seen.append(current)
            ys.append(y[0])
        return loss_fn(jnp.stack(ys[-len(window.xs) :]), window), seen

    return jax.value_and_grad(loss, has_aux=True)(params)


def train_by_hand(k1, k2, mask):
    """Train by a Python loop that spells out which steps each gradient sees."""
    all_windows = list(windows(k1, mask))
    xs, resets = (
        np.concatenate([getattr(w, field) for w in all_windows])
        for field in ("xs", "resets")
    )
    masks = np.ones(resets.shape, bool)
    if mask:
        masks = np.concatenate([w.mask for w in all_windows])
    # The state before a step, made with the parameters of that time.
    states = {0: model.initial_state(params, (B,))}
    current, losses = params, []
    for index, window in enumerate(all_windows):
        end = (index + 1) * k1
        begin = max(end - k2, 0)
        part = slice(begin, end)
        (value, seen), grads = run_by_step(
            current, states[begin], xs[part], resets[part], masks[part], window
        )
        # The next window's gradient begins k1 steps later, with what these steps made.
        later = max(end + k1 - k2, 0)
        states[later] = seen[later - begin - 1] if later > begin else states[begin]
        current = jax.tree.map(
            lambda p, g: np.asarray(p) - 0.1 * np.asarray(g), current, grads
        )
        losses.append(value)
    return current, losses


update = truncated.make_update(model, loss_fn, optimizer)
WINDOWS = [(4, True), (5, False), (5, True), (8, False), (8, True), (11, False)]


@pytest.mark.parametrize(
    ("k2", "mask"),
    [
        (4, False),
        (11, True),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in WINDOWS),
    ],
)
def test_windows_equal_a_loop_in_python(k2, mask):
    state, losses = start(k2), []
    for window in windows(mask=mask):
        state, metrics = update(state, window)
        losses.append(metrics["loss"])
    expected, expected_losses = train_by_hand(K1, k2, mask)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-10)
    assert_close(state.params, expected, 1e-10)


def test_one_window_of_all_steps_equals_full_backpropagation():
    length = N // B
    (whole,) = windows(length)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        _, ys = model.apply(params, whole.xs, resets=jnp.asarray(whole.resets))
        return loss_fn(ys, whole)

    value, gradient = jax.tree.map(np.asarray, loss(params))
    expected = jax.tree.map(lambda p, g: np.asarray(p) - 0.1 * g, params, gradient)
    state, metrics = update(start(k1=length), whole)
    assert_close(metrics["loss"], value, 1e-12)
    assert_close(state.params, expected, 1e-10)


@pytest.mark.parametrize("k2", [4, 7, 12])
def test_gradient_sees_exactly_k2_steps(k2):
    # A linear network of one unit with w_h = 2: the gradient by w_x of the output k
    # steps later is 2^k, so the sum tells how many steps are seen.
    unit = jaxrnn.layer(jaxrnn.elman(1, activation=lambda a: a))
    one = unit.init(key, 1, jnp.float64)
    one = jax.tree.map(jnp.zeros_like, one)._replace(w_h=2 * jnp.ones((1, 1)))
    steps = np.ones((24, 1))

    def last_output(ys, window):
        return ys[-1, 0, 0]

    found = truncated.contiguous_windows(steps, steps, batch_size=1, k1=K1)
    found = [w._replace(resets=np.zeros_like(w.resets)) for w in found]
    still = optax.sgd(0.0)
    update = truncated.make_update(unit, last_output, still)
    state = truncated.init(unit, one, still, key, found[0], k2=k2)
    for index, window in enumerate(found):
        state, metrics = update(state, window)
        seen = min(k2, (index + 1) * K1)
        d_w_x = 2.0**seen - 1  # of inputs of 1; d_b is the same, d_w_h is 0
        assert_close(metrics["grad_norm"], np.sqrt(2.0) * d_w_x, 1e-12)


def test_state_is_carried_over_windows_and_renewed_at_resets():
    still = truncated.make_update(model, loss_fn, optax.sgd(0.0))
    apply = jax.jit(model.apply)
    state, carried = start(), model.initial_state(params, (B,))
    for window in windows():
        state, _ = still(state, window)
        carried, _ = apply(params, window.xs, carried, resets=window.resets)
        assert_close(state.carried.state, carried, 1e-12)


def test_fit_trains_on_windows():
    update = truncated.make_update(model, loss_fn, optax.adam(1e-2))
    first = next(windows())
    state = truncated.init(model, params, optax.adam(1e-2), key, first, k2=6)
    many = (window for _ in range(20) for window in windows())
    result = jaxrnn.train.fit(update, state, many)
    losses = result.history.train["loss"]
    assert int(result.state.step) == 100
    assert losses[-5:].mean() < losses[:5].mean()


def test_update_skips_a_step_that_is_not_finite():
    first = next(windows())
    state, metrics = update(start(6), first._replace(targets=first.targets * np.nan))
    assert not np.isfinite(metrics["loss"])
    assert_close(state.params, params, 0)
    assert_close(state.carried.state, start(6).carried.state, 0)
    assert int(state.step) == 0


def test_update_compiles_once():
    update = truncated.make_update(model, loss_fn, optimizer)
    state = start(6)
    for window in windows():
        state, _ = update(state, window)
    assert update._cache_size() == 1


# The windows


def test_windows_are_contiguous_and_begin_with_a_reset():
    found = list(
        truncated.contiguous_windows(np.arange(N), np.arange(N) + 1, batch_size=B, k1=6)
    )
    assert len(found) == 3  # of 20 steps in a row
    joined = np.concatenate([window.xs for window in found])
    np.testing.assert_array_equal(joined[:, 1], np.arange(20, 38))
    for window in found:
        np.testing.assert_array_equal(window.targets, window.xs + 1)
    assert found[0].resets[0].all()
    assert sum(window.resets.sum() for window in found) == B


def test_windows_reset_where_documents_begin():
    found = list(windows())
    resets = np.concatenate([window.resets for window in found])
    expected = starts.reshape(B, N // B).T.copy()
    expected[0] = True
    np.testing.assert_array_equal(resets, expected)


stream_of = functools.partial(
    truncated.contiguous_windows, stream, targets, batch_size=B
)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: stream_of(k1=21), ValueError, r"at least batch_size \* k1 = 63 .* 60"),
        (lambda: stream_of(k1=0), ValueError, "k1 must be at least 1"),
        (lambda: stream_of(k1=2, resets=np.zeros(N)), TypeError, "resets must be bool"),
        (
            lambda: truncated.contiguous_windows(
                stream, targets[1:], batch_size=1, k1=1
            ),
            ValueError,
            r"targets must have 60 steps, as xs has, got shape \(59, 2\)",
        ),
        (lambda: start(3), ValueError, "k2 must be at least k1 = 4"),
        (lambda: start(4.5), TypeError, "k2 must be an int"),
        (
            lambda: truncated.make_update(jaxrnn.lstm(3), loss_fn, optimizer),
            TypeError,
            "layer must be a Layer, got Cell",
        ),
    ],
)
def test_truncated_training_names_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_truncated_training_refuses_bidirectional_layers():
    both = jaxrnn.bidirectional(jaxrnn.gru(3), jaxrnn.gru(3))
    ahead = both.init(key, I, jnp.float64)
    with pytest.raises(ValueError, match="layer must be causal"):
        truncated.init(both, ahead, optimizer, key, next(windows()))


def test_update_names_a_window_that_does_not_fit():
    first = next(windows())
    with pytest.raises(ValueError, match=r"window.resets must have shape \(k1, \*B\)"):
        update(start(6), first._replace(resets=first.resets[:2]))
    with pytest.raises(
        ValueError, match=r"window.xs must have shape \(k1, \*\(3, 2\)\)"
    ):
        update(start(6), first._replace(xs=first.xs[..., :1]))


def test_tokens_of_numpy_are_welcome_without_x64():
    tokens = np.arange(40)
    with jax.enable_x64(False):
        window = next(truncated.contiguous_windows(tokens, tokens, batch_size=2, k1=5))
        table = jaxrnn.EmbeddingParams(np.zeros((40, 2), np.float32))
        layer = jaxrnn.embedding(40, 2)
        state = truncated.init(layer, table, optimizer, key, window, k2=8)
    assert state.carried.xs.dtype == np.int32
