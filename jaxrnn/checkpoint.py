"""Parameters, or a whole training run, in a safetensors file: no pickle, no half file.

Needs the package ``safetensors`` (extra ``checkpoint``), and is the one submodule
that ``import jaxrnn`` leaves out: import ``jaxrnn.checkpoint`` itself.
"""

import json
import os
import pathlib
import shutil
import uuid
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from safetensors.flax import load_file, save

from ._typing import Array, Params

__all__ = ["load_metadata", "load_params", "load_state", "save_params", "save_state"]

_MARKER = "jaxrnn.format"
_KINDS = "jaxrnn.kinds"


def save_params(
    path: str | os.PathLike[str], params: Params, metadata: dict[str, str] | None = None
) -> None:
    """Write parameters to a file, all of it or none.

    The file is written beside its place and then moved there, so that an earlier file
    stays whole until the new one is.

    Args:
        path: where to write; an existing file is replaced.
        params: pytree of arrays. Each is named by its path, as ``[1].w_h``.
        metadata: strings to keep beside them.

    Raises:
        OSError: the file cannot be written.
        ValueError: two leaves have the same path.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    arrays = {jax.tree_util.keystr(where): jnp.asarray(leaf) for where, leaf in leaves}
    if len(arrays) < len(leaves):
        raise ValueError("params must have a path of its own for each leaf")
    contents = save(arrays, {**(metadata or {}), _MARKER: "1"})
    path = pathlib.Path(path).resolve()
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
        _flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _flush_folder(folder: pathlib.Path) -> None:
    """Have a new name outlive a loss of power, where folders can be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_params(path: str | os.PathLike[str], like: Params) -> Params:
    """Read parameters that :func:`save_params` wrote.

    Args:
        path: the file.
        like: pytree of the structure, shapes and dtypes expected: parameters, or what
            ``jax.eval_shape`` says of ``init``.

    Returns:
        A pytree like ``like``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, of another program, or of another model; the
            message names the first parameter that does not fit.
    """
    load_metadata(path)
    arrays = load_file(path)
    leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(where) for where, _ in leaves]
    for name, (_, leaf) in zip(names, leaves, strict=True):
        if name not in arrays:
            raise ValueError(
                f"{path} must hold the parameter {name}, got {_names(arrays)}"
            )
        got = arrays[name]
        if (got.shape, got.dtype) != (leaf.shape, leaf.dtype):
            raise ValueError(
                f"{path}: {name} must have shape {leaf.shape} and dtype "
                f"{leaf.dtype.name}, got {got.shape} and {got.dtype.name}"
            )
    surplus = arrays.keys() - set(names)
    if surplus:
        raise ValueError(
            f"{path} must hold {_names(names)}, got also {_names(surplus)}"
        )
    return jax.tree.unflatten(treedef, [arrays[name] for name in names])


def save_state(path: str | os.PathLike[str], state: Any) -> None:
    """Write all that a training run needs to go on, as :func:`save_params` writes.

    A run that is killed at any moment, while it writes too, finds the last whole file.
    What it was writing then lies beside it, in a file that ends in ``.tmp`` and may be
    deleted.

    Args:
        path: where to write; an existing file is replaced.
        state: pytree of arrays, ``jax.random`` keys, and Python numbers; for instance
            a :class:`jaxrnn.train.TrainState`, and beside it the position in the data.

    Raises:
        OSError: the file cannot be written.
        TypeError: a leaf is none of these.
        ValueError: two leaves have the same path.

    >>> import tempfile
    >>> state = {"key": jax.random.key(0), "weights": jnp.ones(3), "position": 5}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_state(f"{folder}/run.safetensors", state)
    ...     load_state(f"{folder}/run.safetensors", state)["position"]
    5
    """
    encoded = jax.tree_util.tree_map_with_path(_encode, state)
    is_encoded = {"is_leaf": lambda each: isinstance(each, _Encoded)}
    arrays = jax.tree.map(lambda each: each.array, encoded, **is_encoded)
    leaves = jax.tree_util.tree_leaves_with_path(encoded, **is_encoded)
    kinds = {jax.tree_util.keystr(where): leaf.kind for where, leaf in leaves}
    save_params(path, arrays, {_KINDS: json.dumps(kinds)})


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
    kinds = json.loads(load_metadata(path).get(_KINDS, "null"))
    if kinds is None:
        raise ValueError(f"{path} was not written by jaxrnn.checkpoint.save_state")

    def check(where, leaf):
        name = jax.tree_util.keystr(where)
        kind = _kind(name, leaf)
        if name in kinds and kinds[name] != kind:
            raise ValueError(f"{path}: {name} must be {kind}, got {kinds[name]}")
        if type(leaf) in _WIDE:
            return _encode(where, leaf).array
        return leaf if kind == "array" else jax.eval_shape(jax.random.key_data, leaf)

    arrays = load_params(path, jax.tree_util.tree_map_with_path(check, like))
    return jax.tree.map(_decode, like, arrays)


class _Encoded(NamedTuple):
    """A leaf as an array that a file can hold, and what it was."""

    array: Any
    kind: str


_IMPLEMENTATIONS = {
    "key<fry>": "threefry2x32",
    "key<rbg>": "rbg",
    "key<urbg>": "unsafe_rbg",
}
_WIDE = {bool: np.bool_, int: np.int64, float: np.float64}


def _kind(name: str, leaf: Any) -> str:
    """What a leaf is: the name of a type of number or key, or array."""
    if type(leaf) in _WIDE:
        return type(leaf).__name__
    if not hasattr(leaf, "dtype"):
        raise TypeError(
            f"state{name} must be an array, a key or a number, got {leaf!r:.80}"
        )
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return str(leaf.dtype) if is_key else "array"


def _encode(where: tuple[Any, ...], leaf: Any) -> _Encoded:
    kind = _kind(jax.tree_util.keystr(where), leaf)
    if type(leaf) in _WIDE:
        # Bytes, as JAX may have no 64 bits.
        number = np.array([leaf], _WIDE[type(leaf)])
        return _Encoded(number.view(np.uint8), kind)
    return _Encoded(leaf if kind == "array" else jax.random.key_data(leaf), kind)


def _decode(like: Any, array: Array) -> Any:
    if type(like) in _WIDE:
        return np.asarray(array).view(_WIDE[type(like)])[0].item()
    if not jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return array
    return jax.random.wrap_key_data(array, impl=_IMPLEMENTATIONS[str(like.dtype)])


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the strings that were saved beside the parameters.

    Args:
        path: a file that :func:`save_params` wrote.

    Returns:
        The metadata.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or of another program.
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is not a safetensors file, or damaged: {error}"
        ) from error
    if metadata.pop(_MARKER, None) != "1":
        raise ValueError(f"{path} was not written by jaxrnn.checkpoint.save_params")
    return metadata


def _names(names: Any) -> str:
    return ", ".join(sorted(names)) or "nothing"
