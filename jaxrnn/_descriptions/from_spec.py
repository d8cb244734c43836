"""Descriptions in files: rebuild what they describe, and compare two of them."""

import functools
import json
from collections.abc import Iterator
from typing import Any

from .known import FUNCTIONS
from .spec import FACTORIES, SIGNATURES, Spec, plain, spec_of


def plain_spec(name: str, value: Any) -> Any:
    """Return the description of a cell or layer as ``json.dumps`` takes it.

    Raises:
        TypeError: it has none.
    """
    spec = spec_of(value)
    if spec is None:
        raise TypeError(
            f"{name} must be a cell or layer that a factory of jaxrnn made, so that it "
            f"has a description, got {value!r:.80}"
        )
    return plain(spec)


def from_spec(spec: "Spec | str | dict[str, Any]") -> Any:
    """Make a cell, layer or unroll from its description.

    Reading a description runs no code but the factories of this library and the
    functions of JAX that it can name: a file from a stranger is safe to read.

    Args:
        spec: a ``spec`` of a cell or layer, or the JSON that
            :meth:`Spec.to_json` wrote, as a string or as ``json.loads`` returns it.

    Returns:
        An object equal to the one that was described.

    Raises:
        ValueError: it is no description, or names a factory, an argument or a function
            that this version does not have.
        TypeError: ``spec`` is not a Spec, a string or a dict.

    >>> import jaxrnn
    >>> model = jaxrnn.stack(jaxrnn.layer(jaxrnn.gru(5)), jaxrnn.dense(2))
    >>> from_spec(model.spec.to_json()) == model
    True
    >>> model
    jaxrnn.stack(jaxrnn.layer(jaxrnn.gru(5)), jaxrnn.dense(2))
    """
    if isinstance(spec, Spec):
        return spec.build()
    if isinstance(spec, str):
        try:
            spec = json.loads(spec)
        except ValueError as error:
            raise ValueError(f"spec must be JSON, got {spec!r:.80}: {error}") from error
    if not isinstance(spec, dict):
        raise TypeError(f"spec must be a Spec, a string or a dict, got {spec!r:.80}")
    return _made(spec)


def _made(part: Any) -> Any:
    if isinstance(part, list):
        return tuple(map(_made, part))
    if not isinstance(part, dict):
        return part
    if "partial" in part:
        options = {name: _made(value) for name, value in part["options"].items()}
        function = _made(part["partial"])
        return functools.partial(function, *_made(part["arguments"]), **options)
    if "function" in part:
        return _found(FUNCTIONS, "function", part["function"])
    if "unnamed" in part:
        raise ValueError(
            f"spec must have only parts that a file can name, got {part['unnamed']}"
        )
    name: Any = part.get("factory")
    _found(FACTORIES, "factory", name)
    arguments = part.get("arguments")
    if not isinstance(arguments, dict):
        raise ValueError(
            f"spec must have the arguments of {name}, got {arguments!r:.80}"
        )
    unknown = arguments.keys() - SIGNATURES[name].parameters.keys()
    if unknown:
        raise ValueError(
            f"spec must have only arguments that {name} takes in this version of "
            f"jaxrnn, got {sorted(unknown)}"
        )
    return Spec(name, tuple((k, _made(v)) for k, v in arguments.items())).build()


def _found(table: dict[str, Any], what: str, name: Any) -> Any:
    if not isinstance(name, str) or name not in table:
        raise ValueError(
            f"spec must name a {what} that this version of jaxrnn knows, got "
            f"{name!r:.80}"
        )
    return table[name]


def differences(found: Any, wanted: Any, where: str = "") -> Iterator[str]:
    """Say which parts of two plain descriptions differ.

    Args:
        found: the description in the file, as ``json.loads`` returns it.
        wanted: the description here.
        where: the path of both within the model; empty for the model itself.

    Yields:
        One line for each part that differs, such as
        ``layers[1].cell: jaxrnn.gru(reset_after=True) in the file, ... here``.
    """
    if found == wanted:
        return
    parts = _parts(found, wanted)
    if parts is None:
        theirs, ours = _call(found, wanted), _call(wanted, found)
        yield f"{where or 'model'}: {theirs} in the file, {ours} here"
        return
    for name, theirs, ours in parts:
        yield from differences(theirs, ours, (where + name).removeprefix("."))


def _parts(found: Any, wanted: Any) -> list[tuple[str, Any, Any]] | None:
    """Pair the parts of two descriptions; None if they differ as a whole."""
    if isinstance(found, list) and isinstance(wanted, list):
        if len(found) != len(wanted):
            return None
        pairs = zip(found, wanted, strict=True)
        return [(f"[{index}]", *pair) for index, pair in enumerate(pairs)]
    if not _is_call(found) or not _is_call(wanted):
        return None
    if found["factory"] != wanted["factory"]:
        return None
    theirs, ours = found["arguments"], wanted["arguments"]
    parts = [(f".{n}", theirs.get(n), ours.get(n)) for n in {**ours, **theirs}]
    differ = [part for part in parts if part[1] != part[2]]
    return differ if all(_nests(a) and _nests(b) for _, a, b in differ) else None


def _is_call(part: Any) -> bool:
    return isinstance(part, dict) and "factory" in part


def _nests(part: Any) -> bool:
    return _is_call(part) or isinstance(part, list)


def _call(part: Any, other: Any) -> str:
    """Write a plain description in one line, without the arguments that both share."""
    if isinstance(part, list):
        return f"({', '.join(_call(each, None) for each in part)})"
    if not isinstance(part, dict):
        return repr(part)
    for kind in ("function", "unnamed"):
        if kind in part:
            return str(part[kind])
    if "partial" in part:
        return f"functools.partial({_call(part['partial'], None)}, ...)"
    same = other["arguments"] if _is_call(other) else {}
    words = [
        f"{name}={_call(value, None)}"
        for name, value in part["arguments"].items()
        if _nests(value) or name not in same or same[name] != value
    ]
    return f"{part['factory']}({', '.join(words)})"
