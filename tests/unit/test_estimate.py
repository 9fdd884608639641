"""What the journals say of the time that a trial needs, and whether there is that much."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search.records import journal as lines
from hpc_search.worker.estimate import Journals, Sample, may_start, needed, samples, whole_walltime
from hpc_search.worker.verdict import NO_CHECKPOINT
from tests.ledger_run import LedgerRun, end_of


def start(t: float, trial: int = 0, attempt: int = 1) -> lines.Start:
    return lines.Start(t=t, trial=trial, attempt=attempt)


def saved(t: float, trial: int = 0) -> lines.Checkpoint:
    return lines.Checkpoint(t=t, trial=trial, attempt=1, step=1, slot=0)


def report(t: float, trial: int = 0) -> lines.Report:
    return lines.Report(t=t, trial=trial, attempt=1, step=1, metrics={})


def end(t: float, state: str, trial: int = 0) -> lines.End:
    return lines.End(t=t, trial=trial, attempt=1, state=state, params={})  # type: ignore[arg-type]


def test_the_first_checkpoint_of_each_attempt_counts() -> None:
    records: list[lines.AnyRecord] = [
        start(10),
        saved(310),
        saved(910),
        end(1000, "pending"),
        start(2000, attempt=2),
        saved(2400),
    ]
    assert list(samples(records)) == [Sample(0, 300), Sample(0, 400)]


def test_a_result_counts_where_nothing_was_saved_and_a_failure_does_not() -> None:
    assert list(samples([start(10), end(60, "done"), start(70, 1), end(90, "failed", 1)])) == [Sample(0, 50)]
    assert list(samples([start(10), end(60, "pending")])) == []
    assert list(samples([saved(5), report(6), end(7, "done")])) == []


def test_a_trial_that_reports_often_is_stopped_at_a_step_and_need_not_wait_for_its_save() -> None:
    assert list(samples([start(10), report(12), report(14), saved(310)])) == [Sample(0, 4)]
    assert list(samples([start(10), report(309), saved(310)])) == [Sample(0, 300)]
    # One that never saved has only its result.
    assert list(samples([start(10), report(12), end(110, "done")])) == [Sample(0, 100)]


def test_an_own_attempt_says_more_than_others() -> None:
    known = [Sample(0, 900), Sample(1, 30), Sample(1, 50)]
    assert needed(known, 1) == 50
    assert needed(known, 7) == 900
    assert needed([], 7) is None
    old = [Sample(0, 900), *[Sample(number, 30) for number in range(1, 21)]]
    assert needed(old, 50) == 30


@pytest.mark.parametrize(
    ("need", "left", "first", "expected"),
    [
        (None, 1, False, True),
        (100, 100, False, True),
        (101, 100, False, False),
        (101, 100, True, False),
        (4000, 3300, True, True),
        (4000, 3300, False, False),
    ],
)
def test_a_trial_starts_where_it_fits_or_would_fit_nowhere_better(
    need: float | None, left: float, first: bool, expected: bool
) -> None:
    assert may_start(need, left, 3600, first=first) is expected


def test_without_a_limit_everything_starts() -> None:
    assert may_start(1e9, 1, None, first=False)
    assert not whole_walltime(1e9, None, first=True)
    assert whole_walltime(3000, 3600, first=False)
    assert not whole_walltime(2000, 3600, first=False)
    assert whole_walltime(2000, 3600, first=True)


def test_the_journals_of_others_and_ones_own_say_how_long_it_took(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run")
    one, two = run.ledger(), run.ledger()
    for claimed in one.claim(2):
        one.start(claimed, 1, 0)
        one.finish(end_of(claimed))
    found = Journals(run.layout, two.id).samples_of_others()
    assert found == Journals(run.layout, one.id).own_samples()
    assert [sample.trial for sample in found] == [0, 1]
    assert all(0 <= sample.seconds < 60 for sample in found)
    assert Journals(run.layout, two.id).samples_of(1) == [found[1]]
    assert Journals(run.layout, two.id).samples_of(5) == []
    run.close()


def test_whole_walltimes_count_back_to_the_last_attempt_that_had_none(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run")
    ledger = run.ledger()
    journals = Journals(run.layout, ledger.id)
    words = f"the time limit is near; {NO_CHECKPOINT}"
    seen = []
    for detail in (words, "signal SIGTERM", words, words):
        (claimed,) = ledger.claim(1)
        ledger.finish(end_of(claimed, "pending", cause="preempted", detail=detail))
        ledger.flush()
        seen.append(journals.walltimes_without_checkpoint(0))
    # An attempt that was given back unstarted is none.
    (claimed,) = ledger.claim(1)
    ledger.give_back([claimed])
    assert seen == [1, 0, 1, 2]
    assert journals.walltimes_without_checkpoint(0) == 2
    assert journals.walltimes_without_checkpoint(1) == 0
    run.close()
