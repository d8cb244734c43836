"""The structure of a pytree as JSON, for types that a reader may not have."""

from typing import Any

import jax

from .._descriptions.types import data_types
from ..checkpoint._structure import LEAF, from_json


def describe(structure: Any) -> Any:
    """Describe the structure of a pytree, as ``json.dumps`` takes it.

    Unlike a checkpoint, which must give back the types that it got, an artefact
    describes a node of an unknown type as a tuple: a reader that has no code of the
    user has no such type.
    """
    node = structure.node_data()
    if node is None:
        return LEAF
    kind, keys = node
    parts = [describe(child) for child in structure.children()]
    if kind is type(None):
        return None
    if kind is dict and all(isinstance(key, str) for key in keys):
        return {"dict": dict(zip(keys, parts, strict=True))}
    name = "list" if kind is list else f"jaxrnn.{kind.__name__}"
    known = kind is list or data_types().get(name) is kind
    return {name if known else "tuple": parts}


def build(description: Any) -> Any:
    """Build the structure that :func:`describe` described.

    Raises:
        ValueError: the description is none, or names a type that this library lacks.
    """
    return jax.tree.structure(from_json(description, lambda where: 0))
