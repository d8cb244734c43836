"""The compiled loops compute what the cells compute in JAX, in every variant."""

import concurrent.futures
import contextlib
import functools
import mmap
import os
import resource
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    CELLS,
    B,
    H,
    I,
    T,
    assert_close,
    gradients,
    problem,
    random_like,
    random_normal,
    random_params,
)

import jaxrnn
from jaxrnn import kernels
from jaxrnn._unrolls.arguments import begin
from jaxrnn._unrolls.plan import fast_loops, size_of

VARIANTS = kernels.variants()
pytestmark = pytest.mark.skipif(not VARIANTS, reason=kernels.status())
NATIVE = [name for name, case in CELLS.items() if case.cell.kernel is not None]
TOLERANCE = {jnp.float32: 2e-5, jnp.float64: 1e-10}
FLAGS = {"plain": (False, False), "flags": (True, True)}

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def cell_of(name, units):
    return CELLS[name].make(units)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def values_and_gradients(unroll_fn, cell, reverse, case):
    return gradients(unroll_fn, cell, case, reverse)


jax.tree_util.register_dataclass(
    type(problem(CELLS["elman"].cell)),
    ["params", "xs", "state", "mask", "resets", "dys", "dstate"],
    [],
)


def check(cell, case, reverse=False):
    """Compare all variants with JAX: one program runs them all.

    A call may still run when the next variant is chosen: each can read what another
    one kept.
    """
    tolerance = TOLERANCE[case.xs.dtype.type]
    with kernels.using("xla"):
        expected = values_and_gradients(jaxrnn.unroll, cell, reverse, case)
    for variant in VARIANTS:
        with kernels.using(variant):
            actual = values_and_gradients(jaxrnn.unroll_bptt, cell, reverse, case)
        assert_close(actual, expected, tolerance)


def sized_problem(cell, num_inputs, **options):
    """A problem of another number of inputs than the tables have."""
    case = problem(cell, **options)
    params = random_params(1, cell, case.xs.dtype.type, num_inputs, scale=0.3)
    xs = random_normal(2, (*case.xs.shape[:-1], num_inputs), case.xs.dtype)
    return type(case)(**{**vars(case), "params": params, "xs": xs})


def test_the_cells_that_have_a_kernel():
    assert set(NATIVE) == {
        *("elman", "elman-relu", "elman-leaky-relu"),
        *("lstm", "clipped-lstm", "coupled-lstm"),
        *("gru", "gru-before", "mgu", "janet"),
    }
    assert jaxrnn.elman(3, activation=jax.nn.softplus).kernel is None


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_values_and_gradients_equal_those_of_jax(name, dtype):
    cell = CELLS[name].cell
    check(cell, problem(cell, dtype=dtype), reverse=dtype is jnp.float64)
    check(cell, problem(cell, (), dtype, mask=False, resets=False))


@pytest.mark.parametrize("name", ["elman", "lstm", "gru", "gru-before"])
@pytest.mark.parametrize(
    ("steps", "batch", "inputs", "units"),
    [
        (1, 1, 1, 1),
        (40, 13, 17, 33),  # several rows a tile, a last tile, and lanes left over
        (3, 2, 130, 64),  # no units are left over, several panels of inputs
        (300, 1, 3, 16),  # chunks of time
    ],
)
def test_sizes(name, steps, batch, inputs, units):
    cell = cell_of(name, units)
    options = {"batch": (batch,), "steps": steps}
    check(cell, sized_problem(cell, inputs, **options))


@pytest.mark.parametrize("name", ["elman", "lstm", "gru", "gru-before"])
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_threads_share_units_if_weights_are_large_and_entries_few(name, flags):
    units = {"elman": 900, "lstm": 320, "gru": 370, "gru-before": 370}[name]
    cell = cell_of(name, units)
    mask, resets = flags
    check(
        cell,
        sized_problem(cell, 30, batch=(9,), steps=4, mask=mask, resets=resets),
    )


@pytest.mark.parametrize("name", ["lstm", "elman"])
def test_a_run_gives_the_same_bits_each_time(name):
    cell = cell_of(name, 40)
    case = sized_problem(cell, 20, batch=(13,), steps=50)
    first = values_and_gradients(jaxrnn.unroll_bptt, cell, False, case)
    for _ in range(5):
        again = values_and_gradients(jaxrnn.unroll_bptt, cell, False, case)
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
            np.testing.assert_array_equal(a, b)


@every_variant
@pytest.mark.loose
def test_nan_and_infinity_spread_as_in_jax(variant):
    for name in NATIVE:
        cell = CELLS[name].cell
        case = problem(cell, resets=False, mask=False)
        for value in (jnp.nan, jnp.inf, -jnp.inf):
            xs = case.xs.at[3, 1, 0].set(value)
            _, expected = jaxrnn.unroll(cell, case.params, xs, case.state)
            with kernels.using(variant):
                _, actual = jaxrnn.unroll_bptt(cell, case.params, xs, case.state)
            np.testing.assert_allclose(
                actual, expected, rtol=0, atol=1e-12, err_msg=name
            )


