"""What `fsck` says of the log of proposed points, and what it makes again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hpc_search import search
from hpc_search.errors import EXIT_DAMAGED, EXIT_DONE
from hpc_search.layout import Layout
from hpc_search.ledger import Ledger, history
from hpc_search.ledger.fold import fold
from hpc_search.ledger.proposals import Proposals
from hpc_search.records import journal as lines
from hpc_search.records.proposals import PACK, Entry
from hpc_search.search.fsck import adopt
from hpc_search.steering.points import Points
from tests.adaptive_run import Lowest
from tests.fsck_run import FsckRun
from tests.ledger_run import end_of, flip

TEXT = """\
name: example
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [%s]}
strategy: {evolution: {points: %d}}
heartbeat: 10
lease: 60
"""


class Run(FsckRun):
    """A run whose points are proposed."""

    def __init__(self, root: Path, points: int = 5) -> None:
        super().__init__(root, TEXT % (", ".join(map(str, range(points + 3))), points))

    def ledger(self, *, alive: bool = False) -> Ledger:
        points = Points(self.layout, self.plan)
        made = super().ledger(alive=alive)
        made._proposing._proposer = Lowest(self.layout, values=1000)
        made._proposing._log = points.proposals
        made._trial_of = points
        return made


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that was planned for five points, of which four were proposed and run by two workers."""
    made = Run(tmp_path)
    for _ in range(2):
        ledger = made.ledger()
        for _ in range(2):
            (claimed,) = ledger.claim()
            ledger.finish(end_of(claimed))
        ledger.exit("no work left")
    return made


def log(layout: Layout) -> dict[int, int]:
    found = Proposals(layout)
    found.read()
    return {point: entry.params["x"] for point, entry in found.all.items()}


def test_a_log_as_it_should_be_is_no_damage(run: Run) -> None:
    assert run.check().exit_code == EXIT_DONE
    assert run.bad() == []
    assert [one.path for one in run.check().findings if "proposals" in one.path] == []


@pytest.mark.parametrize("number", [0, 2, 3])
@pytest.mark.parametrize("damage", ["a bit", "cut", "removed", "another", "more"])
def test_an_entry_is_made_again_from_the_journal_of_its_worker(run: Run, number: int, damage: str) -> None:
    path = run.layout.proposal(number)
    before = log(run.layout)
    if damage == "a bit":
        flip(path, 90)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:50])
    elif damage == "removed":
        path.unlink()
    elif damage == "more":
        path.write_bytes(path.read_bytes() + b"of another file\n")
    else:
        path.write_bytes(run.layout.proposal((number + 1) % 4).read_bytes())

    assert run.check().exit_code == EXIT_DAMAGED
    assert [one.path for one in run.check().findings if one.level == "damaged"] == [
        f"ledger/proposals/{path.name}"
    ]
    assert run.repair().exit_code == EXIT_DONE
    assert log(run.layout) == before
    assert run.bad() == []


def test_the_whole_log_is_made_again_from_the_journals_also_from_the_archive(run: Run) -> None:
    before = log(run.layout)
    shutil.rmtree(run.layout.proposals)
    ledger = run.ledger()
    fold(run.layout, ledger.me, many=1)
    ledger.exit("done")
    assert len(history.live_workers(run.layout)) == 1

    assert run.repair().exit_code == EXIT_DONE
    assert log(run.layout) == before


def test_a_pack_is_made_again_line_by_line(tmp_path: Path) -> None:
    run = Run(tmp_path, points=PACK + 1)
    ledger = run.ledger()
    for _ in range(PACK + 1):
        (claimed,) = ledger.claim()
        ledger.finish(end_of(claimed))
    ledger.exit("no work left")
    before = log(run.layout)
    pack = run.layout.proposal_pack(0, PACK)
    rows = pack.read_bytes().splitlines(keepends=True)
    pack.write_bytes(b"".join([*rows[:3], rows[3][:40] + b"\n", *rows[4:70]]))

    assert run.check().exit_code == EXIT_DAMAGED
    assert run.repair().exit_code == EXIT_DONE
    assert log(run.layout) == before
    assert pack.read_bytes().count(b"\n") == PACK


def test_an_entry_that_nobody_ran_is_lost_and_the_run_goes_on(run: Run) -> None:
    found = Proposals(run.layout)
    # Its worker was killed before it wrote it down.
    found.publish(Entry(point=4, params={"x": 7}, family="/"))
    path = run.layout.proposal(4)
    path.write_bytes(b"{}")

    report = run.repair()
    assert report.exit_code == EXIT_DAMAGED
    assert [one.lost for one in report.findings if one.path.endswith(path.name)] != [""]
    assert run.bad() == []
    ledger = run.ledger()
    (claimed,) = ledger.claim()
    assert (claimed.trial.point, claimed.trial.params) == (4, {"x": 4})
    assert log(run.layout) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}


def test_what_follows_an_entry_that_is_lost_still_counts(run: Run) -> None:
    records = [
        line for line in history.lines(run.layout, frozenset({b"propose"})) if b'"entry":2' in line.data
    ]
    for line in records:
        path = run.layout.journal(line.worker, line.segment)
        record = lines.parse_line(line.data)
        assert record is not None
        other = lines.encode_line(lines.Note(n=record.n, t=record.t, event="something else")).rstrip()
        path.write_bytes(path.read_bytes().replace(line.data, other))
    run.layout.proposal(2).unlink()
    assert run.repair().findings

    # The trial of point 2 has its result; of the log, only that entry is gone.
    assert log(run.layout) == {0: 0, 1: 1, 3: 3}


def test_a_copy_of_a_run_has_its_log_and_goes_on_with_it(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.layout.root, copy)
    adopt(str(copy))
    layout = Layout(copy)
    assert log(layout) == log(run.layout)
    points = Points(layout, run.plan)
    assert points(3).params == {"x": 3}
    assert not points(4).known


def test_a_trial_whose_point_is_not_proposed_is_shown_and_not_run_again(run: Run) -> None:
    from hpc_search.errors import UsageError
    from hpc_search.search import trialtext

    opened = search.open_run(str(run.layout.root))
    view = search.view_trial(opened, 4)
    text = trialtext.as_text(opened.plan, view)
    assert "not proposed yet" in text
    for refused in (lambda: search.rerun(opened, 4), lambda: search.standalone(opened, view)):
        with pytest.raises(UsageError, match="point 4 has no parameters: not proposed yet"):
            refused()
    shown = search.view_trial(opened, 3)
    assert any(isinstance(record, lines.Propose) for _, record in shown.records)
    assert "point proposed from what was known of the points 0-3 (done)" in trialtext.as_text(
        opened.plan, shown
    )
