"""The time left of a run with stages: each at its own pace, and what nobody knows is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hpc_search.ledger import liveness
from hpc_search.ledger.gates import Gates
from hpc_search.records import index, journal
from hpc_search.records.search import Part
from hpc_search.space import Space
from hpc_search.status import Status, read_status
from hpc_search.status.ahead import Group, Pace, ahead, median
from hpc_search.status.estimate import Crew, Length, Rate
from tests.folded_run import FoldedRun
from tests.run_builder import worker_id

TEN = Length(10.0, 0.0, 10.0, 12.0)


def group(stage: str, left: int, seconds: float | None, search: str = "") -> Group:
    length = None if seconds is None else Length(seconds, 0.0, seconds, 1.2 * seconds)
    return Group(search, stage, left, length, (range(left),))


def staged(root: Path, fixed: list[dict[str, Any]], *, names: str = "abcdef") -> FoldedRun:
    """Return a run with one stage of four trials for each of *fixed*; the first has ended, 6 s a trial."""
    run = FoldedRun(root, points=4, folds=1)
    space = run.space
    for number, values in enumerate(fixed[1:], 1):
        changed = Space(dimensions=space.dimensions, fixed=values)
        run.add(space=changed, stage=number, stage_name=names[number], needs=number - 1)
    first = msgspec.structs.replace(
        run.plan.blocks[0], stage_name=names[0], space=Space(dimensions=space.dimensions, fixed=fixed[0])
    )
    run.plan = msgspec.structs.replace(run.plan, blocks=(first, *run.plan.blocks[1:]))
    for trial in range(4):
        run.end(trial, 0.5, seconds=6.0, t=1000.0 + 6 * trial)
    return run


def seen_by_a_worker(run: FoldedRun, now: float = 1020.0) -> Status:
    """Return the status while one worker of this machine is live."""
    me = liveness.this_process()
    opening = journal.Open(
        worker=worker_id(1),
        run_id=run.plan.run_id,
        segment=1,
        host=me.host,
        boot_id=me.boot_id,
        pid=me.pid,
        start_time=me.start_time,
    )
    run.lines[worker_id(1)][0] = journal.encode_line(opening)
    run.write()
    run.layout.heartbeat(worker_id(1)).write_bytes(liveness.encode_beat(liveness.Beat(worker_id(1), 1, ())))
    return read_status(run.layout, run.plan, now=now)


def test_a_stage_with_more_epochs_takes_longer_in_proportion(tmp_path: Path) -> None:
    same = staged(tmp_path / "same", [{"epochs": 3}, {"epochs": 3}])
    more = staged(tmp_path / "more", [{"epochs": 3}, {"epochs": 30}])

    short, long = seen_by_a_worker(same).eta_seconds, seen_by_a_worker(more).eta_seconds

    assert short is not None
    assert long is not None
    assert short.low < 24 <= (short.high or 0)
    assert long.low == pytest.approx(10 * short.low)
    assert long.low < 240 <= (long.high or 0)


def test_what_a_stage_took_itself_says_more_than_what_was_expected(tmp_path: Path) -> None:
    run = staged(tmp_path / "run", [{"epochs": 3}, {"epochs": 30}])
    for trial in (4, 5):
        run.end(trial, 0.5, seconds=100.0, t=1000.0 + 100 * (trial - 3), point=trial, fold=0)

    eta = seen_by_a_worker(run, now=1220.0).eta_seconds

    assert eta is not None
    assert eta.low <= 200 <= (eta.high or 0)
    assert eta.low > 50, "the first stage's trials are a seventeenth of these"


@pytest.mark.parametrize(
    "fixed", [{"epochs": 3, "depth": 5}, {"epochs": 30, "depth": 5}, {"epochs": None}, {"depth": 3}]
)
def test_a_stage_that_differs_in_more_than_epochs_is_not_guessed(
    tmp_path: Path, fixed: dict[str, Any]
) -> None:
    run = staged(tmp_path / "run", [{"epochs": 3}, {"epochs": 30}, fixed])

    status = seen_by_a_worker(run)

    assert status.eta_without == ("c",)
    assert status.eta_seconds is not None
    assert status.eta_seconds.high is None
    assert all(hours.left is None for hours in status.hours)
    text = status.text(1000)
    assert "time left at least " in text
    assert "(without stage c: how long is not known yet)" in text


def test_a_trial_is_long_only_beside_those_of_its_stage() -> None:
    groups = [group("a", 4, 6.0), Group("", "b", 2, TEN, (range(8, 9), range(12, 13)))]

    assert [median(groups, number) for number in (3, 8, 9, 12)] == [6.0, 10.0, None, 10.0]


def test_stages_come_one_after_the_other_and_searches_side_by_side() -> None:
    pace, crew = Pace(None, None), Crew(1000)

    one = ahead(
        [group("a", 4, 10.0), group("b", 2, 100.0), group("c", 1, 1000.0)], pace, crew, 0, moving=True
    )
    two = ahead([group("a", 4, 10.0, "x"), group("a", 2, 100.0, "y")], pace, crew, 0, moving=True)

    assert one.eta is not None
    assert one.eta.low == 1100
    assert one.eta.high is not None
    assert 1110 <= one.eta.high < 1800
    assert one.work == (1240, 1240)
    assert two.eta is not None
    assert (two.eta.low, two.eta.high) == pytest.approx((240 / 6, 240 / 6 + 120))


def test_the_rate_counts_a_longer_trial_as_several(tmp_path: Path) -> None:
    pace, crew = Pace(Rate(1.0, 10_000), TEN), Crew(0)

    found = ahead([group("a", 100, 10.0), group("b", 100, 40.0)], pace, crew, 0, moving=True)
    unknown = ahead([group("a", 100, 10.0), group("b", 100, None)], pace, crew, 0, moving=True)
    alone = ahead([group("", 100, None)], pace, crew, 0, moving=True)
    paused = ahead([group("a", 100, 10.0)], pace, crew, 0, moving=False)

    assert found.eta is not None
    assert (found.eta.low, found.eta.high) == pytest.approx((500, 500), rel=0.03)
    assert unknown.eta is not None
    assert unknown.eta.low == pytest.approx(100, rel=0.03)
    assert unknown.eta.high is None
    assert (unknown.work, unknown.without) == (None, ("b",))
    assert alone.eta is not None
    assert alone.eta.low == pytest.approx(100, rel=0.03)
    assert (paused.eta, paused.work) == (None, (1000, 1000))
    assert ahead([group("a", 1, None), group("b", 1, None)], pace, crew, 0, moving=True).eta is None


def test_searches_that_stopped_are_not_waited_for(tmp_path: Path) -> None:
    run = staged(tmp_path / "run", [{"epochs": 3}, {"epochs": 3}])
    spec = run.plan.search
    parts = tuple(
        Part(name=name, trial=spec.trial, metric=spec.metric, space=spec.space, strategy=spec.strategy)
        for name in ("x", "y")
    )
    run.change(searches=parts)
    blocks = tuple(
        msgspec.structs.replace(block, part=name, needs=None)
        for name, block in zip(("x", "y"), run.plan.blocks, strict=True)
    )
    run.plan = msgspec.structs.replace(run.plan, blocks=blocks)
    assert run.entries[3].state == index.DONE
    going = seen_by_a_worker(run)
    run.layout.stopped_parts.mkdir(parents=True)
    Gates(run.layout, run.plan).stop_part(1, "it fails")
    stopped = seen_by_a_worker(run)

    # Of the other search nothing is known: it runs other code.
    assert going.eta_without == ("y b",)
    assert (stopped.left, stopped.eta_seconds, stopped.eta_without) == (0, None, ())
