"""Parameters in a file."""

import json
import os
from typing import Any

from .._base import Cell, Layer
from .._descriptions.from_spec import plain_spec
from .._typing import Params
from ._format import MODEL, OWN, read_file, read_tree, write_tree


def save_params(
    path: str | os.PathLike[str],
    params: Params,
    metadata: dict[str, str] | None = None,
    *,
    model: Cell | Layer | None = None,
) -> None:
    """Write parameters to a file, all of it or none.

    The file is written beside its place and then moved there, so that an earlier file
    stays whole until the new one is.

    Args:
        path: where to write; an existing file is replaced, a missing folder made.
        params: pytree of arrays and numbers. Each is named by its path, as ``[1].w_h``.
        metadata: strings to keep beside them.
        model: the cell or layer of the parameters. Its description is written beside
            them, and :func:`load_params` refuses the file for another model.

    Raises:
        OSError: the file cannot be written.
        TypeError: a leaf has no numbers, metadata is not a dict of strings, or
            ``model`` was not made by a factory of this library.
        ValueError: two leaves have the same path, or a key of ``metadata`` begins with
            ``jaxrnn.``, which the file itself uses.
    """
    checked_metadata(metadata)
    metadata = dict(metadata or {})
    if model is not None:
        metadata[MODEL] = json.dumps(plain_spec("model", model))
    write_tree(path, "params", params, metadata)


def load_params(
    path: str | os.PathLike[str],
    like: Params,
    *,
    model: Cell | Layer | None = None,
) -> Params:
    """Read parameters that :func:`save_params` wrote.

    Args:
        path: the file.
        like: pytree of the structure, shapes and dtypes expected: parameters, or what
            ``jax.eval_shape`` says of ``init``.
        model: the cell or layer that takes the parameters. A file whose description is
            of another model is refused: parameters of ``gru(5)`` have the shapes of
            those of ``gru(5, reset_after=False)``, and mean something else.

    Returns:
        A pytree like ``like``: arrays of NumPy where ``like`` has them, else of JAX.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, of another program, or of another model; the
            message names the first parameter, or the parts of the model, that do not
            fit.
        TypeError: ``model`` was not made by a factory of this library.

    >>> import tempfile, jax, jaxrnn
    >>> cell, other = jaxrnn.gru(5), jaxrnn.gru(5, reset_after=False)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_params(f"{folder}/model", params, model=cell)
    ...     load_params(f"{folder}/model", params, model=other)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ...jaxrnn.gru(reset_after=True) in the file, jaxrnn.gru(reset_after=...
    """
    description = None if model is None else plain_spec("model", model)
    return read_tree(path, "params", like, description)


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
    _, metadata = read_file(path)
    return {k: v for k, v in metadata.items() if not k.startswith(OWN)}


def checked_metadata(metadata: Any) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise TypeError(f"metadata must be a dict of strings, got {metadata!r:.80}")
    for key, value in metadata.items():
        if not isinstance(key, str):
            raise TypeError(f"metadata must have strings as keys, got {key!r}")
        if not isinstance(value, str):
            raise TypeError(
                f"metadata[{key!r}] must be a string, got {value!r:.80}: "
                "json.dumps makes one"
            )
        if key.startswith(OWN):
            raise ValueError(
                f"metadata must have no keys that begin with {OWN}, got {key!r}"
            )
