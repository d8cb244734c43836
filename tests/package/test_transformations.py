"""Symbols for sizes, strict promotion, and cells that close over traced values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from all_models import SMALL, inputs, model, models, squares
from cases import CELLS, B, H, I, T, assert_close
from jax import export
from layer_cases import LAYERS

import jaxrnn
from jaxrnn._descriptions.captured import holds_tracer


@models
def test_exported_with_symbols_for_batch_and_time(name):
    layer, params, _ = model(name)
    steps, batch = export.symbolic_shape("t, b")
    xs = inputs(name)

    def shape(dtype, *rest):
        return jax.ShapeDtypeStruct((steps, batch, *rest), dtype)

    def apply(params, xs, mask):
        return layer.apply(params, xs, mask=mask)

    arguments = params, shape(xs.dtype, *xs.shape[2:]), shape(bool)
    written = export.export(jax.jit(apply))(*arguments).serialize()
    if name in SMALL:
        mask = np.random.default_rng(1).random((T, B)) < 0.7
        actual = export.deserialize(written).call(params, xs, mask)
        assert_close(actual, apply(params, xs, mask), 1e-12)


def test_an_exported_gradient_is_that_of_the_program():
    layer, params, _ = model("lstm")
    steps, batch = export.symbolic_shape("t, b")
    xs = jax.ShapeDtypeStruct((steps, batch, I), jnp.float64)
    gradient = jax.jit(jax.grad(functools.partial(squares, layer)))
    program = export.export(gradient)(params, xs)
    values = inputs("lstm", steps=4)
    assert_close(program.call(params, values), gradient(params, values), 1e-12)


@pytest.mark.parametrize("unroll", [None, jaxrnn.unroll])
@models
def test_no_rank_is_promoted_and_no_tracer_leaks(name, unroll):
    layer, params, _ = model(name)
    if unroll is not None:
        case = LAYERS.get(name)
        layer = case.make(unroll) if case else jaxrnn.layer(CELLS[name].cell)
    flags = np.ones((T, B), bool)

    def gradient(params, xs, key):
        def loss(params):
            return squares(layer, params, xs, mask=flags, resets=flags, key=key)

        return jax.grad(loss)(params)

    with jax.numpy_rank_promotion("raise"), jax.checking_leaks():
        jax.eval_shape(gradient, params, inputs(name), jax.random.key(0))


def gain_gradients(unroll, transform):
    """Gradients by a number that the activation of the cell closes over."""
    params = jaxrnn.elman(H).init(jax.random.key(0), I, jnp.float64)

    def loss(gain, params):
        cell = jaxrnn.elman(H, activation=lambda a: jnp.tanh(gain * a))
        return (unroll(cell, params, inputs("elman"))[1] ** 2).sum()

    return jax.grad(transform(loss), (0, 1))(0.7, params)


TRANSFORMS = {
    "eager": lambda loss: loss,
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "cond": lambda loss: lambda *args: jax.lax.cond(args[0] > 0, loss, loss, *args),
    "scan": lambda loss: (
        lambda *args: jax.lax.scan(lambda c, _: (c + loss(*args), None), 0.0, length=1)[
            0
        ]
    ),
}


@pytest.mark.parametrize("unroll", [jaxrnn.unroll_bptt, jaxrnn.unroll_chunked])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_cell_may_close_over_a_traced_value(unroll, transform):
    expected = gain_gradients(jaxrnn.unroll, jax.jit)
    assert abs(expected[0]) > 0.1
    assert_close(gain_gradients(unroll, TRANSFORMS[transform]), expected, 1e-10)


def test_a_layer_may_close_over_a_traced_value():
    def run(cell, params, xs):
        return jaxrnn.layer(cell).apply(params, xs)

    expected = gain_gradients(jaxrnn.unroll, jax.jit)
    assert_close(gain_gradients(run, jax.jit), expected, 1e-10)


def test_a_traced_value_is_found_wherever_a_cell_holds_it():
    class Scaled:
        def __init__(self, gain):
            self.gain = gain

        def method(self, a):
            return self.gain * a

        __call__ = method

    @jax.jit
    def look(gain):
        def inner(a, scale=gain):
            return scale * a

        for found in (
            jaxrnn.elman(5, activation=lambda a: gain * a),
            jaxrnn.elman(5, activation=functools.partial(jnp.multiply, gain)),
            jaxrnn.elman(5, activation=Scaled(gain).method),
            jaxrnn.elman(5, activation=Scaled(gain)),
            jaxrnn.elman(5, activation=inner),
            jaxrnn.layer(jaxrnn.zoneout(jaxrnn.elman(5, activation=inner), 0.1)),
            jaxrnn.highway(jaxrnn.dense(3), gate_bias=gain),
            jaxrnn.Cell(*jaxrnn.elman(5, activation=inner)[:-1]),
        ):
            assert holds_tracer(found)
        for case in CELLS.values():
            assert not holds_tracer(case.cell)
        return gain

    look(1.0)
