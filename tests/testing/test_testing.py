"""``check_cell`` passes what is right, and names what is wrong."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, H
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import jaxrnn
from jaxrnn._finite_differences import directional_derivatives
from jaxrnn.testing import cell_properties, check_cell

STEPS = cell_properties(jaxrnn.elman(H))[:5]  # those that look at single steps
SLOW = pytest.mark.slow  # some seconds each


def passes(cell, properties):
    report = check_cell(cell, properties=properties)
    assert not report.failures
    checked = dict.fromkeys(error.property_name for error in report.errors)
    assert tuple(checked) == tuple(properties)


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("lstm", "mingru") else pytest.param(name, marks=SLOW)
        for name in CELLS
    ],
)
def test_cells_of_the_library_pass_every_property(name):
    cell = CELLS[name].cell
    assert cell.adjoint is not None  # nothing is left out
    passes(cell, cell_properties(cell))


@pytest.mark.parametrize("name", CELLS)
def test_cells_of_the_library_pass_the_properties_of_single_steps(name):
    passes(CELLS[name].cell, STEPS)


def test_a_learned_initial_state_passes():
    sequences = ["accumulate against jax.vjp of project and step", "masks and resets"]
    check_cell(
        jaxrnn.learned_state(jaxrnn.gru(H)),
        unroll_fn=jaxrnn.unroll_bptt,
        properties=[*sequences, "finite differences"],
    )


def test_a_parameter_outside_the_pre_activation_passes():
    """A learned rate, as docs/new_cell.md tells how to."""
    own = jaxrnn.elman(H)

    def project(params, xs):
        return own.project(params["elman"], xs) + params["elman"].b

    def forward(params, state, a_x):
        n = jnp.tanh(a_x + state @ params["elman"].w_h)
        h = (1 - params["rate"]) * state + params["rate"] * n
        return h, h, (state, n)

    def backward(params, residual, dstate, dy):
        (state, n), k = residual, params["rate"]
        dh = dstate + dy
        da = dh * k * (1 - n**2)
        dprev = (1 - k) * dh + da @ params["elman"].w_h.T
        return dprev, (da, dh * (n - state))

    def accumulate(params, xs, residuals, da_xs):
        da, dk = da_xs
        steps = tuple(range(xs.ndim - 1))
        dparams = jaxrnn.ElmanParams(
            w_x=jnp.tensordot(xs, da, (steps, steps)),
            w_h=jnp.tensordot(residuals[0], da, (steps, steps)),
            b=da.sum(steps),
        )
        return {"elman": dparams, "rate": dk.sum(steps)}, da @ params["elman"].w_x.T

    cell = own._replace(
        init=lambda key, size, dtype=None: {
            "elman": own.init(key, size, dtype),
            "rate": jnp.full((H,), 0.5, dtype),
        },
        initial_state=lambda params, b=(): own.initial_state(params["elman"], b),
        project=project,
        step=lambda params, state, a_x: forward(params, state, a_x)[:2],
        adjoint=jaxrnn.Adjoint(forward, backward, accumulate),
    )
    check_cell(cell, properties=[*STEPS, "bptt against jax.grad"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["elman-relu", "lstm", "gru", "gru-before"])
@settings(deadline=None, max_examples=2, derandomize=True)
@given(
    sizes=st.fixed_dictionaries(
        {
            "input_size": st.integers(1, 5),
            "num_steps": st.integers(3, 40),
            "batch_size": st.integers(3, 5),
            "seed": st.integers(0, 1000),
        }
    ),
    units=st.integers(1, 7),
    unroll_fn=st.sampled_from([jaxrnn.unroll, jaxrnn.unroll_bptt]),
)
def test_any_sizes_pass(name, sizes, units, unroll_fn):
    check_cell(
        CELLS[name].make(units),
        unroll_fn=unroll_fn,
        properties=["bptt against jax.grad", "finite differences"],
        **sizes,
    )


@pytest.mark.parametrize("name", cell_properties(jaxrnn.elman(H)))
def test_one_test_for_each_property(name):
    report = check_cell(
        jaxrnn.elman(H), properties=[name], unroll_fn=jaxrnn.unroll_bptt
    )
    assert {error.property_name for error in report.errors} == {name}


def with_adjoint(cell, **parts):
    return cell._replace(adjoint=cell.adjoint._replace(**parts))


def elman_with(**parts):
    return with_adjoint(jaxrnn.elman(H), **parts)


def dropped_term(cell):
    """The gradient of c misses what comes from later steps."""

    def backward(params, residual, dstate, dy):
        later = jnp.zeros_like(dstate.c)
        return cell.adjoint.backward(params, residual, dstate._replace(c=later), dy)

    return with_adjoint(cell, backward=backward)


def wrong_gate_derivative(cell):
    """The forget gate has f instead of f (1 - f)."""

    def backward(params, residual, dstate, dy):
        dprev, da = cell.adjoint.backward(params, residual, dstate, dy)
        i, f, g, o = jnp.split(da, 4, axis=-1)
        return dprev, jnp.concatenate([i, f / (1 - residual.f), g, o], axis=-1)

    return with_adjoint(cell, backward=backward)


def dropped_carry(cell):
    """The GRU's gradient misses z dh, the direct way from state to state."""

    def backward(params, residual, dstate, dy):
        dprev, da = cell.adjoint.backward(params, residual, dstate, dy)
        return dprev - (dstate + dy) * residual.z, da

    return with_adjoint(cell, backward=backward)


