"""Claiming trials whose points are proposed when they are claimed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_search.errors import EXIT_TEMPORARY
from hpc_search.ledger import Ledger, history
from hpc_search.ledger.liveness import read_beat
from hpc_search.ledger.proposals import Proposals
from hpc_search.ledger.proposing import NotProposedError, Proposed
from hpc_search.locks import IndexLock
from hpc_search.records import journal as lines
from hpc_search.steering.points import Points
from tests.adaptive_run import AdaptiveRun, Lowest
from tests.ledger_run import end_of


@pytest.fixture(params=["lock", "exclusive"])
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[AdaptiveRun]:
    made = AdaptiveRun(tmp_path / "run", points=4, folds=3, claiming=request.param)
    yield made
    made.close()


def kinds(run: AdaptiveRun, ledger: Ledger) -> list[str]:
    """Return what is in the journal of *ledger*, in order."""
    found = history.records(run.layout, ledger.id)
    return [type(record).__name__ for record in found if not isinstance(record, lines.Open | lines.Accepted)]


def log(run: AdaptiveRun) -> dict[int, Any]:
    """Return point -> x of the log."""
    proposals = Proposals(run.layout)
    proposals.read()
    return {point: entry.params["x"] for point, entry in sorted(proposals.all.items())}


def test_who_claims_a_trial_of_a_new_point_proposes_it_and_says_so_before_it_claims_it(
    run: AdaptiveRun,
) -> None:
    ledger = run.ledger()
    (claimed,) = ledger.claim()

    assert claimed.trial.known
    assert claimed.trial.params == {"x": 0}
    assert log(run) == {0: 0}
    assert kinds(run, ledger) == ["Propose", "Claim"]
    propose, claim = history.records(run.layout, ledger.id, frozenset({b"propose", b"claim"}))
    assert isinstance(propose, lines.Propose)
    assert isinstance(claim, lines.Claim)
    assert (propose.point, propose.params, propose.entry) == (0, {"x": 0}, 0)
    assert (propose.history, propose.seen) == ("digest of 0", "0-0")
    assert claim.params == {"x": 0}


def test_all_folds_of_a_point_have_what_the_first_one_proposed(run: AdaptiveRun) -> None:
    ledgers = [run.ledger() for _ in range(3)]
    trials = [ledgers[number % 3].claim()[0].trial for number in range(12)]
    assert sorted(trial.number for trial in trials) == list(range(12))
    proposed = log(run)
    assert sorted(proposed.values()) == [0, 1, 2, 3]
    assert all(trial.params == {"x": proposed[trial.point]} for trial in trials)


def test_one_is_claimed_at_a_time_while_there_are_points_to_be_proposed(run: AdaptiveRun) -> None:
    ledger = run.ledger()
    assert [len(ledger.claim(5)) for _ in range(4)] == [1, 1, 1, 1]
    if ledger.claiming == "lock":
        assert len(ledger.claim(5)) == 5


def test_a_proposer_is_asked_again_where_its_point_is_anothers_by_the_time_it_is_published(
    run: AdaptiveRun,
) -> None:
    other = run.ledger()

    def overtake(_: int) -> None:
        if not log(run):
            other.claim()

    slow = Lowest(run.layout, overtake)
    ledger = run.ledger(slow)
    (claimed,) = ledger.claim()

    assert slow.asked == [0, 0]
    assert claimed.trial.params == {"x": 1}
    assert log(run) == {0: 1, 1: 0}


def test_a_point_that_another_one_proposed_meanwhile_is_adopted(run: AdaptiveRun) -> None:
    def other(point: int) -> None:
        log = Proposals(run.layout)
        log.publish(log_entry(point, 40))

    ledger = run.ledger(Lowest(run.layout, other))
    (claimed,) = ledger.claim()
    assert claimed.trial.params == {"x": 40}
    assert kinds(run, ledger) == ["Propose", "Claim"]


def log_entry(point: int, x: int) -> Any:
    from hpc_search.records.proposals import Entry

    return Entry(point=point, params={"x": x}, family="/")


@pytest.mark.parametrize("dies", ["before", "after"])
def test_a_worker_that_dies_while_it_proposes_leaves_its_point_to_the_next_one(
    run: AdaptiveRun, dies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dead(BaseException):
        pass

    dead = run.mortal()
    die = pytest.raises(Dead)
    if dies == "before":
        monkeypatch.setattr(dead._proposing, "_proposer", lambda _: (_ for _ in ()).throw(Dead))
    else:
        monkeypatch.setattr(dead._proposing, "_tell", lambda _: (_ for _ in ()).throw(Dead))
    # A killed process gives nothing back.
    monkeypatch.setattr(dead, "give_back", lambda _: None)
    with die:
        dead.claim()
    proposer = Lowest(run.layout)
    ledger = run.ledger(proposer)

    ledger.recover()
    (claimed,) = ledger.claim()

    assert (claimed.trial.number, claimed.trial.params) == (0, {"x": 0})
    assert log(run) == {0: 0}
    assert proposer.asked == ([0] if dies == "before" else [])
    assert kinds(run, ledger)[-2:] == ["Propose", "Claim"]


@pytest.mark.parametrize("error", [ImportError("No module named 'optuna'"), ValueError("a bug")])
def test_a_proposer_that_fails_gives_the_trial_back_and_uses_up_nothing(
    run: AdaptiveRun, error: Exception
) -> None:
    def fail(_: int) -> Proposed:
        raise error

    ledger = run.ledger(fail)
    with pytest.raises(NotProposedError, match="point 0, of trial 0, could not be proposed") as raised:
        ledger.claim()

    assert raised.value.exit_code == EXIT_TEMPORARY
    assert str(error) in raised.value.message
    assert run.states() == ["pending"] * 12
    (end,) = run.records("end")
    assert isinstance(end, lines.End)
    assert (end.state, end.cause, end.params) == ("pending", "", {})
    ledger.exit("not proposed")
    other = run.ledger()
    other.recover()
    (claimed,) = other.claim()
    assert claimed.trial.number == 0
    assert (claimed.before.errors, claimed.before.stalls) == (0, 0)


def test_a_proposer_that_chooses_what_another_point_has_is_not_asked_for_ever(run: AdaptiveRun) -> None:
    run.ledger().claim()
    ledger = run.ledger(lambda _: Proposed({"x": 0}))
    with pytest.raises(NotProposedError, match="another point has the parameters"):
        ledger.claim()


def test_a_worker_that_is_told_to_stop_while_it_proposes_gives_the_trial_back(run: AdaptiveRun) -> None:
    ledger = run.ledger(lambda _: None)
    assert ledger.claim() == []
    assert run.states() == ["pending"] * 12
    assert log(run) == {}


def locked(run: AdaptiveRun) -> list[str]:
    """Return the locks of the run that another process finds held."""
    program = (
        "import sys; from pathlib import Path; from hpc_search.locks import tried_lock\n"
        "for path in map(Path, sys.argv[1:]):\n"
        "    with tried_lock(path) as free:\n"
        "        print('' if free else path.name)\n"
    )
    paths = [run.layout.claims_lock, *sorted(run.layout.root.rglob("*.lock"))]
    argv = [sys.executable, "-c", program, *map(str, dict.fromkeys(paths))]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def test_no_lock_is_held_while_a_point_is_proposed(run: AdaptiveRun) -> None:
    others: list[list[int]] = []
    held: list[list[str]] = []

    def slow(_: int) -> None:
        held.append(locked(run))
        # Others claim, propose and end trials meanwhile.
        other = run.ledger()
        (claimed,) = other.claim()
        other.finish(end_of(claimed))
        other.flush()
        others.append([claimed.trial.number])

    (claimed,) = run.ledger(Lowest(run.layout, slow)).claim()

    assert claimed.trial.number == 0
    assert held[0] == []
    assert others[0] == [1]


def test_a_lock_that_is_held_is_found(run: AdaptiveRun) -> None:
    lock = IndexLock(run.layout.claims_lock)
    lock.acquire()
    assert locked(run) == ["claims.lock"]
    lock.close()
    assert locked(run) == []


def test_the_heartbeat_names_a_trial_whose_point_is_being_proposed(run: AdaptiveRun) -> None:
    held: list[Any] = []

    def look(_: int) -> None:
        ledger.beat()
        beat = read_beat(run.layout, ledger.id)
        assert beat is not None
        held.append(beat.held)

    ledger = run.ledger(Lowest(run.layout, look))
    ledger.claim()
    assert held == [((0, 1),)]


def test_a_trial_that_was_taken_over_while_its_point_was_proposed_is_not_run(run: AdaptiveRun) -> None:
    def lose(_: int) -> None:
        skipper = run.ledger()
        (taken,) = skipper.take_away([0])
        skipper.finish(end_of(taken, "pruned"))
        skipper.flush()

    ledger = run.ledger(Lowest(run.layout, lose))
    assert ledger.claim() == []
    assert run.states()[0] == "pruned"
    assert ledger.beat() == []


def test_a_trial_that_is_skipped_before_its_point_is_proposed_has_no_parameters(run: AdaptiveRun) -> None:
    ledger = run.ledger()
    (taken,) = ledger.take_away([5])
    assert not taken.trial.known
    ledger.finish(end_of(taken, "pruned"))
    ledger.flush()

    (end,) = (record for record in run.records("end") if isinstance(record, lines.End))
    assert (end.state, end.params) == ("pruned", {})
    assert log(run) == {}
    assert run.states()[5] == "pruned"


def test_points_know_what_was_proposed_since(run: AdaptiveRun) -> None:
    points = Points(run.layout, run.plan)
    assert (points(4).known, points(4).params) == (False, {})
    run.ledger().claim()

    # Fold 1 of point 0.
    assert (points(4).known, points(4).params) == (True, {"x": 0})
    assert points.point(0).known
    assert not points(5).known