@every_variant
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_what_a_mask_hides_has_no_effect(name, variant):
    cell = CELLS[name].cell
    case = problem(cell)
    hidden = jnp.where(case.mask[..., None], case.xs, jnp.nan)
    spoiled = type(case)(**{**vars(case), "xs": hidden})
    with kernels.using(variant):
        results = [
            values_and_gradients(jaxrnn.unroll_bptt, cell, False, each)
            for each in (case, spoiled)
        ]
    assert_close(results[1], results[0], 1e-14)


@every_variant
@pytest.mark.parametrize(
    ("dtype", "units_in_the_last_place"), [(jnp.float32, 5), (jnp.float64, 3)]
)
def test_tanh_is_accurate(variant, dtype, units_in_the_last_place):
    cell = jaxrnn.elman(1)
    wide = np.linspace(-25, 25, 100_001)
    small = np.geomspace(1e-30, 1, 20_000)
    xs = jnp.asarray(np.concatenate([wide, small, -small]), dtype)
    one, zero = jnp.ones((1, 1), dtype), jnp.zeros((1, 1), dtype)
    params = jaxrnn.ElmanParams(w_x=one, w_h=zero, b=zero[0])
    with kernels.using(variant):
        _, ys = jaxrnn.unroll_bptt(cell, params, xs[None, :, None])
    exact = np.tanh(np.asarray(xs, np.longdouble))
    error = np.abs(np.asarray(ys)[0, :, 0].astype(np.longdouble) - exact)
    assert np.abs(ys).max() <= 1
    spacing = np.spacing(np.abs(np.asarray(exact, dtype)))
    assert (error / spacing).max() <= units_in_the_last_place


@every_variant
def test_sigmoid_is_accurate(variant):
    """The forget gate of an LSTM, whose cell state was 1 and whose input gate is 0."""
    cell = jaxrnn.lstm(1)
    xs = jnp.linspace(-30, 30, 100_001, dtype=jnp.float32)
    w_x = jnp.array([[0, 1, 0, 0]], jnp.float32)
    params = jaxrnn.LSTMParams(
        w_x, jnp.zeros((1, 4), jnp.float32), jnp.array([-40, 0, 0, 0], jnp.float32)
    )
    ones = jnp.ones((len(xs), 1), jnp.float32)
    first = jaxrnn.LSTMState(h=jnp.zeros_like(ones), c=ones)
    with kernels.using(variant):
        state, _ = jaxrnn.unroll_bptt(cell, params, xs[None, :, None], first)
    exact = 1 / (1 + np.exp(-np.asarray(xs, np.float64)))
    assert np.abs(np.asarray(state.c[:, 0]) - exact).max() < 2e-7


# Transformations


def custom_calls(function, *args):
    """The calls of kernels in the program of a function."""
    text = jax.jit(function).lower(*args).as_text()
    return text.count("@jaxrnn_forward"), text.count("@jaxrnn_backward")


def loss_of(cell, run=jaxrnn.unroll_bptt):
    return lambda params, xs: (run(cell, params, xs)[1] ** 2).sum()


def test_which_programs_call_kernels():
    cell = jaxrnn.lstm(H)
    case = problem(cell)
    params, xs, _ = case.args
    loss = loss_of(cell)
    assert custom_calls(loss, params, xs) == (1, 0)
    assert custom_calls(jax.grad(loss), params, xs) == (1, 1)
    each = jax.vmap(loss, in_axes=(None, 1))
    assert custom_calls(each, params, xs) == (1, 0)
    both = jax.tree.map(lambda p: jnp.stack([p, -p]), params)
    assert custom_calls(jax.vmap(loss, in_axes=(0, None)), both, xs) == (0, 0)
    assert custom_calls(loss_of(cell, jaxrnn.unroll), params, xs) == (0, 0)
    with kernels.using("xla"):
        assert custom_calls(jax.grad(loss_of(cell)), params, xs) == (0, 0)


@pytest.mark.parametrize("name", ["elman", "lstm", "gru"])
def test_vmap_over_batch_entries_or_parameters_equals_a_loop(name):
    cell = CELLS[name].cell
    case = problem(cell)
    params, xs, _ = case.args
    grad = jax.grad(loss_of(cell), argnums=(0, 1))
    with kernels.using("xla"):
        alone = [jax.jit(grad)(params, xs[:, b]) for b in range(B)]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    actual = jax.jit(jax.vmap(grad, in_axes=(None, 1)))(params, xs)
    assert_close(actual, expected, 1e-10)
    several = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[params] * B)
    actual = jax.jit(jax.vmap(grad, in_axes=(0, 1)))(several, xs)
    assert_close(actual, expected, 1e-10)


