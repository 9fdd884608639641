"""What the measurements of file-system calls mean: rows of the table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from hpc_search.doctor.measured import (
    MOUNTS,
    NODES,
    PROCESSES,
    Delays,
    Hdf5,
    Locking,
    Measured,
    Race,
    Replaced,
    RunLock,
    Synced,
    errno_name,
    no_room,
)
from hpc_search.doctor.report import Row, Status
from hpc_search.doctor.shortage import REMEDY
from hpc_search.doctor.surroundings import place_rows, room_rows

_BETWEEN: Final = {PROCESSES: "processes", MOUNTS: "mounts", NODES: "nodes"}
_UNTRIED: Final = {"hdf5": "HDF5", "synced": "fsync", "clock": "mtime", "run_lock": "lock of this run"}
#: Seconds above which a call is called slow.
_SLOW_SYNC_S: Final = 0.05
_SLOW_WAIT_S: Final = 1.0
_SLOW_DELAY_S: Final = 0.1
_SKEW_S: Final = 1.0
_SUBJECTS: Final = {
    "create": "exclusive create",
    "link": "link, no-replace",
    "symlink": "symbolic link, no-replace",
    "mkdir": "mkdir",
    "rename_dir": "rename of a directory, no-replace",
}
#: What each way to take a name is for, and what is done without it.
_USES: Final = {
    "create": (
        "journals, temporary files",
        "two workers may take one name: nothing that is made here can be trusted",
    ),
    "link": ("publishes seals and submissions once", "published by rename of a directory instead"),
    "symlink": ("claims and results where locks cannot be trusted", "published files take its place, slower"),
    "mkdir": ("worker ids, superblocks", "two workers may take one name"),
    "rename_dir": ("makes RUN appear complete; publishes without links", "link publishes alone"),
}


#: What nothing else takes the place of.
_NEEDED: Final = frozenset({"create", "mkdir"})


def rows(measured: Measured) -> tuple[Row, ...]:
    """Return the table."""
    found = list(place_rows(measured.place))
    found += room_rows(measured)
    if measured.nodes:
        found.append(Row("nodes", "PASS", ", ".join(measured.nodes)))
    found += [race_row(race) for race in measured.races]
    found += [replaced_row(replaced) for replaced in measured.replaced]
    found += [locking_row(locking) for locking in measured.locking]
    found += _sync_rows(measured.synced)
    found += _clock_rows(measured)
    found += [delays_row(delays) for delays in measured.delays]
    found += _hdf5_rows(measured.hdf5)
    found += [run_lock_row(measured.run_lock)] if measured.run_lock is not None else []
    if measured.left:
        found.append(Row("removal", "FAIL", f"{measured.left} is left behind", "remove it by hand"))
    lacks = measured.no_room
    for what, why in measured.untried.items():
        hidden = what == NODES and measured.hidden
        found.append(_hidden_row(why) if hidden else _untried_row(what, why, lacks.get(what, "")))
    return tuple(found)


def _refused(errors: Iterable[str]) -> str:
    """Say what was refused; want of room is none of what is tried."""
    return f"{'no room to try it' if no_room(errors) else 'refused'}: {', '.join(errors)}"


def _between(scope: str) -> str:
    return f"between {_BETWEEN[scope]}"


def race_row(race: Race) -> Row:
    """Judge one race for names."""
    used, without = _USES[race.kind]
    slow = race.slowest_read > _SLOW_DELAY_S
    if no_room(race.errors):
        without = REMEDY
    elif (race.errors or race.silent) and race.kind in _NEEDED:
        without = "whoever needs it ends with 75"
    return Row(
        f"{_SUBJECTS[race.kind]}, {_between(race.scope)}",
        "SLOW" if race.good and slow else "PASS" if race.good else "FAIL",
        _race_found(race),
        used if race.good else without,
    )


def _race_found(race: Race) -> str:
    if race.silent:
        return "a call did not return in time"
    if race.errors:
        return _refused(race.errors)
    if race.fake:
        return "the link that was made is not a hard link"
    if race.doubles or race.unwon:
        return f"of {race.rounds} rounds {race.doubles} had two winners, {race.unwon} none"
    if race.unreadable:
        return f"in {race.unreadable} of {race.rounds} rounds a loser could not read the winner's content"
    late = f"; what it holds is seen after {race.slowest_read:.1f} s"
    return f"one winner in each of {race.rounds} rounds of {race.racers}" + (
        late if race.slowest_read > _SLOW_DELAY_S else ""
    )


def replaced_row(found: Replaced) -> Row:
    """Judge a reader beside a writer that renames over."""
    counts = f"{found.reads} reads during {found.writes} renames: {found.missing} missing, {found.torn} torn"
    if found.stale_handles:
        counts += f", {found.stale_handles} ESTALE"
    if found.errors:
        counts += f", {_refused(found.errors)}"
    bad = found.silent or found.missing or found.torn or found.errors or not found.reads
    status: Status = "FAIL" if bad else "PASS"
    meaning = "heartbeats, checkpoints and results are whole or absent"
    if no_room(found.errors):
        meaning = REMEDY
    elif bad:
        meaning = (
            "a file that is replaced may be seen missing or torn: everything is verified when it is read"
        )
    elif found.stale_handles:
        meaning += "; ESTALE only says that it has just changed"
    subject = f"rename over, {_between(found.scope)}"
    return Row(subject, status, "a call did not return in time" if found.silent else counts, meaning)


def locking_row(found: Locking) -> Row:
    """Judge one kind of lock; hpc_search uses flock, fcntl is for the programs of users."""
    slow = found.good and found.longest_wait > _SLOW_WAIT_S
    status: Status = "SLOW" if slow else "PASS" if found.good else "FAIL"
    if found.kind == "fcntl":
        meaning = "not used by hpc_search" + ("" if found.good else "; SQLite and others rely on it")
    else:
        holds = "holds on this machine" if found.scope == PROCESSES else "the index may be claimed from"
        meaning = holds if found.good else "claims by exclusively created names"
    if found.prevented or no_room(found.errors):
        meaning = REMEDY if no_room([*found.errors, found.prevented]) else "nothing is known of this lock"
    return Row(f"{found.kind}, {_between(found.scope)}", status, lock_found(found), meaning)


def lock_found(found: Locking) -> str:
    """Say what is wrong with a lock, or how it did."""
    if found.silent:
        return "a call that must not wait did not return in time"
    if found.prevented:
        return _refused([found.prevented]) if no_room([found.prevented]) else f"not tried: {found.prevented}"
    if found.errors:
        return _refused(found.errors)
    if not found.excludes:
        return "does not exclude: two had it at once"
    if not found.handed_over:
        return "was not had within 2 s after it was given back"
    if not found.visible:
        return (
            f"excludes, but {found.old} of {found.handovers} reads under it were old; racing counted "
            f"{found.counted} of {found.expected}" + (f", {found.lost} records lost" if found.lost else "")
        )
    waits = f"longest wait {found.longest_wait:.2f} s"
    return (
        f"excludes; {found.expected} racing turns all counted, none of {found.handovers} reads old; {waits}"
    )


def _sync_rows(found: Synced | None) -> Iterator[Row]:
    if found is None:
        return
    for what, seconds in (("file", found.file), ("directory", found.directory)):
        subject = f"fsync of a {what}"
        if what in found.errors:
            error = [found.errors[what]]
            meaning = REMEDY if no_room(error) else "nothing can be acknowledged: workers end with 75"
            yield Row(subject, "FAIL", _refused(error), meaning)
        elif seconds is None:
            yield Row(subject, "PASS", "unknown to this file system", "names are durable without it")
        else:
            slow = seconds > _SLOW_SYNC_S
            meaning = f"a result costs {'at least ' if slow else ''}that; reports are not synced"
            yield Row(subject, "SLOW" if slow else "PASS", f"{seconds * 1000:.2f} ms (median)", meaning)


def _clock_rows(measured: Measured) -> Iterator[Row]:
    if (found := measured.clock) is None:
        return
    step = f"{found.granularity:.3g} s" if found.granularity else "not seen"
    yield Row("step of mtime", "PASS", step, "for information: nothing is decided by mtime")
    words = f"{found.skew:+.3f} s" + (" (server's clock is another)" if abs(found.skew) > _SKEW_S else "")
    yield Row("mtime against this clock", "PASS", words, "for information: no two clocks are compared")


def delays_row(found: Delays) -> Row:
    """Judge how late one side sees what the other one did."""
    subject = f"visibility, {_between(found.scope)}"
    if found.silent:
        return Row(subject, "FAIL", "a call did not return in time", "leases are kept long")
    if found.errors:
        meaning = REMEDY if no_room(found.errors) else "leases are kept long"
        return Row(subject, "FAIL", _refused(found.errors), meaning)
    slow = found.longest > _SLOW_DELAY_S
    meaning = "a take-over waits for the lease, which has to be longer than this" if slow else ""
    return Row(subject, "SLOW" if slow else "PASS", delays_found(found), meaning)


def delays_found(found: Delays) -> str:
    """Say how late each deed was seen."""
    words = [f"{deed} {_late(late, found.limit)}" for deed, late in found.seconds.items()]
    return ", ".join(words)


def _late(seconds: float | None, limit: float) -> str:
    if seconds is None:
        return f"not within {limit:.0f} s"
    return "at once" if seconds < _SLOW_DELAY_S else f"{seconds:.1f} s"


def _hdf5_rows(found: Hdf5 | None) -> Iterator[Row]:
    if found is None:
        return
    ours = "checkpoints" if not found.unlocked else "checkpoints cannot be written"
    ours = REMEDY if no_room([found.unlocked]) else ours
    yield Row("HDF5, locking=False", *_opened(found.unlocked), ours)
    theirs = (
        "hpc_search opens without locking; your own files need locking=False or HDF5_USE_FILE_LOCKING=FALSE"
    )
    theirs = REMEDY if no_room([found.default]) else theirs
    yield Row(
        "HDF5, default locking",
        *_opened(found.default),
        theirs if found.default else "not used by hpc_search",
    )


def _opened(error: str) -> tuple[Status, str]:
    return ("FAIL", _refused([error])) if error else ("PASS", "opens")


def run_lock_row(found: RunLock) -> Row:
    """Judge the lock of a run's index."""
    subject = "lock of this run"
    if not found.exists:
        return Row(subject, "n/a", "not used in this run")
    if found.free:
        status: Status = "SLOW" if found.seconds > _SLOW_WAIT_S else "PASS"
        return Row(subject, status, f"had after {found.seconds:.2f} s", "")
    if found.errno:
        error = [errno_name(found.errno)]
        meaning = REMEDY if no_room(error) else "claims by exclusively created names"
        return Row(subject, "FAIL", _refused(error), meaning)
    holders = ", ".join(map(str, found.holders))
    held = f"held by process {holders} of this machine" if holders else "held by a process of another node"
    words = f"{held} for {found.seconds:.0f} s or more"
    return Row(subject, "FAIL", words, "workers wait a minute for it and give up with 75: end that process")


def _hidden_row(why: str) -> Row:
    return Row("between nodes", "FAIL", why, "tasks cannot work there: take a directory that all nodes share")


def _untried_row(what: str, why: str, lack: str) -> Row:
    subject = f"between {_BETWEEN[what]}" if what in _BETWEEN else _UNTRIED.get(what, what)
    failed = why == "no answer in time" or bool(lack)
    return Row(subject, "FAIL" if failed else "n/a", why, REMEDY if lack else "not tried")


def lease_row(lease: float, shortest: float) -> Row:
    """Judge the lease of a run, both in seconds."""
    words = f"{lease:g} s, at least {shortest:.3g} s are needed"
    if lease < shortest:
        return Row(
            "lease of this run",
            "SLOW",
            words,
            "live owners may be taken for dead: work is done twice, no result changes",
        )
    return Row("lease of this run", "PASS", words)
