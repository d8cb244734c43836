"""Readouts by ridge regression."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    B,
    T,
    initial_params,
    unroll,
)

import jaxrnn

fit = jax.jit(jaxrnn.ridge_readout, static_argnames="penalty")


def test_a_readout_is_that_of_ridge_regression():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(20, B, 6)), rng.normal(size=(20, B, 2))
    mask = rng.random((20, B)) < 0.7
    features[~mask] = np.nan
    w, b = fit(features, targets, penalty=0.5, mask=mask)
    # The normal equations of the centred data: the intercept has no penalty.
    x, y = features[mask], targets[mask]
    centred = x - x.mean(0)
    normal = centred.T @ centred + 0.5 * np.eye(6)
    expected = np.linalg.solve(normal, centred.T @ (y - y.mean(0)))
    np.testing.assert_allclose(w, expected, rtol=1e-9)
    np.testing.assert_allclose(b, y.mean(0) - x.mean(0) @ expected, rtol=1e-9)


def test_a_readout_of_nearly_dependent_features_in_float32():
    cell = jaxrnn.echo_state(200)
    params = initial_params(cell, 1)
    wave = np.sin(np.arange(800.0) / 5)[:, None]
    _, states = unroll(cell, params, wave[:-1], np.zeros(200))
    states, nexts = np.asarray(states)[50:], wave[51:]
    written = []
    for dtype in (np.float64, np.float32):
        readout = fit(states.astype(dtype), nexts.astype(dtype), penalty=1e-5)
        assert readout.w.dtype == dtype
        written.append(states @ np.float64(readout.w) + np.float64(readout.b))
    assert abs(written[0] - nexts).max() < 1e-3
    assert abs(written[1] - written[0]).max() < 1e-3
    halves = (jax.ShapeDtypeStruct(a.shape, jnp.bfloat16) for a in (states, nexts))
    assert (
        jax.eval_shape(lambda *args: fit(*args, penalty=1.0), *halves).w.dtype
        == jnp.bfloat16
    )


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
