"""A small training run that saves itself: run by test_resume.py, and killed there.

    python tests/training/resumable.py FILE STEPS [MOMENT]

MOMENT says where the process kills itself (SIGKILL): ``step N``, after N updates of
this process; ``write N``, in the middle of its N-th file; ``replace N``, when that is
written and not yet in its place. It prints the number of updates that it goes on from.
"""

import os
import pathlib
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn
from jaxrnn import checkpoint, losses, train

SAVE_EVERY = 4


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in(name, count, partly=False):
    """Have ``os.<name>`` kill the process the ``count``-th time that it is called."""
    real, calls = getattr(os, name), []

    def call(*args):
        calls.append(args)
        if len(calls) == count:
            if partly:
                os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
            kill()
        return real(*args)

    setattr(os, name, call)


def main(path, num_steps, moment=""):
    what, _, number = moment.partition(" ")
    if what == "write":
        kill_in(
            "fsync", 2 * int(number) - 1, partly=True
        )  # of the file, and the folder
    elif what == "replace":
        kill_in("replace", int(number))

    cell = jaxrnn.recurrent_dropout(jaxrnn.gru(8), 0.3)
    model = jaxrnn.stack(jaxrnn.layer(cell), jaxrnn.dense(2))
    optimizer = optax.adam(1e-2)

    def loss_fn(params, batch, key):
        xs, targets = batch
        return losses.mean_squared_error(model.apply(params, xs, key=key)[1], targets)

    update = train.make_update(loss_fn, optimizer)
    state = train.init(model.init(jax.random.key(0), 3), optimizer, jax.random.key(1))
    run = {"train": state, "position": 0, "average": 0.0}
    if pathlib.Path(path).exists():
        run = checkpoint.load_state(path, run)
    print(run["position"], flush=True)

    state, position, average = run["train"], run["position"], run["average"]
    for taken in range(1, num_steps - position + 1):
        data = np.random.default_rng(position)  # the position says which batch is next
        batch = [data.normal(size=(5, 4, size)).astype(np.float32) for size in (3, 2)]
        state, metrics = update(state, jax.tree.map(jnp.asarray, tuple(batch)))
        position += 1
        average = 0.9 * average + 0.1 * float(metrics["loss"])
        if position % SAVE_EVERY == 0 or position == num_steps:
            run = {"train": state, "position": position, "average": average}
            checkpoint.save_state(path, run)
        if moment == f"step {taken}":
            kill()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
