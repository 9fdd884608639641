"""One squeue for everybody who watches: what it says, and how often it is asked."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from hpc_search.layout import Layout
from hpc_search.site.queue import Job, parse
from hpc_search.site.shared import PAUSE_S, Desk, Queue

TOKEN = "search-01234567-0001"
#: As printed by SLURM 22.05.
LINES = f"""\
{TOKEN}|PENDING|JobArrayTaskLimit|N/A||38|6-19%6
{TOKEN}|PENDING|Resources|2026-11-29T17:12:31||39|3,5-9:2,12
{TOKEN}|RUNNING|None|2026-11-29T17:10:51|node1|38|0
{TOKEN}|COMPLETING|None|2026-11-29T17:10:51|node2|38|1
other|PENDING|ReqNodeNotAvail, UnavailableNodes:node4|N/A||21|N/A
{TOKEN}|FUTURE_STATE|None|N/A|node[1-2]|40|N/A
nonsense
"""


class Slurm:
    """Answers, or not, and counts."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.jobs: tuple[Job, ...] | None = parse(LINES)

    def __call__(self, tokens: Sequence[str], _user: str, _timeout: float) -> tuple[Job, ...] | None:
        self.calls.append(tuple(tokens))
        return self.jobs


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def later(layout: Layout, seconds: float) -> None:
    """Let the file server's clock go on: what was asked, and answered, is that much older."""
    for path in layout.cache.iterdir():
        if path.name.startswith("asked."):
            moment = path.stat().st_mtime - seconds
            os.utime(path, (moment, moment))


def test_arrays_are_counted_and_unknown_states_work() -> None:
    jobs = parse(LINES)

    assert [(job.kind, job.count) for job in jobs] == [
        ("waiting", 14),
        ("waiting", 5),
        ("running", 1),
        ("ending", 1),
        ("waiting", 1),
        ("running", 1),
    ]
    assert jobs[1].has(7)
    assert not jobs[1].has(6)
    assert jobs[1].start > 0
    assert jobs[0].start == 0
    assert jobs[4].reason == "ReqNodeNotAvail, UnavailableNodes:node4"


def test_nothing_is_asked_where_nothing_was_submitted(layout: Layout) -> None:
    slurm = Slurm()

    assert Desk(layout, slurm).look([]) is None
    assert slurm.calls == []


def test_many_watchers_ask_once(layout: Layout) -> None:
    slurm = Slurm()
    found: list[Queue | None] = []
    desks = [Desk(layout, slurm) for _ in range(8)]
    threads = [threading.Thread(target=lambda desk=desk: found.append(desk.look([TOKEN]))) for desk in desks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(slurm.calls) == 1
    # Who does not ask waits for the one that does.
    assert [one is not None and one.healthy and sum(job.count for job in one.jobs) for one in found] == [
        22
    ] * 8


def test_at_most_two_questions_lie_in_a_minute(layout: Layout) -> None:
    slurm, steps = Slurm(), 60
    for _ in range(steps):
        Desk(layout, slurm).look([TOKEN])
        later(layout, 5)

    assert len(slurm.calls) == steps * 5 // PAUSE_S


def test_a_new_submission_is_asked_for_before_its_turn_but_within_the_limit(layout: Layout) -> None:
    slurm = Slurm()
    Desk(layout, slurm).look([TOKEN])
    later(layout, 2)
    Desk(layout, slurm).look([TOKEN, "second"])
    later(layout, 2)
    third = Desk(layout, slurm).look([TOKEN, "second", "third"])

    assert len(slurm.calls) == 2
    assert third is not None
    assert third.unasked == ("third",)


def test_an_answer_that_does_not_come_keeps_the_last_one_and_says_so(layout: Layout) -> None:
    slurm = Slurm()
    Desk(layout, slurm).look([TOKEN])
    slurm.jobs = None
    later(layout, 40)
    found = Desk(layout, slurm).look([TOKEN])

    assert found is not None
    assert (len(slurm.calls), found.answers, found.healthy) == (2, False, False)
    assert len(found.jobs) == 5
    again = Desk(layout, slurm).look([TOKEN])
    assert len(slurm.calls) == 2
    assert again is not None
    assert not again.answers


def test_without_a_first_answer_nothing_is_known(layout: Layout) -> None:
    slurm = Slurm()
    slurm.jobs = None
    found = Desk(layout, slurm).look([TOKEN])

    assert found is not None
    assert (found.age, found.answers, found.jobs) == (None, False, ())


def test_where_the_cache_cannot_be_written_the_limit_is_that_of_the_process(layout: Layout) -> None:
    layout.cache.write_bytes(b"a file where the directory would be")
    slurm, clock = Slurm(), [0.0]
    desk = Desk(layout, slurm, clock=lambda: clock[0])
    for second in range(300):
        clock[0] = float(second)
        found = desk.look([TOKEN])

    assert len(slurm.calls) == 10
    assert found is not None
    assert found.age == 29.0
    assert layout.cache.read_bytes()


def test_the_cache_holds_few_private_files(layout: Layout) -> None:
    slurm = Slurm()
    for _ in range(10):
        Desk(layout, slurm).look([TOKEN])
        later(layout, 100)

    found = sorted(path.name for path in layout.cache.iterdir())
    assert found == ["asked.10", "asked.9", "queue.json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in layout.cache.iterdir()} == {0o600}


def test_a_damaged_answer_is_asked_for_again(layout: Layout) -> None:
    slurm = Slurm()
    Desk(layout, slurm).look([TOKEN])
    layout.queue.write_bytes(b"{")
    later(layout, 2)

    found = Desk(layout, slurm).look([TOKEN])
    assert len(slurm.calls) == 2
    assert found is not None
    assert found.jobs
