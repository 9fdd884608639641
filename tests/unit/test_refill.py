"""What a worker sends at its end: counted by the ledger, once, and never for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpc_search.config.profile import Profile
from hpc_search.errors import RefusedError
from hpc_search.launchers import refill, submission
from hpc_search.launchers.base import Request, Submitted, UnclearError
from hpc_search.layout import Layout
from hpc_search.ledger import seats, submits
from hpc_search.ledger.seats import Life, Seats
from hpc_search.ledger.submits import Answer, Intent
from hpc_search.locks import tried_lock
from tests.unit.test_launchers_submission import Cancelled, Scheduler, order, plan

SITE = Profile(name="site", requeue=False)


def sent(number: int, tasks: int, **changes: Any) -> Answer:
    values: dict[str, Any] = {"outcome": "sent", "wanted": 8, "profile": SITE} | changes
    return Answer(number=number, token=f"t-{number:04d}", launcher="slurm", tasks=tasks, **values)


def life(task: int, number: int = 1, *, restart: int = 0, exited: bool = True, **changes: Any) -> Life:
    return Life(f"t-{number:04d}", str(task), "0", restart, exited, **changes)


# -- seats
def test_tasks_without_a_journal_wait_and_those_without_an_exit_live() -> None:
    assert seats.count([sent(1, 6)], [life(0), life(1, exited=False)], requeue=False) == Seats(4, 1)


def test_a_task_that_slurm_runs_again_has_not_ended() -> None:
    returning = [life(0, returns=True)]

    assert seats.count([sent(1, 1)], returning, requeue=True) == Seats(0, 1)
    assert seats.count([sent(1, 1)], returning, requeue=False) == Seats(0, 0)
    assert seats.count([sent(1, 1)], [*returning, life(0, restart=1)], requeue=True) == Seats(0, 0)


def test_an_intent_without_an_answer_may_have_been_sent_and_a_refused_one_was_not() -> None:
    intent = Intent(number=2, token="t-0002", launcher="slurm", tasks=3, wanted=8)

    assert seats.count([sent(1, 2, outcome="not sent"), intent], [], requeue=False) == Seats(3, 0)


def test_what_was_cancelled_or_found_gone_or_taken_back_does_not_wait() -> None:
    known = [sent(1, 5), sent(2, 0, outcome="set", wanted=0), sent(3, 4), sent(4, 6, over=("t-0003",))]

    assert seats.count(known, [], requeue=False) == Seats(6, 0)
    less = sent(5, 0, outcome="set", wanted=4, taken_back=2)
    assert seats.count([*known, less], [], requeue=False) == Seats(4, 0)


def test_a_task_of_several_workers_ends_with_the_last() -> None:
    two = [life(0), Life("t-0001", "0", "1")]

    assert seats.count([sent(1, 1)], two, requeue=False) == Seats(0, 1)
    two[1].exited = True
    assert seats.count([sent(1, 1)], two, requeue=False) == Seats(0, 0)


# -- how many
@pytest.mark.parametrize(
    ("there", "most", "done", "expected"),
    [
        (Seats(0, 7), 0, 1, 1),
        (Seats(0, 0), 0, 1, 8),
        (Seats(0, 7), 8, 1, 0),
        (Seats(0, 6), 8, 1, 1),
        (Seats(0, 8), 0, 1, 0),
    ],
)
def test_what_is_missing_is_sent_where_it_fits(there: Seats, most: int, done: int, expected: int) -> None:
    assert refill.missing(8, 500, there, most, done) == expected


def test_while_many_wait_workers_are_replaced_by_the_dozen() -> None:
    assert refill.missing(1200, 1100, Seats(108, 7), 120, 1) == 0
    assert refill.missing(1200, 1100, Seats(97, 7), 120, 1) == 15


def test_where_none_waits_a_sixteenth_of_the_slots_may_stand_idle() -> None:
    assert refill.missing(64, 500, Seats(0, 61), 0, 1) == 0
    assert refill.missing(64, 500, Seats(0, 60), 0, 1) == 4
    assert refill.missing(64, 500, Seats(0, 0), 0, 1) == 64


def test_no_more_wait_than_the_work_left_needs() -> None:
    assert refill.missing(1200, 500, Seats(60, 8), 120, 9) == 0
    assert refill.missing(1200, 5, Seats(0, 2), 120, 1) == 3


def test_one_that_goes_on_is_there_and_takes_no_place_beside_itself() -> None:
    assert refill.missing(4, 8, Seats(0, 2), 4, 1) == 1, "one that ends counts in SLURM for a moment"
    assert refill.missing(4, 8, Seats(0, 2), 4, 1, ends=False) == 2


# -- the protocol
@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Give a run of which 8 workers were wanted and 4 sent; all of them have ended."""
    layout = Layout(tmp_path / "run")
    layout.ledger.mkdir(parents=True)
    monkeypatch.setattr(refill, "claimable", lambda *_: 50)
    submission.submit(order(layout, Scheduler(most=4), profile=SITE, workers=8))
    ended = [Life(token(layout, 1), str(task), "0", exited=True) for task in range(4)]
    monkeypatch.setattr(seats, "lives", lambda _: ended)
    return layout


