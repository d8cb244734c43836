"""What encoder-decoder models write: beams, scheduled sampling, a task learned."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import (
    assert_close,
)
from translators import B, T, attentions, setup

import jaxrnn
from jaxrnn import decode, losses, seq2seq

generate = jax.jit(decode.generate, static_argnums=(0, 3), static_argnames="end")
beam_search = jax.jit(
    decode.beam_search, static_argnums=(0, 3), static_argnames=("beam_size", "end")
)
scheduled_sampling = jax.jit(
    seq2seq.scheduled_sampling, static_argnums=0, static_argnames=("rate", "choose")
)


def logsumexp_normalized(logits):
    """Log-probabilities of logits."""
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@attentions
def test_beam_search_and_greedy_decoding(attention):
    model, params, sources, _, mask = setup(attention)
    state = model.encode(params, sources, mask=mask)
    start = np.zeros((1, B), int)
    _, greedy = generate(
        model.decoder,
        params.decoder,
        start,
        6,
        key=jax.random.key(0),
        end=1,
        state=state,
    )
    search = functools.partial(
        beam_search, model.decoder, params.decoder, start, 6, end=1, state=state
    )
    single = jax.tree.map(np.asarray, search(beam_size=1))
    chex.assert_trees_all_equal(single.tokens[..., 0], greedy)
    found = jax.tree.map(np.asarray, search(beam_size=4))
    assert (found.scores[:, 0] >= single.scores[:, 0] - 1e-12).all()
    for k in range(4):
        fed = np.concatenate([start, found.tokens[:-1, :, k]])
        _, logits = model.apply(params, sources, fed, source_mask=mask)
        log_probabilities = logsumexp_normalized(np.asarray(logits))
        drawn = found.tokens[:, :, k, None]
        each = np.take_along_axis(log_probabilities, drawn, axis=-1)[..., 0]
        valid = np.arange(6)[:, None] < found.lengths[:, k]
        assert_close(found.scores[:, k], np.where(valid, each, 0).sum(0), 1e-12)


@attentions
def test_scheduled_sampling_is_between_teacher_forcing_and_generation(attention):
    model, params, sources, targets, mask = setup(attention)
    state = model.encode(params, sources, mask=mask)
    run = functools.partial(
        scheduled_sampling,
        model.decoder,
        params.decoder,
        targets,
        state,
        key=jax.random.key(5),
    )
    target_mask = np.arange(T)[:, None] < np.array([T, 2, 0])
    expected = model.decoder.apply(params.decoder, targets, state, mask=target_mask)
    assert_close(run(rate=0.0, mask=target_mask), expected, 1e-12)
    # At a rate of 1 and greedy it writes what generate writes.
    _, logits = run(rate=1, choose=decode.greedy)
    _, greedy = generate(
        model.decoder,
        params.decoder,
        targets[:1],
        T,
        key=jax.random.key(0),
        state=state,
    )
    chex.assert_trees_all_equal(np.asarray(logits).argmax(-1), greedy)
    between, plain = (np.asarray(run(rate=rate)[1]) for rate in (0.5, 0.0))
    assert_close(between[0], plain[0], 1e-12)
    assert (between != plain).any()


def test_scheduled_sampling_keeps_one_memory():
    def needed(num_steps):
        model, params, sources, _, _ = setup(
            "dot product", batch=(8,), wrap=lambda cell: cell
        )
        many = np.tile(sources, (20, 1))

        def loss(params):
            state = model.encode(params, many)
            _, logits = seq2seq.scheduled_sampling(
                model.decoder,
                params.decoder,
                jnp.zeros((num_steps, 8), int),
                state,
                rate=0.5,
                key=jax.random.key(0),
            )
            return (logits**2).sum()

        memory = jax.jit(jax.grad(loss)).lower(params).compile().memory_analysis()
        return memory.temp_size_in_bytes

    values = 120 * 8 * 6 * 8  # bytes of what is looked at
    keys = 120 * 8 * 5 * 8
    assert needed(60) - needed(10) < 50 * (values + keys) / 2


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")
def test_a_model_learns_to_reverse():
    size, length = 6, 5  # symbols 2 to 5; 0 begins, 1 ends
    model = seq2seq.encoder_decoder(
        jaxrnn.stack(
            jaxrnn.embedding(size, 8),
            jaxrnn.bidirectional(jaxrnn.gru(16), jaxrnn.gru(16)),
        ),
        jaxrnn.gru(32),
        inputs=jaxrnn.embedding(size, 8),
        readout=jaxrnn.dense(size),
        attention=seq2seq.additive(16),
    )

    def draw(key, rows):
        key_words, key_lengths = jax.random.split(key)
        words = jax.random.randint(key_words, (length, rows), 2, size)
        lengths = jax.random.randint(key_lengths, (rows,), 1, length + 1)
        mask = jaxrnn.lengths_to_mask(lengths, length)
        index = jnp.where(mask, lengths - 1 - jnp.arange(length)[:, None], 0)
        reversed_words = jnp.take_along_axis(words, index, axis=0)
        targets = jnp.where(mask, reversed_words, 1)
        ended = jnp.concatenate([targets, jnp.ones((1, rows), targets.dtype)])
        return words, mask, ended, jaxrnn.lengths_to_mask(lengths + 1, length + 1)

    def loss(params, batch):
        words, mask, targets, target_mask = batch
        start = jnp.zeros_like(targets[:1])
        fed = jnp.concatenate([start, targets[:-1]])
        _, logits = model.apply(
            params, words, fed, source_mask=mask, target_mask=target_mask
        )
        return losses.softmax_cross_entropy(logits, targets, mask=target_mask)

    optimizer = optax.adam(1e-2)

    @jax.jit
    def train(params):
        def body(carry, key):
            params, state = carry
            grads = jax.grad(loss)(params, draw(key, 64))
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(jax.random.key(1), 400)
        return jax.lax.scan(body, (params, optimizer.init(params)), keys)[0][0]

    @jax.jit
    def judge(params):
        words, mask, targets, target_mask = draw(jax.random.key(2), 100)
        start = jnp.zeros_like(targets[:1])
        found = decode.beam_search(
            model.decoder,
            params.decoder,
            start,
            length + 1,
            beam_size=3,
            end=1,
            state=model.encode(params, words, mask=mask),
        )
        weights = model.attention_weights(
            params,
            words,
            jnp.concatenate([start, targets[:-1]]),
            source_mask=mask,
            target_mask=target_mask,
        )
        right = (found.tokens[:, :, 0] == targets).all(axis=0)
        return right.mean(), weights.sum(-1), target_mask.astype(weights.dtype)

    init = jax.jit(model.init, static_argnums=(1, 2, 3))
    params = train(init(jax.random.key(0), size, size, jnp.float32))
    right, looked, target_mask = judge(params)
    assert right > 0.95
    assert_close(looked, target_mask, 1e-5)
