"""Short versions of the campaigns that break system calls; the long ones are run by `tools/chaos`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from hpc_search.errors import UsageError
from tools.campaigns import injected, ordering, planted, races, syscalls, tracing, zombies
from tools.campaigns.common import Tally

pytestmark = pytest.mark.timeout(300)
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="SKIPPED: strace is not installed")


def campaign(module: ModuleType, directory: Path, *arguments: str) -> Tally:
    parser = argparse.ArgumentParser()
    module.options(parser)
    given = parser.parse_args(arguments)
    given.seed, given.directory = 0, directory
    tally: Tally = module.run(given)
    return tally


@needs_strace
@pytest.mark.parametrize(
    ("operations", "every"),
    [(("claim", "finish"), "4"), (("checkpoint", "archive"), "30"), (("plan",), "20"), (("work",), "100")],
)
def test_a_kill_at_any_system_call_loses_nothing(
    tmp_path: Path, operations: tuple[str, ...], every: str
) -> None:
    tally = campaign(syscalls, tmp_path, "--operations", *operations, "--every", every)
    assert not tally.problems, tally.text()
    # What a worker calls depends on time: it may be missed.
    expected = tally.counts["calls aimed at"] - (2 if "work" in operations else 0)
    assert tally.counts["calls hit"] >= expected > 3


@needs_strace
def test_a_kill_is_at_the_very_call_that_was_aimed_at(tmp_path: Path) -> None:
    tally = campaign(syscalls, tmp_path, "--operations", "samples")
    assert tally.counts["calls hit"] == tally.counts["calls seen"] >= 8


@needs_strace
def test_an_error_of_any_system_call_ends_in_words_or_in_another_try(tmp_path: Path) -> None:
    names = ("write", "fdatasync", "pwrite64", "flock")
    arguments = (
        "--operations",
        "finish",
        "--errors",
        "EIO",
        "ENOSPC",
        "EINTR",
        "--every",
        "2",
        "--names",
        *names,
    )
    tally = campaign(injected, tmp_path, *arguments)
    assert not tally.problems, tally.text()
    assert tally.counts["not hit"] == 0
    assert (
        tally.counts["went on"] + tally.counts["exit 75, with words"] == tally.counts["calls x errors"] > 10
    )


@needs_strace
@pytest.mark.parametrize("claiming", ["lock", "exclusive"])
def test_a_worker_that_is_stopped_in_any_system_call_is_a_harmless_zombie(
    tmp_path: Path, claiming: str
) -> None:
    arguments = ("--operations", "finish", "checkpoint", "--names", "write", "rename", "--claiming", claiming)
    tally = campaign(zombies, tmp_path, *arguments)
    assert not tally.problems, tally.text()
    assert tally.counts["zombies"] == tally.counts["calls aimed at"] >= 10


@needs_strace
@pytest.mark.parametrize("claiming", ["lock", "exclusive"])
def test_two_workers_never_make_the_same_attempt(tmp_path: Path, claiming: str) -> None:
    tally = campaign(races, tmp_path, "--operations", "claim", "--every", "2", "--claiming", claiming)
    assert not tally.problems, tally.text()
    assert tally.counts["held"] == tally.counts["calls aimed at"] > 5


@needs_strace
@pytest.mark.parametrize("bug", ["2", "3", "6"])
def test_a_campaign_catches_a_planted_bug(tmp_path: Path, bug: str) -> None:
    tally = campaign(planted, tmp_path, "--bugs", bug)
    assert not tally.problems, tally.text()
    assert tally.counts["bugs caught"] == 1


@pytest.mark.parametrize("bug", planted.BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_every_bug_can_still_be_planted(tmp_path: Path, bug: planted.Bug) -> None:
    package = planted.planted(bug, tmp_path)
    for name, _, _ in bug.edits:
        compile((package / "hpc_search" / name).read_text(), name, "exec")


def test_a_campaign_without_strace_refuses_with_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="strace, which is not on PATH"):
        campaign(syscalls, tmp_path)


# ------------------------------------------------------------------------------------- the order of calls

WRITE = (
    'openat(AT_FDCWD</>, "/r/seals/.t-1", O_WRONLY|O_CREAT|O_EXCL, 0600) = 3</r/seals/.t-1>\n'
    'write(3</r/seals/.t-1>, "x", 1) = 1\n'
)
SYNC = "fsync(3</r/seals/.t-1>) = 0\n"
LINK = 'link("/r/seals/.t-1", "/r/seals/1.jsonl") = 0\n'
DIRECTORY = "fsync(4</r/seals>) = 0\n"
END = 'write(5</r/workers/a/journal.1.jsonl>, "{\\"k\\":\\"end\\",\\"n\\":3"..., 300) = 300\n'
DURABLE = "fdatasync(5</r/workers/a/journal.1.jsonl>) = 0\n"
MARK = 'pwrite64(6</r/ledger/claims.bin>, "\\4"..., 64, 64) = 64\n'


@pytest.mark.parametrize(
    ("trace", "found"),
    [
        (WRITE + SYNC + LINK + DIRECTORY, ""),
        (WRITE + LINK + DIRECTORY, "before its fsync"),
        (WRITE + SYNC + LINK, "has no durable name"),
        (WRITE + SYNC.replace("= 0", "= -1 EIO") + LINK + DIRECTORY, "before its fsync"),
        (END + DURABLE + MARK, ""),
        (END + MARK + DURABLE, "the index was written before"),
        ('mkdir("/r/workers/a", 0700) = 0\n', "has no durable name"),
        (WRITE.replace("seals", "workers/a") + 'rename("/r/workers", "/r2") = 0\n', "were not synced when"),
    ],
)
def test_names_come_after_syncs(trace: str, found: str) -> None:
    violations = " ".join(ordering.violations(trace))
    assert (found in violations) if found else not violations


def test_a_call_is_known_by_its_place_in_its_thread() -> None:
    log = (
        '11 openat(AT_FDCWD</>, "/lib/x", O_RDONLY) = 3</lib/x>\n'
        '11 openat(AT_FDCWD</>, "/run/a", O_RDONLY) = 3</run/a>\n'
        '12 openat(AT_FDCWD</>, "/run/b", O_RDONLY) = 4</run/b>\n'
        '11 unlinkat(3</run>, "c", 0) = 0\n'
    )
    first, second, third = tracing.calls(log, Path("/run"))
    assert (first.name, first.count, first.path, first.shadowed) == ("openat", 2, "/run/a", False)
    assert (second.count, second.path, second.shadowed) == (1, "/run/b", True)
    assert second.injection("signal=KILL") == ["-P", "/run/b", "-e", "inject=openat:signal=KILL:when=1"]
    assert third.path == "/run/c"
