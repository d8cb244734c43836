"""Old public names, which warn and lead to the new ones."""

import sys
import warnings
from collections.abc import Callable
from typing import Any


def renamed(module: str, names: dict[str, str]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module some of whose names have changed.

    Args:
        module: ``__name__`` of the module.
        names: the new name for each old one.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new = names[name]
        warnings.warn(
            f"{module}.{name} is now called {module}.{new}; the old name will go away",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(sys.modules[module], new)

    return __getattr__
