import collections
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import B, assert_close

import jaxrnn
from jaxrnn import decode

V = 6


def model(cell=None):
    return jaxrnn.stack(
        jaxrnn.embedding(V, 4),
        jaxrnn.layer(cell or jaxrnn.lstm(5)),
        jaxrnn.layer(jaxrnn.gru(3)),
        jaxrnn.dense(V),
    )


def setup(batch=(B,), length=4):
    layer = model()
    params = layer.init(jax.random.key(0), None)
    params = jax.tree.map(lambda p: p * 3, params)  # sharp enough to tell apart
    prompt = jax.random.randint(jax.random.key(1), (length, *batch), 0, V)
    return layer, params, prompt


@pytest.mark.parametrize(
    ("batch", "choose"),
    [((), decode.greedy), ((B,), decode.sampling(top_k=3)), ((2, B), decode.greedy)],
)
def test_equals_the_loop_over_whole_sequences(batch, choose):
    layer, params, prompt = setup(batch)
    key = jax.random.key(2)
    state, drawn = jax.jit(
        lambda params, prompt: decode.generate(
            layer, params, prompt, 3, key=key, choose=choose
        )
    )(params, prompt)
    assert drawn.shape == (3, *batch)
    assert drawn.dtype == prompt.dtype

    first_key, key = jax.random.split(key)
    text = prompt
    for step_key in [first_key, *jax.random.split(key, 2)]:
        _, logits = layer.apply(params, text)
        text = jnp.concatenate(
            [text, choose(step_key, logits[-1]).astype(text.dtype)[None]]
        )
    chex.assert_trees_all_equal(drawn, text[len(prompt) :])
    expected_state, _ = layer.apply(params, text[:-1])
    assert_close(state, expected_state, 1e-12)


def test_can_be_continued():
    layer, params, prompt = setup()
    key = jax.random.key(0)
    _, whole = decode.generate(layer, params, prompt, 7, key=key)
    state, first = decode.generate(layer, params, prompt, 3, key=key)
    _, rest = decode.generate(layer, params, first[-1:], 4, key=key, state=state)
    chex.assert_trees_all_equal(jnp.concatenate([first, rest]), whole)


@pytest.mark.parametrize("batch", [(), (B,), (2, B)])
def test_rows_end(batch):
    layer, params, prompt = setup(batch)
    draw = functools.partial(
        decode.generate, layer, params, prompt, key=jax.random.key(3)
    )
    choose = decode.sampling()
    _, whole = draw(12, choose=choose)
    state, drawn = draw(12, choose=choose, end=2)
    lengths = decode.lengths_until(whole, 2)
    assert (lengths < 12).any()
    running = jaxrnn.lengths_to_mask(lengths, 12)
    chex.assert_trees_all_equal(drawn, jnp.where(running, whole, 2))
    chex.assert_trees_all_equal(decode.lengths_until(drawn, 2), lengths)
    # A row holds the state in which it drew its last symbol.
    text = jnp.concatenate([prompt, drawn[:-1]])
    expected, _ = layer.apply(
        params, text, mask=jaxrnn.lengths_to_mask(lengths + len(prompt) - 1, len(text))
    )
    assert_close(state, expected, 1e-12)


@pytest.mark.parametrize("side", ["left", "right"])
def test_prompts_of_several_lengths_equal_each_alone(side):
    layer, params, prompt = setup()
    mask = jnp.arange(4)[:, None] >= jnp.array([0, 2, 3])
    mask = mask if side == "left" else mask[::-1]
    _, drawn = decode.generate(
        layer, params, jnp.where(mask, prompt, -1), 5, key=jax.random.key(0), mask=mask
    )
    for row in range(B):
        own = prompt[mask[:, row], row]
        _, alone = decode.generate(layer, params, own, 5, key=jax.random.key(0))
        chex.assert_trees_all_equal(drawn[:, row], alone)