def slope_of_the_output(cell):
    """tanh' is taken at h = tanh(a) instead of a."""

    def backward(params, residual, dstate, dy):
        da = (1 - jnp.tanh(residual.h) ** 2) * (dstate + dy)
        return da @ params.w_h.T, da

    return with_adjoint(cell, backward=backward)


def transposed_weight(cell):
    def backward(params, residual, dstate, dy):
        turned = params._replace(w_h=params.w_h.T)
        return cell.adjoint.backward(turned, residual, dstate, dy)

    return with_adjoint(cell, backward=backward)


def changed_accumulate(change):
    """An Elman cell whose ``accumulate`` returns what ``change`` makes of it."""

    def mutate(cell):
        def accumulate(params, xs, residuals, da_xs):
            return change(*cell.adjoint.accumulate(params, xs, residuals, da_xs))

        return with_adjoint(cell, accumulate=accumulate)

    return mutate


def fixed_axes(cell):
    """Right with one batch dimension and with none, and wrong with two."""

    def accumulate(params, xs, residuals, da_xs):
        dparams, dxs = cell.adjoint.accumulate(params, xs, residuals, da_xs)
        b = dparams.b if da_xs.ndim < 4 else da_xs[0].sum((0, 1))
        return dparams._replace(b=b), dxs

    return with_adjoint(cell, accumulate=accumulate)


def wraps_around(cell):
    """At the first step, h_{-1} is read as h_{T-1}."""

    def accumulate(params, xs, residuals, da_xs):
        h_prev = residuals.h_prev.at[0].set(residuals.h[-1])
        residuals = residuals._replace(h_prev=h_prev)
        return cell.adjoint.accumulate(params, xs, residuals, da_xs)

    return with_adjoint(cell, accumulate=accumulate)


def other_forward(cell):
    def forward(params, state, a_x):
        return cell.adjoint.forward(params, state, a_x * 1.001)

    return with_adjoint(cell, forward=forward)


def batch_in_forward(cell):
    """``forward`` normalises over all axes, so that it cannot take all steps."""

    def forward(params, state, a_x):
        state, y, residual = cell.adjoint.forward(params, state, a_x)
        return state, y, residual._replace(h_prev=state - state.mean() + state.mean(-1))

    return with_adjoint(cell, forward=forward)


def leaking_rows(cell):
    return cell._replace(
        step=lambda params, state, a_x: cell.step(
            params, state, a_x - (a_x.mean(0) if a_x.ndim > 1 else 0)
        )
    )


