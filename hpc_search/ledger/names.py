"""Names that exist or not, with their content from the first moment on: symbolic links.

One call makes such a name exclusively; it has one winner on every file system measured.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from hpc_search import durable

#: The name is not there, or the directory it was in is not.
ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})
#: Seconds before the looks at a name that holds nothing: names are cached for 1 s on the mounts measured.
_PAUSES: Final = (0.0, 0.0, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0)


def listed(directory: Path) -> list[str]:
    """Return the names in *directory*; none where it is gone."""
    try:
        return os.listdir(directory)
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise


def create(path: Path, content: str) -> bool:
    """Create the name *path* with *content* unless it exists; return whether this call did.

    Raises:
        OSError: The directory is gone, or the file system refuses.
    """
    return created(path, content) or target(path) == content


def created(path: Path, content: str) -> bool:
    """Create the name *path* with *content*; return False where it exists.

    Raises:
        OSError: The directory is gone, or the file system refuses.
    """
    try:
        os.symlink(content, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP):
            # Of a link, the error names the content.
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        # No symbolic links here: a file that is published whole does the same in more steps.
        return durable.publish(path, content.encode())
    return True


def target(path: Path) -> str | None:
    """Return the content of the name *path*, None where it is not there."""
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        if error.errno != errno.EINVAL:
            raise
    with suppress(OSError):
        return path.read_text(errors="replace")
    return None


def looks() -> Iterator[None]:
    """Come again for as long as a client may see a name before what it holds."""
    for seconds in _PAUSES:
        time.sleep(seconds)
        yield
