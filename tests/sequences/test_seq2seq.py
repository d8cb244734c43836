"""Encoder-decoder models against loops in NumPy, and on a small task."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    assert_close,
    compiled,
    random_normal,
    random_params,
)
from covering import combinations
from translators import ATTENTIONS, CELLS, B, S, T, V, W, attentions, make, setup

import jaxrnn
from jaxrnn import seq2seq

attending_ones = pytest.mark.parametrize("attention", ["additive", "dot product"])
encoder = compiled(
    jaxrnn.stack(
        jaxrnn.embedding(V, 3), jaxrnn.bidirectional(jaxrnn.gru(4), jaxrnn.lstm(2))
    )
)
lstm = jaxrnn.lstm(5)
lstm_step = jax.jit(lambda p, state, x: lstm.step(p, state, lstm.project(p, x)))


def softmax(values):
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def by_hand(params, sources, targets, length, attention):
    """One batch entry, as a loop in NumPy around the cell's step."""
    as_numpy = functools.partial(jax.tree.map, np.asarray)
    mask = np.arange(S) < length
    final, values = as_numpy(encoder.apply(params.encoder, sources, mask=mask))
    values = values[:length]
    joined = np.concatenate(jax.tree.leaves(final))
    begun = np.tanh(joined @ params.bridge.w + params.bridge.b)
    state = jaxrnn.LSTMState(h=begun[:5], c=begun[5:])
    embedded, middle, readout = as_numpy(params.decoder)
    y, outputs, weights = np.zeros(5), [], []
    for token in targets:
        x = embedded.table[token]
        own = middle
        if attention != "none":
            own, given = middle.cell, middle.attention
            if attention == "additive":
                units = np.tanh(y @ given.w_q + values @ given.w_v + given.b)
                scores = (units @ given.v)[:, 0]
            else:
                scores = (values @ given.w) @ y / np.sqrt(5)
            weights.append(softmax(scores))
            context = weights[-1] @ values
            x = np.concatenate([x, context])
        state, y = as_numpy(lstm_step(own, state, x))
        seen = y if attention == "none" else np.concatenate([y, context])
        outputs.append(seen @ readout.w + readout.b)
    return np.stack(outputs), weights


@attentions
@pytest.mark.parametrize("masked", [False, True])
def test_equals_a_loop_in_numpy(attention, masked):
    model, params, sources, targets, mask = setup(attention)
    given = mask if masked else None
    _, logits = model.apply(params, sources, targets, source_mask=given)
    found = None
    if attention != "none":
        found = model.attention_weights(params, sources, targets, source_mask=given)
    logits, found = jax.tree.map(np.asarray, (logits, found))
    assert logits.shape == (T, B, W)
    for row in range(B):
        length = int(mask[:, row].sum()) if masked else S
        expected, weights = by_hand(
            params, sources[:, row], targets[:, row], length, attention
        )
        assert_close(logits[:, row], expected, 1e-12)
        if weights:
            assert_close(found[:, row, :length], np.stack(weights), 1e-12)
            assert not found[:, row, length:].any()


@combinations(
    strength=1, attention=ATTENTIONS.keys(), cell=CELLS.keys(), batch=[(), (2, B)]
)
def test_steps_equal_the_whole(attention, cell, batch):
    model, params, sources, targets, mask = setup(attention, cell, batch)
    target_mask = np.broadcast_to(np.arange(T) < T - 1, (*batch, T))
    target_mask = np.moveaxis(target_mask, -1, 0)
    flags = {"source_mask": mask, "target_mask": target_mask}
    final, logits = model.apply(params, sources, targets, **flags)
    logits = np.asarray(logits)
    state = model.encode(params, sources, mask=mask)
    for t in range(T - 1):
        state, y = model.decoder.step(params.decoder, state, targets[t])
        assert_close(y, logits[t], 1e-12)
    assert not logits[-1].any()
    assert_close(state, final, 1e-12)


@attentions
def test_gradients_are_those_of_the_steps(attention):
    model, params, sources, targets, mask = setup(attention)

    def whole(params):
        _, logits = model.apply(params, sources, targets, source_mask=mask)
        return (logits**2).sum()

    def steps(params):
        state, total = model.encode(params, sources, mask=mask), 0.0
        for x in targets:
            state, y = model.decoder.step(params.decoder, state, x)
            total += (y**2).sum()
        return total

    both = jax.jit(lambda params: (jax.grad(whole)(params), jax.grad(steps)(params)))
    assert_close(*both(params), 1e-11)


@attending_ones
def test_nothing_under_a_mask_is_looked_at(attention):
    layer = seq2seq.attending(jaxrnn.gru(5), 3, ATTENTIONS[attention])
    params = random_params(0, layer, input_size=2)
    xs, ys = random_normal(1, (T, B, 2)), random_normal(2, (S, B, 3))
    mask = jaxrnn.lengths_to_mask(jnp.array([6, 2, 0]), S)

    @jax.jit
    def run(params, ys):
        def loss(params, ys):
            memory = seq2seq.remember(ATTENTIONS[attention], params.attention, ys, mask)
            state = layer.initial_state(params, (B,))._replace(memory=memory)
            _, out = layer.apply(params, xs, state)
            return (out**2).sum(), out

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, ys)

    clean = run(params, ys)
    spoilt = run(params, np.where(mask[..., None], ys, np.nan))
    assert_close(spoilt, clean, 1e-12)
    assert not np.asarray(clean[0][1])[:, 2, 5:].any()  # a row with nothing to look at


