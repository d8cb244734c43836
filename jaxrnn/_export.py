"""Parameters and states in programs that ``jax.export`` writes to files."""

import jax.export

from ._descriptions.types import data_types


def register_types() -> None:
    """Give every type of parameters and states the name that a file knows it by."""
    for name, kind in data_types().items():
        jax.export.register_namedtuple_serialization(kind, serialized_name=name)
