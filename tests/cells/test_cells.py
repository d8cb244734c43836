"""Properties of cells that ``check_cell`` leaves out: names, initial values, dtypes."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import BASE, CELLS, B, H, I, assert_close, problem, random_params, unroll
from covering import quick

import jaxrnn
from jaxrnn import _base

PROTOCOLS = {
    "init": _base.InitFn,
    "initial_state": _base.InitialStateFn,
    "project": _base.ProjectFn,
    "step": _base.StepFn,
    "forward": _base.AdjointForwardFn,
    "backward": _base.AdjointBackwardFn,
    "accumulate": _base.AccumulateFn,
}
cells = pytest.mark.parametrize("name", CELLS)
DTYPES = (jnp.float64, jnp.bfloat16, jnp.float32, jnp.float16)
ORTHOGONAL = [  # whose recurrent matrices are, gate by gate
    *BASE,
    *("peephole-lstm", "projected-lstm", "coupled-lstm", "layer-norm-lstm"),
    *("layer-norm-gru", "mgu", "janet", "slstm", "leaky-integrator", "antisymmetric"),
]


@cells
def test_argument_names_match_the_protocol(name):
    cell = CELLS[name].cell
    functions = {**cell._asdict(), **cell.adjoint._asdict()}
    options = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    for field, protocol in PROTOCOLS.items():
        expected = list(inspect.signature(protocol.__call__).parameters)[1:]
        parameters = inspect.signature(functions[field]).parameters
        free = [p.name for p in parameters.values() if p.kind not in options]
        assert free == expected, field


@quick(
    ("name", "dtype"),
    list(itertools.product(ORTHOGONAL, DTYPES)),
    by_default=list(zip(("lstm", "gru", "elman", "mgu"), DTYPES, strict=True)),
)
def test_init_draws_each_gate_on_its_own(name, dtype):
    cell = CELLS[name].cell
    params = jax.jit(lambda key: cell.init(key, I, dtype))(jax.random.key(0))
    assert {leaf.dtype for leaf in params} == {jnp.dtype(dtype)}
    w_h = np.asarray(params.w_h).astype(np.float64)
    state = jax.eval_shape(cell.initial_state, params)
    size = max(leaf.shape[-1] for leaf in jax.tree.leaves(state))
    gates = np.split(w_h, params.w_h.shape[1] // size, axis=1)
    tolerance = {2: 2e-2, 4: 1e-6, 8: 1e-14}[jnp.dtype(dtype).itemsize]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(gates, 2))
    for gate in gates:
        np.testing.assert_allclose(gate @ gate.T, np.eye(H), atol=tolerance)
    limit = np.sqrt(6 / (I + size))
    w_x = np.asarray(params.w_x).astype(np.float64)
    assert limit / 2 < np.abs(w_x).max() <= limit * 1.01


@cells
def test_init_follows_the_default_dtype_of_jax(name):
    cell = CELLS[name].cell
    for x64, dtype in [(False, "float32"), (True, "float64")]:
        with jax.enable_x64(x64):
            params = jax.eval_shape(lambda: cell.init(jax.random.key(0), I))
            assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {dtype}


BUFFERS = {
    **{name: case.cell for name, case in CELLS.items()},
    "learned lstm": jaxrnn.learned_state(CELLS["lstm"].cell),
}


@quick("name", BUFFERS, by_default=["lstm", "slstm", "peephole-lstm", "learned lstm"])
@pytest.mark.parametrize("batch_shape", [(), (B,)])
def test_no_two_leaves_share_a_buffer(name, batch_shape):
    """Who donates a state, or parameters, gives each buffer away once."""
    cell = BUFFERS[name]
    params = cell.init(jax.random.key(0), I, jnp.float64)
    state = cell.initial_state(params, batch_shape)
    leaves = jax.tree.leaves((params, state))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


def test_init_takes_other_initialisers():
    def ones(key, shape, dtype):
        return jnp.ones(shape, dtype)

    for make in (jaxrnn.elman, jaxrnn.lstm, jaxrnn.gru):
        params = make(H, w_x_init=ones, w_h_init=ones).init(jax.random.key(0), I)
        assert (params.w_x == 1).all()
        assert (params.w_h == 1).all()


def test_forget_bias_is_stored_in_the_parameters():
    params = jaxrnn.lstm(H, forget_bias=2.5).init(jax.random.key(0), I)
    i, f, g, o = np.split(np.asarray(params.b), 4)
    assert (f == 2.5).all()
    assert not np.concatenate([i, g, o]).any()


def test_elman_equals_a_scalar_recurrence_by_hand():
    """W_x = 0.5, W_h = 0.2, tanh: h = tanh(0.5 x + 0.2 h)."""
    cell = jaxrnn.elman(2)
    params = jaxrnn.ElmanParams(
        w_x=jnp.full((1, 2), 0.5), w_h=jnp.eye(2) * 0.2, b=jnp.zeros(2)
    )
    prices = np.array([1.00, 1.02, 1.04, 1.06, 1.08])
    _, ys = unroll(cell, params, prices[:, None])
    h, expected = 0.0, []
    for price in prices:
        h = np.tanh(0.5 * price + 0.2 * h)
        expected.append([h, h])
    np.testing.assert_allclose(ys, expected, rtol=1e-12)


@cells
def test_bfloat16_parameters_keep_state_and_sums_in_float32(name):
    cell = CELLS[name].cell

    def step(params, x):
        state = cell.initial_state(params, (B,))
        a_x = cell.project(params, x)
        new_state, y = cell.step(params, state, a_x)
        return (state, new_state, a_x), y

    params = random_params(0, cell, jnp.bfloat16)
    x = jax.ShapeDtypeStruct((B, *cell.spatial_shape, I), jnp.bfloat16)
    wide, y = jax.eval_shape(step, params, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(wide)} == {jnp.dtype(jnp.float32)}
    assert y.dtype == jnp.bfloat16


@cells
def test_step_equals_the_formulas_in_numpy(name):
    cell = CELLS[name].cell
    case = problem(cell, steps=1)

    @jax.jit
    def step(params, state, x):
        return cell.step(params, state, cell.project(params, x))

    plain = jax.tree.map(np.asarray, (case.params, case.state, case.xs[0]))
    stepped = step(case.params, case.state, plain[2])
    assert_close(stepped, CELLS[name].numpy_step(*plain), 1e-12)
