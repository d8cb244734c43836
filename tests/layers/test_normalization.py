"""Layer normalisation, and batch normalisation with masked statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import B, I, T, assert_close

import jaxrnn
from jaxrnn import normalization
from jaxrnn.normalization import BatchNormStatistics, batch_norm_init

batch_norm = jax.jit(normalization.batch_norm)
batch_norm_update = jax.jit(normalization.batch_norm_update, static_argnames="momentum")

KEY = jax.random.key(0)
rng = np.random.default_rng(0)
xs = rng.normal(3.0, 2.0, (T, B, I))
mask = np.arange(T)[:, None] < np.array([T, 2, 0])
spoilt = np.where(mask[..., None], xs, np.nan)
random_scale, random_b = rng.normal(size=(2, I))


def random_params():
    params, statistics = batch_norm_init(I, jnp.float64)
    return params._replace(scale=random_scale, b=random_b), statistics


def test_layer_norm_equals_numpy():
    layer = jaxrnn.layer_norm(I)
    params = layer.init(KEY, I, jnp.float64)
    params = params._replace(scale=random_scale, b=random_b)
    _, ys = jax.jit(layer.apply)(params, xs)
    x = xs
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    assert_close(ys, normal * random_scale + random_b, 1e-12)


def test_layer_norm_starts_with_mean_zero_and_variance_one():
    layer = jaxrnn.layer_norm(50)
    many = rng.normal(7.0, 5.0, (T, B, 50))
    _, ys = jax.jit(layer.apply)(layer.init(KEY, 50, jnp.float64), many)
    np.testing.assert_allclose(ys.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(ys.var(-1), 1, atol=1e-5)


def test_layer_norm_sums_16_bit_inputs_in_float32():
    layer = jaxrnn.layer_norm(512)
    large = np.full((1, 512), 300, np.float16)  # squares overflow
    large[0, 0] = 0
    _, ys = jax.jit(layer.apply)(layer.init(KEY, 512, jnp.float16), large)
    assert ys.dtype == jnp.float16
    assert np.isfinite(ys).all()


def test_batch_norm_of_valid_steps_alone():
    params, statistics = random_params()
    new, ys = batch_norm_update(params, statistics, spoilt, mask, momentum=0.75)
    ys = np.asarray(ys)
    valid = xs[mask]
    mean, variance = valid.mean(0), valid.var(0)
    assert_close(new.mean, 0.25 * mean, 1e-12)
    assert_close(new.variance, 0.75 + 0.25 * variance, 1e-12)
    expected = (valid - mean) / np.sqrt(variance + 1e-5) * random_scale + random_b
    assert_close(ys[mask], expected, 1e-12)
    assert not ys[~mask].any()


def test_batch_norm_in_evaluation_takes_the_averages():
    params, _ = random_params()
    statistics = BatchNormStatistics(mean=xs.mean((0, 1)), variance=xs.var((0, 1)))
    ys = np.asarray(batch_norm(params, statistics, spoilt, mask))
    _, expected = batch_norm_update(params, statistics, xs)
    assert_close(ys[mask], np.asarray(expected)[mask], 1e-12)
    assert not ys[~mask].any()


def test_averages_converge_to_the_statistics():
    params, statistics = batch_norm_init(I, jnp.float64)
    for _ in range(200):
        statistics, _ = batch_norm_update(params, statistics, xs)
    assert_close(statistics.mean, xs.mean((0, 1)), 1e-6)
    assert_close(statistics.variance, xs.var((0, 1)), 1e-6)


def test_garbage_in_padding_reaches_no_gradient():
    params, statistics = random_params()

    @jax.jit
    def gradients(values):
        def loss(params, values):
            return (batch_norm_update(params, statistics, values, mask)[1] ** 3).sum()

        return jax.grad(loss, argnums=(0, 1))(params, values)

    assert_close(gradients(spoilt), gradients(xs), 0)
    assert not np.asarray(gradients(xs)[1])[~mask].any()


def test_averages_have_no_gradient():
    params, statistics = random_params()

    def loss(values):
        new, _ = batch_norm_update(params, statistics, values)
        return new.mean.sum() + new.variance.sum()

    assert not np.asarray(jax.jit(jax.grad(loss))(xs)).any()


def test_without_a_valid_step_nothing_changes():
    params, statistics = random_params()
    nothing = np.zeros((T, B), bool)
    new, ys = batch_norm_update(params, statistics, spoilt, nothing)
    assert_close(new, statistics, 0)
    assert not np.asarray(ys).any()


def test_averages_of_16_bit_inputs_are_float32():
    params, statistics = batch_norm_init(I, jnp.bfloat16)
    new, ys = batch_norm_update(params, statistics, xs.astype(jnp.bfloat16))
    assert (new.mean.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jaxrnn.layer_norm(0), ValueError, "size must be at least 1"),
        (
            lambda: jaxrnn.layer_norm(3).init(KEY, 4),
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
def test_wrong_sizes_and_masks_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
