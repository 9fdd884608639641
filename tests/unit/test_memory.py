"""What counts as evidence that memory ran out."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search.records import journal as lines
from hpc_search.records.search import OomRetry
from hpc_search.worker.failures import note_memory
from hpc_search.worker.memory import KillCounter, counter_file, host_ran_out, program_ran_out
from tests.ledger_run import LedgerRun

V2 = "0::/system.slice/slurmstepd.scope/job_5/step_0/user/task_0\n"
V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "9:name=systemd:/\n4:cpu,memory:/slurm/uid_7/job_5/step_0\n0::/\n"
V1_MOUNT = (
    "33 24 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "34 24 0:30 / /sys/fs/my\\040groups rw,relatime - cgroup cgroup rw,memory\n"
    "35 24 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)


def test_the_count_of_kills_is_found_in_both_versions_of_cgroups() -> None:
    task = "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_5/step_0/user/task_0/memory.events"
    assert counter_file(V2, V2_MOUNT) == Path(task)
    step = "/sys/fs/my groups/slurm/uid_7/job_5/step_0/memory.oom_control"
    assert counter_file(V1, V1_MOUNT) == Path(step)


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        ("/", "/", "/mnt/memory.events"),
        ("/box", "/box", "/mnt/memory.events"),
        ("/box", "/box/a", "/mnt/a/memory.events"),
        ("/box", "/boxes", None),
        ("/box", "/other", None),
        ("/", "/../outside", None),
    ],
)
def test_a_cgroup_outside_of_the_mount_is_not_guessed(root: str, path: str, expected: str | None) -> None:
    mounts = f"30 23 0:26 {root} /mnt rw - cgroup2 cgroup2 rw\n"
    found = counter_file(f"0::{path}\n", mounts)
    assert found == (None if expected is None else Path(expected))


def test_without_a_memory_controller_nothing_is_known(tmp_path: Path) -> None:
    assert counter_file("0::/\n", "") is None
    assert counter_file("", V2_MOUNT) is None
    assert KillCounter.of_this_process(tmp_path).read() is None
    assert KillCounter(tmp_path / "nothing").read() is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n", 2),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", 7),
        ("oom_kill_disable 0\nunder_oom 0\n", None),
    ],
)
def test_the_count_is_read_from_either_file(tmp_path: Path, text: str, count: int | None) -> None:
    (tmp_path / "events").write_text(text)
    assert KillCounter(tmp_path / "events").read() == count


@pytest.mark.parametrize("status", [-9, 137])
def test_a_kill_and_a_higher_count_together_are_host_memory(status: int) -> None:
    assert host_ran_out(1, 2, status, "")
    assert not host_ran_out(2, 2, status, "")
    assert not host_ran_out(None, 2, status, "")
    assert not host_ran_out(1, None, status, "")


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ("RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed. ", True),
        ("BrokenProcessPool: A process in the process pool was terminated abruptly while", True),
        ("Command '['x']' died with <Signals.SIGKILL: 9>.", True),
        ("ValueError: what the user wrote", False),
        ("RuntimeError: DataLoader worker (pid 7) is killed by signal: Terminated. ", False),
    ],
)
def test_a_trial_may_die_of_a_child_of_its_own_that_was_killed(detail: str, expected: bool) -> None:
    assert host_ran_out(0, 1, 1, detail) is expected


@pytest.mark.parametrize(
    "tail",
    [
        b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        b"x\nRuntimeError: CUDA out of memory.\nmore",
        b"fork: Cannot allocate memory",
        b"RuntimeError: [enforce fail at alloc.cpp] DefaultCPUAllocator: can't allocate memory: you tried",
        b"terminate called after throwing an instance of 'std::bad_alloc'",
        b"Traceback\nMemoryError",
        b"RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes",
    ],
)
def test_known_words_of_a_program_that_failed_are_lack_of_memory(tail: bytes) -> None:
    found = program_ran_out(1, tail, OomRetry())
    assert found
    assert found.encode() in tail
    assert program_ran_out(0, tail, OomRetry()) == ""
    assert program_ran_out(None, tail, OomRetry()) == ""


def test_other_failures_of_a_program_are_not() -> None:
    assert program_ran_out(1, b"ValueError: no MemoryError here", OomRetry()) == ""
    assert program_ran_out(137, b"", OomRetry()) == ""


def test_words_and_codes_of_ones_own_take_their_place() -> None:
    rule = OomRetry(text=(r"\bE-MEM \d+",), codes=(42,))
    assert program_ran_out(3, b"a\nstopped: E-MEM 12 !\nb", rule) == "stopped: E-MEM 12 !"
    assert program_ran_out(3, b"CUDA out of memory", rule) == ""
    assert "42" in program_ran_out(42, b"", rule)


def test_a_very_long_line_is_cut_around_what_was_found() -> None:
    found = program_ran_out(1, b"x" * 50_000 + b"CUDA out of memory" + b"y" * 9000, OomRetry())
    assert "out of memory" in found
    assert len(found) <= 300


def test_the_next_worker_of_a_cgroup_says_that_the_one_before_may_have_been_killed_for_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = LedgerRun(tmp_path / "run")
    kills = KillCounter(tmp_path / "memory.events")
    (tmp_path / "memory.events").write_text("oom_kill 3\n")
    dead, alive, left = run.mortal(), run.ledger(), run.mortal()
    for ledger in (dead, alive, left):
        note_memory(run.layout, ledger, kills)
    left.exit("no work left")
    elsewhere = run.mortal()
    note_memory(run.layout, elsewhere, KillCounter(tmp_path / "none"))
    (tmp_path / "memory.events").write_text("oom_kill 4\n")
    note_memory(run.layout, run.ledger(), kills)
    found = [note.text for note in run.records("note") if isinstance(note, lines.Note)]
    (words,) = [text for text in found if "killed 1 processes" in text]
    assert dead.id in words
    assert f"worker {dead.id} is gone" in capsys.readouterr().err
    run.close()
