"""Parameters and states in programs that ``jax.export`` writes to files."""

import sys
from collections.abc import Iterator

import jax.export

_ENDINGS = ("Params", "State", "Memory", "Carry", "Hypotheses", "NormStatistics")


def register_types() -> None:
    """Give every type of parameters and states the name that a file knows it by.

    The name has no module, so that a type may move and old files remain readable.
    """
    for kind in _types():
        jax.export.register_namedtuple_serialization(
            kind, serialized_name=f"jaxrnn.{kind.__name__}"
        )


def _types() -> Iterator[type]:
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "jaxrnn":
            continue
        for value in vars(module).values():
            is_tuple = isinstance(value, type) and hasattr(value, "_fields")
            if is_tuple and value.__module__ == name and _is_data(value):
                yield value


def _is_data(kind: type) -> bool:
    return kind.__name__.endswith(_ENDINGS) and not kind.__name__.startswith("_")
