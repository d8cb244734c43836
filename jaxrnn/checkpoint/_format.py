"""The file format: a safetensors file with descriptions in its metadata.

Each leaf is an array named by its path, as ``[1].w_h``. The metadata say who wrote the
file, of which kind the leaves are that are no plain arrays, which types hold them, and
which model they belong to. A checksum covers all of it.
"""

import hashlib
import json
import pathlib
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from .._descriptions.from_spec import differences
from .._files import write_whole
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

OWN = "jaxrnn."
MODEL = "jaxrnn.model"  # the description of the cell or layer
STRUCTURE = "jaxrnn.structure"  # of the tree, if the file can build it by itself
ARTEFACT = "artefact"  # the content of files of jaxrnn.export
_MARKER = "jaxrnn.format"
_FORMATS = ("1", "2")  # that this version reads; it writes the last
_CONTENT = "jaxrnn.content"  # which function wrote the file: params, state, artefact
_KINDS = "jaxrnn.kinds"  # of the leaves that are no plain arrays
_TYPES = "jaxrnn.types"  # of the parts that are NamedTuples of this library
_CHECKSUM = "jaxrnn.checksum"


def write_tree(path: Any, content: str, tree: Any, metadata: dict[str, str]) -> None:
    types = {_TYPES: json.dumps(types_of(tree))}
    write_leaves(path, content, named_leaves(content, tree), {**metadata, **types})


def named_leaves(content: str, tree: Any) -> dict[str, Any]:
    """Return the leaves of a pytree by their paths, such as ``[1].w_h``."""
    leaves = {}
    for where, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(where)
        if name in leaves:
            raise ValueError(
                f"{content} must have a different path for each leaf, got {name} twice"
            )
        leaves[name] = leaf
    return leaves


def write_leaves(
    path: Any, content: str, leaves: dict[str, Any], metadata: dict[str, str]
) -> None:
    encoded = {name: encode(f"{content}{name}", leaf) for name, leaf in leaves.items()}
    kinds = {name: each.kind for name, each in encoded.items() if each.kind != ARRAY}
    arrays = {name: each.array for name, each in encoded.items()}
    metadata = {
        **metadata,
        _MARKER: _FORMATS[-1],
        _CONTENT: content,
        _KINDS: json.dumps(kinds),
    }
    metadata[_CHECKSUM] = _checksum(arrays, metadata)
    write_whole(path, safetensors.numpy.save(arrays, metadata))


def _checksum(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """Compute the checksum of metadata, names, shapes, dtypes and values."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def read_file(
    path: Any, writer: str = "jaxrnn.checkpoint.save_params"
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays and the metadata of a file, and check that it is undamaged.

    Args:
        path: the file.
        writer: the function that should have written it, for messages.
    """
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
    marker = metadata.get(_MARKER, "")
    if marker not in _FORMATS and marker.isdecimal():
        raise ValueError(
            f"{path} has format {marker} of a newer version of jaxrnn, or is damaged: "
            f"this version reads formats {' and '.join(_FORMATS)}; upgrade jaxrnn"
        )
    if marker not in _FORMATS:
        raise ValueError(f"{path} was not written by {writer}")
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
        raise ValueError(f"{path} is damaged: its checksum does not match its contents")
    return arrays, metadata


def read_tree(path: Any, content: str, like: Any, description: Any = None) -> Any:
    arrays, metadata = read_file(path)
    if _content_of(metadata) != content:
        writer, reader = functions_of(metadata)
        raise ValueError(
            f"{path} was not written by jaxrnn.checkpoint.save_{content}, but by "
            f"{writer}: read it with {reader}"
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
            f"{path} must hold only {_names(names)}, got {_names(surplus)} too"
        )
    return jax.tree.unflatten(treedef, decoded)


def _content_of(metadata: dict[str, str]) -> str:
    # Files of format 1 say it by their kinds.
    return metadata.get(_CONTENT) or ("state" if _KINDS in metadata else "params")


def functions_of(metadata: dict[str, str]) -> tuple[str, str]:
    """Return the names of the functions that wrote a file and that read it."""
    content = "model" if STRUCTURE in metadata else _content_of(metadata)
    if content == ARTEFACT:
        return "jaxrnn.export", "jaxrnn.export.load"
    return f"save_{content}", f"load_{content}"


def leaf_of(
    path: Any, arrays: dict[str, np.ndarray], metadata: dict[str, str], name: str
) -> Any:
    """Decode the leaf of this name without an example of it: an array of JAX."""
    if name not in arrays:
        raise ValueError(f"{path} must hold the parameter {name}, got {_names(arrays)}")
    kind = json.loads(metadata.get(_KINDS, "{}")).get(name, ARRAY)
    return decode(None, arrays[name], kind)


def _check_model(path: Any, metadata: dict[str, str], description: Any) -> None:
    if description is None or MODEL not in metadata:
        return
    differ = list(differences(json.loads(metadata[MODEL]), description))
    if differ:
        raise ValueError(f"{path} is of another model: {'; '.join(differ)}")


def _check_types(path: Any, metadata: dict[str, str], like: Any) -> None:
    """Check that the file has parameters of the same types as ``like``."""
    found = json.loads(metadata.get(_TYPES, "{}"))
    for where, name in types_of(like).items():
        if found.get(where, name) != name:
            raise ValueError(
                f"{path} is of another model: its params{where} have type "
                f"{found[where]}, expected {name}"
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


def _names(names: Any) -> str:
    return ", ".join(sorted(names)) or "nothing"
