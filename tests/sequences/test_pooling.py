"""Pooling over time, against loops over rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_close

from jaxrnn import pooling

T, B, F = 6, 5, 3
rng = np.random.default_rng(0)
ys = rng.normal(-2.0, 1.0, (T, B, F))
mask = rng.random((T, B)) < 0.5
mask[:, 0], mask[:, 1] = False, True
params = pooling.attention_init(jax.random.key(2), F, 4, jnp.float64)
params = params._replace(b=np.linspace(-1.0, 1.0, 4))
attention = jax.jit(pooling.attention)


def _attention(ys, mask=None):
    return attention(params, ys, mask)[0]


def _attend(steps):
    w, b, v = map(np.asarray, params)
    scores = np.tanh(steps @ w + b) @ v
    weights = np.exp(scores) / np.exp(scores).sum()
    return (weights * steps).sum(0)


POOLINGS = {
    "last": (jax.jit(pooling.last), lambda steps: steps[-1]),
    "mean": (jax.jit(pooling.mean), lambda steps: steps.mean(0)),
    "maximum": (jax.jit(pooling.maximum), lambda steps: steps.max(0)),
    "attention": (_attention, _attend),
}
poolings = pytest.mark.parametrize("name", POOLINGS)


@poolings
def test_each_row_pools_its_valid_steps(name):
    pool, expected = POOLINGS[name]
    rows = [ys[:, r][mask[:, r]] for r in range(B)]
    by_row = [expected(row) if len(row) else np.zeros(F) for row in rows]
    assert_close(pool(ys, mask), np.stack(by_row), 1e-12)
    whole = [expected(ys[:, r]) for r in range(B)]
    assert_close(pool(ys), np.stack(whole), 1e-12)


@poolings
@pytest.mark.parametrize("batch", [(), (B,), (2, B)])
def test_pooling_takes_any_batch_dimensions(name, batch):
    pool, _ = POOLINGS[name]
    assert jax.eval_shape(pool, np.ones((T, *batch, F))).shape == (*batch, F)


@poolings
def test_garbage_in_the_padding_reaches_nothing(name):
    pool, _ = POOLINGS[name]

    @jax.jit
    def results(ys):
        value, pull = jax.vjp(functools.partial(pool, mask=mask), ys)
        return value, pull(jnp.cos(value))[0]

    spoilt = results(np.where(mask[..., None], ys, np.nan))
    assert_close(spoilt, results(ys), 1e-15)
    assert all(np.isfinite(leaf).all() for leaf in spoilt)
    assert not np.asarray(spoilt[1])[~mask].any()


@poolings
def test_no_steps_at_all_give_zeros(name):
    pool, _ = POOLINGS[name]
    np.testing.assert_array_equal(pool(np.ones((0, B, F))), np.zeros((B, F)))


@poolings
def test_pooling_keeps_the_dtype(name):
    pool, _ = POOLINGS[name]
    narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    if name == "attention":
        pool = lambda ys: pooling.attention(narrow, ys)[0]  # noqa: E731
    assert jax.eval_shape(pool, ys.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_attention_weights_are_a_distribution_over_the_valid_steps():
    weights = np.asarray(attention(params, ys, mask)[1])
    assert not weights[~mask].any()
    assert_close(weights.sum(0), mask.any(0).astype(weights.dtype), 1e-12)


@poolings
def test_what_does_not_fit_is_named(name):
    pool, _ = POOLINGS[name]
    with pytest.raises(ValueError, match=r"ys must have shape \(T, \*B, F\)"):
        pool(np.ones(T))
    with pytest.raises(TypeError, match=r"must be a floating dtype|must have dtype"):
        pool(np.ones((T, B, F), int))
    with pytest.raises(ValueError, match="mask must have shape"):
        pool(ys, mask[1:])
    with pytest.raises(TypeError, match="mask must be boolean"):
        pool(ys, mask.astype(int))


def test_attention_names_the_wrong_size():
    with pytest.raises(ValueError, match="ys must have 3 features"):
        pooling.attention(params, ys[..., :2])
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        pooling.attention_init(jax.random.key(0), F, 0)