def test_vmap_over_states_masks_and_resets():
    cell = jaxrnn.lstm(H)
    case = problem(cell)

    def run(xs, state, mask, resets):
        return jaxrnn.unroll_bptt(
            cell, case.params, xs, state, mask=mask, resets=resets
        )

    expected = run(case.xs, case.state, case.mask, case.resets)
    args = case.xs, case.state, case.mask, case.resets
    actual = jax.jit(jax.vmap(run, in_axes=(1, 0, 1, 1), out_axes=(0, 1)))(*args)
    assert_close(actual, expected, 1e-12)
    flipped = random_like(3, case.state)
    first = jax.jit(jax.vmap(run, in_axes=(None, 0, None, None)))(
        case.xs[:, 0], flipped, case.mask[:, 0], case.resets[:, 0]
    )
    assert_close(
        jax.tree.map(lambda leaf: leaf[1], first),
        run(
            case.xs[:, 0],
            jax.tree.map(lambda leaf: leaf[1], flipped),
            case.mask[:, 0],
            case.resets[:, 0],
        ),
        1e-12,
    )


def test_second_derivatives():
    cell = jaxrnn.gru(3)
    params = random_params(0, cell)
    xs = random_normal(1, (T, I))
    hessians = [
        jax.jit(jax.hessian(lambda s, run=run: loss_of(cell, run)(params, s * xs)))(1.0)
        for run in (jaxrnn.unroll, jaxrnn.unroll_bptt)
    ]
    assert_close(hessians[1], hessians[0], 1e-9)


def test_export_has_no_custom_calls():
    cell = jaxrnn.lstm(H)
    params, xs, _ = problem(cell).args
    exported = jax.export.export(jax.jit(loss_of(cell)))(params, xs)
    assert "jaxrnn_forward" not in exported.mlir_module()
    assert_close(exported.call(params, xs), loss_of(cell)(params, xs), 1e-12)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_16_bits_run_by_xla(dtype):
    cell = jaxrnn.lstm(H)
    params, xs, _ = problem(cell, dtype=dtype).args
    assert custom_calls(loss_of(cell), params, xs) == (0, 0)


@pytest.mark.parametrize("shape", [(0, B, I), (T, 0, I)])
def test_runs_without_steps_or_entries(shape):
    cell = jaxrnn.lstm(H)
    params = random_params(0, cell)
    _, ys = jaxrnn.unroll_bptt(cell, params, jnp.zeros(shape))
    assert ys.shape == (*shape[:2], H)


def test_a_changed_cell_has_no_kernel():
    cell = jaxrnn.lstm(H)
    assert cell._replace(init=cell.init).kernel is cell.kernel
    assert cell._replace(adjoint=cell.adjoint).kernel is None
    assert cell._replace(step=cell.step).kernel is None
    assert jaxrnn.learned_state(cell).kernel is None


def test_the_plan_asks_for_the_kernel():
    cell = jaxrnn.lstm(H)
    case = problem(cell)
    run, params, inputs = begin(cell, *case.args, None, None, False)
    loops = fast_loops(run, size_of(run, params, inputs))
    assert loops.with_gradient.keep
    assert not loops.without_gradient.keep


# Faults


def test_python_threads_may_run_at_once():
    cell = cell_of("lstm", 64)
    case = sized_problem(cell, 30, batch=(8,), steps=30)
    run = functools.partial(values_and_gradients, jaxrnn.unroll_bptt, cell, False, case)
    expected = run()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(run) for _ in range(24)]:
            assert_close(each.result(timeout=60), expected, 1e-14)


def leave_memory(most, block=2**24):
    """Leaves this process ``most`` bytes of addresses, whatever it has freed before."""
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + most, now + most))
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(mmap.mmap(-1, block, prot=mmap.PROT_READ))
    return taken[most // block :]


OUT_OF_MEMORY = """
    import jax, jax.numpy as jnp, numpy as np, jaxrnn
    from jaxrnn import kernels
    import test_native_loop

    units = 11000  # a copy of the weights takes 484 MB
    cell = jaxrnn.elman(units)
    zeros = jnp.zeros((units, units), jnp.float32)
    params = jaxrnn.ElmanParams(zeros[:1] + 0, zeros, zeros[0])
    xs = jnp.ones((1, 1, 1), jnp.float32)
    run = jax.jit(lambda p, x: jaxrnn.unroll_bptt(cell, p, x)[1])
    run = run.lower(params, xs).compile()
    assert "jaxrnn_" in run.as_text()
    taken = test_native_loop.leave_memory(200 * 2**20)
    try:
        run(params, xs).block_until_ready()
    except Exception as error:
        assert "RESOURCE_EXHAUSTED" in str(error), error
        print("caught")
"""


def test_out_of_memory_is_an_exception():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OUT_OF_MEMORY)],
        cwd=__file__.rpartition("/")[0],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["caught"], (done.returncode, done.stderr[-2000:])
