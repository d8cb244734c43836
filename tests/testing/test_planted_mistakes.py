"""Mistakes planted in a cell or in an unroll are named by check_cell."""

import jax.numpy as jnp
import pytest
from cases import H

import jaxrnn
from jaxrnn.testing import cell_properties, check_cell

STEPS = cell_properties(jaxrnn.elman(H))[:5]  # those that look at single steps


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
        dprev, (da,) = cell.adjoint.backward(params, residual, dstate, dy)
        i, f, g, o = jnp.split(da, 4, axis=-1)
        return dprev, (jnp.concatenate([i, f / (1 - residual.f), g, o], axis=-1),)

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
        return da @ params.w_h.T, (da,)

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
        (das,) = da_xs
        b = dparams.b if das.ndim < 4 else das[0].sum((0, 1))
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


def leaking_rows(cell):
    return cell._replace(
        step=lambda params, state, a_x: cell.step(
            params, state, a_x - (a_x.mean(0) if a_x.ndim > 1 else 0)
        ),
        adjoint=cell.adjoint,
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


@pytest.mark.parametrize(
    "name",
    [
        "dropped term",
        pytest.param("h_{-1} read as h_{T-1}", marks=pytest.mark.slow),
    ],
)
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
    message = r"must return \(dstate_prev, \(da_x, ...\)\), .* got shapes \(\d"
    with pytest.raises(TypeError, match=message) as e:
        check_cell(cell, properties=STEPS)
    assert any(STEPS[3] in note for note in e.value.__notes__)


def scale_left_out(cell):
    """The backward pass takes the options of dropout, and one does nothing."""

    def backward(params, residual, dstate, dy, *, candidate_scale=None, **options):
        return cell.adjoint.backward(params, residual, dstate, dy, **options)

    return with_adjoint(cell, backward=backward)


@pytest.mark.parametrize("make", [jaxrnn.lstm, jaxrnn.gru])
def test_an_option_of_dropout_that_does_nothing_is_named(make):
    name = "dropout in the step against jax.vjp"
    with pytest.raises(AssertionError, match=rf"{name} \(candidate dropout\): da_x"):
        check_cell(scale_left_out(make(H)), properties=[name])
