import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import B, T

from jaxrnn import losses

K = 4  # features or classes


def make(name, dtype=jnp.float64):
    """A loss, predictions, targets, and its values per step in plain NumPy."""
    keys = jax.random.split(jax.random.key(0), 2)
    predictions = jax.random.normal(keys[0], (T, B, K), dtype) * 3
    p = np.asarray(predictions, np.float64)
    if name == "mean_squared_error":
        targets = jax.random.normal(keys[1], (T, B, K), dtype)
        return losses.mean_squared_error, targets, ((p - targets) ** 2).mean(-1), p
    if name == "sigmoid":
        targets = jax.random.bernoulli(keys[1], 0.5, (T, B, K)).astype(dtype)
        chance = 1 / (1 + np.exp(-p))
        values = -np.where(targets == 1, np.log(chance), np.log(1 - chance)).mean(-1)
        return losses.sigmoid_cross_entropy, targets, values, p
    labels = jax.random.randint(keys[1], (T, B), 0, K)
    log_softmax = p - np.log(np.exp(p).sum(-1, keepdims=True))
    values = -np.take_along_axis(log_softmax, np.asarray(labels)[..., None], -1)[..., 0]
    if name == "one-hot":
        labels = jax.nn.one_hot(labels, K, dtype=dtype)
    return losses.softmax_cross_entropy, labels, values, p


NAMES = ["mean_squared_error", "sigmoid", "integers", "one-hot"]
each = pytest.mark.parametrize("name", NAMES)


@each
@pytest.mark.parametrize("masked", [False, True])
def test_equals_numpy_per_step_in_sum_and_in_mean(name, masked):
    loss, targets, values, predictions = make(name)
    mask = np.ones((T, B), bool)
    if masked:
        mask = np.array(jax.random.bernoulli(jax.random.key(3), 0.6, (T, B)))
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
    mask = jnp.zeros((T, B), bool)
    nan = jnp.full_like(predictions, jnp.nan)
    value, gradient = jax.value_and_grad(loss)(nan, targets, mask=mask)
    assert value == 0
    assert not gradient.any()


@each
def test_garbage_in_padding_reaches_nothing(name):
    loss, targets, _, predictions = make(name)
    mask = jnp.arange(T)[:, None] < jnp.array([3, 0, T])
    garbage = -1 if name == "integers" else jnp.nan
    held = mask if name == "integers" else mask[..., None]
    spoilt = jnp.where(mask[..., None], predictions, jnp.nan)
    results = [
        jax.value_and_grad(loss)(jnp.asarray(p), t, mask=mask)
        for p, t in [
            (predictions, targets),
            (spoilt, jnp.where(held, targets, jnp.asarray(garbage, targets.dtype))),
        ]
    ]
    chex.assert_trees_all_equal(*results)


@each
def test_low_precision_is_computed_in_float32(name):
    loss, targets, _, predictions = make(name)
    narrow = jnp.asarray(predictions).astype(jnp.bfloat16)
    value, exact = loss(narrow, targets), loss(narrow.astype(jnp.float32), targets)
    assert value.dtype == exact.dtype == jnp.float32
    assert value == exact


def test_an_unknown_label_gives_nan():
    labels = jnp.array([0, K])
    assert jnp.isnan(losses.softmax_cross_entropy(jnp.zeros((2, K)), labels))


@pytest.mark.parametrize("name", NAMES[1:])
def test_gradient_of_cross_entropy_is_prediction_minus_target(name):
    """dL/do = y - y_hat."""
    loss, targets, _, predictions = make(name)
    actual = jax.grad(loss)(
        jnp.asarray(predictions), targets, reduction=losses.masked_sum
    )
    if name == "sigmoid":
        expected = (jax.nn.sigmoid(predictions) - targets) / K
    else:
        hot = jax.nn.one_hot(targets, K) if name == "integers" else targets
        expected = jax.nn.softmax(predictions) - hot
    np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_labels_of_a_small_dtype():
    logits = jax.random.normal(jax.random.key(0), (3, 256))
    labels = np.array([1, 2, 255], np.uint8)
    expected = losses.softmax_cross_entropy(logits, labels.astype(np.int32))
    assert losses.softmax_cross_entropy(logits, labels) == expected


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
            lambda x: losses.mean_squared_error(x[0, 0], x[0, 0]),
            ValueError,
            r"predictions must have shape \(T, \*B, F\)",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(jnp.zeros((T, B, K)))
