"""Calls outside of ``jax.jit`` share programs, and see what has changed."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from all_models import MODELS, inputs, model, squares
from cases import CELLS, B, H, I, T, assert_close
from covering import quick

import jaxrnn
from jaxrnn import decode, diagnostics, losses, metrics, seq2seq


@pytest.fixture
def compilations():
    """A function that counts what its argument, a function, compiles."""
    count = 0

    def listen(event, duration, **kwargs):
        nonlocal count
        count += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(listen)

    def of(function):
        nonlocal count
        count = 0
        jax.block_until_ready(function())
        return count

    yield of
    jax.monitoring.unregister_event_duration_listener(listen)


@quick("name", MODELS, by_default=["lstm", "conv-gru-2d", "model"])
def test_a_second_eager_gradient_compiles_nothing(name, compilations):
    _, params, _ = model(name)
    xs = inputs(name)

    def gradient():
        remade = jaxrnn.layer(CELLS[name].make(H)) if name in CELLS else model(name)[0]
        return jax.grad(lambda params: squares(remade, params, xs))(params)

    compilations(gradient)
    assert compilations(gradient) == 0


def test_compilations_are_counted(compilations):
    assert compilations(lambda: jax.jit(lambda x: x * 3.25)(jnp.ones(13))) > 0


CELL, MIN = jaxrnn.lstm(H), jaxrnn.mingru(H)
PARAMS = CELL.init(jax.random.key(0), I)
MIN_PARAMS = MIN.init(jax.random.key(0), I)
XS, DYS = np.ones((T, B, I)), np.ones((T, B, H))
TOKENS = np.ones((4, B), int)
EAGER = {
    "jvp of unroll": lambda: jax.jvp(
        lambda p: jaxrnn.unroll(jaxrnn.lstm(H), p, XS)[1], (PARAMS,), (PARAMS,)
    ),
    "vmap": lambda: jax.vmap(
        lambda xs: jaxrnn.unroll_bptt(jaxrnn.lstm(H), PARAMS, xs)[1], 1
    )(XS),
    "hessian": lambda: jax.jvp(
        jax.grad(lambda p: jaxrnn.unroll_bptt(CELL, p, XS)[1].sum()),
        (PARAMS,),
        (PARAMS,),
    ),
    "chunked": lambda: jax.grad(
        lambda p: jaxrnn.unroll_chunked(CELL, p, XS, chunk_size=3)[1].sum()
    )(PARAMS),
    "unroll_with": lambda: jax.grad(
        lambda p: jaxrnn.unroll_with(chunk_size=3)(CELL, p, XS)[1].sum()
    )(PARAMS),
    "associative": lambda: jax.grad(
        lambda p: jaxrnn.unroll_associative(MIN, p, XS)[1].sum()
    )(MIN_PARAMS),
    "bptt": lambda: jaxrnn.bptt(CELL, PARAMS, XS, DYS),
    "rtrl": lambda: jaxrnn.rtrl(CELL, PARAMS, XS, DYS),
    "by lag": lambda: jaxrnn.gradient_by_lag(CELL, PARAMS, XS, DYS),
    "norms": lambda: diagnostics.state_gradient_norms(CELL, PARAMS, XS, DYS),
    "exponents": lambda: diagnostics.lyapunov_exponents(CELL, PARAMS, XS),
    "spectrum": lambda: diagnostics.jacobian_spectrum(CELL, PARAMS, XS),
    "distance": lambda: metrics.edit_distance(TOKENS, TOKENS),
    "ctc": lambda: jax.grad(lambda x: losses.ctc(x, TOKENS[:2]))(jnp.zeros((T, B, 4))),
    "generate": lambda: decode.generate(
        *model("model")[:2],
        TOKENS,
        4,
        key=jax.random.key(0),
        choose=decode.sampling(temperature=0.5),
        end=1,
    ),
    "beam search": lambda: decode.beam_search(
        *model("model")[:2], TOKENS, 4, beam_size=2, end=1
    ),
    "scheduled sampling": lambda: seq2seq.scheduled_sampling(
        *model("model")[:2],
        TOKENS,
        model("model")[0].initial_state(model("model")[1], (B,)),
        rate=0.5,
        key=jax.random.key(0),
    ),
}


@quick("name", EAGER, by_default=["vmap", "chunked", "bptt", "by lag", "generate"])
def test_a_second_eager_call_compiles_nothing(name, compilations):
    compilations(EAGER[name])
    assert compilations(EAGER[name]) == 0


@pytest.mark.slow
def test_an_eager_translator_compiles_once(compilations):
    translator = seq2seq.encoder_decoder(
        jaxrnn.layer(jaxrnn.gru(4)),
        jaxrnn.gru(3),
        inputs=jaxrnn.embedding(5, 2),
        readout=jaxrnn.dense(5),
        attention=seq2seq.additive(3),
    )
    params = jax.jit(translator.init, static_argnums=(1, 2))(jax.random.key(0), I, 5)

    def run():
        gradient = jax.grad(lambda p: translator.apply(p, XS, TOKENS)[1].sum())
        return gradient(params), translator.attention_weights(params, XS, TOKENS)

    compilations(run)
    assert compilations(run) == 0


SETTINGS = types.ModuleType("settings")
gain = [1.0]


def closing_over_a_variable():
    scale = 1.0

    def change(new):
        nonlocal scale
        scale = new

    return (lambda a: jnp.tanh(scale * a)), change


def reading_a_global():
    def change(new):
        globals()["factor"] = new

    change(1.0)
    return (lambda a: jnp.tanh(factor * a)), change  # noqa: F821


def reading_a_list():
    return (lambda a: jnp.tanh(gain[0] * a)), lambda new: gain.__setitem__(0, new)


def reading_a_module():
    SETTINGS.factor = 1.0
    change = functools.partial(setattr, SETTINGS, "factor")
    return (lambda a: jnp.tanh(SETTINGS.factor * a)), change


def reading_an_object():
    class Scaled:
        scale = 1.0

        def __init__(self):
            self.scale = 1.0

        def __call__(self, a):
            return jnp.tanh(self.scale * a)

    scaled = Scaled()
    return scaled, functools.partial(setattr, scaled, "scale")


def reading_a_numpy_array():
    array = np.ones(1)
    return (lambda a: jnp.tanh(array[0] * a)), array.fill


def within_a_function():
    inner, change = closing_over_a_variable()
    return (lambda a: (lambda b: inner(b))(a)), change


@pytest.mark.parametrize(
    "reading",
    [
        closing_over_a_variable,
        reading_a_global,
        reading_a_list,
        reading_a_module,
        reading_an_object,
        reading_a_numpy_array,
        within_a_function,
    ],
)
def test_an_eager_call_sees_a_value_that_has_changed(reading):
    activation, change = reading()
    cell = jaxrnn.elman(H, activation=activation)
    params = cell.init(jax.random.key(0), I)
    seen = []
    for value in (1.0, 3.0, 1.0):
        change(value)
        _, ys = jaxrnn.unroll_bptt(cell, params, XS)
        expected = jaxrnn.elman(H, activation=lambda a, v=value: jnp.tanh(v * a))
        assert_close(ys, jaxrnn.unroll(expected, params, XS)[1], 1e-12)
        seen.append(np.asarray(ys))
    assert (seen[0] != seen[1]).any()


def own_activation(a):
    return jnp.tanh(a) * gain[0]


def test_a_function_of_the_user_is_compiled_once(compilations):
    cell = jaxrnn.elman(H, activation=own_activation)
    params = cell.init(jax.random.key(0), I)

    def run():
        remade = jaxrnn.elman(H, activation=own_activation)
        return jax.grad(lambda p: jaxrnn.unroll_bptt(remade, p, XS)[1].sum())(params)

    compilations(run)
    assert compilations(run) == 0
