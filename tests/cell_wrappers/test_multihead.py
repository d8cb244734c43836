"""Heads that run side by side."""

import jax
import numpy as np
import pytest
from cases import assert_close, gradients, problem, unroll, unroll_bptt

import jaxrnn

HEADS = {
    "derived weights": lambda size: jaxrnn.orthogonal_rnn(size),
    "without an adjoint": lambda size: jaxrnn.gru(size)._replace(adjoint=None),
    "images": lambda size: jaxrnn.conv_gru(size, (3,), (4,)),
}


def test_heads_do_not_see_each_other():
    cell = jaxrnn.multihead(jaxrnn.lstm, 6, 2)
    case = problem(cell)

    def last(state):
        _, ys = unroll_bptt(cell, case.params, case.xs, state)
        return ys[-1, 0]

    jacobian = jax.jit(jax.jacrev(last))(case.state)  # of (output, batch, head, unit)
    jacobian = np.asarray(jacobian.h[:, 0])
    assert (jacobian[:3, 1] == 0).all()
    assert (jacobian[3:, 0] == 0).all()
    assert (jacobian[:3, 0] != 0).all()


@pytest.mark.parametrize("name", HEADS)
def test_each_head_is_a_cell_of_its_own(name):
    cell = jaxrnn.multihead(HEADS[name], 6, 2)
    case = problem(cell)
    run = jaxrnn.unroll if cell.adjoint is None else jaxrnn.unroll_bptt
    one = HEADS[name](3)

    @jax.jit
    def both_ways():
        return gradients(run, cell, case), gradients(jaxrnn.unroll, cell, case)

    by_hand, by_jax = both_ways()
    assert_close(by_hand, by_jax, 1e-10)
    _, ys = by_hand[0]
    ys = np.asarray(ys)
    for head in range(2):
        params = jax.tree.map(lambda leaf, n=head: np.asarray(leaf)[n], case.params)
        state = np.asarray(case.state)[:, head]
        _, own = unroll(one, params, case.xs, state, **case.flags)
        assert_close(ys[..., 3 * head : 3 * head + 3], own, 1e-12)
    assert (cell.derived is not None) == (name == "derived weights")
