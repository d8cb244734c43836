"""Losses of steps, against NumPy, with masks and in narrow dtypes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import B, T

from jaxrnn import losses

K = 4  # features or classes

mean_squared_error, sigmoid_cross_entropy, softmax_cross_entropy = (
    jax.jit(loss, static_argnames="reduction")
    for loss in (
        losses.mean_squared_error,
        losses.sigmoid_cross_entropy,
        losses.softmax_cross_entropy,
    )
)


def make(name, dtype=jnp.float64):
    """A loss, predictions, targets, and its values per step in plain NumPy."""
    rng = np.random.default_rng(0)
    p = 3 * rng.normal(size=(T, B, K))
    if name == "mean_squared_error":
        targets = rng.normal(size=(T, B, K))
        return mean_squared_error, targets, ((p - targets) ** 2).mean(-1), p
    if name == "sigmoid":
        targets = (rng.random((T, B, K)) < 0.5).astype(dtype)
        chance = 1 / (1 + np.exp(-p))
        values = -np.where(targets == 1, np.log(chance), np.log(1 - chance)).mean(-1)
        return sigmoid_cross_entropy, targets, values, p
    labels = rng.integers(0, K, (T, B))
    log_softmax = p - np.log(np.exp(p).sum(-1, keepdims=True))
    values = -np.take_along_axis(log_softmax, labels[..., None], -1)[..., 0]
    if name == "one-hot":
        labels = np.eye(K, dtype=dtype)[labels]
    return softmax_cross_entropy, labels, values, p


NAMES = ["mean_squared_error", "sigmoid", "integers", "one-hot"]
each = pytest.mark.parametrize("name", NAMES)


@each
@pytest.mark.parametrize("masked", [False, True])
def test_equals_numpy_per_step_in_sum_and_in_mean(name, masked):
    loss, targets, values, predictions = make(name)
    mask = np.ones((T, B), bool)
    if masked:
        mask = np.random.default_rng(3).random((T, B)) < 0.6
    argument = mask if masked else None
    for reduction, expected in [
        (losses.per_step, np.where(mask, values, 0)),
        (losses.masked_sum, values[mask].sum()),
        (losses.masked_mean, values[mask].mean()),
    ]:
        actual = loss(predictions, targets, mask=argument, reduction=reduction)
        np.testing.assert_allclose(actual, expected, rtol=1e-12)
    np.testing.assert_allclose(
        loss(predictions, targets, mask=argument), values[mask].mean(), rtol=1e-12
    )


@each
def test_an_all_masked_batch_gives_zero_with_zero_gradient(name):
    loss, targets, _, predictions = make(name)
    mask = np.zeros((T, B), bool)
    nan = np.full_like(predictions, np.nan)
    value, gradient = jax.jit(jax.value_and_grad(loss))(nan, targets, mask=mask)
    assert value == 0
    assert not np.asarray(gradient).any()


@each
def test_garbage_in_padding_reaches_nothing(name):
    loss, targets, _, predictions = make(name)
    mask = np.arange(T)[:, None] < np.array([3, 0, T])
    garbage = -1 if name == "integers" else np.nan
    held = mask if name == "integers" else mask[..., None]
    spoilt = np.where(mask[..., None], predictions, np.nan)
    run = jax.jit(jax.value_and_grad(loss))
    results = [
        run(p, t, mask=mask)
        for p, t in [
            (predictions, targets),
            (spoilt, np.where(held, targets, np.asarray(garbage, targets.dtype))),
        ]
    ]
    chex.assert_trees_all_equal(*results)


@each
def test_low_precision_is_computed_in_float32(name):
    loss, targets, _, predictions = make(name)
    narrow = predictions.astype(jnp.bfloat16)
    value, exact = loss(narrow, targets), loss(narrow.astype(np.float32), targets)
    assert value.dtype == exact.dtype == jnp.float32
    assert value == exact


@pytest.mark.loose
def test_an_unknown_label_gives_nan():
    assert np.isnan(softmax_cross_entropy(np.zeros((2, K)), np.array([0, K])))


@pytest.mark.parametrize("name", NAMES[1:])
def test_gradient_of_cross_entropy_is_prediction_minus_target(name):
    """dL/do = y - y_hat."""
    loss, targets, _, predictions = make(name)
    actual = jax.grad(loss)(predictions, targets, reduction=losses.masked_sum)
    if name == "sigmoid":
        expected = (1 / (1 + np.exp(-predictions)) - targets) / K
    else:
        hot = np.eye(K)[targets] if name == "integers" else targets
        odds = np.exp(predictions)
        expected = odds / odds.sum(-1, keepdims=True) - hot
    np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_labels_of_a_small_dtype():
    logits = np.random.default_rng(0).normal(size=(3, 256))
    labels = np.array([1, 2, 255], np.uint8)
    expected = softmax_cross_entropy(logits, labels.astype(np.int32))
    assert softmax_cross_entropy(logits, labels) == expected


def test_reductions_alone_sum_in_float32_and_check_the_mask():
    assert losses.masked_mean(jnp.ones((300, 300), jnp.float16), None) == 1
    with pytest.raises(ValueError, match="mask must have shape"):
        losses.masked_mean(jnp.ones((T, B)), jnp.ones(T, bool))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: losses.mean_squared_error(x, x[:-1]),
            ValueError,
            r"targets must have shape \(7, 3, 4\), got shape \(6, 3, 4\)",
        ),
        (
            lambda x: losses.softmax_cross_entropy(x, jnp.zeros((T, B, K), int)),
            ValueError,
            r"labels must have shape \(7, 3\), got shape \(7, 3, 4\)",
        ),
        (
            lambda x: losses.softmax_cross_entropy(x, jnp.zeros((T, B))),
            ValueError,
            r"labels must have shape \(7, 3, 4\), got shape \(7, 3\): labels of dtype",
        ),
        (
            lambda x: losses.sigmoid_cross_entropy(x, x, mask=jnp.ones((T, B))),
            TypeError,
            "mask must be boolean, got dtype float64",
        ),
        (
            lambda x: losses.sigmoid_cross_entropy(x, x, mask=jnp.ones((B, T), bool)),
            ValueError,
            r"mask must have shape \(T, \*B\) = \(7, 3\), got shape \(3, 7\)",
        ),
        (
            lambda x: losses.mean_squared_error(x.astype(int), x),
            TypeError,
            "predictions must be floating, got dtype int64",
        ),
        (
            lambda x: losses.mean_squared_error(x, np.ones((T, B, K)) * 1j),
            TypeError,
            "targets must be real, got dtype complex128",
        ),
        (
            lambda x: losses.mean_squared_error(x, x, reduction="mean"),
            TypeError,
            "reduction must be a function, got 'mean'",
        ),
        (
            lambda x: losses.mean_squared_error(x[0, 0], x[0, 0]),
            ValueError,
            r"predictions must have shape \(T, \*B, F\)",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(jnp.zeros((T, B, K)))
