"""What follows from the measurements: usable or not, which way of claiming, which lease. Pure."""

from __future__ import annotations

from typing import Final

from hpc_search.doctor.judging import lock_found
from hpc_search.doctor.measured import PROCESSES, Locking, Measured, Place, errno_name, no_room
from hpc_search.doctor.report import Verdict
from hpc_search.doctor.shortage import REMEDY, problem, words
from hpc_search.durable import NO_SPACE
from hpc_search.mounts import VARIABLE, Claiming

#: Ways to make a name that no other one can make too; one of them has to work everywhere.
_PUBLISHING: Final = ("create", "link", "rename_dir")
#: Heartbeats that may be missed before an owner is taken for dead.
_BEATS: Final = 3
#: Seconds taken where a change was not seen at all: directories are cached for so long on NFS by default.
_UNSEEN_S: Final = 60.0
HEARTBEAT_S: Final = 60.0
LEASE_S: Final = 900.0


def verdict(measured: Measured, *, heartbeat: float = HEARTBEAT_S, default: float = LEASE_S) -> Verdict:
    """Return the verdict; *heartbeat* and *default*, the lease wished for, in seconds."""
    problems = tuple(_problems(measured))
    claiming, why = how_to_claim(measured)
    return Verdict(
        usable=not problems,
        claiming=claiming,
        why=why,
        problems=problems,
        lease=max(default, shortest_lease(measured, heartbeat)),
        heartbeat=heartbeat,
    )


def _problems(measured: Measured) -> list[str]:
    place, room = measured.place, measured.room
    if place.kind != "directory":
        return [f"{place.path} {_KINDS.get(place.kind) or f'cannot be looked at: {words_of(place.errno)}'}"]
    if place.errno:
        return [f"nothing can be made in {place.path}: {words_of(place.errno)}{_full(place)}"]
    if room is None:
        return [f"writing in {place.path}: {measured.untried.get('room', 'not tried')}"]
    found = []
    if room.write_error:
        found.append(f"writing {room.bytes // 1024} KiB failed: {_words(room.write_error)}")
    if room.file_error:
        found.append(f"making {room.files} files failed: {_words(room.file_error)}")
    if lack := problem(measured):
        return [*found, lack]
    if not found and not _publishes(measured):
        found.append("neither exclusive create, link nor rename of a directory gives a name to one only")
    if measured.hidden:
        found.append(f"a node of SLURM does not see {place.path}: tasks could not work there")
    return found + _not_kept(measured)


def _not_kept(measured: Measured) -> list[str]:
    """Say what cannot be made durable."""
    place, synced, hdf5 = measured.place, measured.synced, measured.hdf5
    found = []
    if synced is not None and synced.errors:
        found.append(
            f"fsync fails ({', '.join(dict.fromkeys(synced.errors.values()))}): nothing could be acknowledged"
        )
    if place.sync_errno:
        found.append(
            f"{place.path} cannot be opened and fsynced: {words(place.sync_error)}: names made in it are not "
            "durable"
        )
    if hdf5 is not None and hdf5.unlocked:
        found.append(f"HDF5 files cannot be written: {words(hdf5.unlocked)}: no checkpoint could be kept")
    return found


_KINDS: Final = {
    "missing": "does not exist",
    "file": "is not a directory",
    "silent": "does not answer: the file server may be down",
    "unnamable": "has a real path that is not UTF-8: no record could name it",
}


def words_of(number: int) -> str:
    """Return the name of errno *number* and what it means."""
    return words(errno_name(number))


def _words(name: str) -> str:
    return f"{words(name)}{f': {REMEDY}' if no_room([name]) else ''}"


def _full(place: Place) -> str:
    """Say what is missing where a directory could not be made for want of room."""
    if place.errno not in NO_SPACE:
        return ""
    if place.inodes == 0:
        return f", no inodes are left: {REMEDY}"
    return f", {'no room is left' if not place.free else 'a quota is used up'}: {REMEDY}"


def _publishes(measured: Measured) -> bool:
    """Return whether one way to publish was good in every scope tried."""
    kinds = {kind: [race.good for race in measured.races if race.kind == kind] for kind in _PUBLISHING}
    return any(good and all(good) for good in kinds.values())


def how_to_claim(measured: Measured) -> tuple[Claiming, str]:
    """Return the way of claiming and why.

    Locks are trusted only where flock excludes and shows what was written under it in every test made, and
    either the kind of mount is known to do so on all nodes or a test was made between nodes or mounts.
    """
    tests = [one for one in measured.locking if one.kind == "flock"]
    bad = next((one for one in tests if not one.good), None)
    if bad is not None:
        return "exclusive", f"flock between {bad.scope}: {lock_found(bad)}"
    if not tests:
        return "exclusive", "flock could not be tried"
    across = _across(tests)
    if across:
        return "lock", f"flock excludes between {across}, and what is written under it is seen"
    kind = measured.place.fstype or "an unknown mount"
    if measured.place.local:
        return "lock", (
            f"flock excludes between processes; {kind} is a file system of one machine: workers on this "
            "machine only"
        )
    if measured.place.known_good:
        return "lock", f"flock excludes between processes, and {kind} is known to do so on all nodes"
    return "exclusive", (
        f"flock was tried on this machine only, and {kind} is not known to hold locks between nodes; "
        "--second-mount DIR or --srun can prove it"
    )


def locks_tried(measured: Measured) -> bool:
    """Return whether something is known of flock: a full disk or a failing file says nothing of it."""
    tests = [one for one in measured.locking if one.kind == "flock"]
    return any(not one.prevented and not no_room(one.errors) for one in tests)


def advice(measured: Measured, claiming: Claiming) -> tuple[str, ...]:
    """Return what to do where `plan`, which looks at the kind of mount only, would choose another way."""
    planned: Claiming = "lock" if measured.place.known_good else "exclusive"
    if claiming == planned:
        return ()
    words = f"`plan` chooses by the kind of mount, here: {planned}; {VARIABLE}={claiming} makes it {claiming}"
    return (words + (", and so does `doctor RUN` after it" if claiming == "exclusive" else ""),)


def _across(tests: list[Locking]) -> str:
    return " and ".join(one.scope for one in tests if one.scope != PROCESSES)


def shortest_lease(measured: Measured, heartbeat: float) -> float:
    """Return the shortest safe lease in seconds: some missed heartbeats and two delays of visibility."""
    late = [
        _UNSEEN_S if one.silent or None in one.seconds.values() else one.longest for one in measured.delays
    ]
    return _BEATS * heartbeat + 2 * max(late, default=0.0)
