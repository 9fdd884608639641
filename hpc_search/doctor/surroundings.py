"""What the place, its room and its quota mean: rows of the table. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from hpc_search.doctor import shortage
from hpc_search.doctor.measured import Measured, Place, Quota, Room, errno_name, no_room
from hpc_search.doctor.report import Row

_GIB: Final = 1 << 30
#: Below these a run may end with a full disk: checkpoints take the room, a run has up to 1,000 files.
_LITTLE_ROOM: Final = _GIB
_FEW_INODES: Final = 1000


def place_rows(place: Place) -> Iterator[Row]:
    """Judge the directory."""
    if place.kind != "directory":
        yield Row("directory", "FAIL", _no_directory(place), "nothing can be made here")
        return
    options = ",".join(place.options)
    known = "known to be coherent" if place.known_good else "locks have to be proved between nodes"
    if place.local:
        known = "of one machine only: workers on this machine only"
    yield Row("mount", "PASS", f"{place.fstype or 'unknown'} at {place.mounted_at or '?'} ({options})", known)
    yield _permission(place)
    yield _owner(place)
    if place.open_parents:
        found = f"anybody may write in {', '.join(place.open_parents)}"
        yield Row("parents", "FAIL", found, "others can put a run of theirs in the place of yours")
    else:
        yield Row("parents", "PASS", "none is open to all without the sticky bit")
    links = (
        f"by the links {', '.join(place.links)}: is {place.real}" if place.links else "no links on the way"
    )
    meaning = "a run remembers its real path; it must be the same on all nodes" if place.links else ""
    yield Row("links", "PASS", links, meaning)


def _no_directory(place: Place) -> str:
    if place.kind == "silent":
        return "does not answer: the file server may be down"
    if place.kind == "unnamable":
        return f"is {place.real}: that is not UTF-8"
    words = {"missing": "does not exist", "file": "is not a directory"}
    return words.get(place.kind, f"cannot be looked at: {errno_name(place.errno)}")


def _permission(place: Place) -> Row:
    mode = f"mode {place.mode:04o}, your umask {'unknown' if place.umask is None else f'{place.umask:04o}'}"
    if place.errno:
        found = f"cannot make a directory: {os.strerror(place.errno)} ({errno_name(place.errno)}); {mode}"
        return Row("permissions", "FAIL", found, "nothing can be made here")
    if place.sync_errno:
        found = f"cannot be opened and fsynced: {shortage.words(place.sync_error)}; {mode}"
        durable = "what is made here cannot be made durable"
        lack = no_room([place.sync_error])
        return Row("permissions", "FAIL", found, shortage.REMEDY if lack else durable)
    return Row("permissions", "PASS", f"writable; {mode}", "RUN gets 0700 whatever the umask")


def _owner(place: Place) -> Row:
    if place.owner == place.user:
        return Row("owner", "PASS", f"you (uid {place.user})")
    trusted = " (root)" if place.owner == 0 else ""
    found = f"uid {place.owner}{trusted}, you are uid {place.user}"
    return Row("owner", "PASS", found, "" if trusted else "the owner can rename and remove your runs")


def room_rows(measured: Measured) -> Iterator[Row]:
    """Judge room and quota."""
    place, room = measured.place, measured.room
    if place.kind != "directory":
        return
    yield _bytes(place.free, room)
    yield _inodes(place.inodes, room)
    if measured.quota is not None:
        yield _quota(measured.quota)


def _bytes(free: int, room: Room | None) -> Row:
    words = f"{free / _GIB:.1f} GiB free" if free >= _GIB // 10 else f"{free / (1 << 20):.1f} MiB free"
    if room is not None and room.write_error:
        found = f"writing {room.bytes // 1024} KiB failed: {room.write_error}; {words}"
        return Row("room", "FAIL", found, "workers stop with 75 and keep their last checkpoint")
    if free < _LITTLE_ROOM:
        return Row("room", "FAIL", words, "checkpoints may not fit: workers then stop with 75")
    return Row("room", "PASS", words)


def _inodes(inodes: int | None, room: Room | None) -> Row:
    words = "not counted by this file system" if inodes is None else f"{inodes:,} free"
    if room is not None and room.file_error:
        found = f"making {room.files} files failed: {room.file_error}; {words}"
        return Row("inodes", "FAIL", found, "workers stop with 75")
    if inodes is not None and inodes < _FEW_INODES:
        return Row("inodes", "FAIL", words, "a run has up to 1,000 files: workers may stop with 75")
    return Row("inodes", "PASS", words, "a run has up to 1,000 files")


def _quota(quota: Quota) -> Row:
    if not quota.asked:
        return Row("quota", "n/a", "there is no `quota` here; the try to write passed")
    if quota.over:
        return Row("quota", "FAIL", f"over a limit: {'; '.join(quota.over)}", "writing will fail soon")
    return Row("quota", "PASS", f"within the limits ({quota.words})")
