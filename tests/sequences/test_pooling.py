"""Pooling over time, against loops over rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_close

from jaxrnn import pooling

T, B, F = 6, 5, 3
ys = jax.random.normal(jax.random.key(0), (T, B, F), jnp.float64) - 2
mask = jax.random.bernoulli(jax.random.key(1), 0.5, (T, B)).at[:, 0].set(False)
mask = mask.at[:, 1].set(True)
params = pooling.attention_init(jax.random.key(2), F, 4, jnp.float64)
params = params._replace(b=jnp.linspace(-1.0, 1.0, 4))


def _attention(ys, mask=None):
    return pooling.attention(params, ys, mask)[0]


def _attend(steps):
    scores = np.tanh(steps @ np.asarray(params.w) + params.b) @ np.asarray(params.v)
    weights = np.exp(scores) / np.exp(scores).sum()
    return (weights * steps).sum(0)


POOLINGS = {
    "last": (pooling.last, lambda steps: steps[-1]),
    "mean": (pooling.mean, lambda steps: steps.mean(0)),
    "maximum": (pooling.maximum, lambda steps: steps.max(0)),
    "attention": (_attention, _attend),
}
poolings = pytest.mark.parametrize("name", POOLINGS)


@poolings
def test_each_row_pools_its_valid_steps(name):
    pool, expected = POOLINGS[name]
    rows = [np.asarray(ys[:, r][mask[:, r]]) for r in range(B)]
    by_row = [expected(row) if len(row) else np.zeros(F) for row in rows]
    assert_close(pool(ys, mask), jnp.asarray(np.stack(by_row)), 1e-12)
    whole = [expected(np.asarray(ys[:, r])) for r in range(B)]
    assert_close(pool(ys), jnp.asarray(np.stack(whole)), 1e-12)


@poolings
@pytest.mark.parametrize("batch", [(), (B,), (2, B)])
def test_any_batch(name, batch):
    pool, _ = POOLINGS[name]
    assert pool(jnp.ones((T, *batch, F))).shape == (*batch, F)


@poolings
def test_garbage_in_the_padding_reaches_nothing(name):
    pool, _ = POOLINGS[name]

    def results(ys):
        value, pull = jax.vjp(functools.partial(pool, mask=mask), ys)
        return value, pull(jnp.cos(value))[0]

    spoilt = results(jnp.where(mask[..., None], ys, jnp.nan))
    assert_close(spoilt, results(ys), 1e-15)
    assert all(np.isfinite(leaf).all() for leaf in spoilt)
    assert not spoilt[1][~mask].any()


@poolings
def test_no_steps_at_all_give_zeros(name):
    pool, _ = POOLINGS[name]
    np.testing.assert_array_equal(pool(jnp.ones((0, B, F))), jnp.zeros((B, F)))


@poolings
def test_dtype_stays(name):
    pool, _ = POOLINGS[name]
    narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    if name == "attention":
        pool = lambda ys: pooling.attention(narrow, ys)[0]  # noqa: E731
    assert pool(ys.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_attention_weights_are_a_distribution_over_the_valid_steps():
    _, weights = pooling.attention(params, ys, mask)
    assert not weights[~mask].any()
    assert_close(weights.sum(0), jnp.asarray(mask.any(0), weights.dtype), 1e-12)


@poolings
def test_what_does_not_fit_is_named(name):
    pool, _ = POOLINGS[name]
    with pytest.raises(ValueError, match=r"ys must have shape \(T, \*B, F\)"):
        pool(jnp.ones(T))
    with pytest.raises(TypeError, match=r"must be a floating dtype|must have dtype"):
        pool(jnp.ones((T, B, F), int))
    with pytest.raises(ValueError, match="mask must have shape"):
        pool(ys, mask[1:])
    with pytest.raises(TypeError, match="mask must be boolean"):
        pool(ys, mask.astype(int))


def test_attention_names_the_wrong_size():
    with pytest.raises(ValueError, match="ys must have 3 features"):
        pooling.attention(params, ys[..., :2])
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        pooling.attention_init(jax.random.key(0), F, 0)