@attending_ones
def test_resets_renew_the_cell_and_leave_the_memory(attention):
    layer = seq2seq.attending(jaxrnn.lstm(5), 3, ATTENTIONS[attention])
    params = random_params(0, layer, input_size=2)
    xs, ys = random_normal(1, (T, B, 2)), random_normal(2, (S, B, 3))
    resets = np.broadcast_to((np.arange(T) == 2)[:, None], (T, B))

    @jax.jit
    def both(params):
        memory = seq2seq.remember(ATTENTIONS[attention], params.attention, ys)
        fresh = layer.initial_state(params, (B,))._replace(memory=memory)
        _, packed = layer.apply(params, xs, fresh, resets=resets)
        _, first = layer.apply(params, xs[:2], fresh)
        _, second = layer.apply(params, xs[2:], fresh)
        return packed, jnp.concatenate([first, second])

    assert_close(*both(params), 1e-12)


def test_without_a_memory_the_context_is_zero():
    layer = compiled(seq2seq.attending(jaxrnn.gru(5), 3, seq2seq.additive(4)))
    params = random_params(0, layer, input_size=2)
    _, out = jax.tree.map(np.asarray, layer.apply(params, np.ones((T, B, 2))))
    assert not out[..., 5:].any()
    state = layer.initial_state(params, batch_shape=(B,))
    _, y = layer.step(params, state, np.ones((B, 2)))
    assert_close(y, out[0], 1e-12)


def test_dropout_of_the_decoder_draws_with_a_key():
    model, params, sources, targets, _ = setup(
        "additive", wrap=lambda cell: jaxrnn.recurrent_dropout(cell, 0.5)
    )
    apply = jax.jit(model.apply)
    plain = np.asarray(apply(params, sources, targets)[1])
    draws = [
        np.asarray(apply(params, sources, targets, key=jax.random.key(n))[1])
        for n in (1, 1, 2)
    ]
    chex.assert_trees_all_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()
    assert (draws[0] != plain).any()


def test_16_bit_parameters_give_16_bit_logits():
    model, params, sources, targets, mask = setup("additive")
    narrow = jax.tree.map(lambda p: np.asarray(p).astype(jnp.bfloat16), params)
    _, logits = model.apply(narrow, sources, targets, source_mask=mask)
    assert logits.dtype == jnp.bfloat16
    _, expected = model.apply(params, sources, targets, source_mask=mask)
    assert_close(np.asarray(logits).astype(np.float64), expected, 0.1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: make("none", wrap=jaxrnn.layer), TypeError, "cell must be a Cell"),
        (
            lambda: seq2seq.encoder_decoder(
                jaxrnn.dense(3),
                jaxrnn.gru(3),
                inputs=jaxrnn.embedding(W, 3),
                readout=jaxrnn.dense(W),
            ).init(jax.random.key(0), 2, W),
            ValueError,
            "encoder must have a state",
        ),
        (lambda: seq2seq.additive(0), ValueError, "size must be at least 1"),
        (
            lambda: seq2seq.attending(jaxrnn.gru(3), 3, seq2seq.additive),
            TypeError,
            "attention must be an Attention, got function: call it",
        ),
        (
            lambda: seq2seq.attending(jaxrnn.gru(3), 0, seq2seq.dot_product()),
            ValueError,
            "memory_size must be at least 1",
        ),
        (
            lambda: seq2seq.remember(
                seq2seq.dot_product(), None, jnp.ones((S, B, 3)), jnp.ones((S, B))
            ),
            TypeError,
            "mask must be boolean",
        ),
    ],
)
def test_wrong_parts_of_a_model_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_wrong_calls_are_named():
    model, params, sources, targets, _ = setup("none")
    with pytest.raises(ValueError, match="attention must be given to the model"):
        model.attention_weights(params, sources, targets)
    state = model.encode(params, sources)
    run = functools.partial(
        seq2seq.scheduled_sampling,
        model.decoder,
        params.decoder,
        state=state,
        key=jax.random.key(0),
    )
    with pytest.raises(ValueError, match="rate must be at least 0"):
        run(xs=targets, rate=1.5)
    with pytest.raises(TypeError, match="xs must be integers"):
        run(xs=targets.astype(float), rate=0.5)
    with pytest.raises(ValueError, match="xs must have at least one step"):
        run(xs=targets[:0], rate=0.5)
    model, params, sources, targets, _ = setup("additive")
    state = model.encode(params, sources)
    with pytest.raises(ValueError, match=r"batch dimensions \(2,\) of the inputs"):
        model.decoder.apply(params.decoder, targets[:, :2], state)
    wrong = state[1]._replace(memory=jnp.ones((B, S, 6)))
    with pytest.raises(TypeError, match=r"state\.memory must be a Memory"):
        model.decoder.step(params.decoder, (state[0], wrong, state[2]), targets[0])