def test_values_can_be_fed_back_too():
    """The output is the next input: here a forecast of real numbers."""
    layer = jaxrnn.stack(jaxrnn.layer(jaxrnn.elman(5)), jaxrnn.dense(1))
    params = layer.init(jax.random.key(0), 1)
    prompt = jnp.ones((4, B, 1))
    _, ys = decode.generate(
        layer, params, prompt, 3, key=jax.random.key(0), choose=lambda key, y: y
    )
    whole = jnp.concatenate([prompt, ys[:-1]])
    chex.assert_trees_all_close(ys, layer.apply(params, whole)[1][3:], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({}, range(V)),
        ({"temperature": 0.5}, range(V)),
        ({"top_k": 2}, [1, 4]),
        # Probabilities of 0.46, 0.28, 0.17, 0.10 and less.
        ({"top_p": 0.6}, [1, 4]),
        ({"top_p": 0.8}, [1, 4, 5]),
        ({"top_p": 1e-6}, [1]),
        ({"top_p": 1.0}, range(V)),
        ({"top_p": 0.9, "top_k": 3}, [1, 4, 5]),
        # The temperature comes first: 0.67, 0.25, 0.09.
        ({"top_p": 0.6, "temperature": 0.5}, [1]),
    ],
)
def test_sampling_draws_with_the_probabilities_it_promises(options, allowed):
    logits = jnp.array([0.0, 2.0, -1.0, 0.5, 1.5, 1.0])
    draws = 20_000
    choose = decode.sampling(**options)
    drawn = choose(jax.random.key(0), jnp.tile(logits, (draws, 1)))
    counts = collections.Counter(np.asarray(drawn).tolist())
    assert set(counts) <= set(allowed)
    chances = np.exp(np.asarray(logits)[list(allowed)] / options.get("temperature", 1))
    chances /= chances.sum()
    observed = np.array([counts[symbol] for symbol in allowed]) / draws
    # Four standard deviations of a frequency among 20,000 draws.
    np.testing.assert_allclose(observed, chances, atol=4 * 0.5 / np.sqrt(draws))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_rare_symbols_of_16_bit_logits_keep_their_probability(dtype):
    chances = np.array([0.9, 0.09, 0.009, 0.001])
    logits = jnp.tile(jnp.log(jnp.asarray(chances)).astype(dtype), (200_000, 1))
    drawn = decode.sampling()(jax.random.key(0), logits)
    # Rounding a logit of 7 to 8 bits moves its probability by at most 3 %.
    observed = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(observed, chances, rtol=0.15)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32])
def test_low_temperature_is_greedy(dtype):
    logits = jax.random.normal(jax.random.key(0), (100, V), dtype) * 5
    chosen = decode.sampling(temperature=1e-4)(jax.random.key(1), logits)
    # In float16 two logits can be equal, and either is the most probable.
    drawn = jnp.take_along_axis(logits, chosen[:, None], axis=1)[:, 0]
    chex.assert_trees_all_equal(drawn, logits.max(axis=1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: decode.sampling(top_p=0), ValueError, "top_p must be above 0 and at"),
        (lambda: decode.sampling(top_p=1.5), ValueError, "at most 1, got 1.5"),
        (
            lambda: decode.lengths_until(jnp.ones((3, 2)), 1),
            TypeError,
            "tokens must be integers",
        ),
        (
            lambda: decode.sampling(temperature=0),
            ValueError,
            "temperature must be above 0",
        ),
        (
            lambda: decode.sampling(top_k=0),
            ValueError,
            "top_k must be at least 1, got 0",
        ),
        (
            lambda: decode.sampling(top_k=2.5),
            TypeError,
            "top_k must be an int, got 2.5",
        ),
        (
            lambda: decode.sampling(top_k=V + 1)(jax.random.key(0), jnp.zeros(V)),
            ValueError,
            "top_k must be at most the number of symbols 6, got 7",
        ),
    ],
)
def test_bad_options_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_prompts_of_a_small_dtype():
    layer, params, prompt = setup()
    drawn = [
        decode.generate(layer, params, prompt.astype(dtype), 5, key=jax.random.key(0))[
            1
        ]
        for dtype in (jnp.uint8, jnp.int32)
    ]
    chex.assert_trees_all_equal(*drawn)


def test_bad_prompts_and_layers_are_named():
    layer, params, prompt = setup()
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"prompt must have shape .* T at least 1"):
        decode.generate(layer, params, prompt[:0], 3, key=key)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        decode.generate(layer, params, prompt, 0, key=key)
    with pytest.raises(TypeError, match=r"choose must return inputs like the prompt"):
        decode.generate(layer, params, prompt, 3, key=key, choose=lambda k, y: y)
    both = jaxrnn.stack(
        jaxrnn.embedding(V, 4),
        jaxrnn.bidirectional(jaxrnn.gru(2), jaxrnn.gru(2)),
        jaxrnn.dense(V),
    )
    with pytest.raises(ValueError, match="bidirectional"):
        decode.generate(both, both.init(key, None), prompt, 3, key=key)
