"""Layer normalisation, and batch normalisation with masked statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import B, I, T, assert_close

import jaxrnn
from jaxrnn.normalization import (
    BatchNormStatistics,
    batch_norm,
    batch_norm_init,
    batch_norm_update,
)

keys = jax.random.split(jax.random.key(0), 4)
xs = 3 + 2 * jax.random.normal(keys[0], (T, B, I), jnp.float64)
mask = jaxrnn.lengths_to_mask(jnp.array([T, 2, 0]), T)
spoilt = jnp.where(mask[..., None], xs, jnp.nan)
random_scale = jax.random.normal(keys[1], (I,), jnp.float64)
random_b = jax.random.normal(keys[2], (I,), jnp.float64)


def random_params():
    params, statistics = batch_norm_init(I, jnp.float64)
    return params._replace(scale=random_scale, b=random_b), statistics


def test_layer_norm_in_numpy():
    layer = jaxrnn.layer_norm(I)
    params = layer.init(keys[0], I, jnp.float64)
    params = params._replace(scale=random_scale, b=random_b)
    _, ys = layer.apply(params, xs)
    x = np.asarray(xs)
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    assert_close(ys, jnp.asarray(normal * random_scale + random_b), 1e-12)


def test_layer_norm_starts_with_mean_zero_and_variance_one():
    layer = jaxrnn.layer_norm(50)
    many = 7 + 5 * jax.random.normal(keys[3], (T, B, 50), jnp.float64)
    _, ys = layer.apply(layer.init(keys[0], 50, jnp.float64), many)
    np.testing.assert_allclose(ys.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(ys.var(-1), 1, atol=1e-5)


def test_layer_norm_sums_16_bit_inputs_in_float32():
    layer = jaxrnn.layer_norm(512)
    large = jnp.full((1, 512), 300, jnp.float16).at[0, 0].set(0)  # squares overflow
    _, ys = layer.apply(layer.init(keys[0], 512, jnp.float16), large)
    assert ys.dtype == jnp.float16
    assert bool(jnp.isfinite(ys).all())


def test_batch_norm_of_valid_steps_alone():
    params, statistics = random_params()
    new, ys = batch_norm_update(params, statistics, spoilt, mask, momentum=0.75)
    valid = np.asarray(xs)[np.asarray(mask)]
    mean, variance = valid.mean(0), valid.var(0)
    assert_close(new.mean, jnp.asarray(0.25 * mean), 1e-12)
    assert_close(new.variance, jnp.asarray(0.75 + 0.25 * variance), 1e-12)
    expected = (valid - mean) / np.sqrt(variance + 1e-5) * random_scale + random_b
    assert_close(ys[mask], jnp.asarray(expected), 1e-12)
    assert bool((ys[~mask] == 0).all())


def test_batch_norm_in_evaluation():
    params, _ = random_params()
    statistics = BatchNormStatistics(mean=xs.mean((0, 1)), variance=xs.var((0, 1)))
    ys = batch_norm(params, statistics, spoilt, mask)
    _, expected = batch_norm_update(params, statistics, xs)
    assert_close(ys[mask], expected[mask], 1e-12)
    assert bool((ys[~mask] == 0).all())


def test_averages_converge_to_the_statistics():
    params, statistics = batch_norm_init(I, jnp.float64)
    for _ in range(200):
        statistics, _ = batch_norm_update(params, statistics, xs)
    assert_close(statistics.mean, xs.mean((0, 1)), 1e-6)
    assert_close(statistics.variance, xs.var((0, 1)), 1e-6)


def test_garbage_in_padding_reaches_no_gradient():
    params, statistics = random_params()

    def gradients(values):
        def loss(params, values):
            return (batch_norm_update(params, statistics, values, mask)[1] ** 3).sum()

        return jax.grad(loss, argnums=(0, 1))(params, values)

    assert_close(gradients(spoilt), gradients(xs), 0)
    by_difference = gradients(xs)[1]
    assert bool((by_difference[~mask] == 0).all())


def test_averages_have_no_gradient():
    params, statistics = random_params()

    def loss(values):
        new, _ = batch_norm_update(params, statistics, values)
        return new.mean.sum() + new.variance.sum()

    assert bool((jax.grad(loss)(xs) == 0).all())


def test_without_a_valid_step_nothing_changes():
    params, statistics = random_params()
    nothing = jnp.zeros((T, B), bool)
    new, ys = batch_norm_update(params, statistics, spoilt, nothing)
    assert_close(new, statistics, 0)
    assert bool((ys == 0).all())


def test_averages_of_16_bit_inputs_are_float32():
    params, statistics = batch_norm_init(I, jnp.bfloat16)
    new, ys = batch_norm_update(params, statistics, xs.astype(jnp.bfloat16))
    assert (new.mean.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jaxrnn.layer_norm(0), ValueError, "size must be at least 1"),
        (
            lambda: jaxrnn.layer_norm(3).init(keys[0], 4),
            ValueError,
            "input_size must be size, the number of features, 3, got 4",
        ),
        (lambda: batch_norm_init(2.0), TypeError, "size must be an int"),
        (
            lambda: batch_norm_update(*batch_norm_init(3, jnp.float64), xs),
            ValueError,
            "xs must have 3 features",
        ),
        (
            lambda: batch_norm_update(*random_params(), xs, momentum=1),
            ValueError,
            "momentum must be .* below 1, got 1",
        ),
        (
            lambda: batch_norm(*random_params(), xs, mask[:2]),
            ValueError,
            r"mask must have shape \(T, \*B\) = \(7, 3\), got shape \(2, 3\)",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
