"""`doctor` finds what is really wrong with a directory, never hangs, and leaves nothing behind."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from hpc_search.layout import Layout
from hpc_search.ledger import mode
from tests.e2e.command_line import ROOT, Desk, Said, desk
from tests.waiting import wait_until

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: lying lock calls cannot be tested"
)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, for mounts of its own")
#: Before a command that file modes shall bind although root calls it.
ORDINARY: Final = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner")
NETFS: Final = ROOT / "tools" / "netfs"
#: What stands for srun: two tasks on this machine, which both get its input.
SRUN: Final = """
import os, subprocess, sys
argv = sys.argv[sys.argv.index("-m") - 1:]
tasks = [
    subprocess.Popen(
        argv, stdin=subprocess.PIPE, env={**os.environ, "SLURM_PROCID": str(n), "SLURMD_NODENAME": f"node{n}"}
    )
    for n in range(2)
]
print("srun: a line of its own", flush=True)
for line in sys.stdin.buffer:
    for task in tasks:
        task.stdin.write(line)
        task.stdin.flush()
for task in tasks:
    task.stdin.close()
sys.exit(max(task.wait() for task in tasks))
"""


class Found:
    """What one examination reported."""

    def __init__(self, said: Said) -> None:
        assert "Traceback" not in said.all, said.all
        assert said.out.startswith("{"), said.all
        self.code = said.code
        self.err = said.err
        self.report: dict[str, Any] = json.loads(said.out)
        self.verdict: dict[str, Any] = self.report["verdict"]
        self.rows: dict[str, dict[str, str]] = {row["subject"]: row for row in self.report["rows"]}

    def status(self, subject: str) -> str:
        return self.rows[subject]["status"]

    def said(self, subject: str) -> str:
        return self.rows[subject]["found"]


def examine(
    directory: Path,
    *arguments: str | Path,
    under: Sequence[str] = (),
    cwd: Path | None = None,
    **environment: str,
) -> Found:
    """Run the command; it must leave nothing in *directory*."""
    before = names(directory)
    here = Desk(cwd or directory.parent, environment=environment)
    found = Found(here.run([*under, *here.argv("doctor", directory, *arguments, "--json")]))
    assert names(directory) == before
    return found


def names(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if name != "doctor.json")


def injected(call: str, what: str) -> list[str]:
    """Return a command before which the system call *call* is tampered with."""
    return [
        "strace",
        "-f",
        "-qq",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:{what}",
    ]


def mounted(script: str) -> list[str]:
    """Return a command before which *script* makes mounts that only it sees."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", f'{script}; exec "$@"', "sh"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "place"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    here = desk(tmp_path)
    here.good("plan", "search.yaml", "--run", "run")
    return tmp_path / "run"


# -- a good place


def test_a_good_directory_passes_and_is_left_as_it_was(place: Path) -> None:
    found = examine(place)
    assert found.code == 0
    assert found.verdict["usable"]
    bad = {name: row for name, row in found.rows.items() if row["status"] == "FAIL"}
    assert not bad
    assert "one winner in each of" in found.said("symbolic link, no-replace, between processes")
    assert found.status("between nodes") == found.status("between mounts") == "n/a"
    assert found.verdict["claiming"] == (
        "lock" if found.report["measured"]["place"]["known_good"] else "exclusive"
    )


def test_the_table_says_what_follows(place: Path) -> None:
    out = Desk(place.parent).good("doctor", place)
    assert "flock, between processes" in out
    assert "verdict: trials are claimed by" in out


def test_links_and_parents_that_all_may_write_and_a_missing_srun_are_named(tmp_path: Path) -> None:
    (tmp_path / "open" / "place").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    found = examine(tmp_path / "link" / "place", "--srun", PATH=str(tmp_path))
    assert "no srun" in found.said("between nodes")
    assert found.status("parents") == "FAIL"
    assert str(tmp_path / "open") in found.said("parents")
    assert str(tmp_path / "link") in found.said("links")


# -- no place


def test_a_directory_that_does_not_exist_is_a_wrong_argument(tmp_path: Path) -> None:
    assert "mkdir -p" in Desk(tmp_path).refused("doctor", "nowhere")
    (tmp_path / "file").write_text("")
    assert "not a directory" in Desk(tmp_path).refused("doctor", "file")


