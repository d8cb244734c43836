"""Write parameters and training states, and read them."""

import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from .._base import Cell, Layer
from .._descriptions.from_spec import differences, plain_spec
from .._typing import Params
from ._files import write_whole
from ._leaves import (
    ARRAY,
    NATIVE,
    Encoded,
    decode,
    described,
    described_in_file,
    encode,
    kind_of,
    types_of,
)

_OWN = "jaxrnn."
_MARKER = "jaxrnn.format"
_CONTENT = "jaxrnn.content"  # what wrote it: params or state
_KINDS = "jaxrnn.kinds"  # of the leaves that are no plain arrays
_TYPES = "jaxrnn.types"  # of the parts that are NamedTuples of this library
_MODEL = "jaxrnn.model"  # the description of the cell or layer
_CHECKSUM = "jaxrnn.checksum"


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
    _check_metadata(metadata)
    metadata = dict(metadata or {})
    if model is not None:
        metadata[_MODEL] = json.dumps(plain_spec("model", model))
    _save(path, "params", params, metadata)


def _check_metadata(metadata: Any) -> None:
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
        if key.startswith(_OWN):
            raise ValueError(
                f"metadata must have no keys that begin with {_OWN}, got {key!r}"
            )


def _save(path: Any, content: str, tree: Any, metadata: dict[str, str]) -> None:
    encoded = {}
    for where, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(where)
        if name in encoded:
            raise ValueError(
                f"{content} must have a path of its own for each leaf, got {name} twice"
            )
        encoded[name] = encode(f"{content}{name}", leaf)
    kinds = {name: each.kind for name, each in encoded.items() if each.kind != ARRAY}
    arrays = {name: each.array for name, each in encoded.items()}
    metadata = {
        **metadata,
        _MARKER: "2",
        _CONTENT: content,
        _KINDS: json.dumps(kinds),
        _TYPES: json.dumps(types_of(tree)),
    }
    metadata[_CHECKSUM] = _checksum(arrays, metadata)
    write_whole(path, safetensors.numpy.save(arrays, metadata))


def _checksum(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """Of every bit that is read: metadata, names, shapes, dtypes and numbers."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


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

    >>> import tempfile, jaxrnn
    >>> cell, other = jaxrnn.gru(5), jaxrnn.gru(5, reset_after=False)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_params(f"{folder}/model", params, model=cell)
    ...     load_params(f"{folder}/model", params, model=other)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ...jaxrnn.gru(reset_after=True) in the file, jaxrnn.gru(reset_after=...
    """
    description = None if model is None else plain_spec("model", model)
    return _load(path, "params", like, description)


def _load(path: Any, content: str, like: Any, description: Any = None) -> Any:
    arrays, metadata = _read(path)
    # Files of format 1 say it by their kinds.
    found = metadata.get(_CONTENT) or ("state" if _KINDS in metadata else "params")
    if found != content:
        raise ValueError(
            f"{path} was not written by jaxrnn.checkpoint.save_{content}, but by "
            f"save_{found}: read it with load_{found}"
        )
    _check_model(path, metadata, description)
    _check_types(path, metadata, like)
    kinds = json.loads(metadata.get(_KINDS, "{}"))
    leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(where) for where, _ in leaves]
    decoded = []
    for name, (_, leaf) in zip(names, leaves, strict=True):
        if name not in arrays:
            raise ValueError(
                f"{path} must hold the parameter {name}, got {_names(arrays)}"
            )
        each = Encoded(arrays[name], kinds.get(name, ARRAY))
        _check_leaf(path, name, each, leaf)
        decoded.append(decode(leaf, *each))
    surplus = arrays.keys() - set(names)
    if surplus:
        raise ValueError(
            f"{path} must hold {_names(names)}, got also {_names(surplus)}"
        )
    return jax.tree.unflatten(treedef, decoded)


def _check_model(path: Any, metadata: dict[str, str], description: Any) -> None:
    if description is None or _MODEL not in metadata:
        return
    differ = list(differences(json.loads(metadata[_MODEL]), description))
    if differ:
        raise ValueError(f"{path} is of another model: {'; '.join(differ)}")


def _check_types(path: Any, metadata: dict[str, str], like: Any) -> None:
    """Check what equal names and shapes do not tell: parameters of which cell."""
    found = json.loads(metadata.get(_TYPES, "{}"))
    for where, name in types_of(like).items():
        if found.get(where, name) != name:
            raise ValueError(
                f"{path} is of another model: its parameters{where} are "
                f"{found[where]}, those here {name}"
            )


def _check_leaf(path: Any, name: str, got: Encoded, like: Any) -> None:
    kind = kind_of(f"like{name}", like)
    if kind != got.kind:
        raise ValueError(f"{path}: {name} must be {kind}, got {got.kind}")
    wanted, found = described(f"like{name}", like), described_in_file(got)
    if wanted is not None and wanted != found:
        raise ValueError(
            f"{path}: {name} must have shape {wanted[0]} and dtype {wanted[1]}, got "
            f"{found[0]} and {found[1]}"
        )


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

    >>> import tempfile, jax.numpy as jnp
    >>> state = {"key": jax.random.key(0), "weights": jnp.ones(3), "position": 5}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_state(f"{folder}/run.safetensors", state)
    ...     load_state(f"{folder}/run.safetensors", state)["position"]
    5
    """
    _save(path, "state", state, {})


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
    return _load(path, "state", like)


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
    _, metadata = _read(path)
    return {k: v for k, v in metadata.items() if not k.startswith(_OWN)}


def _read(path: Any) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the whole metadata of a file, found undamaged."""
    if pathlib.Path(path).is_dir():
        raise ValueError(f"path must be a file, got the folder {path}")
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        tensors = safetensors.deserialize(pathlib.Path(path).read_bytes())
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is not a safetensors file, or damaged: {error}"
        ) from error
    if metadata.get(_MARKER) not in ("1", "2"):
        raise ValueError(f"{path} was not written by jaxrnn.checkpoint.save_params")
    if any(tensor["dtype"] not in NATIVE for _, tensor in tensors):
        raise ValueError(f"{path} is damaged: it has a dtype that is never written")
    arrays = {
        name: np.frombuffer(tensor["data"], NATIVE[tensor["dtype"]]).reshape(
            tensor["shape"]
        )
        for name, tensor in tensors
    }
    checksum = metadata.pop(_CHECKSUM, None)
    if metadata[_MARKER] != "1" and checksum != _checksum(arrays, metadata):
        raise ValueError(f"{path} is damaged: its checksum is that of other contents")
    return arrays, metadata


def _names(names: Any) -> str:
    return ", ".join(sorted(names)) or "nothing"
