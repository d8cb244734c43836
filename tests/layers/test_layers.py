"""What every layer must do, over one table."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    B,
    I,
    T,
    assert_close,
    random_flags,
    random_like,
    random_normal,
    random_params,
)
from covering import combinations, quick
from layer_cases import LAYERS, QUICK, VOCAB

import jaxrnn

layers = pytest.mark.parametrize("name", LAYERS)
some_layers = quick("name", LAYERS, by_default=QUICK)


@functools.cache
def make_layer(name, unroll_fn):
    """The layer of a name: the same one in all tests, so that its programs are too."""
    return LAYERS[name].make(unroll_fn)


def problem(name, unroll_fn=jaxrnn.unroll, batch=(B,), steps=T, dtype=jnp.float64):
    case = LAYERS[name]
    layer = make_layer(name, unroll_fn)
    params = random_params(0, layer, dtype, VOCAB if case.tokens else I)
    shape = (steps, *batch)
    if case.tokens:
        xs = jnp.asarray(np.random.default_rng(1).integers(0, VOCAB, shape))
    else:
        xs = random_normal(1, (*shape, I), dtype)
    states = jax.eval_shape(lambda p: layer.initial_state(p, batch), params)
    state = random_like(2, states)
    flags = {
        "mask": random_flags(3, shape, 0.7),
        "resets": random_flags(4, shape, 0.3),
    }
    return layer, params, xs, state, flags


def spoil(xs, mask):
    """Garbage where masked: NaN, or a symbol that does not exist."""
    if jnp.issubdtype(xs.dtype, jnp.integer):
        return jnp.where(mask, xs, -1)
    return jnp.where(mask[..., None], xs, jnp.nan)


@combinations(
    name=LAYERS.keys(),
    unroll_fn=[jaxrnn.unroll, jaxrnn.unroll_bptt],
    batch=[(), (2, B)],
)
def test_apply_keeps_shapes_and_state_structure(name, unroll_fn, batch):
    layer, params, xs, state, flags = problem(name, unroll_fn, batch)
    new_state, ys = jax.eval_shape(layer.apply, params, xs, state, **flags)
    assert ys.shape == (T, *batch, layer.output_size)
    chex.assert_trees_all_equal_shapes_and_dtypes(new_state, state)


@quick(
    "name",
    [name for name, case in LAYERS.items() if case.causal],
    by_default=[name for name in QUICK if LAYERS[name].causal],
)
def test_steps_chunks_and_whole_sequence_agree(name):
    layer, params, xs, state, _ = problem(name)

    @jax.jit
    def results(params):
        whole = layer.apply(params, xs, state)
        middle, first = layer.apply(params, xs[:3], state)
        end, last = layer.apply(params, xs[3:], middle)
        current, ys = state, []
        for x in xs:
            current, y = layer.step(params, current, x)
            ys.append(y)
        return whole, (end, jnp.concatenate([first, last])), (current, jnp.stack(ys))

    whole, chunks, steps = results(params)
    assert_close(chunks, whole, 1e-12)
    assert_close(steps, whole, 1e-12)


@pytest.mark.parametrize("name", [n for n, case in LAYERS.items() if not case.causal])
def test_step_of_a_layer_that_needs_the_future_is_refused(name):
    layer, params, xs, state, _ = problem(name)
    with pytest.raises(ValueError, match=r"causal.*later inputs"):
        layer.step(params, state, xs[0])


@pytest.mark.loose
@some_layers
def test_nan_in_padding_changes_no_output_or_gradient(name):
    layer, params, xs, state, flags = problem(name, jaxrnn.unroll_bptt)

    @jax.jit
    def results(xs):
        def run(params, state):
            return layer.apply(params, xs, state, **flags)

        (new_state, ys), pull = jax.vjp(run, params, state)
        return (new_state, ys), pull((new_state, ys))

    spoilt_xs = np.asarray(spoil(xs, flags["mask"]))
    clean, spoilt = (
        jax.tree.map(np.asarray, results(values)) for values in (xs, spoilt_xs)
    )
    if jax.default_backend() == "cpu":
        chex.assert_trees_all_equal(spoilt, clean)
    else:  # a GPU adds up the rows of a table in any order
        chex.assert_trees_all_close(spoilt, clean, rtol=1e-14, atol=1e-14)
    assert not clean[0][1][~np.asarray(flags["mask"])].any()


@some_layers
def test_padded_batch_equals_each_sequence_alone(name):
    layer, params, xs, _, _ = problem(name)
    lengths = [4, 1, T]
    mask = np.arange(T)[:, None] < np.array(lengths)

    @jax.jit
    def run(params, xs):
        together = layer.apply(params, spoil(xs, mask), mask=mask)
        alone = [layer.apply(params, xs[:n, i]) for i, n in enumerate(lengths)]
        return together, alone

    (state, ys), every_alone = jax.tree.map(np.asarray, run(params, xs))
    for entry, (length, alone) in enumerate(zip(lengths, every_alone, strict=True)):
        padded = jax.tree.map(lambda s, i=entry: s[i], state), ys[:length, entry]
        assert_close(padded, alone, 1e-12)


@some_layers
def test_packed_segments_equal_segments_alone(name):
    layer, params, xs, _, _ = problem(name, batch=())
    resets = np.isin(np.arange(T), [0, 4, 5])

    @jax.jit
    def run(params, xs):
        _, packed = layer.apply(params, xs, resets=resets)
        alone = [layer.apply(params, xs[a:b])[1] for a, b in [(0, 4), (4, 5), (5, T)]]
        return packed, jnp.concatenate(alone)

    assert_close(*run(params, xs), 1e-12)


@some_layers
def test_explicit_gradient_equals_autodiff(name):
    _, params, xs, state, flags = problem(name)

    @functools.partial(jax.jit, static_argnums=0)
    def result(unroll_fn):
        def run(params, state):
            layer = make_layer(name, unroll_fn)
            return layer.apply(params, xs, state, **flags)

        values, pull = jax.vjp(run, params, state)
        return values, pull(jax.tree.map(jnp.cos, values))

    assert_close(result(jaxrnn.unroll_bptt), result(jaxrnn.unroll), 1e-10)


@layers
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_dtype_follows_the_parameters(name, dtype):
    layer, params, xs, state, flags = problem(name, dtype=dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    new_state, ys = jax.eval_shape(layer.apply, params, xs, state, **flags)
    assert ys.dtype == dtype
    chex.assert_trees_all_equal_dtypes(new_state, state)


@some_layers
def test_vmap_equals_batch(name):
    layer, params, xs, state, flags = problem(name)

    def run(xs, state, mask, resets):
        return layer.apply(params, xs, state, mask=mask, resets=resets)

    mapped = jax.vmap(run, in_axes=(1, 0, 1, 1), out_axes=(0, 1))
    arguments = xs, state, flags["mask"], flags["resets"]
    assert_close(jax.jit(mapped)(*arguments), jax.jit(run)(*arguments), 1e-12)


def test_dense_equals_an_affine_map_in_numpy():
    layer = jaxrnn.dense(2, activation=jax.nn.softmax)
    params = layer.init(jax.random.key(0), 3, jnp.float64)
    params = params._replace(b=jnp.array([0.5, -0.5]))
    xs = jax.random.normal(jax.random.key(1), (T, B, 3))
    o = np.asarray(xs) @ np.asarray(params.w) + np.asarray(params.b)
    expected = np.exp(o) / np.exp(o).sum(-1, keepdims=True)
    np.testing.assert_allclose(layer.apply(params, xs)[1], expected, rtol=1e-12)


def test_debug_nans_stops_at_no_valid_token_or_label():
    layer = jaxrnn.embedding(VOCAB, 4)
    params, tokens = random_params(0, layer, input_size=VOCAB), np.array([0, 3])
    with jax.debug_nans(True):
        layer.apply(params, tokens)
        jaxrnn.losses.softmax_cross_entropy(np.zeros((2, VOCAB)), tokens)
        with pytest.raises(FloatingPointError, match="nan"):
            layer.apply(params, np.array([0, VOCAB]))


@pytest.mark.loose
def test_embedding_gives_nan_for_unknown_tokens():
    layer = jaxrnn.embedding(3, 2)
    params = layer.init(jax.random.key(0), 3)
    _, ys = layer.apply(params, jnp.array([2, 0, 3, -1]))
    chex.assert_trees_all_equal(ys[:2], params.table[jnp.array([2, 0])])
    assert jnp.isnan(ys[2:]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16])
def test_embedding_takes_tokens_of_a_small_dtype(dtype):
    layer = jaxrnn.embedding(256, 2)
    params = layer.init(jax.random.key(0), 256)
    tokens = np.array([0, 1, 127], dtype)
    _, ys = layer.apply(params, tokens)
    chex.assert_trees_all_equal(ys, params.table[tokens.astype(int)])


def test_stack_draws_different_parameters_for_equal_layers():
    recurrent = jaxrnn.layer(jaxrnn.gru(4))
    first, second = jaxrnn.stack(recurrent, recurrent).init(jax.random.key(0), 4)
    assert not jnp.array_equal(first.w_h, second.w_h)


def test_stack_hands_each_layer_its_own_key():
    seen = []

    def noting(index):
        layer = jaxrnn.dense(2)

        def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
            seen.append(key)
            return layer.apply(params, xs, state, mask=mask, resets=resets)

        return layer._replace(apply=apply)

    model = jaxrnn.stack(noting(0), noting(1))
    params = model.init(jax.random.key(0), I)
    model.apply(params, jnp.ones((T, I)), key=jax.random.key(1))
    assert not jnp.array_equal(*map(jax.random.key_data, seen))
    seen.clear()
    model.apply(params, jnp.ones((T, I)))
    assert seen == [None, None]


def test_default_unroll_is_bptt_if_the_cell_has_an_adjoint():
    cell = jaxrnn.gru(5)
    without = cell._replace(adjoint=None)
    params = cell.init(jax.random.key(0), 2)
    xs = jnp.ones((4, 3, 2))

    def outputs(layer):
        return lambda params: layer.apply(params, xs)[1]

    fast, plain = jaxrnn.layer(cell), jaxrnn.layer(without)
    assert_close(outputs(fast)(params), outputs(plain)(params), 1e-12)
    jax.jacfwd(outputs(plain))(params)
    jax.jacfwd(outputs(jaxrnn.layer(cell, unroll_fn=jaxrnn.unroll)))(params)
    with pytest.raises(TypeError, match="pass unroll_fn"):
        jax.jacfwd(outputs(fast))(params)
