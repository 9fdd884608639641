"""Whether the file system has room for what a run will write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from hpc_search.errors import TemporaryError
from hpc_search.planning.describe import record_bytes, size

#: Files of a worker: its directory, journal, heartbeat, log, reserve, report, the task's log, checkpoints.
_FILES: Final = 12
#: Reports of a trial, where nobody knows.
_REPORTS: Final = 5
#: Files of the run itself: ledger, submissions, archives, results.
_OWN_FILES: Final = 100


def shortage(free_bytes: int, free_files: int | None, trials: int, workers: int) -> str:
    """Return what is short for *trials* on *workers*, "" where nothing is; None: files are not counted."""
    needed = record_bytes(trials, _REPORTS * trials)
    if free_bytes < needed:
        return f"{size(free_bytes)} are free, and {trials:,} trials write about {size(needed)} of records"
    files = workers * _FILES + _OWN_FILES
    if free_files is not None and free_files < files:
        return f"{free_files:,} files may still be made, and {workers:,} workers need about {files:,}"
    return ""


def check(root: Path, trials: int, workers: int) -> None:
    """Raise TemporaryError where what statvfs says of *root*, a project's quota included, is too little."""
    found = os.statvfs(root)
    files = found.f_favail if found.f_files else None
    short = shortage(found.f_bavail * found.f_frsize, files, trials, workers)
    if short:
        message = f"{root}: {short}, checkpoints not counted; nothing was submitted"
        hint = "free space or files (the site's `quota` says how much is yours), or `submit --force`"
        raise TemporaryError(message, hint=hint)