@needs_root
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (0o555, "cannot make a directory"),
        (0o600, "cannot make a directory"),
        (0o000, "cannot make a directory"),
        (0o300, "cannot be opened and fsynced"),
    ],
)
def test_a_directory_without_all_permissions_is_unusable(place: Path, mode: int, words: str) -> None:
    place.chmod(mode)
    found = examine(place, under=ORDINARY)
    place.chmod(0o700)
    assert found.code == 1
    assert words in found.said("permissions")
    assert "EACCES" in found.said("permissions")
    assert "EACCES" in found.verdict["problems"][0]
    assert not names(place)


@needs_root
def test_a_directory_below_one_that_may_not_be_searched_is_unusable(place: Path) -> None:
    (place / "below").mkdir()
    place.chmod(0o600)
    found = examine(place / "below", under=ORDINARY, cwd=place.parent)
    assert found.code == 1
    assert "EACCES" in found.said("directory")
    assert "EACCES" in found.verdict["problems"][0]


@needs_root
def test_a_run_of_another_user_is_unusable(planned: Path) -> None:
    os.chown(planned, 65534, 65534)
    found = examine(planned, under=ORDINARY)
    assert found.code == 1
    assert "EACCES" in found.verdict["problems"][0]


def test_a_working_directory_that_was_deleted_is_named(place: Path) -> None:
    here = Desk(place.parent)
    script = f'cd {place} && rmdir {place} && "$@"'
    said = here.run(["sh", "-c", script, "sh", *here.argv("doctor")])
    assert said.code == 2
    assert "the working directory was deleted" in said.err
    assert "next: cd to" in said.err


def test_a_path_that_is_not_utf8_is_a_wrong_argument_whether_it_is_there_or_not(tmp_path: Path) -> None:
    bad = os.fsdecode(b"bad\xff\xfe")
    assert r"bad\xff\xfe is not UTF-8" in Desk(tmp_path).refused("doctor", bad)
    (tmp_path / bad).mkdir()
    assert r"bad\xff\xfe is not UTF-8" in Desk(tmp_path).refused("doctor", bad)
    assert not names(tmp_path / bad)


def test_a_link_to_a_path_that_is_not_utf8_is_unusable(tmp_path: Path) -> None:
    bad = tmp_path / os.fsdecode(b"bad\xff")
    bad.mkdir()
    (tmp_path / "link").symlink_to(bad)
    found = examine(tmp_path / "link")
    assert found.code == 1
    assert r"bad\xff" in found.said("directory")
    assert "not UTF-8" in found.verdict["problems"][0]


@needs_root
def test_a_read_only_mount_is_unusable(place: Path) -> None:
    found = examine(place, under=mounted(f"mount -t tmpfs -o ro tmpfs {place}"))
    assert found.code == 1
    assert "EROFS" in found.verdict["problems"][0]


@needs_root
@pytest.mark.parametrize(
    ("options", "fill", "subject", "words"),
    [
        ("size=1m", "head -c 2000000 /dev/zero > fill || true", "room", "ENOSPC"),
        ("nr_inodes=16", "touch 1 2 3 4 5 6 7 8", "inodes", "ENOSPC"),
    ],
)
def test_a_full_disk_and_missing_inodes_are_found(
    place: Path, options: str, fill: str, subject: str, words: str
) -> None:
    script = f"mount -t tmpfs -o {options} tmpfs {place}; cd {place}; {fill} 2>/dev/null; cd /"
    found = examine(place, under=mounted(script))
    assert found.code == 1
    assert found.status(subject) == "FAIL"
    assert words in found.said(subject)
    assert not found.verdict["usable"]


@needs_root
def test_not_one_inode_left_is_found(place: Path) -> None:
    script = f"mount -t tmpfs -o nr_inodes=4 tmpfs {place}; touch {place}/1 {place}/2 {place}/3"
    found = examine(place, under=mounted(script))
    assert found.code == 1
    assert "no inodes are left" in found.verdict["problems"][0]


