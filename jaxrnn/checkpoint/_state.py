"""The state of a training run in a file."""

import os
from typing import Any

from ._format import read_tree, write_tree


def save_state(path: str | os.PathLike[str], state: Any) -> None:
    """Write all that a training run needs to go on, as :func:`save_params` writes.

    A run that is killed at any moment, while it writes too, finds the last whole file.
    What it was writing then lies beside it in a file that ends in ``.tmp``; the next
    save of the same path deletes it.

    Args:
        path: where to write; an existing file is replaced, a missing folder made.
        state: pytree of arrays, ``jax.random`` keys, and numbers of NumPy or Python;
            for instance a :class:`jaxrnn.train.TrainState`, and beside it the position
            in the data.

    Raises:
        OSError: the file cannot be written.
        TypeError: a leaf is none of these.
        ValueError: two leaves have the same path.

    >>> import tempfile, jax, jax.numpy as jnp
    >>> state = {"key": jax.random.key(0), "weights": jnp.ones(3), "position": 5}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_state(f"{folder}/run.safetensors", state)
    ...     load_state(f"{folder}/run.safetensors", state)["position"]
    5
    """
    write_tree(path, "state", state, {})


def load_state(path: str | os.PathLike[str], like: Any) -> Any:
    """Read what :func:`save_state` wrote.

    Args:
        path: the file.
        like: pytree of the structure, shapes and dtypes expected: a state at the start
            of a run, or what ``jax.eval_shape`` says of one.

    Returns:
        A pytree like ``like``, to the bit as it was saved.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, of another program, or of another state; the
            message names the first leaf that does not fit.
    """
    return read_tree(path, "state", like)
