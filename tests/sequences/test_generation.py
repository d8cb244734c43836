"""What ends a generation, what is no symbol, what is known of the steps to come."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_close, random_params

import jaxrnn
from jaxrnn import decode

V, END = 6, 2


def language_model():
    """A model sharp enough to tell the symbols apart."""
    model = jaxrnn.stack(
        jaxrnn.embedding(V, 4), jaxrnn.layer(jaxrnn.gru(5)), jaxrnn.dense(V)
    )
    params = random_params(1, model, input_size=V)
    return model, jax.tree.map(lambda p: jnp.asarray(4 * np.asarray(p)), params)


CHOICES = {
    "greedy": decode.greedy,
    "sampling": decode.sampling(),
    "top k": decode.sampling(top_k=2),
    "nucleus": decode.sampling(top_p=0.9),
}


@pytest.mark.parametrize("name", CHOICES)
def test_logits_that_are_nan_give_no_symbol(name):
    logits = np.array([[0.0, 9.0, 0.0], [np.nan] * 3, [9.0, np.nan, 0.0]])
    drawn = np.asarray(jax.jit(CHOICES[name])(jax.random.key(0), logits))
    assert drawn[0] in (0, 1, 2)
    assert drawn[1:].tolist() == [-1, -1]


@pytest.mark.parametrize("name", CHOICES)
def test_generation_from_an_unknown_symbol_is_of_no_symbols(name):
    model, params = language_model()
    prompt = np.array([[0, V + 3]])
    run = jax.jit(
        lambda: decode.generate(
            model, params, prompt, 4, key=jax.random.key(0), choose=CHOICES[name]
        )[1]
    )
    drawn = np.asarray(run())
    assert (drawn[:, 0] >= 0).all()
    assert (drawn[:, 1] == -1).all()


def test_ended_rows_stay_ended_in_the_next_call():
    model, params = language_model()
    prompt, key = np.arange(V)[None], jax.random.key(0)

    @functools.partial(jax.jit, static_argnames="steps")
    def run(prompt, state, steps):
        return decode.generate(
            model, params, prompt, steps, key=key, end=END, state=state
        )

    _, whole = run(prompt, None, steps=12)
    whole = np.asarray(whole)
    ended = (whole[:5] == END).any(axis=0)
    assert ended.any()
    assert not ended.all()
    state, first = run(prompt, None, steps=5)
    later, rest = run(first[-1:], state, steps=7)
    np.testing.assert_array_equal(np.concatenate([first, rest]), whole)
    # The state of an ended row is held too.
    for before, after in zip(
        jax.tree.leaves(state), jax.tree.leaves(later), strict=True
    ):
        np.testing.assert_array_equal(
            np.asarray(before)[ended], np.asarray(after)[ended]
        )


def test_generation_stops_when_every_row_has_ended():
    counted = []
    model, params = language_model()

    def step(params, state, x):
        jax.debug.callback(lambda: counted.append(1))
        state, y = model.step(params, state, x)
        return state, jnp.zeros_like(y).at[..., END].set(1)

    layer = model._replace(step=step)
    run = jax.jit(
        lambda prompt: decode.generate(
            layer, params, prompt, 1000, key=jax.random.key(0), end=END
        )[1]
    )
    drawn = np.asarray(run(np.zeros((1, 3), int)))
    jax.effects_barrier()
    assert drawn.shape == (1000, 3)
    assert (drawn[1:] == END).all()
    assert len(counted) <= 2


def test_what_is_known_of_the_steps_to_come_reaches_their_inputs():
    layer = jaxrnn.stack(jaxrnn.layer(jaxrnn.gru(4)), jaxrnn.dense(1))
    params = random_params(0, layer, input_size=3)
    known = {"calendar": np.random.default_rng(0).normal(size=(5, 2, 2))}
    prompt = np.random.default_rng(1).normal(size=(4, 2, 3))

    def choose(key, y, known):
        return jnp.concatenate([y, known["calendar"]], axis=-1)

    @jax.jit
    def both():
        _, xs = decode.generate(
            layer, params, prompt, 5, key=jax.random.key(0), choose=choose, known=known
        )
        expected, (_, ys) = [], layer.apply(params, prompt)
        current, y = layer.apply(params, prompt)[0], ys[-1]
        for calendar in known["calendar"]:
            expected.append(jnp.concatenate([y, calendar], axis=-1))
            current, y = layer.step(params, current, expected[-1])
        return xs, jnp.stack(expected)

    assert_close(*both(), 1e-12)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"layer": jaxrnn.gru(3)}, TypeError, "layer must be a Layer, got Cell"),
        ({"choose": "greedy"}, TypeError, "choose must be a function, got 'greedy'"),
        ({"key": None}, TypeError, r"key must be a key, .* got None"),
        ({"end": 99}, ValueError, "end must be one of the 6 tokens, got 99"),
        (
            {"known": np.zeros((3, 2))},
            ValueError,
            r"known must have num_steps = 4 steps, got shape \(3, 2\)",
        ),
    ],
)
def test_wrong_arguments_of_generate_are_named(change, error, message):
    model, params = language_model()
    arguments = {
        "layer": model,
        "params": params,
        "prompt": np.zeros((1, 2), int),
        "num_steps": 4,
        "key": jax.random.key(0),
        **change,
    }
    with pytest.raises(error, match=message):
        decode.generate(**arguments)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: decode.sampling(temperature="hot"),
            TypeError,
            "temperature must be a number, got 'hot'",
        ),
        (
            lambda: decode.sampling(top_p="most"),
            TypeError,
            "top_p must be a number, got 'most'",
        ),
        (
            lambda: decode.lengths_until(np.zeros((3, 2), int), 1.5),
            TypeError,
            "end must be an int, got 1.5",
        ),
        (
            lambda: decode.ctc_greedy(np.zeros((3, 2, 4)), blank=99),
            ValueError,
            "blank must be one of the 4 classes, got 99",
        ),
        (
            lambda: decode.ctc_greedy(np.zeros((3, 2, 4)), blank=-1),
            ValueError,
            "blank must be at least 0, got -1",
        ),
    ],
)
def test_wrong_options_of_decoding_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
