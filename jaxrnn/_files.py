"""Files that are written whole or not at all."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be deleted
    fcntl = None


def write_whole(path: str | os.PathLike[str], contents: bytes) -> None:
    """Write a file atomically: to a temporary file beside it, which is then renamed.

    An earlier file stays whole until the new one is. A process that is killed while it
    writes leaves its part of a file behind, which the next call for the same path
    deletes. The folder is made if it is missing.

    Raises:
        OSError: it cannot be written; the message has the path.
    """
    path = pathlib.Path(path).resolve()
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _delete_abandoned(path)
        with _temporary(path) as (file, temporary):
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
            if path.exists():
                shutil.copymode(path, temporary)
            os.replace(temporary, path)
        _flush_folder(path.parent)


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """Add the file name to errors of the system that lack it, such as a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise


def _prefix(path: pathlib.Path) -> str:
    """Return the prefix of the temporary files of a path, also for a long name."""
    return f".jaxrnn-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-"


@contextlib.contextmanager
def _temporary(path: pathlib.Path) -> Iterator[tuple[IO[bytes], pathlib.Path]]:
    """Make a temporary file beside ``path``, locked against other processes."""
    while True:
        temporary = path.with_name(f"{_prefix(path)}{uuid.uuid4().hex}.tmp")
        with open(temporary, "xb") as file:
            try:
                if not _lock(file, wait=True):
                    continue  # deleted before it was locked
                yield file, temporary
                return
            finally:
                temporary.unlink(missing_ok=True)


def _delete_abandoned(path: pathlib.Path) -> None:
    """Delete temporary files of ``path`` whose process has ended."""
    for left in path.parent.glob(f"{_prefix(path)}*.tmp"):
        with contextlib.suppress(OSError), open(left, "r+b") as file:
            if _lock(file, wait=False):
                left.unlink()


def _lock(file: IO[bytes], *, wait: bool) -> bool:
    """Lock a file until it is closed; False if it is locked or deleted already."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: the name alone must do
            return wait
    return os.fstat(file.fileno()).st_nlink > 0


def _flush_folder(folder: pathlib.Path) -> None:
    """Make a new file name survive a loss of power, where folders can be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
