"""Compare every gradient method with ``jax.grad``: the table in the README.

    pip install -e ".[test,compare]" && python benchmarks/gradient_agreement.py

For each method and cell: the largest relative error over all leaves, with and without
mask and resets, in both directions (torch: without flags, forward only). A difference
is relative to the largest entry of its leaf. Directional derivatives, by forward mode
and finite differences, are relative to the largest entry of all leaves if their own
largest is less than a thousandth of it. Without torch its column stays empty.
"""

import functools
import importlib.util
import itertools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn.testing import check_cell

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "helpers"))
import frameworks
from cases import random_like

NUM_STEPS, BATCH_SIZE, INPUT_SIZE, HIDDEN_SIZE = 50, 3, 7, 16
CELLS = {
    "`elman`, tanh": jaxrnn.elman(HIDDEN_SIZE),
    "`elman`, ReLU": jaxrnn.elman(HIDDEN_SIZE, activation=jax.nn.relu),
    "`elman`, leaky ReLU": jaxrnn.elman(HIDDEN_SIZE, activation=jax.nn.leaky_relu),
    "`lstm`": jaxrnn.lstm(HIDDEN_SIZE),
    "`gru`": jaxrnn.gru(HIDDEN_SIZE),
    "`gru`, `reset_after=False`": jaxrnn.gru(HIDDEN_SIZE, reset_after=False),
}
TORCH = {
    "`elman`, tanh": "elman",
    "`elman`, ReLU": "elman-relu",
    "`lstm`": "lstm",
    "`gru`": "gru",
}
OPTIONS = list(itertools.product((False, True), repeat=2))  # mask and resets, reverse


def problem(cell, dtype, flagged, reverse):
    """Draw parameters, inputs and state, cotangents, and the options."""
    keys = jax.random.split(jax.random.key(0), 8)
    shape = (NUM_STEPS, BATCH_SIZE)
    params = cell.init(keys[0], INPUT_SIZE, dtype)
    params = jax.tree.map(lambda p, n: p + 0.1 * n, params, random_like((0, 1), params))
    xs = jax.random.normal(keys[2], (*shape, INPUT_SIZE), dtype)
    state = random_like((0, 3), cell.initial_state(params, (BATCH_SIZE,)))
    dys = jax.random.normal(keys[4], (*shape, HIDDEN_SIZE), dtype)
    flags = {
        "mask": jax.random.bernoulli(keys[5], 0.8, shape) if flagged else None,
        "resets": jax.random.bernoulli(keys[6], 0.1, shape) if flagged else None,
        "reverse": reverse,
    }
    return (params, xs, state), (random_like((0, 7), state), dys), flags


def by_jax(cell, args, cotangents, flags):
    _, pull = jax.vjp(lambda *args: jaxrnn.unroll(cell, *args, **flags), *args)
    return pull(cotangents)


def by_bptt(cell, args, cotangents, flags):
    (params, xs, state), (dstate, dys) = args, cotangents
    explicit = jaxrnn.bptt(cell, params, xs, dys, state, dstate=dstate, **flags)
    return explicit, by_jax(cell, args, cotangents, flags)


def by_rtrl(cell, args, cotangents, flags):
    (params, xs, state), (dstate, dys) = args, cotangents
    forward = jaxrnn.rtrl(cell, params, xs, dys, state, dstate=dstate, **flags)
    return forward, by_jax(cell, args, cotangents, flags)[0]


def by_lag(cell, args, cotangents, flags):
    (params, xs, state), (dstate, dys) = args, cotangents
    by_lag = jaxrnn.gradient_by_lag(
        cell, params, xs, dys, state, dstate=dstate, **flags
    )
    total = jax.tree.map(lambda leaf: leaf.sum(0), by_lag)
    return total, by_jax(cell, args, cotangents, flags)[0]


def inner(a, b):
    return jnp.stack(jax.tree.leaves(jax.tree.map(jnp.vdot, a, b))).sum()