@needs_root
@pytest.mark.parametrize(
    "options", ["nr_inodes=60", "nr_inodes=45", "nr_inodes=30", "size=256k", "size=300k"]
)
def test_want_of_room_in_any_probe_is_no_evidence_on_locks_and_names(place: Path, options: str) -> None:
    found = examine(place, under=mounted(f"mount -t tmpfs -o {options} tmpfs {place}"))
    assert found.code == 1
    assert "free space or inodes" in found.verdict["problems"][-1]
    failed = {name: row for name, row in found.rows.items() if row["status"] == "FAIL"}
    assert {"flock, between processes", "rename over, between processes"} <= failed.keys()
    for row in failed.values():
        assert "refused" not in row["found"], row
        assert "two workers may take one name" not in row["meaning"], row
        assert "exclusively created" not in row["meaning"], row


@needs_strace
@pytest.mark.parametrize(
    ("calls", "what"),
    [
        ("mkdir,mkdirat", "error=EDQUOT:when=3+"),
        ("link,linkat", "error=ENOSPC"),
        ("rename,renameat,renameat2", "error=EDQUOT"),
        ("symlink,symlinkat", "error=EDQUOT"),
        ("pwrite64", "error=EDQUOT"),
    ],
)
def test_a_quota_that_any_call_meets_makes_a_place_unusable(place: Path, calls: str, what: str) -> None:
    found = examine(place, under=injected(calls, what))
    assert found.code == 1
    assert "no room for" in found.verdict["problems"][0]
    assert "raise the quota" in found.verdict["problems"][0]


@needs_strace
def test_a_place_where_hdf5_cannot_write_is_unusable(place: Path) -> None:
    found = examine(place, under=injected("pwrite64", "error=EIO"))
    assert found.code == 1
    assert "HDF5 files cannot be written: EIO" in found.verdict["problems"][0]
    assert found.said("flock, between processes") == "not tried: EIO"


# -- slow, not dead


@needs_strace
@pytest.mark.timeout(100)
def test_a_slow_fsync_is_slow_and_no_failure(place: Path) -> None:
    found = examine(place, under=injected("fsync", "delay_enter=700000"))
    assert found.code == 0
    assert found.status("fsync of a file") == found.status("fsync of a directory") == "SLOW"
    assert not [name for name, row in found.rows.items() if row["status"] == "FAIL"]
    assert found.verdict["claiming"] == (
        "lock" if found.report["measured"]["place"]["known_good"] else "exclusive"
    )


# -- locks that lie or refuse


@needs_strace
def test_a_flock_that_does_not_exclude_is_found(place: Path) -> None:
    found = examine(place, under=injected("flock", "retval=0"))
    assert found.code == 0
    assert "does not exclude" in found.said("flock, between processes")
    assert found.status("fcntl, between processes") == "PASS"
    assert found.verdict["claiming"] == "exclusive"
    assert "does not exclude" in found.verdict["why"]


@needs_strace
@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "EIO"])
def test_a_mount_that_refuses_locks_is_found(place: Path, name: str) -> None:
    found = examine(place, under=injected("flock", f"error={name}"))
    assert found.code == 0
    assert found.status("flock, between processes") == "FAIL"
    assert name in found.said("flock, between processes")
    assert found.verdict["claiming"] == "exclusive"
    assert found.status("HDF5, locking=False") == "PASS"
    # HDF5 takes ENOSYS for a file system that needs no locks.
    assert found.said("HDF5, default locking") == ("opens" if name == "ENOSYS" else f"refused: {name}")


@needs_strace
@pytest.mark.timeout(100)
def test_a_lock_call_that_never_returns_is_reported_and_does_not_hang_the_command(place: Path) -> None:
    found = never_returning(place, "flock")
    assert found.code == 0
    assert "did not return" in found.said("flock, between processes")
    assert found.status("fcntl, between processes") == "PASS"
    assert found.status("HDF5") == "FAIL"
    assert found.verdict["claiming"] == "exclusive"


def never_returning(place: Path, call: str) -> Found:
    """Examine *place* where a system call does not return, not even when the process is killed."""
    # strace itself waits for a process that was killed meanwhile: it is not waited for.
    code, out = place.with_name("code"), place.with_name("out")
    here = Desk(place.parent)
    script = ["sh", "-c", f'"$@" >{out}; echo $? >{code}.t; mv {code}.t {code}', "sh"]
    argv = [*injected(call, "delay_enter=300000000"), *script, *here.argv("doctor", place, "--json")]
    process = subprocess.Popen(argv, env=here.variables(), stderr=subprocess.PIPE)
    with process:
        wait_until(code.exists, timeout=80)
        process.kill()
    assert not os.listdir(place)
    return Found(Said(int(code.read_text()), out.read_text(), ""))


