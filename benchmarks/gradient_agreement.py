"""How far the hand-derived gradient is from ``jax.grad``: the table in the README.

    python benchmarks/gradient_agreement.py

For each cell the largest difference, relative to the largest entry of its leaf, over
all gradients (parameters, inputs, initial state), with and without mask and resets, in
both directions.
"""

import functools
import itertools

import jax
import jax.numpy as jnp

import jaxrnn

NUM_STEPS, BATCH_SIZE, INPUT_SIZE, HIDDEN_SIZE = 50, 3, 7, 16
CELLS = {
    "`elman`, tanh": jaxrnn.elman(HIDDEN_SIZE),
    "`elman`, ReLU": jaxrnn.elman(HIDDEN_SIZE, activation=jax.nn.relu),
    "`elman`, leaky ReLU": jaxrnn.elman(HIDDEN_SIZE, activation=jax.nn.leaky_relu),
    "`lstm`": jaxrnn.lstm(HIDDEN_SIZE),
    "`gru`": jaxrnn.gru(HIDDEN_SIZE),
    "`gru`, `reset_after=False`": jaxrnn.gru(HIDDEN_SIZE, reset_after=False),
}


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def differences(cell, dtype, masked, with_resets, reverse):
    keys = jax.random.split(jax.random.key(0), 6)
    shape = (NUM_STEPS, BATCH_SIZE)
    params = cell.init(keys[0], INPUT_SIZE, dtype)
    xs = jax.random.normal(keys[1], (*shape, INPUT_SIZE), dtype)
    state = jax.tree.map(
        lambda s: jax.random.normal(keys[2], s.shape, s.dtype),
        cell.initial_state(params, (BATCH_SIZE,)),
    )
    flags = {
        "mask": jax.random.bernoulli(keys[3], 0.8, shape) if masked else None,
        "resets": jax.random.bernoulli(keys[4], 0.1, shape) if with_resets else None,
        "reverse": reverse,
    }

    def run(params, xs, state):
        return jaxrnn.unroll(cell, params, xs, state, **flags)

    (end, ys), pull = jax.vjp(run, params, xs, state)
    dys = jax.random.normal(keys[5], ys.shape, ys.dtype)
    by_jax = pull((end, dys))
    by_hand = jaxrnn.bptt(cell, params, xs, dys, state, dstate=end, **flags)
    return jax.tree.map(
        lambda a, b: jnp.abs(a - b).max() / jnp.abs(b).max(), by_hand, by_jax
    )


def largest(cell, dtype):
    options = itertools.product((False, True), repeat=3)
    trees = [differences(cell, dtype, *option) for option in options]
    jax.clear_caches()  # a process holds only so many compiled programs
    return max(map(float, jax.tree.leaves(trees)))


def main():
    jax.config.update("jax_enable_x64", True)
    print("| cell | float64 | float32 |\n|---|---|---|")
    for name, cell in CELLS.items():
        exact, single = largest(cell, jnp.float64), largest(cell, jnp.float32)
        print(f"| {name} | {exact:.0e} | {single:.0e} |", flush=True)


if __name__ == "__main__":
    main()
