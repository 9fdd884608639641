"""Want of room that any measurement met: no evidence on locks and names, and no place for runs. Pure."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from typing import Final

from hpc_search.doctor.measured import Measured, errno_name, no_room

#: What to do about it.
REMEDY: Final = "free space or inodes, or raise the quota, then call doctor again"


def shortages(measured: Measured) -> dict[str, str]:
    """Return what there was no room for, and the errno that said so."""
    found = {what: no_room(errors) for what, errors in _errors(measured)}
    return {**{what: name for what, name in found.items() if name}, **measured.no_room}


def _errors(measured: Measured) -> Iterator[tuple[str, Iterable[str]]]:
    for race in measured.races:
        yield f"{race.kind} between {race.scope}", race.errors
    for replaced in measured.replaced:
        yield f"rename over between {replaced.scope}", replaced.errors
    for lock in measured.locking:
        yield f"{lock.kind} between {lock.scope}", (*lock.errors, lock.prevented)
    for delays in measured.delays:
        yield f"visibility between {delays.scope}", delays.errors
    if measured.synced is not None:
        yield "fsync", measured.synced.errors.values()
    if measured.hdf5 is not None:
        yield "HDF5", (measured.hdf5.default, measured.hdf5.unlocked)
    if measured.run_lock is not None and measured.run_lock.errno:
        yield "the lock of this run", (errno_name(measured.run_lock.errno),)
    if measured.place.sync_errno:
        yield "fsync of the directory itself", (measured.place.sync_error,)


def problem(measured: Measured) -> str:
    """Return what is said of the want of room, "" where there was none."""
    found = shortages(measured)
    if not found:
        return ""
    names = dict.fromkeys(found.values())
    return f"no room for {', '.join(found)}: {'; '.join(map(words, names))}: {REMEDY}"


def words(name: str) -> str:
    """Return the name of an errno and what it means."""
    return f"{name}, {os.strerror(number)}" if (number := getattr(errno, name, 0)) else name
