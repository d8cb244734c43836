"""The structure of a pytree as JSON, so that a file can say what to build.

A dict, a list, a tuple and None are what they are in Python. A NamedTuple has the name
of its type, which must be a type of parameters or states of this library: reading a
structure calls nothing else.
"""

from collections.abc import Callable, Iterator
from typing import Any

from .._descriptions.types import data_types

_PLAIN = {"dict": dict, "list": list, "tuple": tuple}
LEAF = "leaf"


def to_json(name: str, tree: Any) -> Any:
    """Describe the structure of ``tree``, as ``json.dumps`` takes it.

    Raises:
        TypeError: a part is of a type that a file cannot name.
    """
    if tree is None:
        return None
    kind = _name_of_type(tree)
    if kind is None:
        if isinstance(tree, tuple | list | dict):
            raise TypeError(
                f"{name} must consist of lists, tuples, dicts with strings as keys and "
                "types of parameters of jaxrnn to be saved with its model, got "
                f"{type(tree).__name__}"
            )
        return LEAF
    parts = dict(_parts(tree))
    described = {key: to_json(f"{name}{where}", p) for key, (where, p) in parts.items()}
    return {kind: described if kind == "dict" else list(described.values())}


def from_json(structure: Any, leaf: Callable[[str], Any], where: str = "") -> Any:
    """Build the tree of a structure.

    Args:
        structure: as :func:`to_json` made it.
        leaf: function of the path of a leaf, as ``[1].w_h``, to the leaf.
        where: the path of this part.

    Raises:
        ValueError: the structure names a type that is not a type of this library's
            parameters or states, or has parts that the type does not have.
    """
    if structure is None:
        return None
    if structure == LEAF:
        return leaf(where)
    if not isinstance(structure, dict) or len(structure) != 1:
        raise ValueError(f"structure{where} must be a type and its parts")
    ((kind, parts),) = structure.items()
    if kind == "dict" and isinstance(parts, dict):
        return {
            key: from_json(part, leaf, f"{where}[{key!r}]")
            for key, part in parts.items()
        }
    if not isinstance(parts, list):
        raise ValueError(f"structure{where} must have a list of parts of {kind}")
    if kind in ("list", "tuple"):
        built = [from_json(p, leaf, f"{where}[{i}]") for i, p in enumerate(parts)]
        return built if kind == "list" else tuple(built)
    # Not getattr on a module: a file must not be able to name anything else.
    types = data_types()
    if kind not in types:
        raise ValueError(
            f"structure{where} must be of a type that this version of jaxrnn has, got "
            f"{kind!r:.80}"
        )
    fields: Any = types[kind]
    if len(parts) != len(fields._fields):
        raise ValueError(
            f"structure{where} must have {len(fields._fields)} parts for {kind}, got "
            f"{len(parts)}"
        )
    named = zip(fields._fields, parts, strict=True)
    return fields(*(from_json(p, leaf, f"{where}.{field}") for field, p in named))


def _name_of_type(tree: Any) -> str | None:
    if hasattr(tree, "_fields"):
        name = f"jaxrnn.{type(tree).__name__}"
        return name if data_types().get(name) is type(tree) else None
    for name, kind in _PLAIN.items():
        if type(tree) is kind:
            texts = kind is not dict or all(isinstance(key, str) for key in tree)
            return name if texts else None
    return None


def _parts(tree: Any) -> Iterator[tuple[Any, tuple[str, Any]]]:
    """Yield ``(key, (path, child))`` for each child of a pytree node."""
    if hasattr(tree, "_fields"):
        yield from ((f, (f".{f}", getattr(tree, f))) for f in tree._fields)
    elif isinstance(tree, dict):
        yield from ((key, (f"[{key!r}]", part)) for key, part in tree.items())
    else:
        yield from ((i, (f"[{i}]", part)) for i, part in enumerate(tree))
