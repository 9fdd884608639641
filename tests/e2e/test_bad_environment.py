"""What the machine refuses: permissions, read-only and full disks, no sbatch, signals."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import SEARCH, Desk, Said, desk
from tests.waiting import wait_until

#: Trials that save after every step, say where they began, and wait at step 6 while `gate` is there.
SLOW = """
import time
from pathlib import Path

def train(trial):
    state = {"begun": 0}
    first = trial.restore(state=state)
    with open("begun.txt", "a") as file:
        file.write(f"{trial.number} {first}\\n")
    for step in range(first, 12):
        while step == 6 and Path("gate").exists():
            time.sleep(0.02)
            trial.save(step, state=state)
        trial.report(step, acc=step)
        trial.save(step + 1, state=state)
    return {"acc": trial.params["x"]}
"""


@pytest.fixture
def here(tmp_path: Path) -> Desk:
    """A working directory with a search, not planned."""
    return desk(tmp_path)


def _bound(where: Desk, *arguments: str) -> Said:
    """Call as somebody whom file modes bind: root is bound without two of its capabilities."""
    argv = where.argv(*arguments)
    if os.getuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("setpriv is not there, and root may do everything")
        argv = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *argv]
    return where.run(argv)


# -- permissions
def test_a_file_without_permission_is_named(here: Desk) -> None:
    (here.root / "search.yaml").chmod(0)
    said = _bound(here, "plan", "search.yaml")
    assert said.code == 2, said.all
    assert "search.yaml: the search file cannot be read (Permission denied)" in said.err


def test_sources_without_permission_are_named(here: Desk) -> None:
    (here.root / "train.py").chmod(0)
    said = _bound(here, "plan", "search.yaml")
    assert said.code == 2, said.all
    assert "train.py: Permission denied" in said.err
    assert "Traceback" not in said.err


def test_a_directory_that_may_not_be_written_is_named(here: Desk) -> None:
    locked = here.root / "locked"
    locked.mkdir(0o500)
    said = _bound(here, "plan", "search.yaml", "--run", "locked/r")
    assert said.code == 2, said.all
    assert "the run locked/r cannot be made (Permission denied)" in said.err
    assert "--run DIR" in said.err


def test_a_run_of_somebody_else_is_named(here: Desk) -> None:
    here.good("plan", "search.yaml", "--run", "r")
    (here.root / "r").chmod(0)
    try:
        said = _bound(here, "status", "r")
    finally:
        (here.root / "r").chmod(0o700)
    assert said.code == 2, said.all
    assert "r/plan.json cannot be read (Permission denied)" in said.err


# -- mounts
class Mount:
    """Commands in a mount namespace of their own, where *size* of tmpfs lies at ``disk``."""

    def __init__(self, where: Desk, options: str) -> None:
        if os.getuid() != 0 or not shutil.which("unshare"):
            pytest.skip("mounting needs root and unshare")
        self.where = where
        (where.root / "disk").mkdir()
        self.lines = [f"mount -t tmpfs -o {options} tmpfs disk"]
        self.calls = 0

    def sh(self, line: str) -> None:
        self.lines.append(line)

    def call(self, *arguments: str) -> int:
        """Note a call; return the place of its answer."""
        number, self.calls = self.calls, self.calls + 1
        command = shlex.join(self.where.argv(*arguments))
        self.lines.append(f"{command} >{number}.out 2>{number}.err; echo $? >{number}.code")
        return number

    def run(self) -> list[Said]:
        """Do everything that was noted; return the answers."""
        script = self.where.write("script.sh", "\n".join(self.lines) + "\n")
        said = self.where.run(["unshare", "--mount", "--propagation", "private", "sh", str(script)])
        if "mount" in said.err and "permission denied" in said.err.lower():
            pytest.skip(f"mounting is not allowed here: {said.err}")
        root = self.where.root
        return [
            Said(
                int((root / f"{number}.code").read_text()),
                (root / f"{number}.out").read_text(),
                (root / f"{number}.err").read_text(),
            )
            for number in range(self.calls)
        ]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (
            "size=1m,ro",
            2,
            "the run disk/r cannot be made (Read-only file system)\n  next: choose a directory",
        ),
        (
            "size=16k",
            75,
            "the run disk/r cannot be made (No space left on device)\n  next: free space or inodes",
        ),
        ("size=1m,nr_inodes=8", 75, "the run disk/r cannot be made (No space left on device)"),
    ],
)
def test_plan_where_nothing_can_be_written_leaves_nothing(
    here: Desk, options: str, code: int, words: str
) -> None:
    mount = Mount(here, options)
    mount.call("plan", "search.yaml", "--run", "disk/r")
    mount.sh("ls -A disk >left")
    (said,) = mount.run()
    assert said.code == code, said.all
    assert words in said.err
    assert "Traceback" not in said.err
    assert (here.root / "left").read_text() == ""


def test_a_run_on_a_read_only_mount_can_be_read_and_says_what_it_cannot(here: Desk) -> None:
    mount = Mount(here, "size=8m")
    mount.call("plan", "search.yaml", "--run", "disk/r")
    mount.sh("mount -o remount,ro disk")
    reading = [mount.call(*verb) for verb in (["status", "disk/r"], ["show", "disk/r", "0"])]
    changing = [
        mount.call(*verb)
        for verb in (
            ["submit", "disk/r", "--launcher", "local", "--wait"],
            ["work", "disk/r"],
            ["collect", "disk/r"],
            ["rerun", "disk/r", "0"],
            ["plan", "search.yaml", "--run", "disk/r", "--check"],
        )
    ]
    said = mount.run()
    assert [said[number].code for number in reading] == [0, 0], said
    for number in changing:
        assert said[number].code in (2, 75), said[number].all
        assert "Read-only file system" in said[number].err, said[number].all
        assert "Traceback" not in said[number].err, said[number].all


def test_a_full_disk_is_temporary_and_the_search_goes_on_when_there_is_space(here: Desk) -> None:
    mount = Mount(here, "size=8m")
    mount.call("plan", "search.yaml", "--run", "disk/r")
    mount.sh("cat /dev/zero >disk/filled 2>/dev/null")
    changing = [
        mount.call(*verb)
        for verb in (
            ["submit", "disk/r", "--launcher", "local", "--wait"],
            ["work", "disk/r"],
            ["collect", "disk/r"],
            ["rerun", "disk/r", "0"],
        )
    ]
    reading = mount.call("status", "disk/r")
    mount.sh("rm disk/filled; ls disk/r/reruns >left")
    done = mount.call("submit", "disk/r", "--launcher", "local", "--workers", "1", "--wait")
    after = mount.call("status", "disk/r")
    said = mount.run()
    for number in changing:
        assert said[number].code == 75, said[number].all
        full = ("No space left on device", "0 B are free")
        assert any(words in said[number].err for words in full), said[number].all
        assert "Traceback" not in said[number].err, said[number].all
    assert (said[reading].code, said[done].code) == (0, 0), said[done].all
    assert "3 done" in said[after].out
    assert (here.root / "left").read_text() == ""


# -- SLURM that is not there
def test_without_sbatch_slurm_is_refused_and_the_launcher_is_local(here: Desk) -> None:
    here.good("plan", "search.yaml", "--run", "r")
    bare = Desk(here.root, path=str(here.root / "no-programs"))
    said = bare.refused("submit", "r", "--launcher", "slurm")
    assert "sbatch" in said
    assert "PATH" in said
    assert "--launcher local" in said
    assert not list((here.root / "r/ledger/submits").iterdir())
    assert "--seat local:0" in bare.good("submit", "r", "--dry-run")
    assert "#SBATCH" in bare.good("submit", "r", "--launcher", "slurm", "--dry-run")
    assert "nothing was started yet" in bare.good("status", "r")


# -- signals
@pytest.fixture
def slow(here: Desk) -> Iterator[Desk]:
    """A planned run of slow trials, in r; workers that a test left are cancelled."""
    here.write("train.py", SLOW)
    here.write("search.yaml", SEARCH.replace("[1, 2, 3]", "[1, 2]") + "save_interval: 0\n")
    here.good("plan", "search.yaml", "--run", "r")
    here.write("gate", "")
    yield here
    here("cancel", "r")


def _begun(where: Desk) -> list[tuple[int, int]]:
    """Return (trial, first step) of every attempt, in order."""
    file = where.root / "begun.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(line.split()[0]), int(line.split()[1])) for line in lines]


def _saved(where: Desk) -> bool:
    return len(list((where.root / "r/checkpoints").glob("*/*.h5"))) > 0


@pytest.mark.parametrize(
    "verb", [["submit", "r", "--launcher", "local", "--workers", "1", "--wait"], ["work", "r"]]
)
def test_ctrl_c_stops_with_a_checkpoint_and_the_next_submit_goes_on_from_it(
    slow: Desk, verb: list[str]
) -> None:
    process = subprocess.Popen(
        slow.argv(*verb),
        cwd=slow.root,
        env=slow.variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: _saved(slow), 60)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert "Traceback" not in said
    assert process.returncode == 130, said
    assert "`hpc-search submit r` goes on" in said
    status = slow.good("status", "r")
    assert "2 pending" in status
    assert "nothing runs: no live worker" in status

    (slow.root / "gate").unlink()
    slow.go("r")

    begun = _begun(slow)
    assert begun[0] == (0, 0)
    assert begun[1][0] == 0
    assert 0 < begun[1][1] <= 6
    assert begun[2:] == [(1, 0)]
    assert "attempt 1 ended: pending (preempted)" in slow.good("show", "r", "0")


def test_submit_twice_starts_nothing_twice_and_cancel_ends_it(slow: Desk) -> None:
    submit = ("submit", "r", "--launcher", "local", "--workers", "1")
    assert "1 worker submitted" in slow.good(*submit)
    assert "already submitted: 1 running and 0 waiting workers for 2 trials; nothing was sent" in slow.good(
        *submit
    )
    wait_until(lambda: _saved(slow), 60)
    assert "1 running" in slow.good("status", "r")
    assert "nothing is finished yet" in slow.good("collect", "r")

    assert "1 worker was told to end" in slow.good("cancel", "r")
    wait_until(lambda: "no live worker" in slow.good("status", "r"), 60)
    assert "nothing to cancel" in slow.good("cancel", "r")
    assert "2 pending" in slow.good("status", "r")
    assert len(_begun(slow)) == 1
