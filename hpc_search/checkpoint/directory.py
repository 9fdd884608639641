"""The directories of checkpoints: never followed where one of their names is a link to somewhere else."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from hpc_search import durable
from hpc_search.errors import DamagedError

_MODE = 0o700


def refuse_links(*directories: Path) -> None:
    """Raise where one of *directories* exists and is not a directory itself.

    Raises:
        DamagedError: It is a symbolic link or no directory; with its path.
    """
    for path in directories:
        with suppress(FileNotFoundError):
            mode = os.lstat(path).st_mode
            if not stat.S_ISDIR(mode):
                what = "a symbolic link, which is never followed" if stat.S_ISLNK(mode) else "not a directory"
                raise DamagedError(
                    f"{path}: it is {what}; expected a directory of this run",
                    hint=f"move it away (what it points to stays): mv {path} {path}.aside",
                )


def make(*directories: Path) -> None:
    """Make each of *directories*, outermost first, where it does not exist.

    Raises:
        DamagedError: One is a link or no directory.
    """
    for path in directories:
        with suppress(FileExistsError):
            os.mkdir(path, _MODE)
        refuse_links(path)


def remove_temporaries(directory: Path) -> None:
    """Remove what interrupted saves left in *directory*."""
    with suppress(FileNotFoundError):
        for name in os.listdir(directory):
            if name.startswith(durable.TEMPORARY):
                with suppress(OSError):
                    (directory / name).unlink()
