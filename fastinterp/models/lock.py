"""One writer at a time to a folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from fastinterp.errors import ModelError
from fastinterp.messages import one_line

LOCK_SECONDS = 60.0  # how long a writer waits for another one


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Holds the folder's lock, which other threads and processes wait for; gives whether the folder was made."""
    deadline = time.monotonic() + LOCK_SECONDS
    made, descriptor = _make(folder), _lock(folder, deadline)
    while descriptor is None:  # a check that had made the folder has removed it again
        made, descriptor = _make(folder), _lock(folder, deadline)
    try:
        yield made
    finally:
        _unlock(descriptor)


def _lock(folder: Path, deadline: float) -> int | None:
    """Returns the folder, open and locked; None where it was removed meanwhile."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise BlockingIOError(errno.EWOULDBLOCK, f"another process has been writing for {LOCK_SECONDS:.0f} s")
            time.sleep(0.002)
        if os.path.samestat(os.stat(folder), os.fstat(descriptor)):
            return descriptor
    except FileNotFoundError:
        pass
    except BaseException:
        _unlock(descriptor)
        raise
    _unlock(descriptor)
    return None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks on this file system: writers there must not meet
        return True
    return True


def _unlock(descriptor: int) -> None:
    # Closing alone would not do where a forked child has the descriptor too.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _make(folder: Path) -> bool:
    """Makes the folder and its parents where they are missing; returns whether the folder was."""
    missing = []
    part = folder
    while True:
        try:
            os.stat(part)
            break
        except FileNotFoundError:
            if part.is_symlink():
                target = one_line(os.readlink(part), 100)
                raise ModelError(
                    f"output: {one_line(part)} is a symbolic link to {target}, which is not there"
                ) from None
            missing.append(part)
            part = part.parent
    if not missing and not folder.is_dir():
        raise ModelError(f"output: {one_line(folder)} exists and is not a model folder; it is left as it is")
    made = False
    for part in reversed(missing):
        with contextlib.suppress(FileExistsError):
            part.mkdir()
            made = part == folder
    return made
