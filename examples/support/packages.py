"""Data files of Python packages, read without importing the packages."""

import importlib.util
import pathlib
import sys


def package_file(package, relative, pip_name=None):
    """Return the path of a file or folder inside an installed package.

    The package is not imported, so its dependencies are not needed. If it is missing,
    the program exits and says what to install.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(
            f"this example reads data of the package {pip_name or package}: "
            'pip install -e ".[examples]"'
        )
    path = pathlib.Path(spec.submodule_search_locations[0]) / relative
    if not path.exists():
        sys.exit(
            f"{pip_name or package} must have the file {relative}, got a version "
            'without it: pip install -e ".[examples]"'
        )
    return path
