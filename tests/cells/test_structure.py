"""What the structure of a cell's recurrence promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import B, H, I, T, assert_close, gradients, problem

import jaxrnn

MAPS = [jaxrnn.exponential_map, jaxrnn.cayley_transform]


@pytest.mark.parametrize("map_fn", MAPS)
def test_training_leaves_the_recurrent_matrix_orthogonal(map_fn):
    cell = jaxrnn.orthogonal_rnn(H, map_fn=map_fn)
    case = problem(cell)

    def loss(params):
        return (jaxrnn.unroll_bptt(cell, params, case.xs)[1] ** 2).mean()

    params = case.params
    for _ in range(5):
        gradient = jax.grad(loss)(params)
        params = jax.tree.map(lambda p, g: p - 5 * g, params, gradient)
    assert abs(params.w_h - case.params.w_h).max() > 0.1
    q = map_fn(params.w_h)
    np.testing.assert_allclose(q @ q.T, np.eye(H), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(q), 1)


def test_rotations_at_first_are_by_any_angle():
    params = jaxrnn.orthogonal_rnn(201).init(jax.random.key(0), I, jnp.float64)
    turns = np.linalg.eigvals(np.asarray(jaxrnn.exponential_map(params.w_h)))
    np.testing.assert_allclose(abs(turns), 1)
    counts, _ = np.histogram(np.angle(turns), bins=4, range=(-np.pi, np.pi))
    assert counts.min() > 30


def test_an_antisymmetric_network_neither_grows_nor_fades():
    """Of its differential equation: every eigenvalue has the real part -d."""
    cell = jaxrnn.antisymmetric(H, diffusion=0.25)
    params = problem(cell).params
    w = cell.derived.weights(params).w_h
    np.testing.assert_allclose(np.linalg.eigvals(np.asarray(w)).real, -0.25)


def test_weights_are_derived_once_for_an_unroll():
    calls = []

    def transform(params):
        calls.append(1)
        return params._replace(w_h=jnp.tanh(params.w_h))

    cell = jaxrnn.reparametrized(jaxrnn.gru(H), transform)
    case = problem(cell)
    for run in (jaxrnn.unroll, jaxrnn.unroll_bptt, jaxrnn.unroll_chunked):
        calls.clear()
        run(cell, *case.args, **case.flags)
        assert len(calls) == 1, run


def test_derived_weights_under_other_wrappers():
    def twice(params):
        return jax.tree.map(lambda leaf: 2 * leaf, params)

    def run(cell, params, key=None):
        layer = jaxrnn.layer(cell)
        return layer.apply(params, case.xs, case.state, **case.flags, key=key)

    case = problem(jaxrnn.gru(H))
    doubled = twice(case.params)
    for wrap in (
        lambda cell: jaxrnn.zoneout(cell, 0.3),
        lambda cell: jaxrnn.recurrent_dropout(cell, 0.3),
    ):
        plain = wrap(jaxrnn.gru(H))
        inside = jaxrnn.reparametrized(wrap(jaxrnn.gru(H)), twice)
        outside = wrap(jaxrnn.reparametrized(jaxrnn.gru(H), twice))
        again = jaxrnn.reparametrized(jaxrnn.reparametrized(plain, jnp_sqrt), twice)
        for key in (None, jax.random.key(1)):
            expected = run(plain, doubled, key)
            assert_close(run(inside, case.params, key), expected, 1e-12)
            assert_close(run(outside, case.params, key), expected, 1e-12)
            assert_close(
                run(again, case.params, key), run(plain, jnp_sqrt(doubled), key), 1e-12
            )


def jnp_sqrt(params):
    return jax.tree.map(lambda leaf: jnp.sqrt(abs(leaf)), params)


def test_a_learned_state_keeps_what_the_cell_can_do():
    linear = jaxrnn.learned_state(jaxrnn.mingru(H))
    case = problem(linear)
    actual = jaxrnn.unroll_associative(linear, case.params, case.xs, **case.flags)
    expected = jaxrnn.unroll(linear, case.params, case.xs, **case.flags)
    assert_close(actual, expected, 1e-12)
    assert jaxrnn.learned_state(jaxrnn.orthogonal_rnn(H)).derived is not None


def test_heads_do_not_see_each_other():
    cell = jaxrnn.multihead(jaxrnn.lstm, 6, 2)
    case = problem(cell)

    def last(state):
        _, ys = jaxrnn.unroll_bptt(cell, case.params, case.xs, state)
        return ys[-1, 0]

    jacobian = jax.jacrev(last)(case.state).h[:, 0]  # (output, head, unit)
    assert (jacobian[:3, 1] == 0).all()
    assert (jacobian[3:, 0] == 0).all()
    assert (jacobian[:3, 0] != 0).all()


HEADS = {
    "derived weights": lambda size: jaxrnn.orthogonal_rnn(size),
    "without an adjoint": lambda size: jaxrnn.gru(size)._replace(adjoint=None),
    "images": lambda size: jaxrnn.conv_gru(size, (3,), (4,)),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_of_any_kind(name):
    cell = jaxrnn.multihead(HEADS[name], 6, 2)
    case = problem(cell)
    run = jaxrnn.unroll if cell.adjoint is None else jaxrnn.unroll_bptt
    _, ys = run(cell, *case.args, **case.flags)
    by_hand = gradients(run, cell, case, False)
    assert_close(by_hand, gradients(jaxrnn.unroll, cell, case, False), 1e-10)
    for head in range(2):
        params = jax.tree.map(lambda leaf, n=head: leaf[n], case.params)
        state = case.state[:, head]
        _, own = jaxrnn.unroll(HEADS[name](3), params, case.xs, state, **case.flags)
        assert_close(ys[..., 3 * head : 3 * head + 3], own, 1e-12)
    assert (cell.derived is not None) == (name == "derived weights")


def test_a_bridge_leaves_the_normaliser_of_an_slstm():
    encoder = jaxrnn.layer(jaxrnn.gru(H))
    model = jaxrnn.seq2seq.encoder_decoder(
        encoder, jaxrnn.slstm(6), inputs=jaxrnn.dense(3), readout=jaxrnn.dense(2)
    )
    params = model.init(jax.random.key(0), I, 4, jnp.float64)
    state = model.encode(params, jnp.ones((T, B, I)))[1]
    assert (state.h != 0).all()
    assert not state.n.any()
    with pytest.raises(ValueError, match="cell_rate must be 0 where c goes with other"):
        jaxrnn.zoneout(jaxrnn.slstm(H), 0.1, cell_rate=0.1)


def test_an_slstm_bears_any_gate():
    cell = jaxrnn.slstm(H)
    case = problem(cell, mask=False)
    for scale in (1e3, 1e5):
        params = case.params._replace(w_x=scale * case.params.w_x)

        def loss(params):
            state, ys = jaxrnn.unroll_bptt(cell, params, case.xs, resets=case.resets)
            return (ys**2).sum() + state.n.sum()

        value, gradient = jax.value_and_grad(loss)(params)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in gradient)


def test_a_minlstm_bears_gates_that_are_both_shut():
    cell = jaxrnn.minlstm(H)
    params = cell.init(jax.random.key(0), I, jnp.float32)
    gates = jnp.repeat(jnp.array([-200.0, -199.0, 1.0], jnp.float32), H)
    _, ys = jaxrnn.unroll(cell, params._replace(b=gates), jnp.zeros((T, I), "float32"))
    share = 1 / (1 + np.exp(1.0))
    expected = 1 - (1 - share) ** np.arange(1, T + 1)
    np.testing.assert_allclose(ys[:, 0], expected, rtol=1e-5)

    def loss(params, unroll_fn):
        return unroll_fn(cell, params, jnp.ones((T, I), params.b.dtype))[1].sum()

    params = params._replace(b=gates)
    exact = jax.grad(loss)(jax.tree.map(jnp.float64, params), jaxrnn.unroll)
    for unroll_fn in (jaxrnn.unroll, jaxrnn.unroll_bptt, jaxrnn.unroll_associative):
        actual = jax.tree.map(jnp.float64, jax.grad(loss)(params, unroll_fn))
        assert_close(actual, exact, 1e-4)


def test_the_eigenvalues_of_an_lru_fill_a_ring():
    cell = jaxrnn.lru(2000, least_decay=0.4, most_decay=0.9)
    params = cell.init(jax.random.key(0), I, jnp.float64)
    decay, _ = cell.coefficients(params, jnp.zeros((4000,)))
    radius = np.sort(np.abs(decay))
    assert radius[0] >= 0.4
    assert radius[-1] <= 0.9
    # As many inside of any radius as there is area.
    inside = (radius**2 - 0.4**2) / (0.9**2 - 0.4**2)
    np.testing.assert_allclose(inside, np.linspace(0, 1, 2000), atol=0.05)
    np.testing.assert_allclose(np.exp(params.gamma) ** 2, 1 - np.abs(decay) ** 2)


@pytest.mark.parametrize("radius", [0.3, 0.9])
def test_a_reservoir_forgets_where_it_began(radius):
    cell = jaxrnn.echo_state(40, spectral_radius=radius)
    params = cell.init(jax.random.key(0), I, jnp.float64)
    eigenvalues = np.linalg.eigvals(np.asarray(params.w_h))
    np.testing.assert_allclose(abs(eigenvalues).max(), radius)
    assert ((params.w_h != 0).sum(0) <= 10).all()
    xs = jax.random.normal(jax.random.key(1), (300, B, I))
    first = jax.random.normal(jax.random.key(2), (B, 40))
    one, _ = jaxrnn.unroll(cell, params, xs)
    other, _ = jaxrnn.unroll(cell, params, xs, first)
    assert abs(one - other).max() < 1e-6


def test_a_readout_is_that_of_ridge_regression():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(20, B, 6)), rng.normal(size=(20, B, 2))
    mask = rng.random((20, B)) < 0.7
    features[~mask] = np.nan
    w, b = jaxrnn.ridge_readout(features, targets, penalty=0.5, mask=mask)
    # The normal equations of the centred data: the intercept has no penalty.
    x, y = features[mask], targets[mask]
    centred = x - x.mean(0)
    normal = centred.T @ centred + 0.5 * np.eye(6)
    expected = np.linalg.solve(normal, centred.T @ (y - y.mean(0)))
    np.testing.assert_allclose(w, expected, rtol=1e-9)
    np.testing.assert_allclose(b, y.mean(0) - x.mean(0) @ expected, rtol=1e-9)


def test_a_readout_of_nearly_dependent_features_in_float32():
    cell = jaxrnn.echo_state(200)
    params = cell.init(jax.random.key(0), 1, jnp.float64)
    xs = jnp.sin(jnp.arange(800.0) / 5)[:, None]
    _, states = jaxrnn.unroll(cell, params, xs[:-1])
    fit = jaxrnn.ridge_readout
    exact, narrow = (
        fit(states[50:].astype(dtype), xs[51:].astype(dtype), penalty=1e-5)
        for dtype in (jnp.float64, jnp.float32)
    )
    written = [
        jaxrnn.dense(1).apply(jax.tree.map(jnp.float64, readout), states[50:])[1]
        for readout in (exact, narrow)
    ]
    assert abs(written[0] - xs[51:]).max() < 1e-3
    assert abs(written[1] - written[0]).max() < 1e-3
    half = fit(states[50:].astype("bfloat16"), xs[51:].astype("bfloat16"), penalty=1.0)
    assert half.w.dtype == jnp.bfloat16


def test_convolutions_by_an_adjoint_are_local():
    cell = jaxrnn.conv_gru(2, (3,), (9,))
    case = problem(cell, batch=(), steps=2, mask=False, resets=False)

    def end(xs):
        return jaxrnn.unroll_bptt(cell, case.params, xs, case.state)[1][-1, 4]

    reach = jax.jacrev(end)(case.xs)  # (channel, step, place, input)
    seen = np.asarray((reach != 0).any(axis=(0, 3)))
    # One step carries what is a place further in each direction.
    assert seen[1].nonzero()[0].tolist() == [3, 4, 5]
    assert seen[0].nonzero()[0].tolist() == [2, 3, 4, 5, 6]


def test_convolutional_layers_stack_and_stream():
    space = (4, 3)
    layers = [jaxrnn.layer(jaxrnn.conv_lstm(H, (3, 3), space)), jaxrnn.dense(2)]
    model = jaxrnn.stack(*layers)
    params = model.init(jax.random.key(0), I, jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (T, B, *space, I))
    state, ys = model.apply(params, xs)
    assert ys.shape == (T, B, *space, 2)
    stepped, rows = model.initial_state(params, (B,)), []
    for x in xs:
        stepped, y = model.step(params, stepped, x)
        rows.append(y)
    assert_close((stepped[0], jnp.stack(rows)), (state[0], ys), 1e-12)
    both = jaxrnn.bidirectional(
        jaxrnn.conv_gru(H, (3, 3), space), jaxrnn.conv_gru(H, (3, 3), space)
    )
    mask = jaxrnn.lengths_to_mask(jnp.array([T, 2, 0]), T)
    _, ys = both.apply(both.init(jax.random.key(0), I, jnp.float64), xs, mask=mask)
    assert ys.shape == (T, B, *space, 2 * H)
    assert not ys[2:, 1].any()


def test_masks_and_resets_go_through_what_is_around_a_convolutional_layer():
    cell = jaxrnn.conv_gru(H, (3,), (4,))
    model = jaxrnn.stack(
        jaxrnn.residual(jaxrnn.layer(jaxrnn.conv_gru(I, (3,), (4,)))),
        jaxrnn.highway(jaxrnn.layer(jaxrnn.conv_gru(I, (3,), (4,)))),
        jaxrnn.layer(cell),
        jaxrnn.dropout(jaxrnn.layer_norm(H), 0.1),
        jaxrnn.dense(2),
    )
    params = model.init(jax.random.key(0), I, jnp.float64)
    case = problem(cell, batch=(B,))
    xs = jnp.where(case.mask[..., None, None], case.xs, jnp.nan)

    def loss(params, row=slice(None)):
        flags = {name: flag[:, row] for name, flag in case.flags.items()}
        _, ys = model.apply(params, xs[:, row], **flags)
        targets = jnp.ones_like(ys)
        error = jaxrnn.losses.mean_squared_error(ys, targets, mask=flags["mask"])
        pooled = jaxrnn.pooling.mean(ys, flags["mask"])
        return error, (ys, pooled)

    (error, (ys, pooled)), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    assert np.isfinite(error)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    counted = case.mask[..., None, None]
    squares = jnp.where(counted, (ys - 1) ** 2, 0)
    expected = float(squares.sum()) / (int(case.mask.sum()) * 4 * 2)
    np.testing.assert_allclose(error, expected)
    for row in range(B):
        _, (alone, _) = loss(params, slice(row, row + 1))
        np.testing.assert_allclose(ys[:, row : row + 1], alone, atol=1e-12)
    of_row = ys[:, 0][case.mask[:, 0]]
    np.testing.assert_allclose(pooled[0], of_row.mean(axis=0))
    predicted = jaxrnn.metrics.mean_absolute_error(ys, ys + 1, mask=case.mask)
    np.testing.assert_allclose(predicted, 1)


@pytest.mark.parametrize("wrap", [jaxrnn.candidate_dropout, jaxrnn.zoneout])
def test_convolutional_cells_draw_noise_at_every_place(wrap):
    cell = jaxrnn.conv_gru(H, (3,), (9,))
    layer = jaxrnn.layer(wrap(cell, 0.5))
    params = layer.init(jax.random.key(0), I, jnp.float64)
    xs = jnp.ones((T, B, 9, I))
    _, ys = layer.apply(params, xs, key=jax.random.key(1))
    whole = layer.apply(params, xs)[1]
    assert ys.shape == whole.shape
    assert (abs(ys - whole).max(axis=(0, 1, 3)) > 1e-3).all()
    with pytest.raises(ValueError, match="adjoint whose forward takes dot, got"):
        jaxrnn.recurrent_dropout(cell, 0.5)
