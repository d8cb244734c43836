"""Code shared by several examples, or moved here to keep an example short.

Each script of the parent folder can be read from top to bottom without it.
"""

import sys


def _name_missing(kind, error, trace):
    """Name a missing package and the command that installs it."""
    if issubclass(kind, ModuleNotFoundError):
        install = 'pip install -e ".[examples]"'
        print(f"{error.name} is not installed: {install}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# Here, because every example imports this package before any that may be missing.
sys.excepthook = _name_missing
