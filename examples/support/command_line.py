"""Command-line helpers that the examples share."""

import argparse
import pathlib
import sys
import tempfile

from jaxrnn import checkpoint


def make_parser(doc, name):
    """Make a parser with the options of every example; ``doc`` is shown by --help."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=natural, default=0)
    out = pathlib.Path("runs") / name
    parser.add_argument("--out", type=pathlib.Path, default=out, help="results folder")
    return parser


def _at_least(least, string):
    if not string.isdecimal() or int(string) < least:
        raise argparse.ArgumentTypeError(
            f"must be an int of at least {least}, got {string}"
        )
    return int(string)


def positive(string):
    """Parse an int of at least 1."""
    return _at_least(1, string)


def natural(string):
    """Parse an int of at least 0."""
    return _at_least(0, string)


def prepare_out(out, name):
    """Return the path of a file, and fail now if it cannot be written later.

    Existing parameter files may only be replaced by parameters.
    """
    path = out / name
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
        if path.suffix == ".safetensors" and path.exists():
            checkpoint.load_metadata(path)
    except OSError as error:
        sys.exit(f"--out must be a folder that can be written: {error}")
    except ValueError as error:
        sys.exit(f"--out holds a file that this program does not replace: {error}")
    return path
