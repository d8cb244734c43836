"""Contestants of the comparison, all run from the same weights.

A contestant turns a problem into the programs of the three modes. Peers run as their
documentation recommends, from weights converted to their own layout beforehand.
"""

import functools
import importlib.util
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from measure import Program, compiled

import jaxrnn
from jaxrnn import kernels

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "helpers"))
import frameworks

CELLS = {"lstm": jaxrnn.lstm, "gru": jaxrnn.gru, "elman": jaxrnn.elman}
MODES = ("forward", "train", "step")


class Shape(NamedTuple):
    """Sizes of a problem, and its flag: mask or resets."""

    num_steps: int
    batch_size: int
    input_size: int
    hidden_size: int
    flag: str | None = None  # "mask" (ragged lengths) or "resets" (at 3 % of the steps)


SHAPES = {
    "S1": Shape(1000, 1, 16, 16),
    "two rows": Shape(1000, 2, 16, 16),
    "S2": Shape(1000, 8, 32, 32),
    "S3": Shape(100, 32, 128, 128),
    "S4": Shape(168, 256, 32, 64),
    "R1": Shape(128, 64, 256, 256),
    "R1 resets": Shape(128, 64, 256, 256, "resets"),
    "L2": Shape(35, 20, 650, 650),
    "A1": Shape(300, 32, 80, 512),
    "A1 ragged": Shape(300, 32, 80, 512, "mask"),
    "odd": Shape(200, 7, 60, 100),
    "X1": Shape(10_000, 8, 64, 128),
    "X2": Shape(100_000, 1, 64, 128),
    "X3": Shape(1_000_000, 1, 16, 64),
}


class Problem(NamedTuple):
    """A cell with weights, inputs, a state, and the flags of an unroll."""

    name: str  # name of the cell
    cell: jaxrnn.Cell
    shape: Shape
    params: Any
    xs: jax.Array
    state: Any
    flags: dict[str, jax.Array]