PLANTED = {
    "dropped term": (
        jaxrnn.lstm,
        dropped_term,
        "backward against jax.vjp of step",
        "dstate_prev.c",
    ),
    "wrong gate derivative": (
        jaxrnn.lstm,
        wrong_gate_derivative,
        "backward against jax.vjp of step",
        "da_x",
    ),
    "dropped carry": (
        jaxrnn.gru,
        dropped_carry,
        "backward against jax.vjp of step",
        "dstate_prev",
    ),
    "tanh' of the output": (
        jaxrnn.elman,
        slope_of_the_output,
        "backward against jax.vjp of step",
        "da_x",
    ),
    "transposed weight": (
        jaxrnn.elman,
        transposed_weight,
        "backward against jax.vjp of step",
        "dstate_prev",
    ),
    "transposed weight gradient": (
        jaxrnn.elman,
        changed_accumulate(lambda dp, dxs: (dp._replace(w_h=dp.w_h.T), dxs)),
        "accumulate against jax.vjp of project and step",
        "dparams.w_h",
    ),
    "bias gradient of one step": (
        jaxrnn.elman,
        changed_accumulate(lambda dp, dxs: (dp._replace(b=0.9 * dp.b), dxs)),
        "accumulate against jax.vjp of project and step",
        "dparams.b",
    ),
    "no gradient of the inputs": (
        jaxrnn.elman,
        changed_accumulate(lambda dp, dxs: (dp, 0 * dxs)),
        "accumulate against jax.vjp of project and step",
        "dxs",
    ),
    "a sum over two axes": (
        jaxrnn.elman,
        fixed_axes,
        "accumulate against jax.vjp of project and step",
        "dparams.b",
    ),
    "h_{-1} read as h_{T-1}": (
        jaxrnn.elman,
        wraps_around,
        "accumulate against jax.vjp of project and step",
        "dparams.w_h",
    ),
    "forward is not step": (
        jaxrnn.elman,
        other_forward,
        "forward against step",
        "state",
    ),
    "rows that mix": (jaxrnn.elman, leaking_rows, "batch rows", "state"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_named(name):
    make, mutate, found_by, leaf = PLANTED[name]
    with pytest.raises(AssertionError) as caught:
        check_cell(mutate(make(H)), properties=STEPS)
    lines = str(caught.value).splitlines()
    first = lines[2]
    assert first.startswith(f"- {found_by}")
    named = [line for line in lines if line.startswith(f"- {found_by}")]
    assert any(f": {leaf}[" in line for line in named), lines
    # Its neighbours are not blamed: one property fails, or those that build on it.
    failed = [line for line in lines if line.endswith("FAILS")]
    assert all(line.startswith(STEPS[STEPS.index(found_by) :]) for line in failed)


@pytest.mark.parametrize("name", ["dropped term", "h_{-1} read as h_{T-1}"])
def test_a_planted_mistake_shows_in_sequences_too(name):
    make, mutate, _, _ = PLANTED[name]
    sequences = ["streaming", "bptt against jax.grad", "finite differences"]
    with pytest.raises(AssertionError) as caught:
        check_cell(mutate(make(H)), properties=sequences, unroll_fn=jaxrnn.unroll_bptt)
    assert str(caught.value).startswith("3 of 3 properties fail")


def test_the_index_of_the_worst_entry_is_named():
    def change(dparams, dxs):
        w_h = dparams.w_h.at[1, 2].add(1e-3).at[3, 0].add(1e-4)
        return dparams._replace(w_h=w_h), dxs

    with pytest.raises(AssertionError, match=r"dparams\.w_h\[1, 2\]: got") as caught:
        check_cell(changed_accumulate(change)(jaxrnn.elman(H)), properties=[STEPS[-1]])
    assert "1 of 1 properties fail" in str(caught.value)
    assert "[3, 0]" not in str(caught.value)


def loop_unroll(hold, renew, shift=True):
    """An unroll that holds and renews states as it is told, to plant mistakes in."""

    def run(cell, params, xs, state=None, *, mask=None, resets=None, reverse=False):
        batch = xs.shape[1:-1]
        fresh = cell.initial_state(params, batch)
        state = fresh if state is None else state
        mask = jnp.ones(xs.shape[:-1], bool) if mask is None else jnp.asarray(mask)
        resets = jnp.zeros_like(mask) if resets is None else jnp.asarray(resets)
        if reverse and shift:
            resets = jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])

        def body(state, inputs):
            x, valid, reset = inputs
            valid, reset = valid[:, None], reset[:, None]
            state = renew(reset, fresh, state)
            new_state, y = cell.step(params, state, cell.project(params, x))
            return hold(valid, new_state, state), hold(valid, y, jnp.zeros_like(y))

        return lax.scan(body, state, (xs, mask, resets), reverse=reverse)

    return run


def select(condition, on_true, on_false):
    return jnp.where(condition, on_true, on_false)


def multiply(condition, on_true, on_false):
    condition = condition.astype(on_true.dtype)
    return condition * on_true + (1 - condition) * on_false


def cut(cell, params, xs, state=None, **flags):
    """No gradient goes from one chunk to the one before."""
    return jaxrnn.unroll(cell, params, xs, lax.stop_gradient(state), **flags)


def when(condition):
    """Doubles the outputs under a condition on the inputs and the state."""

    def run(cell, params, xs, state=None, **flags):
        last, ys = jaxrnn.unroll(cell, params, xs, state, **flags)
        return last, ys * 2 if condition(xs, state) else ys

    return run


