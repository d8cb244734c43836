import collections
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import B, assert_close, random_normal, random_params

import jaxrnn
from jaxrnn import decode

V = 6
LAYER = jaxrnn.stack(
    jaxrnn.embedding(V, 4),
    jaxrnn.layer(jaxrnn.lstm(5)),
    jaxrnn.layer(jaxrnn.gru(3)),
    jaxrnn.dense(V),
)
generate = jax.jit(
    decode.generate, static_argnums=(0, 3), static_argnames=("choose", "end")
)
apply = jax.jit(LAYER.apply)
lengths_until = jax.jit(decode.lengths_until, static_argnums=1)
sampling = functools.cache(decode.sampling)  # equal functions share a program


def setup(batch=(B,), length=4):
    params = random_params(0, LAYER, input_size=V)
    # Sharp enough to tell the symbols apart.
    params = jax.tree.map(lambda p: jnp.asarray(3 * np.asarray(p)), params)
    prompt = np.random.default_rng(1).integers(0, V, (length, *batch))
    return LAYER, params, prompt


@pytest.mark.parametrize(
    ("batch", "choose"),
    [((), decode.greedy), ((B,), sampling(top_k=3)), ((2, B), decode.greedy)],
)
def test_generation_equals_a_loop_over_whole_sequences(batch, choose):
    layer, params, prompt = setup(batch)
    key = jax.random.key(2)
    state, drawn = generate(layer, params, prompt, 3, key=key, choose=choose)
    assert drawn.shape == (3, *batch)
    assert drawn.dtype == prompt.dtype

    first_key, key = jax.random.split(key)
    text = prompt
    for step_key in [first_key, *jax.random.split(key, 2)]:
        # As many steps as the longest, so that one program serves all.
        padded = np.concatenate([text, np.zeros((len(prompt) + 3 - len(text), *batch))])
        _, logits = apply(params, padded.astype(int))
        chosen = choose(step_key, logits[len(text) - 1])
        text = np.concatenate([text, np.asarray(chosen, text.dtype)[None]])
    chex.assert_trees_all_equal(drawn, text[len(prompt) :])
    expected_state, _ = apply(params, text[:-1])
    assert_close(state, expected_state, 1e-12)


def test_generation_can_be_continued():
    layer, params, prompt = setup()
    key = jax.random.key(0)
    _, whole = generate(layer, params, prompt, 7, key=key)
    state, first = generate(layer, params, prompt, 3, key=key)
    _, rest = generate(layer, params, first[-1:], 4, key=key, state=state)
    chex.assert_trees_all_equal(np.concatenate([first, rest]), whole)


@pytest.mark.parametrize(
    "batch", [(), (B,), pytest.param((2, B), marks=pytest.mark.slow)]
)
def test_ended_sequences_repeat_the_end_and_hold_their_state(batch):
    layer, params, prompt = setup(batch)
    draw = functools.partial(generate, layer, params, prompt, key=jax.random.key(3))
    _, whole = draw(12, choose=sampling())
    state, drawn = draw(12, choose=sampling(), end=2)
    lengths = np.asarray(lengths_until(whole, 2))
    assert (lengths < 12).any()
    running = np.arange(12).reshape(-1, *(1,) * len(batch)) < lengths
    chex.assert_trees_all_equal(drawn, np.where(running, whole, 2))
    chex.assert_trees_all_equal(lengths_until(drawn, 2), lengths)
    # A sequence holds the state in which it drew its last symbol.
    text = np.concatenate([prompt, drawn[:-1]])
    mask = jaxrnn.lengths_to_mask(jnp.asarray(lengths + len(prompt) - 1), len(text))
    expected, _ = apply(params, text, mask=mask)
    assert_close(state, expected, 1e-12)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_prompts_equal_each_prompt_alone(side):
    layer, params, prompt = setup()
    mask = np.arange(4)[:, None] >= np.array([0, 2, 3])
    mask = mask if side == "left" else mask[::-1]
    key = jax.random.key(0)
    padded = np.where(mask, prompt, -1)
    _, drawn = generate(layer, params, padded, 5, key=key, mask=mask)
    for row in range(B):
        _, alone = generate(layer, params, prompt[mask[:, row], row], 5, key=key)
        chex.assert_trees_all_equal(drawn[:, row], alone)


def test_generation_can_feed_back_values():
    """The output is the next input: here a forecast of real numbers."""
    layer = jaxrnn.stack(jaxrnn.layer(jaxrnn.elman(5)), jaxrnn.dense(1))
    params = layer.init(jax.random.key(0), 1)
    prompt = jnp.ones((4, B, 1))

    @jax.jit
    def run(params):
        _, ys = decode.generate(
            layer, params, prompt, 3, key=jax.random.key(0), choose=lambda key, y: y
        )
        return ys, layer.apply(params, jnp.concatenate([prompt, ys[:-1]]))[1][3:]

    chex.assert_trees_all_close(*run(params), rtol=1e-12)


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
def test_sampling_frequencies_equal_the_probabilities(options, allowed):
    logits = jnp.array([0.0, 2.0, -1.0, 0.5, 1.5, 1.0])
    draws = 20_000
    choose = jax.jit(decode.sampling(**options))
    drawn = choose(jax.random.key(0), np.tile(logits, (draws, 1)))
    counts = collections.Counter(np.asarray(drawn).tolist())
    assert set(counts) <= set(allowed)
    chances = np.exp(np.asarray(logits)[list(allowed)] / options.get("temperature", 1))
    chances /= chances.sum()
    observed = np.array([counts[symbol] for symbol in allowed]) / draws
    # Four standard deviations of a frequency among 20,000 draws.
    np.testing.assert_allclose(observed, chances, atol=4 * 0.5 / np.sqrt(draws))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_sampling_16_bit_logits_keeps_rare_symbols(dtype):
    chances = np.array([0.9, 0.09, 0.009, 0.001])
    logits = np.tile(np.log(chances).astype(dtype), (200_000, 1))
    drawn = jax.jit(sampling())(jax.random.key(0), logits)
    # Rounding a logit of 7 to 8 bits moves its probability by at most 3 %.
    observed = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(observed, chances, rtol=0.15)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32])
def test_sampling_at_a_low_temperature_is_greedy(dtype):
    logits = np.asarray(5 * random_normal(0, (100, V)), dtype)
    chosen = np.asarray(sampling(temperature=1e-4)(jax.random.key(1), logits))
    # In float16 two logits can be equal, and either is the most probable.
    drawn = np.take_along_axis(logits, chosen[:, None], axis=1)[:, 0]
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
            "top_k must be at most the vocabulary size 6, got 7",
        ),
    ],
)
def test_sampling_names_bad_options(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_generation_takes_prompts_of_small_integers():
    layer, params, prompt = setup()
    key = jax.random.key(0)
    drawn = [
        generate(layer, params, prompt.astype(dtype), 5, key=key)[1]
        for dtype in (jnp.uint8, jnp.int32)
    ]
    chex.assert_trees_all_equal(*drawn)


def test_generation_names_bad_prompts_and_layers():
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
