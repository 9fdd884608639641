"""What follows from measurements of a file system: rows, verdict, lease."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hpc_search.doctor import Measured, Report, Row, rows, verdict
from hpc_search.doctor.judging import (
    delays_row,
    lease_row,
    locking_row,
    race_row,
    replaced_row,
    run_lock_row,
)
from hpc_search.doctor.measured import (
    MOUNTS,
    NODES,
    PROCESSES,
    Clock,
    Delays,
    Hdf5,
    Locking,
    Place,
    Quota,
    Race,
    Replaced,
    Room,
    RunLock,
    Synced,
    errno_name,
)
from hpc_search.doctor.verdict import advice, locks_tried, shortest_lease
from hpc_search.mounts import Claiming

GIB = 1 << 30
PLACE = Place(
    path="/scratch/me", real="/scratch/me", kind="directory", mode=0o700, owner=1000, user=1000, umask=0o22,
    fstype="ext4", options=("rw",), mounted_at="/scratch", known_good=True, free=100 * GIB, inodes=10**6,
)  # fmt: skip
FOREIGN = msgspec.structs.replace(PLACE, fstype="fuse.glusterfs", known_good=False)
ROOM = Room(bytes=262144, files=16)
KINDS = ("create", "link", "symlink", "mkdir", "rename_dir")


def lock(scope: str = PROCESSES, kind: str = "flock", **changes: Any) -> Locking:
    good = Locking(kind=kind, scope=scope, excludes=True, handovers=12, expected=100, counted=100)
    return msgspec.structs.replace(good, **changes)


def raced(kind: str = "create", scope: str = PROCESSES, **changes: Any) -> Race:
    return msgspec.structs.replace(Race(kind=kind, scope=scope, racers=4, rounds=25), **changes)


def measured(*locks: Locking, place: Place = PLACE, **changes: Any) -> Measured:
    found = Measured(
        place=place, room=ROOM, races=tuple(map(raced, KINDS)), locking=locks or (lock(),),
        synced=Synced(file=0.001, directory=0.001), clock=Clock(0.001, 0.0), hdf5=Hdf5("", ""),
        quota=Quota(asked=False),
    )  # fmt: skip
    return msgspec.structs.replace(found, **changes)


def row(found: Measured, subject: str) -> Row:
    return next(row for row in rows(found) if row.subject == subject)


# -- which way of claiming


@pytest.mark.parametrize(
    ("locks", "place", "claiming"),
    [
        ((lock(),), PLACE, "lock"),
        ((lock(),), FOREIGN, "exclusive"),
        ((lock(), lock(MOUNTS)), FOREIGN, "lock"),
        ((lock(), lock(NODES)), FOREIGN, "lock"),
        ((lock(), lock(MOUNTS, old=1)), FOREIGN, "exclusive"),
        ((lock(), lock(MOUNTS), lock(NODES, counted=99)), PLACE, "exclusive"),
        ((lock(), lock(NODES, lost=1)), PLACE, "exclusive"),
        ((lock(excludes=False, expected=0, counted=0),), PLACE, "exclusive"),
        ((lock(errors={"ENOLCK": 1}),), PLACE, "exclusive"),
        ((lock(handed_over=False),), PLACE, "exclusive"),
        ((lock(silent=True),), PLACE, "exclusive"),
        ((lock(handovers=0),), PLACE, "exclusive"),
        ((lock(kind="fcntl"),), PLACE, "exclusive"),
        ((lock(), lock(kind="fcntl", excludes=False)), PLACE, "lock"),
    ],
)
def test_locks_are_trusted_only_where_every_test_was_good_and_nodes_or_the_mount_vouch_for_them(
    locks: tuple[Locking, ...], place: Place, claiming: str
) -> None:
    found = verdict(measured(*locks, place=place))
    assert found.claiming == claiming
    assert found.usable
    assert found.why


@pytest.mark.parametrize(
    ("test", "tried"),
    [
        (lock(), True),
        (lock(excludes=False), True),
        (lock(errors={"ENOLCK": 1}), True),
        (lock(silent=True), True),
        (lock(errors={"ENOSPC": 1}), False),
        (lock(prevented="EIO"), False),
        (lock(kind="fcntl"), False),
    ],
)
def test_only_what_the_lock_call_said_is_evidence_on_locks(test: Locking, tried: bool) -> None:
    assert locks_tried(measured(test)) is tried


def test_a_local_file_system_is_said_to_be_of_one_machine() -> None:
    assert "workers on this machine only" in verdict(measured()).why
    assert "workers on this machine only" in row(measured(), "mount").meaning
    shared = msgspec.structs.replace(PLACE, fstype="lustre")
    assert "on all nodes" in verdict(measured(place=shared)).why
    assert row(measured(place=shared), "mount").meaning == "known to be coherent"


def test_the_verdict_says_what_was_wrong_with_the_lock_and_where() -> None:
    found = verdict(measured(lock(), lock(MOUNTS, old=5, counted=52), place=FOREIGN))
    assert "between mounts" in found.why
    assert "5 of 12" in found.why
    assert "52 of 100" in found.why


def test_an_unknown_mount_names_what_would_prove_its_locks() -> None:
    assert "--second-mount" in verdict(measured(place=FOREIGN)).why


def test_no_lock_test_at_all_is_no_trust() -> None:
    assert verdict(measured(locking=())).claiming == "exclusive"


@pytest.mark.parametrize(
    ("place", "claiming", "words"),
    [
        (PLACE, "lock", ""),
        (FOREIGN, "exclusive", ""),
        (FOREIGN, "lock", "HPC_SEARCH_CLAIMING=lock"),
        (PLACE, "exclusive", "HPC_SEARCH_CLAIMING=exclusive"),
    ],
)
def test_where_plan_would_choose_otherwise_the_report_says_how_to_change_that(
    place: Place, claiming: Claiming, words: str
) -> None:
    found = "".join(advice(measured(place=place), claiming))
    assert words in found if words else not found


# -- usable or not


@pytest.mark.parametrize(("kind", "usable"), [("create", True), ("link", True), ("rename_dir", True)])
def test_one_way_to_publish_is_enough(kind: str, usable: bool) -> None:
    races = tuple(raced(one, doubles=int(one != kind)) for one in KINDS)
    assert verdict(measured(races=races)).usable is usable


@pytest.mark.parametrize(
    "fault", [{"doubles": 1}, {"unwon": 1}, {"errors": {"EPERM": 1}}, {"silent": True}, {"rounds": 0}]
)
def test_without_any_way_to_publish_no_run_can_live_there(fault: dict[str, Any]) -> None:
    races = tuple(raced(kind, **fault) for kind in KINDS)
    found = verdict(measured(races=races))
    assert not found.usable
    assert "exclusive create" in found.problems[0]


def test_symbolic_links_and_mkdir_alone_do_not_publish() -> None:
    races = tuple(raced(kind, doubles=int(kind not in ("symlink", "mkdir"))) for kind in KINDS)
    assert not verdict(measured(races=races)).usable


def test_a_way_that_fails_between_nodes_is_not_good() -> None:
    races = (*map(raced, KINDS), *(raced(kind, NODES, doubles=1) for kind in KINDS))
    assert not verdict(measured(races=races)).usable


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"room": Room(bytes=1, files=1, write_error="ENOSPC")}, "No space left"),
        ({"room": Room(bytes=1, files=1, file_error="EDQUOT")}, "quota exceeded"),
        ({"room": None}, "writing in"),
        ({"synced": Synced(errors={"file": "EIO"})}, "fsync"),
        ({"hdf5": Hdf5("", "EIO")}, "HDF5 files cannot be written"),
        ({"place": msgspec.structs.replace(PLACE, sync_errno=13)}, "EACCES"),
        ({"place": Place(path="/x", real="", kind="unreadable", errno=13)}, "EACCES"),
        ({"place": Place(path="/x", real="", kind="unnamable")}, "not UTF-8"),
        ({"place": msgspec.structs.replace(PLACE, errno=13)}, "EACCES"),
        ({"place": msgspec.structs.replace(PLACE, errno=28, inodes=0)}, "no inodes"),
        ({"place": msgspec.structs.replace(PLACE, errno=28, free=0)}, "no room"),
        ({"place": msgspec.structs.replace(PLACE, errno=122)}, "quota"),
        ({"place": Place(path="/x", real="", kind="silent")}, "does not answer"),
        ({"place": Place(path="/x", real="", kind="missing")}, "does not exist"),
    ],
)
def test_what_makes_a_place_unusable_is_named(changes: dict[str, Any], words: str) -> None:
    found = verdict(measured(**changes))
    assert not found.usable
    assert words in found.problems[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"races": (*map(raced, KINDS), raced("mkdir", NODES, errors={"ENOSPC": 1}))},
        {"replaced": (Replaced(scope=PROCESSES, errors={"EDQUOT": 1}),)},
        {"locking": (lock(prevented="ENOSPC"),)},
        {"locking": (lock(errors={"ENOSPC": 1}),)},
        {"synced": Synced(errors={"directory": "ENOSPC"})},
        {"delays": (Delays(scope=MOUNTS, errors={"ENOSPC": 1}),)},
        {"hdf5": Hdf5("ENOSPC", "")},
        {"clock": None, "untried": {"clock": "No space left on device"}, "no_room": {"clock": "ENOSPC"}},
        {"run_lock": RunLock(exists=True, free=False, errno=28)},
        {"place": msgspec.structs.replace(PLACE, sync_errno=122)},
    ],
)
def test_want_of_room_anywhere_is_the_only_problem_and_says_what_to_do(changes: dict[str, Any]) -> None:
    found = verdict(measured(**changes))
    assert not found.usable
    assert len(found.problems) == 1
    assert "free space or inodes" in found.problems[0]
    failed = [one for one in rows(measured(**changes)) if one.status == "FAIL"]
    assert len(failed) == 1
    assert "free space or inodes" in failed[0].meaning


# -- rows


def test_every_row_says_what_was_found() -> None:
    found = rows(
        measured(
            lock(), lock(MOUNTS, old=1), nodes=("n1", "n2"), replaced=(Replaced(scope=PROCESSES, reads=9),),
            delays=(Delays(scope=MOUNTS, seconds={"create": 0.5}, limit=10),), untried={NODES: "give --srun"},
            run_lock=RunLock(exists=True, free=True), left="/scratch/me/.t-1",
        )
    )  # fmt: skip
    assert all(one.found and one.subject for one in found)
    assert len({one.subject for one in found}) == len(found)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({}, "PASS", "25 rounds of 4"),
        ({"doubles": 2}, "FAIL", "2 had two winners"),
        ({"unwon": 3}, "FAIL", "3 none"),
        ({"unreadable": 1}, "FAIL", "could not read"),
        ({"fake": 1}, "FAIL", "not a hard link"),
        ({"errors": {"EPERM": 4}}, "FAIL", "refused: EPERM"),
        ({"errors": {"ENOSPC": 4}}, "FAIL", "no room to try it: ENOSPC"),
        ({"silent": True}, "FAIL", "did not return"),
        ({"slowest_read": 1.0}, "SLOW", "seen after 1.0 s"),
    ],
)
def test_a_race_for_a_name_is_judged(changes: dict[str, Any], status: str, words: str) -> None:
    found = race_row(raced("link", **changes))
    assert found.status == status
    assert words in found.found


def test_a_call_that_is_refused_is_not_one_that_lets_two_win() -> None:
    assert "two workers" in race_row(raced("mkdir", doubles=1)).meaning
    assert "two workers" not in race_row(raced("mkdir", errors={"EIO": 1})).meaning


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (lock(), "PASS", "excludes"),
        (lock(longest_wait=2.0), "SLOW", "longest wait 2.00 s"),
        (lock(excludes=False), "FAIL", "two had it at once"),
        (lock(handed_over=False), "FAIL", "given back"),
        (lock(old=3), "FAIL", "3 of 12"),
        (lock(counted=1, lost=2), "FAIL", "2 records lost"),
        (lock(errors={"ENOLCK": 1}), "FAIL", "ENOLCK"),
        (lock(prevented="EIO"), "FAIL", "not tried: EIO"),
        (lock(silent=True), "FAIL", "did not return"),
    ],
)
def test_a_lock_is_judged(found: Locking, status: str, words: str) -> None:
    judged = locking_row(found)
    assert judged.status == status
    assert words in judged.found


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "PASS"), ({"stale_handles": 9}, "PASS"), ({"missing": 1}, "FAIL"), ({"torn": 1}, "FAIL"),
        ({"reads": 0}, "FAIL"), ({"errors": {"EIO": 1}}, "FAIL"), ({"silent": True}, "FAIL"),
    ],
)  # fmt: skip
def test_a_replaced_file_has_to_be_there_and_whole(changes: dict[str, Any], status: str) -> None:
    found = Replaced(scope=PROCESSES, writes=10, reads=100)
    assert replaced_row(msgspec.structs.replace(found, **changes)).status == status


@pytest.mark.parametrize(
    ("late", "status", "words"),
    [(0.01, "PASS", "at once"), (1.04, "SLOW", "1.0 s"), (None, "SLOW", "not within 10 s")],
)
def test_a_late_view_is_slow_and_never_a_failure(late: float | None, status: str, words: str) -> None:
    found = delays_row(Delays(scope=MOUNTS, seconds={"size": late}, limit=10))
    assert found.status == status
    assert words in found.found


@pytest.mark.parametrize("skew", [-1e5, -0.5, 0.0, 1e6])
def test_a_wrong_clock_is_information_and_never_a_failure(skew: float) -> None:
    assert row(measured(clock=Clock(1.0, skew)), "mtime against this clock").status == "PASS"


def test_fsync_is_timed() -> None:
    found = measured(synced=Synced(file=0.2, directory=None))
    assert row(found, "fsync of a file").status == "SLOW"
    assert "200.00 ms" in row(found, "fsync of a file").found
    assert row(found, "fsync of a directory").status == "PASS"
    failed = measured(synced=Synced(file=0.001, directory=None, errors={"directory": "EIO"}))
    assert "EIO" in row(failed, "fsync of a directory").found


def test_hdf5_without_locking_is_what_counts() -> None:
    found = measured(hdf5=Hdf5("ENOLCK", ""))
    assert row(found, "HDF5, locking=False").status == "PASS"
    assert row(found, "HDF5, default locking").status == "FAIL"
    assert "ENOLCK" in row(found, "HDF5, default locking").found
    assert "locking=False" in row(found, "HDF5, default locking").meaning


@pytest.mark.parametrize(
    ("place", "subject", "status"),
    [
        ({"free": GIB // 2}, "room", "FAIL"),
        ({"inodes": 999}, "inodes", "FAIL"),
        ({"inodes": None}, "inodes", "PASS"),
        ({"open_parents": ("/scratch",)}, "parents", "FAIL"),
        ({"links": ("/scratch",)}, "links", "PASS"),
        ({"errno": 13}, "permissions", "FAIL"),
        ({"owner": 7}, "owner", "PASS"),
    ],
)
def test_the_surroundings_are_judged(place: dict[str, Any], subject: str, status: str) -> None:
    assert row(measured(place=msgspec.structs.replace(PLACE, **place)), subject).status == status


def test_a_quota_that_is_used_up_is_a_failure() -> None:
    assert row(measured(quota=Quota(True, ("/dev/sda 10* 9 11",))), "quota").status == "FAIL"
    assert row(measured(quota=Quota(True, (), "none")), "quota").status == "PASS"
    assert row(measured(quota=Quota(False)), "quota").status == "n/a"


def test_what_was_not_tried_says_why() -> None:
    found = row(measured(untried={NODES: "there is no srun on this machine"}), "between nodes")
    assert (found.status, found.found) == ("n/a", "there is no srun on this machine")


def test_a_lock_of_the_run_that_is_never_free_names_its_holder() -> None:
    assert "process 4711" in run_lock_row(RunLock(exists=True, free=False, holders=(4711,))).found
    assert "another node" in run_lock_row(RunLock(exists=True, free=False)).found
    assert run_lock_row(RunLock(exists=False, free=True)).status == "n/a"


# -- the lease


@pytest.mark.parametrize(
    ("late", "seconds"),
    [({}, 180.0), ({"size": 1.0}, 182.0), ({"size": None}, 300.0), ({"size": 2.0, "create": 9.0}, 198.0)],
)
def test_a_lease_outlives_missed_heartbeats_and_two_delays(
    late: dict[str, float | None], seconds: float
) -> None:
    delays = (Delays(scope=MOUNTS, seconds=late, limit=10),) if late else ()
    assert shortest_lease(measured(delays=delays), 60) == pytest.approx(seconds)
    assert verdict(measured(delays=delays)).lease == pytest.approx(900)
    assert verdict(measured(delays=delays), heartbeat=60, default=100).lease == pytest.approx(seconds)


def test_a_lease_that_is_too_short_is_said() -> None:
    assert lease_row(900, 180).status == "PASS"
    assert lease_row(10, 180).status == "SLOW"


# -- the report


def test_the_report_survives_json_and_prints_every_row() -> None:
    found = measured(lock(), lock(MOUNTS, old=1))
    report = Report(
        hpc_search="0", time="t", host="h", directory="/scratch/me", seconds=1.0, verdict=verdict(found),
        rows=rows(found), measured=found,
    )  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    text = " ".join(report.text(120).split())
    assert all(one.status in text for one in report.rows)
    assert "flock, between mounts" in text
    assert "exclusively created names" in text
    assert all(len(line) <= 120 for line in report.text(120).splitlines())


def test_an_unusable_place_ends_with_its_problems() -> None:
    found = measured(room=Room(bytes=1, files=1, write_error="ENOSPC"))
    report = Report(
        hpc_search="0", time="t", host="h", directory="/x", seconds=1.0, verdict=verdict(found),
        rows=rows(found), measured=found,
    )  # fmt: skip
    assert "no run can live here" in report.text(100)
    assert "ENOSPC" in report.text(100)


def test_errnos_have_names() -> None:
    assert errno_name(37) == "ENOLCK"
    assert errno_name(524) == "ENOTSUPP"
    assert errno_name(99999) == "errno 99999"