def token(layout: Layout, number: int) -> str:
    return next(one.token for one in submits.submissions(layout) if one.number == number)


def ends(layout: Layout, scheduler: Scheduler, number: int = 1) -> int:
    mark = plan().run_id[-8:]
    ending = refill.Ending(token(layout, number), mark, "", 1)
    return refill.refill(layout, plan(), ending, scheduler, {"PATH": "/bin"}, lambda _: None)


def test_what_is_wanted_is_sent_under_the_next_number(run: Layout) -> None:
    scheduler = Scheduler(limit=3)

    assert ends(run, scheduler) == 3

    record = submits.submissions(run)[-1]
    assert isinstance(record, Answer)
    assert (record.number, record.outcome, record.depth, record.wanted) == (2, "sent", 1, 8)
    assert scheduler.sent[0].token == record.token


def test_the_next_worker_counts_what_was_sent(run: Layout) -> None:
    scheduler = Scheduler()
    sent = ends(run, scheduler)

    assert sent == 3
    assert ends(run, scheduler) == 0


@pytest.mark.parametrize("why", ["stop", "cancelled", "forbidden", "locked", "deep"])
def test_nothing_is_sent_where_nothing_shall_be(
    run: Layout, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler()
    if why == "stop":
        run.stop.touch()
    elif why == "cancelled":
        submission.cancel(run, Scheduler())
    elif why == "forbidden":
        monkeypatch.setattr(refill, "last_of", lambda *_: sent(1, 4, profile=Profile(nodes_submit=False)))
    elif why == "deep":
        monkeypatch.setattr(refill, "DEPTH", -plan().trials)
    with tried_lock(run.coarse_lock("submit") if why == "locked" else run.coarse_lock("other")):
        assert ends(run, scheduler) == 0
    assert scheduler.sent == []


def test_a_refusal_is_kept_for_status_and_submit(run: Layout) -> None:
    class Closed(Scheduler):
        def submit(self, request: Request) -> Submitted:
            raise RefusedError("Access/permission denied")

    assert ends(run, Closed()) == 0

    record = submits.submissions(run)[-1]
    assert isinstance(record, Answer)
    assert (record.outcome, record.words) == ("refused", "Access/permission denied")


def test_a_full_site_is_tried_with_less_at_once(run: Layout) -> None:
    scheduler = Scheduler(most=1, counts=False)

    assert ends(run, scheduler) == 1
    assert [one.tasks for one in submits.submissions(run)[1:]] == [3, 1]


def test_an_unclear_answer_is_left_to_the_next_submit(run: Layout) -> None:
    class Silent(Scheduler):
        def submit(self, request: Request) -> Submitted:
            super().submit(request)
            raise UnclearError("timed out")

    scheduler = Silent()
    ends(run, scheduler)

    assert not isinstance(submits.submissions(run)[-1], Answer)
    again = Scheduler(jobs=scheduler.jobs)
    submission.submit(order(run, again, profile=SITE, workers=3))
    assert again.sent == []


def test_what_a_hanging_sbatch_sends_after_a_cancel_is_ended(run: Layout) -> None:
    scheduler = Cancelled(run=run)

    assert ends(run, scheduler) == 0

    assert len(scheduler.sent) == 1
    assert scheduler.jobs == {}


@pytest.mark.parametrize("accepted", [True, False])
def test_what_a_killed_worker_was_about_to_send_is_looked_up_by_the_next(run: Layout, accepted: bool) -> None:
    class Killed(Scheduler):
        def submit(self, request: Request) -> Submitted:
            if accepted:
                super().submit(request)
            raise KeyboardInterrupt

    killed = Killed()
    with pytest.raises(KeyboardInterrupt):
        ends(run, killed)

    scheduler = Scheduler(jobs=killed.jobs)
    assert ends(run, scheduler) == (0 if accepted else 3)
    assert len(scheduler.looked_up) == 1


def test_a_search_of_one_trial_a_job_goes_on_for_all_its_trials(
    run: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refill, "of_token", lambda *_: sent(1, 4, depth=plan().trials))

    assert ends(run, Scheduler()) == 3


def test_the_last_worker_waits_until_those_that_ended_with_it_count_no_more(run: Layout) -> None:
    scheduler = Scheduler(most=4, others=4, counts=False)

    def pause(_: float) -> None:
        scheduler.others = 1

    ending = refill.Ending(token(run, 1), plan().run_id[-8:], "", 1)
    assert refill.refill(run, plan(), ending, scheduler, {"PATH": "/bin"}, pause) == 1
    assert [one.tasks for one in submits.submissions(run)[1:]] == [3, 1]


def test_a_worker_counts_again_where_others_ended_and_found_it_at_work(
    run: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = seats.lives(run)
    working = [Life(one.token, one.task, one.process, exited=one.task == "0") for one in ended]
    looks = iter([working, ended])
    monkeypatch.setattr(seats, "lives", lambda _: next(looks, ended))

    assert ends(run, Scheduler()) == 3
