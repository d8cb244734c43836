"""Other frameworks, from the same weights, give the same values and gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import B, H, I, T, random_like, random_normal, random_params
from frameworks import NNX_GRU, PEERS, TORCH, need, torch_values_and_gradients
from hypothesis import example, given, settings
from hypothesis import strategies as st

import jaxrnn

UNROLLS = (jaxrnn.unroll, jaxrnn.unroll_bptt)
LENGTHS = [4, T, 1]  # none is 0: torch refuses it and Flax returns the wrong carry


def problem(layer, steps, rows, input_size, dtype, seed=0):
    """Random arguments of ``layer.apply``, and cotangents of what it returns."""
    params = random_params((seed, 0), layer, dtype, input_size)
    state = random_like((seed, 1), layer.initial_state(params, (rows,)))
    xs = random_normal((seed, 2), (steps, rows, input_size), dtype)
    dstate = random_like((seed, 3), state)
    dys = random_normal((seed, 4), (steps, rows, layer.output_size), dtype)
    return (params, xs, state), (dstate, dys)


def values_and_gradients(runs, args, cotangents):
    """Of each of several functions with the same arguments, compiled as one."""

    @jax.jit
    def every(args, cotangents):
        pulled = [jax.vjp(run, *args) for run in runs]
        return [(values, pull(cotangents)) for values, pull in pulled]

    return every(args, cotangents)


def assert_agree(actual, expected, tolerance):
    """As ``cases.assert_close``, but small leaves are not compared to 1.

    What reaches the initial state through many steps is small in all its entries.
    """
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    named = jax.tree_util.tree_leaves_with_path(actual)
    for (path, a), e in zip(named, jax.tree.leaves(expected), strict=True):
        where = jax.tree_util.keystr(path)
        assert (a.shape, a.dtype) == (e.shape, e.dtype), where
        assert np.isfinite(e).all(), where
        scale = np.abs(e).max()
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * scale, err_msg=where)


# torch


@dataclasses.dataclass(frozen=True)
class Sizes:
    steps: int
    rows: int
    input_size: int
    hidden_size: int
    layers: int
    bidirectional: bool
    lengths: list[int] | None
    seed: int


@st.composite
def any_sizes(draw, most_steps, most_units):
    steps = draw(st.integers(1, most_steps))
    rows, input_size, hidden_size = (
        draw(st.integers(1, most)) for most in (4, most_units, most_units)
    )
    ragged = st.lists(st.integers(1, steps), min_size=rows, max_size=rows)
    return Sizes(
        steps,
        rows,
        input_size,
        hidden_size,
        layers=draw(st.integers(1, 2)),
        bidirectional=draw(st.booleans()),
        lengths=draw(st.none() | ragged),
        seed=draw(st.integers(0, 99)),
    )


@pytest.fixture
def torch():
    """Skips before the first example is drawn, if it must."""
    return need("torch")


def check_against_torch(name, sizes):
    case = TORCH[name]
    cell = case.make(sizes.hidden_size)

    def model(unroll_fn):
        if sizes.bidirectional:
            layer = jaxrnn.bidirectional(cell, cell, unroll_fn=unroll_fn)
        else:
            layer = jaxrnn.layer(cell, unroll_fn=unroll_fn)
        return jaxrnn.stack(*[layer] * sizes.layers)

    mask = None
    if sizes.lengths is not None:
        mask = jaxrnn.lengths_to_mask(jnp.array(sizes.lengths), sizes.steps)
    models = [model(unroll_fn) for unroll_fn in UNROLLS]
    args, cotangents = problem(
        models[0], sizes.steps, sizes.rows, sizes.input_size, jnp.float64, sizes.seed
    )
    expected = torch_values_and_gradients(case, args, cotangents, sizes.lengths)
    runs = [functools.partial(model.apply, mask=mask) for model in models]
    for actual in values_and_gradients(runs, args, cotangents):
        assert_agree(actual, expected, 1e-10)


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("name", TORCH)
@settings(deadline=None, max_examples=3, derandomize=True)
@given(sizes=any_sizes(most_steps=9, most_units=6))
@example(sizes=Sizes(T, B, I, H, 1, False, None, 0))
@example(sizes=Sizes(T, B, I, H, 2, False, LENGTHS, 0))
@example(sizes=Sizes(T, B, I, H, 2, True, LENGTHS, 0))
def test_equals_torch(name, sizes):
    check_against_torch(name, sizes)


@pytest.mark.slow
@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("name", TORCH)
@settings(deadline=None, max_examples=10, derandomize=True)
@given(sizes=any_sizes(most_steps=200, most_units=20))
def test_equals_torch_over_many_steps(name, sizes):
    check_against_torch(name, sizes)


# The frameworks on JAX


def named(*frameworks):
    return pytest.mark.parametrize(
        "name", [name for name in PEERS if name.startswith(frameworks)]
    )


def check_against_peer(make_layer, theirs, dtype=jnp.float32, **flags):
    """``make_layer`` takes the unroll; ``theirs`` is what ``apply`` must equal."""
    layers = [make_layer(unroll_fn) for unroll_fn in UNROLLS]
    args, cotangents = problem(layers[0], T, B, I, dtype)

    def peer(*args):
        with jax.numpy_dtype_promotion("standard"):
            return theirs(*args, **flags)

    runs = [functools.partial(layer.apply, **flags) for layer in layers]
    *ours, expected = values_and_gradients([*runs, peer], args, cotangents)
    for actual in ours:
        assert_agree(actual, expected, 1e-5 if dtype == jnp.float32 else 1e-10)


def one_layer(cell, unroll_fn):
    return jaxrnn.layer(cell, unroll_fn=unroll_fn)


def there_and_back(cell, unroll_fn):
    """Two layers, of which the second runs from the last step to the first."""
    return jaxrnn.stack(
        jaxrnn.layer(cell, unroll_fn=unroll_fn),
        jaxrnn.layer(cell, reverse=True, unroll_fn=unroll_fn),
    )


def both_directions(cell, unroll_fn):
    return jaxrnn.bidirectional(cell, cell, unroll_fn=unroll_fn)


def peer_there_and_back(peer):
    there = peer.layer(I, H, jnp.float32)
    back = peer.layer(H, H, jnp.float32, reverse=True)

    def run(params, xs, state, **flags):
        first, xs = there(params[0], xs, state[0], **flags)
        second, ys = back(params[1], xs, state[1], **flags)
        return (first, second), ys

    return run


@pytest.mark.parametrize("name", PEERS)
def test_one_layer_equals_other_frameworks(name):
    peer = PEERS[name]
    make_layer = functools.partial(one_layer, peer.make(H))
    check_against_peer(make_layer, peer.layer(I, H, jnp.float32))


# The tanh of Keras on JAX rounds float64 to float32.
@named("linen", "nnx", "haiku", "equinox")
def test_one_layer_equals_other_frameworks_in_float64(name):
    peer = PEERS[name]
    make_layer = functools.partial(one_layer, peer.make(H))
    check_against_peer(make_layer, peer.layer(I, H, jnp.float64), jnp.float64)


# Those of Flax and Keras follow, with masks.
@named("haiku", "equinox")
def test_two_layers_equal_other_frameworks(name):
    peer = PEERS[name]
    make_layer = functools.partial(there_and_back, peer.make(H))
    check_against_peer(make_layer, peer_there_and_back(peer))


@named("linen", "nnx")
def test_two_layers_equal_flax_at_any_lengths(name):
    peer = PEERS[name]
    mask = jaxrnn.lengths_to_mask(jnp.array(LENGTHS), T)
    make_layer = functools.partial(there_and_back, peer.make(H))
    check_against_peer(make_layer, peer_there_and_back(peer), mask=mask)


@named("keras")
def test_two_layers_equal_keras_under_any_mask(name):
    peer = PEERS[name]
    mask = jax.random.bernoulli(jax.random.key(1), 0.6, (T, B)).at[:, 0].set(False)
    make_layer = functools.partial(there_and_back, peer.make(H))
    check_against_peer(make_layer, peer_there_and_back(peer), mask=mask)


@named("linen", "keras")
def test_both_directions_equal_other_frameworks_at_any_lengths(name):
    peer = PEERS[name]
    mask = jaxrnn.lengths_to_mask(jnp.array(LENGTHS), T)
    make_layer = functools.partial(both_directions, peer.make(H))
    check_against_peer(make_layer, peer.both(I, H, jnp.float32), mask=mask)


@named("haiku")
def test_resets_equal_the_reset_core_of_haiku(name):
    peer = PEERS[name]
    resets = jax.random.bernoulli(jax.random.key(1), 0.3, (T, B))
    make_layer = functools.partial(one_layer, peer.make(H))
    check_against_peer(make_layer, peer.layer(I, H, jnp.float32), resets=resets)


def test_the_gru_of_nnx_is_ours_without_the_bias_that_the_reset_gate_multiplies():
    def make_layer(unroll_fn):
        layer = one_layer(jaxrnn.gru(H), unroll_fn)

        def apply(params, xs, state):
            b_h = params.b_h.at[2 * H :].set(0)
            return layer.apply(params._replace(b_h=b_h), xs, state)

        return layer._replace(apply=apply)

    check_against_peer(make_layer, NNX_GRU.layer(I, H, jnp.float32))


@pytest.mark.parametrize("space", [(6,), (4, 5), (3, 4, 2)])
def test_convolutional_lstms_equal_those_of_keras(space):
    layers = need("keras").layers
    kernel = (3, 1, 5)[: len(space)]
    cell = jaxrnn.conv_lstm(H, kernel, space)
    params = random_params((0, 0), cell, jnp.float32)
    xs = random_normal((0, 1), (T, B, *space, I), jnp.float32)
    state = random_like((0, 2), cell.initial_state(params, (B,)))
    theirs = getattr(layers, f"ConvLSTM{len(space)}D")(
        H, kernel, padding="same", return_sequences=True, return_state=True
    )
    theirs.build((B, T, *space, I))

    def keras(params, xs, state):
        (ys, *states), _ = theirs.stateless_call(
            list(params),
            theirs.non_trainable_variables,
            xs.swapaxes(0, 1),
            initial_state=list(state),
        )
        return jaxrnn.LSTMState(*states), ys.swapaxes(0, 1)

    def ours(*args):
        return jaxrnn.unroll_bptt(cell, *args)

    args = (params, xs, state)
    cotangents = random_like((0, 3), jax.eval_shape(ours, *args))
    actual, expected = values_and_gradients((ours, keras), args, cotangents)
    assert_agree(actual, expected, 1e-5)
