"""What a run leaves behind, and how saturated its gates are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, B, H, I, T, assert_close, initial_params, problem

import jaxrnn
from jaxrnn import diagnostics

runs = pytest.mark.parametrize(
    ("name", "reverse"),
    [("elman", False), ("lstm", False), ("gru", False), ("lstm", True)],
)


@runs
def test_residuals_are_those_of_the_run(name, reverse):
    cell = CELLS[name].cell
    case = problem(cell, mask=False, resets=False)

    @jax.jit
    def both():
        kept = diagnostics.residuals(cell, *case.args, reverse=reverse)
        return kept, jaxrnn.unroll(cell, *case.args, reverse=reverse)[1]

    kept, ys = both()
    start = jax.tree.leaves(case.state)[0]
    before = [*ys[1:], start] if reverse else [start, *ys[:-1]]
    np.testing.assert_allclose(kept.h_prev, np.stack(before), rtol=1e-12)


def test_residuals_hold_the_gates():
    cell = jaxrnn.lstm(H, forget_bias=30.0)
    params = initial_params(cell)

    @jax.jit
    def run():
        kept = diagnostics.residuals(cell, params, jnp.ones((T, B, I)))
        return diagnostics.saturation({"forget": kept.f, "input": kept.i})

    result = run()
    np.testing.assert_array_equal(result.high["forget"], 1)
    np.testing.assert_array_equal(result.low["input"], 0)


def test_saturation_counts_what_is_low_and_high():
    # Two units, the first low once and high twice, the second low at masked steps.
    gate = np.array([[0.05, 0.05], [0.95, 0.5], [0.95, 0.5], [0.5, 0.05]])
    mask = np.array([False, True, True, True])
    saturation = jax.jit(diagnostics.saturation)
    result = saturation((gate, gate[:, :1]))
    np.testing.assert_array_equal(result.low[0], [0.25, 0.5])
    np.testing.assert_array_equal(result.high[0], [0.5, 0])
    np.testing.assert_array_equal(result.high[1], [0.5])
    masked = saturation(gate, mask=mask)
    np.testing.assert_allclose(masked.low, [0, 1 / 3])
    np.testing.assert_allclose(masked.high, [2 / 3, 0])
    # With batch dimensions, all rows count; a NaN under the mask does not.
    rows = np.stack([gate, gate[::-1]], axis=1)
    flags = np.stack([mask, mask[::-1]], axis=1)
    rows = np.where(flags[..., None], rows, np.nan)
    assert_close(saturation(rows, mask=flags), masked, 1e-12)
    states = diagnostics.saturation(2 * gate - 1, low=-0.9, high=0.9)
    np.testing.assert_array_equal(states.low, [0, 0])  # -0.9 is not below -0.9
    assert np.isnan(saturation(gate, mask=np.zeros(4, bool)).low).all()
