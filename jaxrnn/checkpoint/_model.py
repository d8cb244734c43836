"""A model with its parameters in one file."""

import json
import os
from typing import Any

import jax

from .._base import Cell, Layer
from .._descriptions.from_spec import from_spec, plain_spec
from .._params import check_params, template_of
from .._typing import Params
from ._format import (
    MODEL,
    STRUCTURE,
    functions_of,
    leaf_of,
    read_file,
    write_tree,
)
from ._params import checked_metadata
from ._structure import from_json, to_json


def save_model(
    path: str | os.PathLike[str],
    model: Any,
    params: Params,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write a model and its parameters to one file, atomically.

    :func:`load_model` makes both again, without any code of yours. The file holds the
    description of the model (its ``spec``), the structure of the parameters and their
    values; :func:`load_params` reads it too.

    Args:
        path: where to write; an existing file is replaced, a missing folder made.
        model: a cell, a layer, or any other object with a description, such as
            :func:`jaxrnn.seq2seq.encoder_decoder` makes.
        params: its parameters.
        metadata: strings to keep beside them.

    Raises:
        OSError: the file cannot be written.
        TypeError: ``model`` was not made by a factory of this library, or has a part
            that a file cannot name, such as a function of yours; ``params`` of a cell
            or layer do not have its structure, or have a part of a type that a file
            cannot name; a leaf has no numbers; ``metadata`` is not a dict of strings.
        ValueError: a parameter of a cell or layer has a wrong shape, or a key of
            ``metadata`` begins with ``jaxrnn.``, which the file itself uses.

    >>> import tempfile, jax, jaxrnn
    >>> model = jaxrnn.stack(jaxrnn.layer(jaxrnn.lstm(5)), jaxrnn.dense(3))
    >>> params = model.init(jax.random.key(0), 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(f"{folder}/model.safetensors", model, params)
    ...     model, params = load_model(f"{folder}/model.safetensors")
    >>> model
    jaxrnn.stack(jaxrnn.layer(jaxrnn.lstm(5)), jaxrnn.dense(3))
    >>> model.apply(params, jax.numpy.ones((7, 2)))[1].shape
    (7, 3)
    """
    # Everything that can fail comes before the file is touched.
    plain_spec("model", model)
    description = model.spec.to_json()
    _check_fit(model, params)
    checked_metadata(metadata)
    own = {
        MODEL: description,
        STRUCTURE: json.dumps(to_json("params", params)),
    }
    write_tree(path, "params", params, {**(metadata or {}), **own})


def load_model(path: str | os.PathLike[str]) -> tuple[Any, Params]:
    """Read a model and its parameters from a file that :func:`save_model` wrote.

    A file from a stranger is safe to read: it holds numbers and names. Only factories
    of this library, known functions of JAX such as activations, and types of parameters
    can be named, and nothing else is called.

    Args:
        path: the file.

    Returns:
        ``(model, params)``: the cell or layer, equal to the one that was saved, and its
        parameters, JAX arrays, bit for bit as they were saved. Without
        ``jax_enable_x64``, parameters of 64 bits are arrays of NumPy.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, was not written by :func:`save_model`, names
            something that this version does not have, or holds parameters that do not
            fit its model.
    """
    arrays, metadata = read_file(path)
    if MODEL not in metadata or STRUCTURE not in metadata:
        raise ValueError(
            f"{path} was not written by jaxrnn.checkpoint.save_model: it holds no "
            f"model; read it with {functions_of(metadata)[1]}"
        )
    taken = set()

    def leaf(name: str) -> Any:
        taken.add(name)
        return leaf_of(path, arrays, metadata, name)

    try:
        model = from_spec(json.loads(metadata[MODEL]))
        params = from_json(json.loads(metadata[STRUCTURE]), leaf)
        surplus = sorted(arrays.keys() - taken)
        if surplus:
            raise ValueError(f"the structure has no place for {', '.join(surplus)}")
        _check_fit(model, params)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} holds no model that can be read: {error}") from error
    return model, params


def _check_fit(model: Any, params: Params) -> None:
    """Check parameters against the ``init`` of a cell or layer."""
    if isinstance(model, Cell | Layer):
        check_params(repr(model), template_of(model.init, (1, 2)), params)
    elif not jax.tree.leaves(params):
        raise TypeError(f"params must be parameters of {model!r:.80}, got none")
