"""The projection of recurrent weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import H, I, assert_close, initial_params, random_params

import jaxrnn
from jaxrnn.optimizers import project_spectral_norm

pytestmark = pytest.mark.usefixtures("standard_promotion")

KEY = jax.random.key(0)


def large_params(cell):
    return random_params(1, cell, scale=1.0)


def singular_values(w):
    blocks = np.split(np.asarray(w), w.shape[1] // w.shape[0], axis=1)
    return np.stack([np.linalg.svd(block)[1] for block in blocks])


@pytest.mark.parametrize("make", [jaxrnn.elman, jaxrnn.lstm, jaxrnn.gru])
def test_singular_values_are_clipped_block_by_block(make):
    params = large_params(make(H))
    projection = project_spectral_norm(1.5)

    @jax.jit
    def project(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, _ = projection.update(zeros, projection.init(params), params)
        return optax.apply_updates(params, updates)

    after = project(params)
    expected = np.minimum(singular_values(params.w_h), 1.5)
    np.testing.assert_allclose(singular_values(after.w_h), expected, atol=1e-12)
    assert (expected < 1.5).any()
    assert (expected == 1.5).any()
    assert_close(after._replace(w_h=params.w_h), params, 0)


def test_weights_within_the_bound_stay():
    params = initial_params(jaxrnn.lstm(H))  # orthogonal
    change = jax.tree.map(lambda p: np.full(p.shape, 0.01), params)
    projection = project_spectral_norm(1.2)
    update = jax.jit(lambda *args: projection.update(args[0], (), args[1])[0])
    updates = update(change, params)
    assert_close(updates, change, 1e-12)


def test_in_a_chain_and_a_stack():
    model = jaxrnn.stack(jaxrnn.layer(jaxrnn.gru(H)), jaxrnn.dense(2))
    params = initial_params(model)
    optimizer = optax.chain(optax.adam(0.5), project_spectral_norm(1.0))

    def loss_fn(params, batch, key):
        return (model.apply(params, batch)[1] ** 2).sum()

    update = jaxrnn.train.make_update(loss_fn, optimizer)
    state = jaxrnn.train.init(params, optimizer, KEY)
    for _ in range(5):
        state, _ = update(state, jnp.ones((7, 3, I)))
        assert singular_values(state.params[0].w_h).max() < 1 + 1e-9
    assert np.linalg.norm(state.params[0].w_x, 2) > 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: project_spectral_norm(0.0),
            "max_norm must be positive and finite, got 0.0",
        ),
        (
            lambda p: project_spectral_norm(1.0).update(p, optax.EmptyState()),
            "params must be given to update",
        ),
        (
            lambda p: project_spectral_norm(1.0, names="u").update(p, None, p),
            "params must have a leaf named u, got",
        ),
        (
            lambda p: project_spectral_norm(1.0, names="w_x").update(p, None, p),
            r"w_x must be made of square blocks .* got shape \(3, 20\)",
        ),
        (
            lambda p: project_spectral_norm(1.0, names=("b",)).update(p, None, p),
            r"b must be made of square blocks .* got shape \(20,\)",
        ),
    ],
)
def test_wrong_bounds_and_names_are_named(call, message):
    params = initial_params(jaxrnn.lstm(H), 3)
    with pytest.raises(ValueError, match=message):
        call(params)
