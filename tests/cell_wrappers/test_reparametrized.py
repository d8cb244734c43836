"""Weights that are computed from the parameters."""

import functools

import jax
import jax.numpy as jnp
import pytest
from cases import H, assert_close, gradients, problem

import jaxrnn


def test_weights_are_derived_once_for_an_unroll():
    calls = []

    def transform(params):
        calls.append(1)
        return params._replace(w_h=jnp.tanh(params.w_h))

    cell = jaxrnn.reparametrized(jaxrnn.gru(H), transform)
    case = problem(cell)
    for run in (jaxrnn.unroll, jaxrnn.unroll_bptt, jaxrnn.unroll_chunked):
        calls.clear()
        jax.eval_shape(functools.partial(run, cell), *case.args, **case.flags)
        assert len(calls) == 1, run


@pytest.mark.parametrize("inner", [jaxrnn.gru(H), jaxrnn.mingru(H)])
def test_every_gradient_goes_through_derived_weights(inner):
    def transform(params):
        return jax.tree.map(jnp.sin, params)

    cell = jaxrnn.reparametrized(inner, transform)
    case = problem(cell)
    runs = [jaxrnn.unroll, jaxrnn.unroll_bptt]
    if inner.coefficients is not None:
        runs.append(jaxrnn.unroll_associative)

    @jax.jit
    def every():
        dstate, dys = case.dstate, case.dys
        explicit = jaxrnn.bptt(
            cell, case.params, case.xs, dys, case.state, dstate=dstate, **case.flags
        )
        return explicit, [gradients(run, cell, case)[1] for run in runs]

    explicit, (expected, *others) = every()
    for actual in (explicit, *others):
        assert_close(actual, expected, 1e-10)


@pytest.mark.parametrize("wrap", [jaxrnn.zoneout, jaxrnn.recurrent_dropout])
def test_weights_are_derived_inside_and_outside_of_other_wrappers(wrap):
    def twice(params):
        return jax.tree.map(lambda leaf: 2 * leaf, params)

    def root(params):
        return jax.tree.map(lambda leaf: jnp.sqrt(abs(leaf)), params)

    def run(cell, params, key=None):
        layer = jaxrnn.layer(cell)
        return layer.apply(params, case.xs, case.state, **case.flags, key=key)

    plain = wrap(jaxrnn.gru(H), 0.3)
    inside = jaxrnn.reparametrized(plain, twice)
    outside = wrap(jaxrnn.reparametrized(jaxrnn.gru(H), twice), 0.3)
    again = jaxrnn.reparametrized(jaxrnn.reparametrized(plain, root), twice)
    case = problem(jaxrnn.gru(H))

    @jax.jit
    def results(key):
        doubled = twice(case.params)
        return (
            run(plain, doubled, key),
            run(inside, case.params, key),
            run(outside, case.params, key),
            run(plain, root(doubled), key),
            run(again, case.params, key),
        )

    for key in (None, jax.random.key(1)):
        expected, inner, outer, twice_expected, twice_actual = results(key)
        assert_close(inner, expected, 1e-12)
        assert_close(outer, expected, 1e-12)
        assert_close(twice_actual, twice_expected, 1e-12)
