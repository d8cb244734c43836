"""Beam search against all sequences there are, and against greedy generation."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import B, assert_close, random_params
from covering import combinations

import jaxrnn
from jaxrnn import decode

V = 3
END = 1
beam_search = jax.jit(
    decode.beam_search,
    static_argnums=(0, 3),
    static_argnames=("beam_size", "end", "length_penalty"),
)
generate = jax.jit(decode.generate, static_argnums=(0, 3), static_argnames="end")


@functools.cache
def make_layer(symbols):
    return jaxrnn.stack(
        jaxrnn.embedding(symbols, 4),
        jaxrnn.layer(jaxrnn.lstm(5)),
        jaxrnn.layer(jaxrnn.gru(3)),
        jaxrnn.dense(symbols),
    )


@functools.cache
def make_apply(symbols):
    """``apply`` and the log-probabilities of its logits, compiled."""
    layer = make_layer(symbols)
    return jax.jit(lambda *args: jax.nn.log_softmax(layer.apply(*args)[1]))


def setup(batch=(B,), symbols=V, dtype=jnp.float64, length=4):
    layer = make_layer(symbols)
    params = random_params(0, layer, input_size=symbols)
    # Sharp enough to tell the symbols apart.
    params = jax.tree.map(lambda p: jnp.asarray(3 * np.asarray(p), dtype), params)
    prompt = np.random.default_rng(1).integers(0, symbols, (length, *batch))
    return layer, params, prompt


def all_sequences(params, prompt, num_steps, end, length_penalty):
    """Every continuation of a prompt without batch, with its score, best first."""
    found = {}
    every = list(itertools.product(range(V), repeat=num_steps))
    prompts = np.repeat(prompt[:, None], len(every), axis=1)
    texts = np.concatenate([prompts, np.array(every)[:, :-1].T])
    log_probabilities = np.asarray(make_apply(V)(params, texts))[len(prompt) - 1 :]
    for index, drawn in enumerate(every):
        length = drawn.index(end) + 1 if end in drawn else num_steps
        chances = log_probabilities[:, index]
        total = sum(chances[t, drawn[t]] for t in range(length))
        found[drawn[:length]] = total / ((5 + length) / 6) ** length_penalty
    return sorted(found.items(), key=lambda item: -item[1])


@combinations(strength=1, length_penalty=[0.0, 1.0], end=[None, END])
def test_beam_of_every_sequence_equals_exhaustive_search(end, length_penalty):
    layer, params, prompt = setup()
    options = {"beam_size": V**3, "end": end, "length_penalty": length_penalty}
    found = beam_search(layer, params, prompt, 3, **options)
    found = jax.tree.map(np.asarray, found)
    for row in range(B):
        expected = all_sequences(params, prompt[:, row], 3, end, length_penalty)
        count = len(expected)
        lengths = found.lengths[row].tolist()
        tokens = found.tokens[:, row].T.tolist()
        assert [tuple(t[:n]) for t, n in zip(tokens, lengths, strict=True)][:count] == [
            sequence for sequence, _ in expected
        ]
        assert_close(
            found.scores[row, :count], np.array([s for _, s in expected]), 1e-12
        )
        assert lengths[count:] == [0] * (V**3 - count)
        assert (found.scores[row, count:] == -jnp.inf).all()
        behind = np.arange(3)[:, None] >= np.array(lengths)
        assert (np.asarray(found.tokens[:, row])[behind] == (end or 0)).all()


@combinations(strength=1, batch=[(), (B,), (2, B)], end=[None, END])
def test_beam_of_one_equals_greedy_generation(batch, end):
    layer, params, prompt = setup(batch, symbols=6)
    found = beam_search(layer, params, prompt, 7, beam_size=1, end=end)
    _, greedy = generate(layer, params, prompt, 7, key=jax.random.key(0), end=end)
    chex.assert_trees_all_equal(found.tokens[..., 0], greedy)
    assert found.scores.shape == found.lengths.shape == (*batch, 1)
    if end is not None:
        expected = np.asarray(decode.lengths_until(greedy, end), np.int32)
        chex.assert_trees_all_equal(found.lengths[..., 0], expected)


def test_wider_beam_finds_scores_at_least_as_high():
    layer, params, prompt = setup((20,), symbols=6)
    best = [
        np.mean(beam_search(layer, params, prompt, 6, beam_size=size).scores[:, 0])
        for size in (1, 4, 16)
    ]
    assert best[0] < best[1] <= best[2]


def test_scores_equal_the_log_probabilities_of_the_sequences():
    layer, params, prompt = setup(symbols=6)
    found = beam_search(layer, params, prompt, 6, beam_size=4)
    found = jax.tree.map(np.asarray, found)
    for k in range(4):
        text = np.concatenate([prompt, found.tokens[:, :, k]])
        log_probabilities = np.asarray(make_apply(6)(params, text[:-1]))
        chosen = found.tokens[:, :, k, None]
        each = np.take_along_axis(log_probabilities[len(prompt) - 1 :], chosen, axis=-1)
        assert_close(found.scores[:, k], each.sum((0, 2)), 1e-12)


def test_padded_prompts_with_a_state_equal_each_prompt_alone():
    layer, params, prompt = setup()
    mask = np.asarray(jaxrnn.lengths_to_mask(jnp.array([4, 2, 1]), 4))
    zeros = jax.eval_shape(lambda p: layer.initial_state(p, (B,)), params)
    start = jax.tree.map(lambda s: np.full(s.shape, 0.3, s.dtype), zeros)
    found = beam_search(
        layer,
        params,
        np.where(mask, prompt, -1),
        5,
        beam_size=3,
        end=END,
        mask=mask,
        state=start,
    )
    for row in range(B):
        alone = beam_search(
            layer,
            params,
            prompt[mask[:, row], row],
            5,
            beam_size=3,
            end=END,
            state=jax.tree.map(lambda s, row=row: s[row], start),
        )
        chex.assert_trees_all_equal(found.tokens[:, row], alone.tokens)
        assert_close(found.scores[row], alone.scores, 1e-12)


def test_beam_wider_than_the_vocabulary_leaves_empty_hypotheses():
    layer, params, prompt = setup()
    found = beam_search(layer, params, prompt, 1, beam_size=5)
    assert found.lengths.tolist() == [[1, 1, 1, 0, 0]] * B
    assert np.sort(found.tokens[0, :, :V]).tolist() == [[0, 1, 2]] * B
    assert (found.scores[:, V:] == -jnp.inf).all()


def test_scores_of_16_bit_logits_are_float32():
    layer, params, prompt = setup(dtype=jnp.bfloat16)
    found = beam_search(layer, params, prompt, 3, beam_size=2, end=END)
    assert found.scores.dtype == jnp.float32
    assert found.tokens.dtype == prompt.dtype


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"beam_size": 0}, ValueError, "beam_size must be at least 1"),
        ({"beam_size": 2.5}, TypeError, "beam_size must be an int"),
        ({"end": 3}, ValueError, "end must be one of the 3 tokens.*got 3"),
        ({"end": -1}, ValueError, "end must be at least 0"),
        ({"num_steps": 0}, ValueError, "num_steps must be at least 1"),
        ({"prompt": jnp.zeros((0, B), int)}, ValueError, "prompt must have shape"),
        ({"prompt": jnp.zeros((2, B))}, TypeError, "prompt must be integers"),
    ],
)
def test_beam_search_names_bad_arguments(options, error, message):
    layer, params, prompt = setup()
    arguments = {"prompt": prompt, "num_steps": 3, "beam_size": 2, **options}
    with pytest.raises(error, match=message):
        decode.beam_search(layer, params, **arguments)


def test_beam_search_refuses_bidirectional_layers():
    layer = jaxrnn.stack(
        jaxrnn.embedding(V, 2),
        jaxrnn.bidirectional(jaxrnn.gru(2), jaxrnn.gru(2)),
        jaxrnn.dense(V),
    )
    params = layer.init(jax.random.key(0), V)
    with pytest.raises(ValueError, match="layer must be causal"):
        decode.beam_search(layer, params, jnp.zeros((2, B), int), 3, beam_size=2)


def ending_layer(counted):
    """Logits that end every sequence at its second symbol, and calls that are seen."""
    dense = make_layer(V)

    def step(params, state, x):
        jax.debug.callback(lambda: counted.append(1))
        state, y = dense.step(params, state, x)
        return state, y.at[..., END].add(50)

    return dense._replace(step=step)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_the_search_stops_when_nothing_open_can_be_chosen(length_penalty):
    counted = []
    _, params, prompt = setup()
    options = {"beam_size": 2, "end": END, "length_penalty": length_penalty}
    found = beam_search(ending_layer(counted), params, prompt, 40, **options)
    jax.effects_barrier()
    assert len(counted) < 6
    expected = beam_search(ending_layer([]), params, prompt, 4, **options)
    assert_close(found.scores, expected.scores, 1e-12)
    np.testing.assert_array_equal(found.tokens[:4], expected.tokens)
    assert (found.tokens[4:] == END).all()


@pytest.mark.parametrize("end", [END, None])
def test_a_row_that_meets_nan_has_no_sequence(end):
    layer, params, prompt = setup()
    prompt[-1, 1] = V  # no symbol
    found = beam_search(layer, params, prompt, 5, beam_size=2, end=end)
    assert (found.tokens[:, 1] == -1).all()
    assert np.isnan(found.scores[1]).all()
    whole = [0, 2]
    alone = beam_search(layer, params, prompt[:, whole], 5, beam_size=2, end=end)
    np.testing.assert_array_equal(found.tokens[:, whole], alone.tokens)
    assert_close(found.scores[np.array(whole)], alone.scores, 1e-12)