def by_forward_mode(cell, args, cotangents, flags):
    """Differentiate along a random direction in each parameter."""
    params, *rest = args
    leaves, treedef = jax.tree.flatten(random_like(1, params))
    gradient = jax.tree.leaves(by_jax(cell, args, cotangents, flags)[0])
    slopes = []
    for chosen in range(len(leaves)):
        direction = jax.tree.unflatten(
            treedef, [leaf * (i == chosen) for i, leaf in enumerate(leaves)]
        )
        _, tangents = jax.jvp(
            lambda params: jaxrnn.unroll(cell, params, *rest, **flags),
            (params,),
            (direction,),
        )
        slopes.append(inner(tangents, cotangents))
    expected = [jnp.vdot(g, v) for g, v in zip(gradient, leaves, strict=True)]
    return jnp.stack(slopes), jnp.stack(expected)


def by_hessian(cell, args, cotangents, flags):
    """Compare Hessian-vector products: reverse over reverse, forward over reverse."""
    params, *rest = args
    direction = random_like(1, params)

    def gradient(unroll_fn, params):
        def loss(params):
            _, ys = unroll_fn(cell, params, *rest, **flags)
            return (cotangents[1] * ys**2).sum()

        return jax.grad(loss)(params)

    twice_by_hand = jax.grad(
        lambda params: inner(gradient(jaxrnn.unroll_bptt, params), direction)
    )(params)
    of_unroll = functools.partial(gradient, jaxrnn.unroll)
    return twice_by_hand, jax.jvp(of_unroll, (params,), (direction,))[1]


PATHS = {
    "`bptt`": by_bptt,
    "`rtrl`": by_rtrl,
    "`gradient_by_lag`": by_lag,
    "`jax.jvp`": by_forward_mode,
    "Hessian": by_hessian,
}


def relative(actual, expected):
    """The largest difference, each leaf relative to its largest entry."""
    errors = jax.tree.map(
        lambda a, e: np.abs(np.asarray(a) - e).max() / np.abs(e).max(), actual, expected
    )
    return max(jax.tree.leaves(errors))


def largest(path, cell, dtype):
    def error(option):
        args, cotangents, flags = problem(cell, dtype, *option)
        run = jax.jit(lambda *given: path(cell, *given, flags))
        return relative(*run(args, cotangents))

    return max(error(option) for option in OPTIONS)


def from_finite_differences(cell):
    (params, *_), _, _ = problem(cell, jnp.float64, False, False)
    report = check_cell(
        cell,
        params=params,
        input_size=INPUT_SIZE,
        num_steps=NUM_STEPS,
        batch_size=BATCH_SIZE,
        properties=["finite differences"],
    )
    return max(error.relative for error in report.errors)


def from_torch(name, cell):
    if name not in TORCH or not importlib.util.find_spec("torch"):
        return None
    args, cotangents, flags = problem(cell, jnp.float64, False, False)
    params, xs, state = args
    stacked = (params,), xs, (state,)
    (_, expected) = frameworks.torch_values_and_gradients(
        frameworks.TORCH[TORCH[name]], stacked, ((cotangents[0],), cotangents[1])
    )
    dparams, dxs, dstate = by_jax(cell, args, cotangents, flags)
    return relative(((dparams,), dxs, (dstate,)), expected)


def main():
    columns = [*PATHS, "differences", "torch", "`bptt`, float32"]
    print(f"| cell | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for name, cell in CELLS.items():
        errors = [largest(path, cell, jnp.float64) for path in PATHS.values()]
        errors += [from_finite_differences(cell), from_torch(name, cell)]
        errors.append(largest(by_bptt, cell, jnp.float32))
        row = ["" if error is None else f"{error:.0e}" for error in errors]
        print(f"| {name} | {' | '.join(row)} |", flush=True)
        jax.clear_caches()  # a process can hold a limited number of programs


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
