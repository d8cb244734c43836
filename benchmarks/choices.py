"""Measure design choices of the engine and the cells against their alternatives.

    python benchmarks/choices.py [--shapes S3 A1]

In float32, without mask, in interleaved runs; "train" computes the gradients of
parameters, inputs and initial state. Above 1, the library's choice is faster.

- gates: an LSTM that activates gate by gate, against one tanh over all gates.
- whole: all steps in one chunk, against the chunks of the fast loop.
- recompute: rerun each chunk in the backward pass, against stored residuals.
- transpose: transpose ``w_h`` in each product, against once before the loop.
- chunks: a GRU without residuals that projects the inputs of a whole chunk at once,
  against projecting them in each step.
- columns: the recurrent product with ``w_h`` as it is.
- rows: all batch entries in one loop, against one by one.
- bias: added to the projected inputs of all steps at once, against in each step.
- mask, resets: the cost of ragged lengths, and of resets at 3 % of the steps.
"""

import argparse
import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
from contestants import SHAPES, Shape, problem, train_step
from measure import compiled, in_turns

import jaxrnn
from jaxrnn._cells.lstm import LSTMResidual
from jaxrnn._numerics import precision
from jaxrnn._numerics.precision import dot
from jaxrnn._unrolls import plan as plans
from jaxrnn._unrolls.arguments import prepare
from jaxrnn._unrolls.entry_by_entry import EntryByEntry
from jaxrnn._unrolls.reverse_mode import run_loops

NAMES = ["S1", "two rows", "S2", "S3", "S4", "R1", "L2", "A1", "wide"]
SHAPES = SHAPES | {"wide": Shape(100, 16, 256, 1024)}


def gate_by_gate(params, state, a_x):
    h_prev, c_prev = state
    a = a_x + dot(h_prev, params.w_h) + params.b
    a_i, a_f, a_g, a_o = jnp.split(a, 4, axis=-1)
    i, f, o = map(jax.nn.sigmoid, (a_i, a_f, a_o))
    g = jnp.tanh(a_g)
    c = f * c_prev + i * g
    h = o * jnp.tanh(c)
    residual = LSTMResidual(h_prev, c_prev, i, f, g, o)
    return jaxrnn.LSTMState(h=h, c=c), h, residual


def with_gates_apart(cell):
    return cell._replace(
        step=lambda params, state, a_x: gate_by_gate(params, state, a_x)[:2],
        adjoint=cell.adjoint._replace(forward=gate_by_gate),
    )


def with_bias_before(cell):
    def project(params, xs):
        return cell.project(params, xs) + params.b

    def forward(params, state, a_x):
        without = params._replace(b=jnp.zeros_like(params.b))
        return cell.adjoint.forward(without, state, a_x)

    return cell._replace(
        project=project, adjoint=cell.adjoint._replace(forward=forward)
    )


def planned(cell, changes_of):
    """Return ``unroll_bptt`` with changed loop fields, given the number of steps."""

    def unroll(params, xs, state):
        run, inputs = prepare(cell, params, xs, state, None, None, False)
        loops = plans.fast_loops(run, plans.size_of(run, params, inputs))
        loop = with_fields(loops.with_gradient, **changes_of(len(xs)))
        loops = loops._replace(with_gradient=loop)
        return run_loops(run, loops, params, inputs)

    return unroll


def in_chunks(cell):
    """Return a forward pass without residuals that uses the chunks of training."""

    def unroll(params, xs, state):
        run, inputs = prepare(cell, params, xs, state, None, None, False)
        loop = plans.fast_loops(run, plans.size_of(run, params, inputs)).with_gradient
        return with_fields(loop, recompute=True).forward_pass(run, params, inputs)[0]

    return unroll


def with_fields(loop, **changes):
    """Change the chunks of a loop, even if it takes batch entries one by one."""
    if isinstance(loop, EntryByEntry):
        return EntryByEntry(with_fields(loop.loop, **changes))
    return dataclasses.replace(loop, **changes)


@contextlib.contextmanager
def without(module, name, value):
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def fast(cell):
    return functools.partial(jaxrnn.unroll_bptt, cell)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=NAMES, default=NAMES)
    shapes = parser.parse_args().shapes
    print(f"jax {jax.__version__}, {jax.devices()}")
    columns = [
        "gates, forward",
        "gates, train",
        "whole, forward",
        "whole, train",
        "recompute, train",
        "transpose, train",
        "chunks, GRU forward",
        "columns, forward",
        "columns, train",
        "rows, forward",
        "rows, train",
        "bias, forward",
        "bias, train",
        "mask, forward",
        "mask, train",
        "resets, forward",
        "resets, train",
    ]
    print("| shape | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name in shapes:
        lstm, gru = problem("lstm", SHAPES[name]), problem("gru", SHAPES[name])
        arguments = lstm.params, lstm.xs, lstm.state
        gru_arguments = gru.params, gru.xs, gru.state
        runs = {
            "ours": fast(lstm.cell),
            "gates": fast(with_gates_apart(lstm.cell)),
            "bias": fast(with_bias_before(lstm.cell)),
            "whole": planned(lstm.cell, lambda t: {"chunk_size": t}),
            "recompute": planned(
                lstm.cell, lambda loop, t: with_fields(loop, recompute=True)
            ),
        }
        for flag in ("mask", "resets"):
            flags = problem("lstm", SHAPES[name]._replace(flag=flag)).flags
            runs[flag] = functools.partial(jaxrnn.unroll_bptt, lstm.cell, **flags)
        programs = {}
        for key, run in runs.items():
            programs[f"{key}, train"] = compiled(train_step(run), arguments)
            if key != "recompute":
                programs[f"{key}, forward"] = compiled(run, arguments)
        alternatives = {
            "transpose": (precision, "TRANSPOSED", 0),
            "columns": (precision, "columns_to_add", lambda rows, matrix: 0),
            "rows": (plans, "LOOPS_ARE_KERNELS", False),
        }
        for key, other in alternatives.items():
            with without(*other):
                run = fast(lstm.cell)
                programs[f"{key}, train"] = compiled(train_step(run), arguments)
                programs[f"{key}, forward"] = compiled(run, arguments)
        programs["ours, GRU forward"] = compiled(fast(gru.cell), gru_arguments)
        programs["chunks, GRU forward"] = compiled(in_chunks(gru.cell), gru_arguments)
        times = in_turns(programs, budget=8)
        cells = []
        for column in columns:
            ours = "ours, " + column.partition(", ")[2]
            cells.append(f"{times[column].median / times[ours].median:.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        jax.clear_caches()


if __name__ == "__main__":
    main()