def problem(name: str, shape: Shape) -> Problem:
    """Build a problem; the same arguments give the same numbers."""
    cell = CELLS[name](shape.hidden_size)
    keys = jax.random.split(jax.random.key(0), 4)
    steps, rows = shape.num_steps, shape.batch_size
    params = cell.init(keys[0], shape.input_size, jnp.float32)
    xs = jax.random.normal(keys[1], (steps, rows, shape.input_size), jnp.float32)
    flags = {}
    if shape.flag == "mask":
        lengths = jax.random.randint(keys[2], (rows,), steps // 4, steps + 1)
        flags["mask"] = jaxrnn.lengths_to_mask(lengths, steps)
    if shape.flag == "resets":
        flags["resets"] = jax.random.bernoulli(keys[3], 0.03, (steps, rows))
    state = cell.initial_state(params, (rows,))
    return Problem(name, cell, shape, params, xs, state, flags)


Run = Callable[..., tuple[Any, jax.Array]]  # (params, xs, state) -> (state, ys)


class Contestant(NamedTuple):
    """A contestant; ``programs`` maps a problem and a mode to a program."""

    name: str
    library: str  # jaxrnn, a peer on JAX, or torch
    program: Callable[[Problem, str], Program | None]
    values: Callable[[Problem], Any] | None = None  # (ys, dxs) to compare


# On JAX


def _loss(run: Run, params, xs, state):
    state, ys = run(params, xs, state)
    last = sum(leaf.sum() for leaf in jax.tree.leaves(state))
    return 0.5 * (ys * ys).sum() + last


def train_step(run: Run):
    return jax.value_and_grad(functools.partial(_loss, run), argnums=(0, 1, 2))


def _on_jax(name: str, library: str, setup) -> Contestant:
    """Make a contestant; ``setup(problem)`` returns ``(run, weights)`` or None."""

    def program(problem, mode):
        found = setup(problem)
        if found is None:
            return None
        run, weights = found
        if mode == "step":
            return compiled(run, (weights, problem.xs[:1], problem.state))
        function = run if mode == "forward" else train_step(run)
        return compiled(function, (weights, problem.xs, problem.state))

    def values(problem):
        run, weights = setup(problem)

        def both(weights, xs, state):
            gradient = jax.grad(functools.partial(_loss, run), argnums=1)
            return run(weights, xs, state)[1], gradient(weights, xs, state)

        return jax.jit(both)(weights, problem.xs, problem.state)

    return Contestant(name, library, program, values)


def _ours(name: str, unroll_fn, modes=MODES) -> Contestant:
    def setup(problem):
        layer = jaxrnn.layer(problem.cell, unroll_fn=unroll_fn)
        return functools.partial(layer.apply, **problem.flags), problem.params

    own = _on_jax(name, "jaxrnn", setup)

    def program(problem, mode):
        if mode not in modes:
            return None
        if mode != "step":
            return own.program(problem, mode)
        step = jaxrnn.layer(problem.cell).step
        return compiled(step, (problem.params, problem.state, problem.xs[0]))

    return own._replace(program=program)


def _by_xla(ours: Contestant) -> Contestant:
    """The same contestant without the compiled kernels."""

    def program(problem, mode):
        with kernels.using("xla"):
            return ours.program(problem, mode)

    return ours._replace(name="jaxrnn XLA", program=program, values=None)


def _peer(name: str, library: str, rows: dict[str, str]) -> Contestant:
    """Make a peer; ``rows`` maps each of our cells to a row of ``frameworks.PEERS``."""

    def setup(problem):
        if problem.name not in rows:
            return None
        peer = frameworks.PEERS[rows[problem.name]]
        sizes = problem.shape.input_size, problem.shape.hidden_size
        run = peer.build(*sizes, jnp.float32)
        weights = jax.tree.map(jnp.array, peer.convert(problem.params))
        takes = {"flax": ["mask"], "keras": ["mask"], "haiku": ["resets"]}
        flags = {
            name: flag
            for name, flag in problem.flags.items()
            if name in takes.get(library, [])
        }
        return functools.partial(run, **flags), weights

    own = _on_jax(name, library, setup)

    def values(problem):
        row = rows.get(problem.name)
        if row is None or frameworks.PEERS[row].make is not CELLS[problem.name]:
            return None  # computes another function at the same cost
        return own.values(problem)

    return own._replace(values=values)


def _naive_lstm(weights, state, x):
    w, b = weights
    a = jnp.concatenate([x, state.h], axis=-1) @ w + b
    i, f, g, o = jnp.split(a, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return jaxrnn.LSTMState(h=h, c=c), h


def _naive_gru(weights, h, x):
    w_x, w_h, b, b_h = weights
    x_r, x_z, x_n = jnp.split(x @ w_x + b, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(h @ w_h + b_h, 3, axis=-1)
    r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    h = (1 - z) * jnp.tanh(x_n + r * h_n) + z * h
    return h, h


def _naive_elman(weights, h, x):
    w, b = weights
    h = jnp.tanh(jnp.concatenate([x, h], axis=-1) @ w + b)
    return h, h


NAIVE = {"lstm": _naive_lstm, "gru": _naive_gru, "elman": _naive_elman}


def _naive() -> Contestant:
    """Make the tutorial version: everything inside the loop."""

    def setup(problem):
        params = problem.params
        if problem.name == "gru":
            weights = tuple(params)
        else:
            weights = (jnp.concatenate([params.w_x, params.w_h]), params.b)

        def run(weights, xs, state):
            step = functools.partial(NAIVE[problem.name], weights)
            return lax.scan(step, state, xs)

        return run, weights

    return _on_jax("lax.scan", "naive", setup)


# torch


def _torch_program(problem: Problem, mode: str) -> Program:
    torch = frameworks.need("torch")
    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    case = frameworks.TORCH[problem.name]
    module = getattr(torch.nn, case.module)(
        problem.shape.input_size, problem.shape.hidden_size, **case.options
    ).to(device)
    with torch.no_grad():
        for name, weight in frameworks.torch_weights(problem.params).items():
            getattr(module, f"{name}_l0").copy_(torch.tensor(np.asarray(weight)))
    if on_gpu:
        module.flatten_parameters()
    xs = torch.tensor(np.asarray(problem.xs), device=device)
    leaves = [
        torch.tensor(np.asarray(s), device=device)[None]
        for s in jax.tree.leaves(problem.state)
    ]

    def finish():
        if on_gpu:
            torch.cuda.synchronize()

    def call(xs, leaves):
        ys, last = module(xs, tuple(leaves) if len(leaves) == 2 else leaves[0])
        return ys, last if len(leaves) == 2 else (last,)

    def forward(xs):
        with torch.inference_mode():
            call(xs, leaves)
        finish()

    def train():
        inputs = [t.detach().requires_grad_() for t in (xs, *leaves)]
        ys, last = call(inputs[0], inputs[1:])
        loss = 0.5 * (ys * ys).sum() + sum(s.sum() for s in last)
        torch.autograd.grad(loss, [*module.parameters(), *inputs])
        finish()

    runs = {
        "forward": lambda: forward(xs),
        "train": train,
        "step": lambda: forward(xs[:1]),
    }
    return Program(runs[mode])


# cuDNN's LSTM, as JAX exposes it


def _cudnn_program(problem: Problem, mode: str) -> Program | None:
    if problem.name != "lstm" or mode == "step":
        return None
    from jax.experimental import rnn

    shape = problem.shape
    sizes = {
        "input_size": shape.input_size,
        "hidden_size": shape.hidden_size,
        "num_layers": 1,
        "dropout": 0.0,
        "bidirectional": False,
    }
    weights = rnn.init_lstm_weight(
        jax.random.key(0), shape.input_size, shape.hidden_size, 1, False
    )
    lengths = jnp.full((shape.batch_size,), shape.num_steps, jnp.int32)

    def run(weights, xs, state):
        ys, h, c = rnn.lstm(xs, state.h[None], state.c[None], weights, lengths, **sizes)
        return jaxrnn.LSTMState(h=h[0], c=c[0]), ys

    xs = problem.xs.swapaxes(0, 1)  # batch first
    function = run if mode == "forward" else train_step(run)
    return compiled(function, (weights, xs, problem.state))


# Lower bound of the cost


def products_program(problem: Problem, mode: str) -> Program | None:
    """Compile only the matrix products, the recurrent ones one after the other."""
    if mode == "step":
        return None
    params, xs = problem.params, problem.xs
    size = problem.shape.hidden_size
    reps = params.w_h.shape[1] // size

    def forward(w_x, w_h, xs, h):
        def step(h, _):
            return (h @ w_h)[..., :size], None

        return xs @ w_x, lax.scan(step, h, length=len(xs))[0]

    def train(w_x, w_h, xs, h):
        a_xs, h = forward(w_x, w_h, xs, h)

        def step(da, _):
            dh = lax.dot_general(da, w_h, (((1,), (1,)), ((), ())))
            return jnp.tile(dh, (1, reps)), None

        da, _ = lax.scan(step, jnp.tile(h, (1, reps)), length=len(xs))
        flat, das = xs.reshape(-1, xs.shape[-1]), a_xs.reshape(-1, a_xs.shape[-1])
        hs = das[:, :size]  # arbitrary values of that size
        return da, flat.T @ das, hs.T @ das, das @ w_x.T

    function = forward if mode == "forward" else train
    h = jax.tree.leaves(problem.state)[0]
    return compiled(function, (params.w_x, params.w_h, xs, h))


def contestants() -> list[Contestant]:
    """List jaxrnn, and every installed peer."""
    found = [
        _ours("jaxrnn", jaxrnn.unroll_bptt),
        _by_xla(_ours("jaxrnn", jaxrnn.unroll_bptt, ("forward", "train"))),
        _ours("jaxrnn unroll", jaxrnn.unroll, ("forward", "train")),
        _naive(),
    ]
    if _installed("flax"):
        rows = {"lstm": "linen-optimized-lstm", "gru": "linen-gru"}
        found.append(_peer("flax", "flax", {**rows, "elman": "linen-elman"}))
    if _installed("haiku"):
        rows = {"lstm": "haiku-lstm", "gru": "haiku-gru-before"}
        found.append(_peer("haiku", "haiku", rows))
    if _installed("equinox"):
        rows = {"lstm": "equinox-lstm", "gru": "equinox-gru"}
        found.append(_peer("equinox", "equinox", rows))
    if _installed("keras"):
        rows = {"lstm": "keras-lstm", "gru": "keras-gru", "elman": "keras-elman"}
        found.append(_peer("keras", "keras", rows))
    if _installed("torch"):
        found.append(Contestant("torch", "torch", _torch_program))
    if jax.default_backend() == "gpu":
        found.append(Contestant("jax cuDNN", "cudnn", _cudnn_program))
    return found


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
