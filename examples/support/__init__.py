"""What several examples share, and what would make one of them too long.

Each script of the folder above is read from top to bottom without these.
"""

import sys


def _name_missing(kind, error, trace):
    """A package that is missing is named, with what installs it."""
    if issubclass(kind, ModuleNotFoundError):
        install = 'pip install -e ".[examples]"'
        print(f"{error.name} is not installed: {install}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# Here, as every example imports this package before any that may be missing.
sys.excepthook = _name_missing
