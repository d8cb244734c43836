"""Cells whose units lie in space."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    B,
    H,
    I,
    T,
    assert_close,
    problem,
    random_normal,
    random_params,
    unroll_bptt,
)

import jaxrnn


def test_convolutions_by_an_adjoint_are_local():
    cell = jaxrnn.conv_gru(2, (3,), (9,))
    case = problem(cell, batch=(), steps=2, mask=False, resets=False)

    def end(xs):
        return unroll_bptt(cell, case.params, xs, case.state)[1][-1, 4]

    reach = np.asarray(
        jax.jit(jax.jacrev(end))(case.xs)
    )  # (channel, step, place, input)
    seen = (reach != 0).any(axis=(0, 3))
    # One step carries what is a place further in each direction.
    assert seen[1].nonzero()[0].tolist() == [3, 4, 5]
    assert seen[0].nonzero()[0].tolist() == [2, 3, 4, 5, 6]


def test_convolutional_layers_stack_and_stream():
    space = (4, 3)
    layers = [jaxrnn.layer(jaxrnn.conv_lstm(H, (3, 3), space)), jaxrnn.dense(2)]
    model = jaxrnn.stack(*layers)
    params = random_params(0, model)
    xs = np.asarray(random_normal(1, (T, B, *space, I)))

    @jax.jit
    def whole_and_first():
        return model.apply(params, xs), model.initial_state(params, (B,))

    (state, ys), stepped = whole_and_first()
    assert ys.shape == (T, B, *space, 2)
    step, rows = jax.jit(model.step), []
    for x in xs:
        stepped, y = step(params, stepped, x)
        rows.append(y)
    assert_close((stepped[0], np.stack(rows)), (state[0], ys), 1e-12)


def test_bidirectional_convolutions_of_rows_of_several_lengths():
    space = (4, 3)
    xs = random_normal(1, (T, B, *space, I))
    both = jaxrnn.bidirectional(
        jaxrnn.conv_gru(H, (3, 3), space), jaxrnn.conv_gru(H, (3, 3), space)
    )
    mask = np.arange(T)[:, None] < np.array([T, 2, 0])
    _, ys = jax.jit(both.apply)(random_params(0, both), xs, mask=mask)
    assert ys.shape == (T, B, *space, 2 * H)
    assert not np.asarray(ys)[2:, 1].any()


def test_masks_and_resets_go_through_what_is_around_a_convolutional_layer():
    cell = jaxrnn.conv_gru(H, (3,), (4,))
    model = jaxrnn.stack(
        jaxrnn.residual(jaxrnn.layer(jaxrnn.conv_gru(I, (3,), (4,)))),
        jaxrnn.highway(jaxrnn.layer(jaxrnn.conv_gru(I, (3,), (4,)))),
        jaxrnn.layer(cell),
        jaxrnn.dropout(jaxrnn.layer_norm(H), 0.1),
        jaxrnn.dense(2),
    )
    params = random_params(0, model)
    case = problem(cell, batch=(B,))
    mask = np.asarray(case.mask)
    xs = np.where(mask[..., None, None], case.xs, np.nan)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params, xs, flags):
        _, ys = model.apply(params, xs, **flags)
        mask = flags["mask"]
        error = jaxrnn.losses.mean_squared_error(ys, jnp.ones_like(ys), mask=mask)
        pooled = jaxrnn.pooling.mean(ys, mask)
        one = jaxrnn.metrics.mean_absolute_error(ys, ys + 1, mask=mask)
        return error, (ys, pooled, one)

    (error, (ys, pooled, one)), gradient = loss(params, xs, case.flags)
    assert np.isfinite(error)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    ys = np.asarray(ys)
    np.testing.assert_allclose(error, ((ys - 1) ** 2)[mask].mean())
    np.testing.assert_allclose(one, 1)
    np.testing.assert_allclose(pooled[0], ys[:, 0][mask[:, 0]].mean(axis=0))
    for row in range(B):
        of_row = np.s_[:, row : row + 1]
        flags = {name: np.asarray(flag)[of_row] for name, flag in case.flags.items()}
        (_, (alone, _, _)), _ = loss(params, xs[of_row], flags)
        np.testing.assert_allclose(ys[of_row], alone, atol=1e-12)


@pytest.mark.parametrize("wrap", [jaxrnn.candidate_dropout, jaxrnn.zoneout])
def test_convolutional_cells_draw_noise_at_every_place(wrap):
    cell = jaxrnn.conv_gru(H, (3,), (9,))
    layer = jaxrnn.layer(wrap(cell, 0.5))
    params, xs = random_params(0, layer), np.ones((T, B, 9, I))

    @jax.jit
    def outputs(key):
        return layer.apply(params, xs, key=key)[1], layer.apply(params, xs)[1]

    ys, whole = (np.asarray(each) for each in outputs(jax.random.key(1)))
    assert ys.shape == whole.shape
    assert (abs(ys - whole).max(axis=(0, 1, 3)) > 1e-3).all()
    with pytest.raises(
        ValueError, match="adjoint whose forward takes recurrent_dot, such as"
    ):
        jaxrnn.recurrent_dropout(cell, 0.5)
