"""Parameters in a safetensors file: no pickle, no half-written file.

Needs the package ``safetensors`` (extra ``checkpoint``), and is the one submodule
that ``import jaxrnn`` leaves out: import ``jaxrnn.checkpoint`` itself.
"""

import os
import pathlib
import shutil
import uuid
from typing import Any

import jax
import jax.numpy as jnp
import safetensors
from safetensors.flax import load_file, save

from ._typing import Params

__all__ = ["load_metadata", "load_params", "save_params"]

_MARKER = "jaxrnn.format"


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
    finally:
        temporary.unlink(missing_ok=True)


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
