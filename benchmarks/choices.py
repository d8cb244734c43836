"""Two choices of the engine, measured: ratios of interleaved runs, and memory.

    python benchmarks/choices.py

Forward and train step (gradients of parameters, inputs and initial state) of an LSTM in
float32, without mask. ``barrier``: the step as it is against one without the barrier
behind its sigmoid. ``store``: residuals stored in the loop, as they are, against states
stored and residuals recomputed for all steps at once. Above 1, the library's choice is
better; of the memory, too, it is how much more the other one takes.
"""

import functools
import statistics
import time

import jax
import jax.numpy as jnp

import jaxrnn
from jaxrnn._cells import lstm as lstm_file
from jaxrnn._precision import dot
from jaxrnn._scan import masked_scan, masked_scan_transposed

SHAPES = [  # T, B, I, H
    (1000, 8, 32, 32),
    (100, 32, 128, 128),
    (168, 256, 32, 64),
    (128, 64, 256, 256),
    (35, 20, 650, 650),
]
REPEATS = 15
PLAIN = {"mask": None, "resets": None, "reverse": False}


def forward_without_barrier(params, state, a_x):
    h_prev, c_prev = state
    a = a_x + dot(h_prev, params.w_h)
    a_i, a_f, a_g, a_o = jnp.split(a, 4, axis=-1)
    i, f, o = map(jax.nn.sigmoid, (a_i, a_f, a_o))
    g = jnp.tanh(a_g)
    c = f * c_prev + i * g
    m = jnp.tanh(c)
    residual = lstm_file.LSTMResidual(h_prev, c_prev, i, f, g, o, m)
    return jaxrnn.LSTMState(h=o * m, c=c), o * m, residual


def without_barrier(cell):
    return cell._replace(
        step=lambda params, state, a_x: forward_without_barrier(params, state, a_x)[:2],
        adjoint=cell.adjoint._replace(forward=forward_without_barrier),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def unroll_recomputing(cell, params, xs, state):
    return jaxrnn.unroll(cell, params, xs, state)


def _recomputing_forward(cell, params, xs, state):
    a_xs = cell.project(params, xs)

    def step(state, a_x):
        return *cell.step(params, state, a_x), state

    end, ys, entered = masked_scan(step, state, a_xs, fresh=state, **PLAIN)
    return (end, ys), (params, xs, a_xs, entered)


def _recomputing_backward(cell, saved, cotangents):
    params, xs, a_xs, entered = saved
    dstate, dys = cotangents
    _, _, residuals = cell.adjoint.forward(params, entered, a_xs)

    def backward(dstate, inputs):
        return cell.adjoint.backward(params, inputs[0], dstate, inputs[1])

    dstate, _, das = masked_scan_transposed(backward, dstate, (residuals, dys), **PLAIN)
    return *cell.adjoint.accumulate(params, xs, residuals, das), dstate


unroll_recomputing.defvjp(_recomputing_forward, _recomputing_backward)


def train_step(unroll_fn, cell):
    def loss(params, xs, state):
        state, ys = unroll_fn(cell, params, xs, state)
        return (ys**2).sum() + state.c.sum()

    return jax.value_and_grad(loss, argnums=(0, 1, 2))


def compile_all(functions, arguments):
    return {
        name: jax.jit(function).lower(*arguments).compile()
        for name, function in functions.items()
    }


def interleaved(programs, arguments):
    """Median seconds of each program, run in turns."""
    times = {name: [] for name in programs}
    for _ in range(REPEATS + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def main():
    print(f"jax {jax.__version__}, {jax.devices()}")
    print("| T, B, I, H | barrier, forward | barrier, train | store, train |"
          " store, memory |\n|---|---|---|---|---|")  # fmt: skip
    for num_steps, batch_size, input_size, hidden_size in SHAPES:
        cell = jaxrnn.lstm(hidden_size)
        plain = without_barrier(cell)
        params = cell.init(jax.random.key(0), input_size, jnp.float32)
        shape = (num_steps, batch_size, input_size)
        xs = jax.random.normal(jax.random.key(1), shape, jnp.float32)
        arguments = params, xs, cell.initial_state(params, (batch_size,))
        programs = compile_all(
            {
                "forward": functools.partial(jaxrnn.unroll, cell),
                "forward plain": functools.partial(jaxrnn.unroll, plain),
                "train": train_step(jaxrnn.unroll_bptt, cell),
                "train plain": train_step(jaxrnn.unroll_bptt, plain),
                "train recomputing": train_step(unroll_recomputing, cell),
            },
            arguments,
        )
        seconds = interleaved(programs, arguments)
        memory = {
            name: program.memory_analysis().temp_size_in_bytes
            for name, program in programs.items()
        }
        columns = [
            seconds["forward plain"] / seconds["forward"],
            seconds["train plain"] / seconds["train"],
            seconds["train recomputing"] / seconds["train"],
            memory["train recomputing"] / memory["train"],
        ]
        cells = " | ".join(f"{value:.2f}" for value in columns)
        print(f"| {', '.join(map(str, shape))}, {hidden_size} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
