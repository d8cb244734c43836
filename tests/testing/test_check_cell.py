"""``check_cell`` passes what is right, and names what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, H, I, random_params
from covering import quick
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxrnn
from jaxrnn.testing import cell_properties, check_cell
from jaxrnn.testing._finite_differences import directional_derivatives

STEPS = cell_properties(jaxrnn.elman(H))[:5]  # those that look at single steps


def passes(cell, properties, **options):
    report = check_cell(cell, properties=properties, **options)
    assert not report.failures
    checked = dict.fromkeys(error.property_name for error in report.errors)
    assert tuple(checked) == tuple(properties)


@quick("name", CELLS, by_default=["mingru"])
def test_cells_of_the_library_pass_every_property(name):
    cell = CELLS[name].cell
    assert cell.adjoint is not None  # nothing is left out
    passes(cell, cell_properties(cell))


@pytest.mark.parametrize("name", CELLS)
def test_cells_of_the_library_pass_the_properties_of_single_steps(name):
    cell = CELLS[name].cell
    passes(cell, STEPS, params=random_params(0, cell))


def test_a_learned_initial_state_passes():
    sequences = ["accumulate against jax.vjp of project and step", "masks and resets"]
    check_cell(
        jaxrnn.learned_state(jaxrnn.gru(H)),
        unroll_fn=jaxrnn.unroll_bptt,
        properties=[*sequences, "finite differences"],
    )


def test_a_parameter_outside_the_pre_activation_passes():
    """A learned rate, as docs/extending/cell.md tells how to."""
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
def test_check_cell_passes_any_sizes(name, sizes, units, unroll_fn):
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
        ({"unroll_fn": None}, TypeError, r"unroll_fn must be a function .* got None"),
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
def test_wrong_arguments_are_named(arguments, error, message):
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


def test_a_cell_whose_projection_needs_several_inputs_is_checked():
    """The inputs of a cell with noise are the features and then the noise."""
    noisy = jaxrnn.recurrent_dropout(jaxrnn.gru(H), 0.3)
    report = check_cell(
        noisy.noise.cell,
        params=random_params(0, noisy),
        input_size=I + H,
        properties=["forward against step"],
    )
    assert not report.failures