UNROLLS = {
    "one step": (when(lambda xs, state: len(xs) == 1), "streaming", "ys"),
    "two batch dimensions": (when(lambda xs, state: xs.ndim == 4), "streaming", "ys"),
    "no batch dimension": (when(lambda xs, state: xs.ndim == 2), "streaming", "ys"),
    "no state": (when(lambda xs, state: state is None), "streaming", "ys"),
    # NaN in the padding: times zero it is NaN.
    "mask multiplied instead of selected": (
        loop_unroll(multiply, select),
        "masks",
        "state",
    ),
    # Selected, but in the loop alone: the gradient of the weights is NaN.
    "mask after the product": (loop_unroll(select, select), "masks", "dparams.w_x"),
    "reset multiplied instead of selected": (
        loop_unroll(select, multiply),
        "resets",
        "state",
    ),
    "reset at the wrong end of a segment": (
        loop_unroll(select, select, shift=False),
        "resets",
        "ys",
    ),
    "state lost by a mask": (
        loop_unroll(lambda valid, new, old: select(valid, new, 0 * new), select),
        "masks",
        "state",
    ),
    "reset ignored": (
        loop_unroll(select, lambda reset, new, old: old),
        "resets",
        "state",
    ),
    "gradient cut between chunks": (cut, "streaming", "dstate0"),
}


@pytest.mark.parametrize("name", UNROLLS)
def test_a_planted_mistake_in_an_unroll_is_named(name):
    unroll_fn, found_by, leaf = UNROLLS[name]
    check = functools.partial(check_cell, jaxrnn.elman(H), unroll_fn=unroll_fn)
    with pytest.raises(AssertionError) as caught:
        check(properties=[found_by])
    assert f"- {found_by}" in str(caught.value)
    assert f": {leaf}[" in str(caught.value)


def test_a_derivative_that_lies_is_found_by_finite_differences_alone():
    @jax.custom_vjp
    def activation(a):
        return jnp.tanh(a)

    activation.defvjp(
        lambda a: (jnp.tanh(a), a), lambda a, dh: (1.01 * dh * (1 - jnp.tanh(a) ** 2),)
    )
    cell = jaxrnn.elman(H, activation=activation)
    check_cell(cell, properties=[*STEPS, "streaming", "bptt against jax.grad"])
    with pytest.raises(AssertionError, match=r"finite differences .*: dparams\.w_x"):
        check_cell(cell, properties=["finite differences"])


def test_a_cell_without_adjoint_is_checked_as_far_as_it_goes():
    cell = jaxrnn.elman(H)._replace(adjoint=None)
    report = check_cell(cell)
    assert not report.failures
    assert set(report.left_out) | set(cell_properties(cell)) == set(
        cell_properties(jaxrnn.elman(H))
    )
    assert "bptt against jax.grad: not checked, needs an adjoint" in str(report)
    wrong = cell._replace(step=lambda p, s, a_x: cell.step(p, s, a_x - a_x.mean()))
    with pytest.raises(AssertionError, match="batch rows: state"):
        check_cell(wrong)


