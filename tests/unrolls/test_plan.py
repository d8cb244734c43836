"""Which loop runs a cell, and the memory and the programs that this leads to."""

import functools

import jax
import jax.numpy as jnp
import pytest
from cases import assert_close, random_normal

import jaxrnn
from jaxrnn._numerics.precision import dot, dot_in_loop
from jaxrnn._numerics.tuning import on_cpu
from jaxrnn._unrolls import plan as plans
from jaxrnn._unrolls.chunks import Chunks
from jaxrnn._unrolls.entry_by_entry import EntryByEntry
from jaxrnn._unrolls.plan import Size, fast_loops, small_loops
from jaxrnn._unrolls.stretch import Scanned

cpu_only = pytest.mark.skipif(not on_cpu(), reason="a rule for CPUs")
RUN = None  # no rule looks at the cell


def size(num_steps, batch, width, state_size=None):
    h = jax.ShapeDtypeStruct((batch, state_size or width // 4), jnp.float32)
    return Size(num_steps, batch, width, (h, h))


def fast(size):
    return fast_loops(RUN, size).with_gradient


def bare(size):
    return fast_loops(RUN, size).without_gradient


def small(size, chunk_size=None):
    return small_loops(RUN, size, chunk_size).with_gradient


@cpu_only
def test_short_runs_are_whole_and_long_ones_are_not():
    assert fast(size(35, 20, 2600)).chunk_size == 35
    assert fast(size(135, 20, 2600)).chunk_size < 135
    assert fast(size(1000, 8, 128)).chunk_size == 1000
    assert fast(size(0, 8, 128)).chunk_size == 1
    assert not fast(size(100, 32, 512)).recompute


@pytest.mark.parametrize("num_steps", [100, 128, 168, 997, 10**6])
@pytest.mark.parametrize("batch", [1, 32, 5000])
def test_chunks_leave_no_remainder_where_one_can_be_avoided(num_steps, batch):
    chunk_size = fast(size(num_steps, batch, 2048)).chunk_size
    assert 1 <= chunk_size <= num_steps
    if num_steps != 997:  # a prime
        assert num_steps % chunk_size == 0


@cpu_only
def test_the_default_chunk_is_near_the_square_root():
    assert small(size(10**6, 8, 128)) == Chunks(1000, recompute=True)
    assert 25 <= small(size(997, 8, 128)).chunk_size <= 34
    assert small(size(10, 8, 128), 100).chunk_size == 10
    assert small(size(0, 8, 128)).chunk_size == 1


def test_elsewhere_a_run_is_one_scan_of_several_steps_an_iteration(monkeypatch):
    monkeypatch.setattr(plans, "on_cpu", lambda: False)
    scanned = Scanned(plans.STEPS_AT_ONCE)
    for each in (size(1000, 2, 64), size(135, 20, 2600)):
        assert fast(each) == Chunks(each.num_steps, False, scanned)
        assert bare(each) == Chunks(each.num_steps, True, scanned)
        assert small(each, 10) == Chunks(10, True, scanned)


@cpu_only
def test_a_gru_of_which_no_gradient_is_asked_projects_in_the_loop():
    h = jax.ShapeDtypeStruct((32, 128), jnp.float32)
    gru, elman = Size(100, 32, 384, h), Size(100, 32, 128, h)
    assert bare(gru).chunk_size == 1
    assert fast(gru).chunk_size > 1
    assert bare(elman).chunk_size == 100


@cpu_only
def test_few_small_entries_run_one_by_one(monkeypatch):
    monkeypatch.setattr(plans, "LOOPS_ARE_KERNELS", True)
    tiny = size(1000, 2, 64)
    assert isinstance(fast(tiny), EntryByEntry)
    assert isinstance(small(tiny), EntryByEntry)
    assert isinstance(bare(tiny), EntryByEntry)
    four = size(1000, 4, 64)
    assert isinstance(fast(four), EntryByEntry)
    assert isinstance(bare(four), Chunks)
    others = [size(1000, 5, 64), size(8, 2, 64), size(1000, 2, 512), size(1000, 0, 64)]
    stateless = Size(1000, 2, 64, ())
    narrow = Size(1000, 2, 64, jax.ShapeDtypeStruct((2, 16), jnp.bfloat16))
    for other in (*others, stateless, narrow):
        assert isinstance(fast(other), Chunks)
    monkeypatch.setattr(plans, "LOOPS_ARE_KERNELS", False)
    assert isinstance(fast(tiny), Chunks)


@cpu_only
@pytest.mark.usefixtures("optimized")
def test_an_entry_by_itself_is_one_kernel_where_the_plan_counts_on_it(without_kernels):
    lowered = compiled_gradient(jaxrnn.unroll_bptt, jaxrnn.lstm(16), 1000, 2, 16)
    kernels = lowered.compile().as_text().count('xla_cpu_small_call="true"')
    assert kernels == (4 if plans.LOOPS_ARE_KERNELS else 0)  # two entries, both ways


def pads(fun, *arguments):
    return str(jax.make_jaxpr(fun)(*arguments)).count(" pad[")


@cpu_only
@pytest.mark.parametrize(
    ("rows", "hidden_size", "dtype", "expected"),
    [
        (32, 512, jnp.float32, 1),
        (1, 512, jnp.float32, 0),
        (65, 512, jnp.float32, 0),
        (32, 500, jnp.float32, 0),
        (32, 256, jnp.float32, 0),
        (32, 512, jnp.float16, 0),
    ],
)
def test_a_loop_by_a_large_aligned_matrix_adds_columns(
    rows, hidden_size, dtype, expected, without_kernels
):
    cell = jaxrnn.lstm(hidden_size)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), 3, dtype))
    xs = jax.ShapeDtypeStruct((100, rows, 3), dtype)
    unroll = functools.partial(jaxrnn.unroll_bptt, cell)
    assert pads(unroll, params, xs) == expected
    state = jax.eval_shape(lambda p: cell.initial_state(p, (rows,)), params)
    a_x = jax.ShapeDtypeStruct((rows, 4 * hidden_size), state.h.dtype)
    assert pads(cell.step, params, state, a_x) == 0


