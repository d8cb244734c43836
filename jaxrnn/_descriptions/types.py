"""The NamedTuples of parameters and states, by the names that files know them by."""

import sys

import jax.export

_ENDINGS = ("Params", "State", "Memory", "Carry", "Hypotheses", "NormStatistics")
_ENDINGS += ("Int8",)


def data_types() -> dict[str, type]:
    """Return the types of parameters and states of this library by name.

    A name has no module, so that a type may move and old files remain readable. The
    name of another type of the library, and of any other library, is not in the result:
    a file can name nothing else.
    """
    found = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "jaxrnn":
            continue
        for value in vars(module).values():
            is_tuple = isinstance(value, type) and hasattr(value, "_fields")
            if is_tuple and value.__module__ == name and _is_data(value):
                found[f"jaxrnn.{value.__name__}"] = value
    return found


def register_types() -> None:
    """Register the types for programs that ``jax.export`` writes to files."""
    for name, kind in data_types().items():
        jax.export.register_namedtuple_serialization(kind, serialized_name=name)


def _is_data(kind: type) -> bool:
    return kind.__name__.endswith(_ENDINGS) and not kind.__name__.startswith("_")