CONTRACT = {
    "init in float32": (
        {
            "init": lambda key, size, dtype=None: jaxrnn.elman(H).init(
                key, size, "float32"
            )
        },
        r"contract: params\.w_x must be float64\[2, 5\], got float32\[2, 5\]",
    ),
    "a state that changes its dtype": (
        {"step": lambda p, s, a_x: (jnp.float32(s), s)},
        r"contract: state must be float64\[3, 5\], got float32\[3, 5\]",
    ),
    "a state in float32": (
        {"initial_state": lambda params, b=(): jnp.zeros((*b, H), "float32")},
        r"contract: initial_state must be float64\[5\], got float32\[5\]",
    ),
    "three results": (
        {"step": lambda p, s, a_x: (s, s, s)},
        r"expected \(state, y\), got 3 values",
    ),
    "a state that changes its structure": (
        {"step": lambda p, s, a_x: ((s,), s)},
        r"contract: state must have the structure PyTreeDef\(\*\), got",
    ),
    "another output size": (
        {"output_size": 4},
        r"contract: y must be float64\[3, 4\], got float64\[3, 5\]",
    ),
    "a state without batch": (
        {"initial_state": lambda params, batch_shape=(): jnp.zeros(H)},
        r"contract: initial_state must be float64\[3, 5\], got float64\[5\]",
    ),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_a_broken_contract_is_named(name):
    parts, message = CONTRACT[name]
    with pytest.raises(AssertionError, match=message):
        check_cell(jaxrnn.elman(H)._replace(**parts))


def test_a_result_that_is_missing_is_named():
    cell = elman_with(backward=lambda params, residual, dstate, dy: dstate)
    with pytest.raises(
        AssertionError, match=r"\(dstate_prev, da_x\), got .*Array"
    ) as e:
        check_cell(cell, properties=STEPS)
    assert any(STEPS[3] in note for note in e.value.__notes__)


def test_nan_in_one_run_is_not_hidden_by_the_next():
    """The cell gives NaN at a state that it reaches in reverse only."""
    cell = jaxrnn.elman(H)._replace(adjoint=None)
    seen = []

    def remember(cell, params, xs, state=None, *, reverse=False, **flags):
        last, ys = jaxrnn.unroll(cell, params, xs, state, reverse=reverse, **flags)
        if reverse:
            jax.debug.callback(lambda y: seen.append(float(y)), ys[1, 0, 0])
        return last, ys

    check_cell(cell, unroll_fn=remember, properties=["streaming"])
    value = seen[-1]

    def step(params, state, a_x):
        met = abs(state[..., :1] - value) < 1e-9
        return cell.step(params, jnp.where(met, jnp.nan, state), a_x)

    with pytest.raises(AssertionError, match=r"streaming \(reverse\): .*nan"):
        check_cell(cell._replace(step=step), properties=["streaming"])


def test_kinks_near_the_point_raise_no_alarm():
    """With this seed a kink lies within the smallest step of the first direction."""
    for seed in (2, 3):
        cell = jaxrnn.elman(H, activation=jax.nn.relu)
        check_cell(cell, seed=seed, num_steps=5, properties=["finite differences"])


def test_planted_nan_is_no_matter_to_debug_nans():
    with jax.debug_nans(True):
        check_cell(jaxrnn.elman(H), properties=["masks"])


def test_a_report_is_a_table():
    report = check_cell(jaxrnn.lstm(H), properties=[STEPS[3]])
    lines = str(report).splitlines()
    assert lines[0].split() == ["property", "leaf", "absolute", "relative", "tolerance"]
    assert [line.split()[5] for line in lines[1:]] == [
        "dstate_prev.h",
        "dstate_prev.c",
        "da_x",
    ]
    for error in report.errors:
        assert 0 <= error.relative < 1e-14
        assert error.passed


def test_an_error_of_the_cell_says_what_was_checked():
    def backward(params, residual, dstate, dy):
        raise ZeroDivisionError("no")

    with pytest.raises(ZeroDivisionError) as caught:
        check_cell(elman_with(backward=backward), properties=STEPS)
    assert any(STEPS[3] in note for note in caught.value.__notes__)


def test_the_settings_of_the_caller_are_left_alone():
    cell = jaxrnn.elman(H)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        params = cell.init(jax.random.key(0), 2)
        report = check_cell(cell, params=params, properties=[*STEPS, "masks"])
        assert not jax.config.jax_enable_x64
        assert params.w_h.dtype == jnp.float32
    assert max(error.relative for error in report.errors) < 1e-12


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cell": jaxrnn.dense(3)}, TypeError, "cell must be a Cell"),
        ({"properties": "masks"}, TypeError, "properties must be a list of names"),
        ({"unroll_fn": None}, TypeError, "unroll_fn must be an unroll, got None"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"properties": ["mask"]}, ValueError, r"properties must be among .*'mask'"),
        ({"num_steps": 2}, ValueError, "num_steps must be at least 3, got 2"),
        ({"batch_size": 2}, ValueError, "batch_size must be at least 3, got 2"),
        ({"input_size": 0}, ValueError, "input_size must be at least 1, got 0"),
        ({"input_size": 2.5}, TypeError, "input_size must be an int"),
        (
            {"params": jaxrnn.lstm(H).init(jax.random.key(0), 2)},
            AssertionError,
            "params",
        ),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        check_cell(**{"cell": jaxrnn.elman(H), **arguments})


def test_differences_are_exact_near_the_rounding_error():
    point = {"a": jnp.array([0.3, -0.7]), "b": jnp.array(1.1)}

    def fn(point):
        return jnp.sin(3 * point["a"]).sum() * jnp.exp(point["b"])

    direction = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}
    expected = jax.jvp(fn, (point,), (direction,))[1]
    (slope,) = directional_derivatives(fn, point, [direction])
    np.testing.assert_allclose(slope, expected, rtol=1e-11)
    # A kink at 0.01 from the point, within the larger steps.
    kinked = directional_derivatives(
        lambda x: jnp.maximum(x, 0.31) ** 3 + x**2, jnp.array(0.32), [jnp.array(1.0)]
    )
    np.testing.assert_allclose(kinked, 3 * 0.32**2 + 0.64, rtol=1e-9)