def test_more_columns_change_nothing():
    w = random_normal(0, (512, 2048), jnp.float32)
    x = random_normal(1, (3, 512), jnp.float32)
    padded, plain = jax.jit(lambda: (dot_in_loop(x, w), dot(x, w)))()
    assert padded.shape == (3, 2048)
    assert_close(padded, plain, 1e-5)


# Memory and compilation


def compiled_gradient(unroll_fn, cell, num_steps, batch_size, input_size):
    params = jax.eval_shape(
        lambda: cell.init(jax.random.key(0), input_size, jnp.float32)
    )
    xs = jax.ShapeDtypeStruct((num_steps, batch_size, input_size), jnp.float32)

    def loss(params, xs):
        return (unroll_fn(cell, params, xs)[1] ** 2).sum()

    return jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, xs)


def peak(lowered):
    memory = lowered.compile().memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
    )


@cpu_only
@pytest.mark.usefixtures("optimized")
def test_the_fast_path_needs_about_half_the_memory_of_the_plain_gradient():
    sizes = jaxrnn.lstm(128), 100, 32, 128
    fast = peak(compiled_gradient(jaxrnn.unroll_bptt, *sizes))
    # From jax 0.12 on the plain gradient needs less: the bound is what it was before.
    plain = peak(compiled_gradient(jaxrnn.unroll, *sizes))
    if jax.__version_info__ < (0, 12):
        assert fast <= 0.47 * plain
    assert fast <= 0.45 * 43_733_552
    assert fast <= 0.54 * plain


@pytest.mark.usefixtures("optimized")
def test_what_a_chunked_run_keeps_grows_with_the_root_of_its_length():
    cell = jaxrnn.lstm(64)
    small, large = (
        peak(compiled_gradient(jaxrnn.unroll_chunked, cell, steps, 1, 16))
        for steps in (10**4, 10**6)
    )
    row = 4 * (64 + 16 + 64 + 16)  # inputs and outputs, and their cotangents
    assert large < 1.2 * row * 10**6
    assert large < 100 * small


@pytest.mark.parametrize(
    "unroll_fn", [jaxrnn.unroll_bptt, jaxrnn.unroll_chunked, jaxrnn.unroll]
)
def test_the_program_does_not_grow_with_time(unroll_fn):
    short, long = (
        len(compiled_gradient(unroll_fn, jaxrnn.gru(8), steps, 4, 3).as_text())
        for steps in (40_000, 4_000_000)
    )
    assert long < 1.1 * short
