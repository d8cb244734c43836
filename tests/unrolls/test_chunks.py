"""Runs cut into chunks of time equal those that are not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    BASE,
    BATCHES,
    CELLS,
    KINDS,
    B,
    H,
    I,
    T,
    assert_close,
    problem,
    random_like,
)

import jaxrnn
from jaxrnn import _plan, _reverse_mode
from jaxrnn._plan import Plan, Size, fast_plan, small_plan, without_gradient
from jaxrnn._precision import dot, dot_in_loop
from jaxrnn._unroll import prepare

kinds = pytest.mark.parametrize("name", KINDS)
reversals = pytest.mark.parametrize(
    "reverse", [False, True], ids=["forward", "reverse"]
)
keeping = pytest.mark.parametrize("recompute", [False, True], ids=["keep", "recompute"])


def unroll_by(plan):
    """An unroll that runs by ``plan``, whatever the shapes are."""

    def unroll(cell, params, xs, state=None, *, mask=None, resets=None, reverse=False):
        sequence = prepare(cell, params, xs, state, mask, resets, reverse)
        return _reverse_mode._unroll(cell, plan, reverse, params, sequence)

    return unroll


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def values_and_gradients(unroll_fn, cell, reverse, params, xs, state, mask, resets, by):
    flags = {"mask": mask, "resets": resets, "reverse": reverse}

    def run(params, xs, state):
        return unroll_fn(cell, params, xs, state, **flags)

    values, pull = jax.vjp(run, params, xs, state)
    return run(params, xs, state), values, pull(by)


def check(unroll_fn, cell, case, reverse, tolerance=1e-10):
    arguments = *case.args, case.mask, case.resets, (case.dstate, case.dys)
    expected = values_and_gradients(jaxrnn.unroll, cell, reverse, *arguments)
    actual = values_and_gradients(unroll_fn, cell, reverse, *arguments)
    assert_close(actual, expected, tolerance)


@kinds
@reversals
@keeping
@pytest.mark.parametrize("chunk_size", [1, 3, T])
def test_chunks_equal_the_whole(name, reverse, recompute, chunk_size):
    cell = CELLS[name].cell
    case = problem(cell)
    check(unroll_by(Plan(chunk_size, recompute)), cell, case, reverse)


@kinds
@reversals
@keeping
@pytest.mark.parametrize(("chunk_size", "unroll"), [(3, 2), (T, 4), (T, T + 1)])
def test_chunks_of_a_scan_equal_the_whole(name, reverse, recompute, chunk_size, unroll):
    cell = CELLS[name].cell
    plan = Plan(chunk_size, recompute, unroll=unroll)
    check(unroll_by(plan), cell, problem(cell), reverse)


@pytest.mark.parametrize("name", [name for name in BASE if name not in KINDS])
def test_every_cell_runs_in_chunks(name):
    cell = CELLS[name].cell
    chunked = functools.partial(jaxrnn.unroll_chunked, chunk_size=3)
    check(chunked, cell, problem(cell), reverse=False)


@kinds
@reversals
@keeping
def test_rows_apart_equal_the_batch(name, reverse, recompute):
    cell = CELLS[name].cell
    plan = Plan(3, recompute, by_row=True)
    check(unroll_by(plan), cell, problem(cell), reverse)


@pytest.mark.parametrize("batch", [name for name in BATCHES if name != "batch"])
def test_rows_of_any_batch(batch):
    cell = CELLS["lstm"].cell
    plan = Plan(T, recompute=False, by_row=True)
    check(unroll_by(plan), cell, problem(cell, BATCHES[batch]), reverse=True)


@keeping
@pytest.mark.parametrize("batch", [name for name in BATCHES if name != "batch"])
def test_chunks_take_any_batch(batch, recompute):
    cell = CELLS["lstm"].cell
    case = problem(cell, BATCHES[batch])
    check(unroll_by(Plan(3, recompute)), cell, case, reverse=True)


@keeping
def test_chunks_of_no_steps(recompute):
    cell = CELLS["gru"].cell
    case = problem(cell, steps=0)
    check(unroll_by(Plan(1, recompute, unroll=4)), cell, case, reverse=False)
    check(unroll_by(Plan(3, recompute)), cell, case, reverse=False)
    check(jaxrnn.unroll_chunked, cell, case, reverse=True)


@keeping
@reversals
def test_garbage_in_the_padding_of_a_chunk_reaches_nothing(recompute, reverse):
    cell = CELLS["lstm"].cell
    case = problem(cell, resets=False)
    garbage = jnp.where(case.mask[..., None], case.xs, jnp.nan)
    arguments = (case.state, case.mask, case.resets, (case.dstate, case.dys))
    run = functools.partial(
        values_and_gradients, unroll_by(Plan(3, recompute)), cell, reverse, case.params
    )
    clean, dirty = run(case.xs, *arguments), run(garbage, *arguments)
    assert_close(dirty, clean, 1e-12)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(dirty))


@keeping
@reversals
def test_a_learned_initial_state_gets_its_gradient_through_chunks(recompute, reverse):
    cell = jaxrnn.learned_state(CELLS["lstm"].cell)
    case = problem(cell)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(unroll_fn):
        def loss(params):
            state, ys = unroll_fn(cell, params, case.xs, **case.flags, reverse=reverse)
            return (ys * case.dys).sum() + state.c.sum()

        return jax.grad(loss)(case.params)

    assert_close(
        gradient(unroll_by(Plan(3, recompute))), gradient(jaxrnn.unroll), 1e-10
    )


@keeping
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_of_chunks_are_summed_in_float32(dtype, recompute):
    cell = CELLS["gru"].cell
    case = problem(cell, dtype=dtype, steps=64)
    tolerance = {jnp.float32: 1e-5, jnp.bfloat16: 3e-2}[dtype]
    check(unroll_by(Plan(4, recompute)), cell, case, False, tolerance)


@keeping
def test_chunks_can_be_differentiated_again(recompute):
    """Reverse over reverse, and forward over reverse."""
    cell = CELLS["lstm"].cell
    case = problem(cell)
    direction = random_like(1, case.params)

    @functools.partial(jax.jit, static_argnums=0)
    def products(unroll_fn):
        def gradient(params):
            def loss(params):
                _, ys = unroll_fn(cell, params, case.xs, case.state, **case.flags)
                return (ys**3).sum()

            return jax.grad(loss)(params)

        def along(params):
            inner = jax.tree.map(jnp.vdot, gradient(params), direction)
            return jnp.stack(jax.tree.leaves(inner)).sum()

        _, forward = jax.jvp(gradient, (case.params,), (direction,))
        return forward, jax.grad(along)(case.params)

    assert_close(
        products(unroll_by(Plan(3, recompute))), products(jaxrnn.unroll), 1e-10
    )


@keeping
def test_chunks_under_vmap(recompute):
    cell = CELLS["gru"].cell
    case = problem(cell, (4, B))

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(unroll_fn):
        def one(params, xs, dys):
            def loss(params):
                return (unroll_fn(cell, params, xs)[1] * dys).sum()

            return jax.grad(loss)(params)

        return jax.vmap(one, (None, 1, 1))(case.params, case.xs, case.dys)

    assert_close(
        gradient(unroll_by(Plan(3, recompute))), gradient(jaxrnn.unroll), 1e-10
    )


# The plans

cpu_only = pytest.mark.skipif(not _plan.on_cpu(), reason="a rule for CPUs")


def size(num_steps, rows, width, state_size=None):
    h = jax.ShapeDtypeStruct((rows, state_size or width // 4), jnp.float32)
    return Size(num_steps, rows, width, (h, h))


@cpu_only
def test_short_runs_are_whole_and_long_ones_are_not():
    assert fast_plan(size(35, 20, 2600)).chunk_size == 35
    assert fast_plan(size(135, 20, 2600)).chunk_size < 135
    assert fast_plan(size(1000, 8, 128)).chunk_size == 1000
    assert fast_plan(size(0, 8, 128)).chunk_size == 1
    assert not fast_plan(size(100, 32, 512)).recompute


@pytest.mark.parametrize("num_steps", [100, 128, 168, 997, 10**6])
@pytest.mark.parametrize("rows", [1, 32, 5000])
def test_chunks_leave_no_remainder_where_one_can_be_avoided(num_steps, rows):
    chunk_size = fast_plan(size(num_steps, rows, 2048)).chunk_size
    assert 1 <= chunk_size <= num_steps
    if num_steps != 997:  # a prime
        assert num_steps % chunk_size == 0


@cpu_only
def test_the_default_chunk_is_near_the_square_root():
    assert small_plan(size(10**6, 8, 128), None) == Plan(1000, recompute=True)
    assert 25 <= small_plan(size(997, 8, 128), None).chunk_size <= 34
    assert small_plan(size(10, 8, 128), 100).chunk_size == 10
    assert small_plan(size(0, 8, 128), None).chunk_size == 1


def test_elsewhere_a_run_is_one_scan_of_several_steps_an_iteration(monkeypatch):
    monkeypatch.setattr(_plan, "on_cpu", lambda: False)
    for each in (size(1000, 2, 64), size(135, 20, 2600)):
        plan = fast_plan(each)
        assert plan == Plan(each.num_steps, recompute=False, unroll=_plan.UNROLL)
        assert without_gradient(plan, each) == plan._replace(recompute=True)
        assert small_plan(each, 10) == Plan(10, recompute=True, unroll=_plan.UNROLL)


@cpu_only
def test_a_gru_of_which_no_gradient_is_asked_projects_in_the_loop():
    h = jax.ShapeDtypeStruct((32, 128), jnp.float32)
    gru, elman = Size(100, 32, 384, h), Size(100, 32, 128, h)
    assert without_gradient(fast_plan(gru), gru).chunk_size == 1
    assert fast_plan(gru).chunk_size > 1
    assert without_gradient(fast_plan(elman), elman).chunk_size == 100


@cpu_only
def test_few_small_rows_run_one_by_one(monkeypatch):
    monkeypatch.setattr(_plan, "LOOPS_ARE_KERNELS", True)
    tiny = size(1000, 2, 64)
    assert fast_plan(tiny).by_row
    assert small_plan(tiny, None).by_row
    assert without_gradient(fast_plan(tiny), tiny).by_row
    four = size(1000, 4, 64)
    assert fast_plan(four).by_row
    assert not without_gradient(fast_plan(four), four).by_row
    others = [size(1000, 5, 64), size(8, 2, 64), size(1000, 2, 512), size(1000, 0, 64)]
    stateless = Size(1000, 2, 64, ())
    narrow = Size(1000, 2, 64, jax.ShapeDtypeStruct((2, 16), jnp.bfloat16))
    assert not any(fast_plan(other).by_row for other in (*others, stateless, narrow))
    monkeypatch.setattr(_plan, "LOOPS_ARE_KERNELS", False)
    assert not fast_plan(tiny).by_row


@cpu_only
@pytest.mark.usefixtures("optimized")
def test_a_row_by_itself_is_one_kernel_where_the_plan_counts_on_it():
    lowered = compiled_gradient(jaxrnn.unroll_bptt, jaxrnn.lstm(16), 1000, 2, 16)
    kernels = lowered.compile().as_text().count('xla_cpu_small_call="true"')
    assert kernels == (4 if _plan.LOOPS_ARE_KERNELS else 0)  # two rows, both ways


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
    rows, hidden_size, dtype, expected
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
    w = jax.random.normal(jax.random.key(0), (512, 2048), jnp.float32)
    x = jax.random.normal(jax.random.key(1), (3, 512), jnp.float32)
    assert dot_in_loop(x, w).shape == (3, 2048)
    assert_close(dot_in_loop(x, w), dot(x, w), 1e-5)


# Memory and compilation


def compiled_gradient(unroll_fn, cell, num_steps, batch_size, input_size):
    params = cell.init(jax.random.key(0), input_size, jnp.float32)
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


# What users see


def test_the_chunk_size_of_a_layer():
    unroll_fn = functools.partial(jaxrnn.unroll_chunked, chunk_size=2)
    model = jaxrnn.layer(jaxrnn.elman(H), unroll_fn=unroll_fn)
    params = model.init(jax.random.key(0), I)
    assert model.apply(params, jnp.ones((T, B, I)))[1].shape == (T, B, H)


@pytest.mark.parametrize(
    ("chunk_size", "error", "message"),
    [
        (0, ValueError, "chunk_size must be at least 1, got 0"),
        (-3, ValueError, "chunk_size must be at least 1, got -3"),
        (2.5, TypeError, "chunk_size must be an int"),
    ],
)
def test_a_bad_chunk_size_is_named(chunk_size, error, message):
    cell = jaxrnn.elman(H)
    params = cell.init(jax.random.key(0), I)
    with pytest.raises(error, match=message):
        jaxrnn.unroll_chunked(cell, params, jnp.ones((T, I)), chunk_size=chunk_size)


@pytest.mark.parametrize("unroll_fn", [jaxrnn.unroll_bptt, jaxrnn.unroll_chunked])
def test_forward_mode_says_what_to_pass_instead(unroll_fn):
    cell = jaxrnn.elman(H)
    params = cell.init(jax.random.key(0), I)
    model = jaxrnn.layer(cell, unroll_fn=unroll_fn)
    with pytest.raises(TypeError, match=r"pass unroll_fn=jaxrnn\.unroll to the layer"):
        jax.jacfwd(lambda params: model.apply(params, jnp.ones((T, I)))[1])(params)


@pytest.mark.parametrize("unroll_fn", [jaxrnn.unroll_bptt, jaxrnn.unroll_chunked])
def test_other_mistakes_are_not_taken_for_forward_mode(unroll_fn):
    cell = jaxrnn.elman(H)
    params = cell.init(jax.random.key(0), I)

    def run(reverse):
        return unroll_fn(cell, params, jnp.ones((T, I)), reverse=reverse)

    with pytest.raises(TypeError) as raised:
        jax.jit(run)(True)
    assert "forward-mode" not in str(raised.value)


def test_a_parameter_gradient_of_the_wrong_shape_is_named_in_chunks_too():
    cell = jaxrnn.elman(H)

    def accumulate(params, xs, residuals, da_xs):
        dparams, dxs = cell.adjoint.accumulate(params, xs, residuals, da_xs)
        return dparams._replace(b=dparams.b.sum()), dxs

    wrong = cell._replace(adjoint=cell.adjoint._replace(accumulate=accumulate))
    params = cell.init(jax.random.key(0), I)

    def loss(params):
        return jaxrnn.unroll_chunked(wrong, params, jnp.ones((T, I)))[1].sum()

    with pytest.raises(ValueError, match=r"accumulate\.b must have shape \(5,\)"):
        jax.grad(loss)(params)


def counting(cell):
    """A cell with an integer beside its state, which nothing depends on."""

    def step(params, state, a_x):
        new, y = cell.step(params, state[0], a_x)
        return (new, state[1] + 1), y

    def forward(params, state, a_x):
        new, y, residual = cell.adjoint.forward(params, state[0], a_x)
        return (new, state[1] + 1), y, residual

    def backward(params, residual, dstate, dy):
        dnew, da_x = cell.adjoint.backward(params, residual, dstate[0], dy)
        return (dnew, dstate[1]), da_x

    def initial_state(params, batch_shape=()):
        return cell.initial_state(params, batch_shape), jnp.zeros(batch_shape, int)

    return cell._replace(
        initial_state=initial_state,
        step=step,
        adjoint=jaxrnn.Adjoint(forward, backward, cell.adjoint.accumulate),
    )


@pytest.mark.parametrize("flags", [False, True])
def test_a_state_may_hold_integers(flags):
    cell = counting(jaxrnn.elman(H))
    case = problem(jaxrnn.elman(H), mask=flags, resets=flags)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(unroll_fn):
        def loss(params):
            _, ys = unroll_fn(cell, params, case.xs, **case.flags)
            return (ys * case.dys).sum()

        return jax.grad(loss)(case.params)

    expected = gradient(jaxrnn.unroll)
    assert_close(gradient(jaxrnn.unroll_bptt), expected, 1e-10)
    assert_close(gradient(jaxrnn.unroll_chunked), expected, 1e-10)


def test_an_empty_batch():
    cell = jaxrnn.gru(H)
    params = cell.init(jax.random.key(0), I)
    state, ys = jaxrnn.unroll_bptt(cell, params, jnp.ones((T, 0, I)))
    assert (state.shape, ys.shape) == ((0, H), (T, 0, H))


@pytest.mark.parametrize("unroll_fn", [jaxrnn.unroll_bptt, jaxrnn.unroll_chunked])
@pytest.mark.parametrize("explicit", [False, True], ids=["shard_map", "explicit"])
def test_sharded_batches(unroll_fn, explicit):
    cell = jaxrnn.gru(H)
    case = problem(cell)
    kind = jax.sharding.AxisType.Explicit if explicit else jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((1,), ("data",), axis_types=(kind,))
    spec = jax.sharding.PartitionSpec
    rows = spec(None, "data"), spec("data")

    def gradient(run, params, xs, state):
        def loss(params):
            return (run(cell, params, xs, state)[1] ** 2).sum()

        return jax.grad(loss)(params)

    sharded = functools.partial(gradient, unroll_fn)
    arguments = case.params, case.xs, case.state
    with jax.set_mesh(mesh):
        if explicit:
            arguments = tuple(
                jax.device_put(a, jax.sharding.NamedSharding(mesh, s))
                for a, s in zip(arguments, (spec(), *rows), strict=True)
            )
        else:
            sharded = jax.shard_map(
                sharded, mesh=mesh, in_specs=(spec(), *rows), out_specs=spec()
            )
        actual = jax.jit(sharded)(*arguments)
    expected = jax.jit(functools.partial(gradient, jaxrnn.unroll))(
        case.params, case.xs, case.state
    )
    assert_close(jax.device_get(actual), jax.device_get(expected), 1e-10)