@needs_strace
@pytest.mark.timeout(100)
def test_an_fsync_that_never_returns_is_reported_in_seconds_and_leaves_nothing(place: Path) -> None:
    found = never_returning(place, "fsync")
    assert found.code == 1
    assert "no answer in time" in found.verdict["problems"][0]
    assert found.report["seconds"] < 30


@needs_strace
def test_where_links_are_refused_the_rest_is_enough(place: Path) -> None:
    found = examine(place, under=injected("link,linkat,symlink,symlinkat", "error=EPERM"))
    assert found.code == 0
    assert "EPERM" in found.said("link, no-replace, between processes")
    assert "EPERM" in found.said("symbolic link, no-replace, between processes")
    assert found.status("rename of a directory, no-replace, between processes") == "PASS"


@needs_strace
def test_a_no_replace_that_lets_two_win_is_found(place: Path) -> None:
    found = examine(place, under=injected("symlink,symlinkat", "retval=0"))
    assert "had two winners" in found.said("symbolic link, no-replace, between processes")


@needs_strace
def test_an_fsync_that_fails_makes_a_place_unusable(place: Path) -> None:
    found = examine(place, under=injected("fsync", "error=EIO"))
    assert found.code == 1
    assert "EIO" in found.verdict["problems"][0]


# -- two clients


@needs_root
def test_a_second_mount_that_is_coherent_proves_the_locks(place: Path) -> None:
    other = place.with_name("other")
    other.mkdir()
    found = examine(place, "--second-mount", other, under=mounted(f"mount --bind {place} {other}"))
    assert found.status("flock, between mounts") == found.status("exclusive create, between mounts") == "PASS"
    assert found.verdict["claiming"] == "lock"
    assert "between mounts" in found.verdict["why"]


def test_a_second_mount_of_something_else_is_a_wrong_argument(place: Path) -> None:
    other = place.with_name("other")
    other.mkdir()
    err = Desk(place.parent).refused("doctor", place, "--second-mount", other)
    assert "does not show what is made in" in err
    assert not os.listdir(place)


@contextmanager
def network_file_system(directory: Path, settings: Mapping[str, str]) -> Iterator[Path]:
    environment = {
        **os.environ,
        "HPC_SEARCH_NETFS_DIR": str(directory),
        "HPC_NETFS_PORT": "24931",
        **settings,
    }
    try:
        up = subprocess.run(
            [NETFS, "up"], env=environment, capture_output=True, text=True, check=False, timeout=100
        )
        assert up.returncode == 0, up.stdout + up.stderr
        yield directory
    finally:
        subprocess.run(
            [NETFS, "down", "--purge"], env=environment, capture_output=True, check=False, timeout=60
        )


@needs_root
@pytest.mark.timeout(200)
@pytest.mark.skipif(
    shutil.which("glusterfsd") is None, reason="glusterfs is not installed: tools/netfs up does it"
)
def test_a_mount_whose_locks_exclude_but_whose_caches_lie_is_found(tmp_path: Path) -> None:
    with network_file_system(tmp_path / "netfs", {"HPC_NETFS_MODE": "cached"}) as netfs:
        (netfs / "a" / "place").mkdir(mode=0o700)
        found = examine(netfs / "a" / "place", "--second-mount", netfs / "b" / "place")
    assert found.code == 0
    assert found.status("flock, between processes") == "PASS"
    assert "excludes, but" in found.said("flock, between mounts")
    assert found.verdict["claiming"] == "exclusive"
    assert found.status("visibility, between mounts") == "SLOW"
    for way in ("exclusive create", "symbolic link, no-replace", "rename of a directory, no-replace"):
        assert found.status(f"{way}, between mounts") in ("PASS", "SLOW")


# -- tasks of SLURM


def with_srun(directory: Path, text: str) -> str:
    program = directory / "bin" / "srun"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{text}")
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def test_two_tasks_are_asked_by_one_srun(place: Path) -> None:
    found = examine(place, "--srun", PATH=with_srun(place.parent, SRUN))
    assert found.said("nodes") == "node0, node1"
    assert found.status("flock, between nodes") == "PASS"
    assert found.verdict["claiming"] == "lock"


def test_an_srun_that_fails_costs_only_its_rows(place: Path) -> None:
    path = with_srun(place.parent, 'import sys\nsys.exit("srun: error: no partition")')
    found = examine(place, "--srun", PATH=path)
    assert found.code == 0
    assert found.status("between nodes") == "n/a"
    assert "no partition" in found.said("between nodes")


def test_a_directory_that_a_node_does_not_see_is_a_failure(place: Path) -> None:
    hidden = SRUN.replace("    argv, stdin", "    [*argv[:-1], argv[-1] + n * '-hidden'], stdin")
    assert hidden != SRUN
    found = examine(place, "--srun", PATH=with_srun(place.parent, hidden))
    assert found.code == 1
    assert found.status("between nodes") == "FAIL"
    assert f"does not see {place}" in found.said("between nodes")
    assert "does not see" in found.verdict["problems"][0]


def test_a_cluster_is_not_looked_for_where_there_is_no_sbatch(place: Path) -> None:
    alone = Desk(place.parent, environment={"PATH": str(place)})
    assert "sbatch is not on PATH" in alone.refused("doctor", place, "--cluster")
    assert "add --cluster" in alone.refused("doctor", place, "--slice", "gpu:1", "--no-job")


# -- a run


def test_a_run_keeps_the_report_and_goes_on(planned: Path) -> None:
    found = examine(planned)
    assert json.loads(Layout(planned).doctor.read_bytes())["verdict"] == found.verdict
    assert Layout(planned).doctor.stat().st_mode & 0o777 == 0o600
    assert found.status("lock of this run") == "PASS"
    assert found.report["measured"]["place"]["is_run"]
    assert mode.exclusive(Layout(planned)) == (found.verdict["claiming"] == "exclusive")


@needs_strace
def test_a_run_whose_locks_lie_is_switched_for_good(planned: Path) -> None:
    found = examine(planned, under=injected("flock", "retval=0"))
    layout = Layout(planned)
    assert mode.exclusive(layout)
    assert "does not exclude" in mode.why_exclusive(layout)
    assert any("for good" in note for note in found.report["notes"])
    again = examine(planned)
    assert mode.exclusive(layout)
    assert again.verdict["claiming"] == "lock" or any("already" in note for note in again.report["notes"])


@needs_strace
@pytest.mark.parametrize(
    ("call", "what"), [("pwrite64", "error=EDQUOT"), ("pwrite64", "error=ENOSPC"), ("flock", "error=ENOSPC")]
)
def test_want_of_room_never_changes_how_a_run_claims(planned: Path, call: str, what: str) -> None:
    before = mode.exclusive(Layout(planned))
    found = examine(planned, under=injected(call, what))
    assert found.code == 1
    assert mode.exclusive(Layout(planned)) == before


def test_a_lock_of_the_run_that_another_process_never_gives_back_is_named(planned: Path) -> None:
    with Layout(planned).claims_lock.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = examine(planned)
    assert found.status("lock of this run") == "FAIL"
    assert f"process {os.getpid()}" in found.said("lock of this run")


def test_a_moved_run_is_examined_and_not_written(planned: Path) -> None:
    moved = planned.rename(planned.with_name("moved"))
    found = examine(moved)
    assert found.code == 0
    assert not Layout(moved).doctor.exists()
    assert "not stored" in found.report["notes"][0]


# -- interrupted


def interrupted(place: Path, number: int) -> int:
    here = Desk(place.parent)
    process = subprocess.Popen(
        here.argv("doctor", place), env=here.variables(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        wait_until(lambda: any(len(os.listdir(place / name)) > 20 for name in os.listdir(place)))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert b"Traceback" not in err, err.decode()
    return process.returncode


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_examination_leaves_nothing(place: Path, number: int, code: int) -> None:
    assert interrupted(place, number) == code
    assert not os.listdir(place)


def test_a_killed_examination_leaves_nothing(place: Path) -> None:
    assert interrupted(place, signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: not os.listdir(place))
