"""Submitting twice, at once, and after being killed anywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hpc_search import durable
from hpc_search.config import slices
from hpc_search.config.profile import Profile
from hpc_search.errors import DamagedError, RefusedError, TemporaryError
from hpc_search.launchers import nodes, sending, submission, wording
from hpc_search.launchers.base import (
    ActiveJobs,
    Fewer,
    NoRoomError,
    Request,
    Submitted,
    UnclearError,
    Waited,
    slug,
    token,
)
from hpc_search.launchers.fitting import NO_LIMIT, Room
from hpc_search.layout import Layout
from hpc_search.ledger import submits
from hpc_search.ledger.submits import Job
from hpc_search.records import journal
from hpc_search.records.plan import Plan
from hpc_search.records.search import Metric, Search, StrategySpec, TrialSpec
from hpc_search.space import Space


@dataclass
class Scheduler:
    """A scheduler in memory: ``jobs`` by token; each name in ``answers`` is what the next submit meets."""

    name: str = "slurm"
    limit: int = 1000
    most: int = NO_LIMIT
    #: Whether `room` knows of `most`, or a refusal says it.
    counts: bool = True
    others: int = 0
    changes: list[tuple[tuple[str, ...], Profile, Profile]] = field(default_factory=list)
    reduced: list[tuple[tuple[str, ...], int]] = field(default_factory=list)
    jobs: dict[str, int] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    healthy: bool = True
    sent: list[Request] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)
    over: frozenset[str] = frozenset()
    asked_ended: list[tuple[str, ...]] = field(default_factory=list)

    def check(self) -> None:
        pass

    def workers(self, profile: Profile, threads: int, pending: int, asked: int | None = None) -> int:
        return min(4 if asked is None else asked, pending)

    def longest(self, profile: Profile) -> int | None:
        return None

    def room(self, profile: Profile) -> Room:
        there = sum(self.jobs.values()) + self.others
        left = max(0, self.most - there) if self.counts else NO_LIMIT
        return Room(left, self.limit, "MaxSubmit" if self.counts else "", self.most)

    def change(self, tokens: Sequence[str], before: Profile, after: Profile) -> list[str]:
        self.changes.append((tuple(tokens), before, after))
        return []

    def reduce(self, tokens: Sequence[str], count: int) -> Fewer:
        self.reduced.append((tuple(tokens), count))
        return Fewer(count)

    def script(self, request: Request) -> str:
        return f"{request.token} {request.tasks}\n"

    def submit(self, request: Request) -> Submitted:
        answer = self.answers.pop(0) if self.answers else "ok"
        if answer == "refused":
            raise RefusedError("SLURM refused the submission: Invalid account")
        if answer == "busy":
            raise TemporaryError("cannot take jobs now")
        if answer == "lost":
            raise UnclearError("timed out")
        if sum(self.jobs.values()) + self.others + request.tasks > self.most:
            raise NoRoomError("SLURM takes no more tasks now", rule="MaxSubmit")
        self.sent.append(request)
        self.jobs[request.token] = self.jobs.get(request.token, 0) + request.tasks
        if answer == "timeout":
            raise UnclearError("timed out")
        if answer == "killed":
            raise KeyboardInterrupt
        return Submitted((Job(id="7", tasks=request.tasks),))

    def find(self, token: str) -> Submitted | None:
        self.looked_up.append(token)
        if not self.healthy:
            raise TemporaryError("does not answer")
        found = self.jobs.get(token)
        return Submitted((Job(id="7", tasks=found),), adopted=True) if found else None

    def active(self, tokens: Sequence[str]) -> dict[str, ActiveJobs] | None:
        if not self.healthy:
            return None
        return {name: ActiveJobs(running=self.jobs[name]) for name in tokens if self.jobs.get(name)}

    def ended(self, tokens: Sequence[str]) -> frozenset[str]:
        self.asked_ended.append(tuple(tokens))
        return frozenset(tokens) & self.over

    def cancel(self, tokens: Sequence[str]) -> int:
        return sum(self.jobs.pop(name, 0) for name in tokens)

    def wait(
        self, tokens: Callable[[], Sequence[str]], tick: Callable[[], None], left: Callable[[], int]
    ) -> Waited:
        return Waited()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    run = Layout(tmp_path / "run with space")
    run.ledger.mkdir(parents=True)
    return run


def order(layout: Layout, scheduler: Scheduler, **changes: Any) -> submission.Order:
    values: dict[str, Any] = {"pending": 90, "workers": 6, "environ": {"PATH": "/bin"}} | changes
    values.setdefault("pause", lambda _: None)
    return submission.Order(
        layout=layout, plan=plan(), launcher=scheduler, profile=values.pop("profile", Profile()), **values
    )


def plan(name: str = "Digits, with spaces & more than 24 letters") -> Plan:
    search = Search(
        name=name,
        trial=TrialSpec(command=("true",)),
        metric=Metric(name="acc", goal="max"),
        space=Space(dimensions={}),
        strategy=StrategySpec(kind="grid", options={}),
    )
    return Plan(
        search_id="a" * 12,
        run_id="a" * 12 + "01234567",
        created=0.0,
        search=search,
        blocks=(),
        points=1,
        trials=1,
    )


def files(layout: Layout) -> list[str]:
    return sorted(path.name for path in layout.submits.iterdir())


def test_submit_publishes_the_intent_before_it_sends_and_the_record_after(layout: Layout) -> None:
    seen: list[list[str]] = []

    class Watched(Scheduler):
        def submit(self, request: Request) -> Submitted:
            seen.append(files(layout))
            return super().submit(request)

    outcome = submission.submit(order(layout, Watched()))

    assert seen == [["0001.intent.json"]]
    assert files(layout) == ["0001.intent.json", "0001.jobs.json"]
    assert (outcome.sent, outcome.live) == (6, 0)
    (record,) = submits.submissions(layout)
    assert isinstance(record, submits.Answer)
    assert (record.outcome, record.jobs[0].id, record.tasks) == ("sent", "7", 6)


def test_second_submit_sends_nothing_while_the_first_covers_the_work(layout: Layout) -> None:
    scheduler = Scheduler()
    submission.submit(order(layout, scheduler))

    outcome = submission.submit(order(layout, scheduler))

    assert len(scheduler.sent) == 1
    assert outcome.sent == 0
    assert outcome.live == 6
    assert "already submitted" in outcome.text


@pytest.mark.parametrize(
    ("reasons", "words"),
    [({"None": 2}, "2 waiting workers for 1 trial;"), ({"None": 1, "Priority": 1}, "2 waiting (Priority) ")],
)
def test_a_job_that_slurm_has_not_looked_at_waits_for_no_reason(reasons: dict[str, int], words: str) -> None:
    assert words in wording.already({"token": ActiveJobs(pending=2, reasons=reasons)}, 1)


def left_again(layout: Layout, token: str, task: int, reason: str) -> None:
    worker = f"{task:016x}"
    layout.worker(worker).mkdir(parents=True)
    about: dict[str, Any] = {"worker": worker, "run_id": plan().run_id, "segment": 1, "host": "n", "pid": 1}
    opening = journal.Open(boot_id="b", start_time=1, token=token, seat=f"slurm:{task}:0", **about)
    data = journal.encode_line(opening) + journal.encode_line(journal.Exit(reason=reason))
    layout.journal(worker, 1).write_bytes(data)


def test_a_task_whose_worker_has_left_is_replaced_although_slurm_still_shows_it(layout: Layout) -> None:
    scheduler = Scheduler()
    first = submission.submit(order(layout, scheduler))
    for task in range(4):
        left_again(layout, first.tokens[0], task, "node failed")
    # SLURM runs this one again.
    left_again(layout, first.tokens[0], 4, "signal SIGTERM")

    outcome = submission.submit(order(layout, scheduler))

    assert [request.tasks for request in scheduler.sent] == [6, 4]
    assert (outcome.sent, outcome.live) == (4, 2)


def test_what_workers_that_are_there_do_not_get_is_said(layout: Layout) -> None:
    scheduler = Scheduler()
    submission.submit(order(layout, scheduler, profile=Profile(mem="1G")))

    changed = order(layout, scheduler, profile=Profile(mem="32G", exclude="n1", throttle=2))
    said = submission.submit(changed).text

    assert "nothing was sent; mem, exclude: for workers that are sent from now on" in said
    assert "from now on" not in submission.submit(changed).text


def test_workers_that_are_gone_are_replaced_by_as_many_as_are_missing(layout: Layout) -> None:
    scheduler = Scheduler()
    first = submission.submit(order(layout, scheduler))
    scheduler.jobs[first.tokens[0]] = 2

    submission.submit(order(layout, scheduler))

    assert [request.tasks for request in scheduler.sent] == [6, 4]


def test_a_submission_names_the_workers_of_jobs_that_are_gone(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler()
    monkeypatch.setattr(submission, "owners", lambda _, tokens: tuple(f"worker of {name}" for name in tokens))
    first = submission.submit(order(layout, scheduler))
    scheduler.jobs.clear()

    submission.submit(order(layout, scheduler))

    assert [one.gone for one in submits.submissions(layout)] == [(), (f"worker of {first.tokens[0]}",)]


def test_no_more_workers_than_trials_left(layout: Layout) -> None:
    scheduler = Scheduler()

    submission.submit(order(layout, scheduler, pending=3, workers=50))
    submission.submit(order(layout, scheduler, pending=3, workers=None))

    assert [request.tasks for request in scheduler.sent] == [3]


def test_nothing_left_says_how_to_collect(layout: Layout) -> None:
    scheduler = Scheduler()

    outcome = submission.submit(order(layout, scheduler, pending=0))

    assert scheduler.sent == []
    assert "collect" in outcome.text
    assert not layout.submits.exists()


def test_submitter_killed_after_sbatch_adopts_by_token(layout: Layout) -> None:
    scheduler = Scheduler(answers=["killed"])
    with pytest.raises(KeyboardInterrupt):
        submission.submit(order(layout, scheduler))
    assert files(layout) == ["0001.intent.json"]

    outcome = submission.submit(order(layout, scheduler))

    assert len(scheduler.sent) == 1
    assert outcome.live == 6
    (record,) = submits.submissions(layout)
    assert isinstance(record, submits.Answer)
    assert record.outcome == "adopted"


def test_submitter_killed_before_sbatch_sends_under_the_same_token(layout: Layout) -> None:
    class Dying(Scheduler):
        def submit(self, request: Request) -> Submitted:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        submission.submit(order(layout, Dying()))
    scheduler = Scheduler()

    submission.submit(order(layout, scheduler))

    assert [request.token for request in scheduler.sent] == [token(plan(), 1)]
    assert scheduler.looked_up == [token(plan(), 1)]


def test_unclear_answer_is_looked_up_before_anything_is_sent_again(layout: Layout) -> None:
    scheduler = Scheduler(answers=["timeout"])

    outcome = submission.submit(order(layout, scheduler))

    assert len(scheduler.sent) == 1
    assert scheduler.looked_up == [token(plan(), 1)]
    assert outcome.jobs == (Job(id="7", tasks=6),)


def test_unclear_answer_without_jobs_is_sent_again_once_under_the_same_token(layout: Layout) -> None:
    scheduler = Scheduler(answers=["lost"])

    submission.submit(order(layout, scheduler))

    assert [request.token for request in scheduler.sent] == [token(plan(), 1)]


def test_controller_that_stays_silent_leaves_the_intent_open(layout: Layout) -> None:
    scheduler = Scheduler(answers=["timeout"])

    class Silent(Scheduler):
        def find(self, token: str) -> Submitted | None:
            raise TemporaryError("does not answer")

    with pytest.raises(TemporaryError):
        submission.submit(order(layout, Silent(jobs=scheduler.jobs, answers=["timeout"])))
    assert files(layout) == ["0001.intent.json"]

    submission.submit(order(layout, scheduler))

    assert scheduler.sent == []


def test_unknown_means_alive(layout: Layout) -> None:
    scheduler = Scheduler(healthy=False)

    with pytest.raises(TemporaryError, match="nothing was sent"):
        submission.submit(order(layout, scheduler))

    assert files(layout) == []


def test_refusal_is_recorded_and_the_next_submit_uses_a_new_token(layout: Layout) -> None:
    scheduler = Scheduler(answers=["refused"])
    with pytest.raises(RefusedError, match="Invalid account"):
        submission.submit(order(layout, scheduler))

    submission.submit(order(layout, scheduler))

    assert [request.token for request in scheduler.sent] == [token(plan(), 2)]
    assert scheduler.looked_up == []


def test_arrays_are_cut_at_the_limit_of_the_site(layout: Layout) -> None:
    scheduler = Scheduler(limit=4)

    outcome = submission.submit(order(layout, scheduler, workers=10))

    assert [(request.tasks, request.first_seat) for request in scheduler.sent] == [(4, 0), (4, 4), (2, 8)]
    assert outcome.sent == 10


def test_two_submits_at_once_are_one_submission(layout: Layout) -> None:
    scheduler = Scheduler()
    barrier = threading.Barrier(4)
    outcomes = []

    def run() -> None:
        barrier.wait()
        outcomes.append(submission.submit(order(layout, scheduler)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(scheduler.sent) == 1
    assert sorted(outcome.sent for outcome in outcomes) == [0, 0, 0, 6]


def test_without_locks_the_number_that_is_taken_is_not_sent(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler()
    monkeypatch.setattr(durable, "publish", lambda *_args, **_kwargs: False)

    with pytest.raises(TemporaryError, match="another `submit`"):
        submission.submit(order(layout, scheduler))

    assert scheduler.sent == []


def test_without_locks_what_another_submit_sent_meanwhile_is_not_sent_again(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overtaken(Scheduler):
        def active(self, tokens: Sequence[str]) -> dict[str, ActiveJobs] | None:
            seen = super().active(tokens)
            if not tokens:
                self.jobs.clear()
                submission.submit(order(layout, other))
            return seen

    other, scheduler = Scheduler(), Overtaken()
    monkeypatch.setattr(submission, "coarse_lock", lambda *_: nullcontext())

    with pytest.raises(TemporaryError, match="another `submit`"):
        submission.submit(order(layout, scheduler))

    assert (len(other.sent), scheduler.sent) == (1, [])


@pytest.mark.parametrize("first", ["intent", "cancel"])
def test_a_cancel_and_a_submission_never_share_a_number(layout: Layout, first: str) -> None:
    scheduler = Scheduler()
    submission.submit(order(layout, scheduler))
    asked = order(layout, scheduler)
    (last,) = submits.submissions(layout)
    intent = sending.made(asked, 2, 3)
    steps: list[Callable[[], None]] = [
        lambda: sending.publish(asked, intent),
        lambda: sending.settle(layout, last, 2, wanted=0),
    ]
    one, two = steps if first == "intent" else steps[::-1]

    one()
    with pytest.raises(TemporaryError):
        two()

    assert len([name for name in files(layout) if name.startswith("0002")]) == 1


def test_secrets_of_the_environment_are_in_no_file(layout: Layout) -> None:
    environ = {"PATH": "/bin", "SECRET_TOKEN": "xyz-value", "WANDB_API_KEY": "abc-value", "HPC_SEARCH_A": "1"}
    scheduler = Scheduler()

    submission.submit(
        order(layout, scheduler, environ=environ, profile=Profile(environment=("WANDB_API_KEY",)))
    )

    request = scheduler.sent[0]
    assert {"PATH": "/bin", "HPC_SEARCH_A": "1"}.items() <= request.environment.items()
    assert not {"SECRET_TOKEN", "WANDB_API_KEY"} & set(request.environment)
    assert request.forward == ("WANDB_API_KEY",)
    for path in layout.root.rglob("*"):
        assert path.is_dir() or b"-value" not in path.read_bytes()


def test_hundreds_of_submissions_leave_few_files(layout: Layout) -> None:
    scheduler = Scheduler()
    for number in range(1, 41):
        outcome = submission.submit(order(layout, scheduler))
        for task in range(6):
            (layout.submitit / f"{outcome.tokens[0]}_{task}.log").write_text(f"log {number}\n")
        scheduler.jobs.clear()

    assert len(list(layout.submitit.iterdir())) < 20
    assert len(files(layout)) < 55
    assert "log 38" in (layout.submitit / "ended.log").read_text()


def test_cancel_goes_by_token_and_reaches_open_intents(layout: Layout) -> None:
    scheduler = Scheduler(answers=["killed"])
    with pytest.raises(KeyboardInterrupt):
        submission.submit(order(layout, scheduler))

    assert submission.cancel(layout, scheduler) == 6
    assert scheduler.jobs == {}


@dataclass
class Cancelled(Scheduler):
    """One whose sbatch hangs for so long that a `cancel` goes on without waiting for it."""

    run: Layout = field(default_factory=lambda: Layout(Path()))

    def submit(self, request: Request) -> Submitted:
        submission._cancel(self.run, self, "")
        return super().submit(request)


def test_what_a_hanging_sbatch_sends_after_a_cancel_is_ended(layout: Layout) -> None:
    scheduler = Cancelled(run=layout)

    with pytest.raises(TemporaryError, match="was cancelled meanwhile"):
        submission.submit(order(layout, scheduler))

    assert len(scheduler.sent) == 1
    assert scheduler.jobs == {}


def test_an_interrupted_submission_that_was_cancelled_is_not_sent_again(layout: Layout) -> None:
    scheduler = Scheduler(answers=["lost", "lost"])
    with pytest.raises(TemporaryError):
        submission.submit(order(layout, scheduler, profile=Profile(name="x", mem="1T")))
    layout.submit_record(1).unlink(missing_ok=True)
    submission.cancel(layout, scheduler)

    submission.submit(order(layout, scheduler, profile=Profile(name="x", mem="1G")))

    assert [one.profile.mem for one in scheduler.sent] == ["1G"]


def test_what_is_refused_of_an_interrupted_submission_says_nothing_of_this_one(layout: Layout) -> None:
    scheduler = Scheduler(answers=["lost", "lost", "refused"])
    with pytest.raises(TemporaryError):
        submission.submit(order(layout, scheduler, profile=Profile(account="wrong")))
    layout.submit_record(1).unlink(missing_ok=True)

    submission.submit(order(layout, scheduler, profile=Profile(account="right")))

    assert [one.profile.account for one in scheduler.sent] == ["right"]


def test_preview_changes_nothing(layout: Layout) -> None:
    scheduler = Scheduler()

    text = submission.preview(order(layout, scheduler))

    assert text == f"{token(plan(), 1)} 6\n"
    assert not layout.submits.exists()


def test_record_of_an_unknown_version_is_refused(layout: Layout) -> None:
    layout.submits.mkdir()
    layout.submit_intent(1).write_text('{"format":"hpc_search.submission","version":99}')

    with pytest.raises(DamagedError, match="version 99"):
        submits.submissions(layout)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("My Search", "my-search"),
        ("a'b\"c, d", "a-b-c-d"),
        ("x" * 40, "x" * 24),
        ("???", "search"),
        ("grün", "gr-n"),
    ],
)
def test_token_starts_with_a_slug_of_the_name(name: str, expected: str) -> None:
    assert slug(name) == expected
    assert token(plan(name), 12) == f"{expected}-01234567-0012"


# -- jobs that are absent, and nodes that are bad
@pytest.fixture
def departed(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> tuple[Scheduler, str]:
    """Submit once; the job, which owns trials, is then absent from a healthy scheduler."""
    scheduler = Scheduler()
    monkeypatch.setattr(submission, "owners", lambda _, tokens: tuple(f"worker of {name}" for name in tokens))
    name = submission.submit(order(layout, scheduler)).tokens[0]
    scheduler.jobs.clear()
    return scheduler, name


def taken(layout: Layout) -> tuple[str, ...]:
    return submits.submissions(layout)[-1].gone


def test_trials_are_taken_only_from_a_job_that_is_absent_twice(
    layout: Layout, departed: tuple[Scheduler, str]
) -> None:
    scheduler, name = departed
    waited: list[float] = []

    submission.submit(order(layout, scheduler, pause=waited.append))

    assert waited == [submission.SECOND_LOOK_S]
    assert taken(layout) == (f"worker of {name}",)


def test_a_job_that_is_there_at_the_second_look_keeps_its_trials(
    layout: Layout, departed: tuple[Scheduler, str]
) -> None:
    scheduler, name = departed

    submission.submit(order(layout, scheduler, pause=lambda _: scheduler.jobs.update({name: 6})))

    assert taken(layout) == ()


def test_a_scheduler_that_falls_silent_between_the_looks_proves_nothing(
    layout: Layout, departed: tuple[Scheduler, str]
) -> None:
    scheduler, _ = departed
    answers: list[dict[str, ActiveJobs] | None] = [{}, None]
    scheduler.active = lambda _: answers.pop(0)  # type: ignore[method-assign,assignment]

    submission.submit(order(layout, scheduler))

    assert taken(layout) == ()


def test_a_job_that_is_known_to_have_ended_needs_no_second_look(
    layout: Layout, departed: tuple[Scheduler, str]
) -> None:
    scheduler, name = departed
    scheduler.over = frozenset([name])
    waited: list[float] = []

    submission.submit(order(layout, scheduler, pause=waited.append))

    assert waited == []
    assert taken(layout) == (f"worker of {name}",)


def test_without_trials_to_take_nobody_is_asked_again(layout: Layout) -> None:
    scheduler = Scheduler()
    submission.submit(order(layout, scheduler))
    scheduler.jobs.clear()
    waited: list[float] = []

    submission.submit(order(layout, scheduler, pause=waited.append))

    assert (waited, scheduler.asked_ended) == ([], [])


def test_bad_nodes_are_excluded_beside_those_of_the_profile_and_named(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler()
    monkeypatch.setattr(nodes, "read", lambda _: {"n7": "its template died"})

    outcome = submission.submit(order(layout, scheduler, profile=Profile(exclude="n1")))
    shown = submission.preview(order(layout, scheduler, profile=Profile(exclude="n1")))

    assert scheduler.sent[0].profile.exclude == "n1,n7"
    assert "not on n7: its template died" in outcome.text
    assert "--set exclude=" in outcome.text
    assert shown


def test_who_says_which_nodes_to_exclude_has_the_last_word(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler()
    monkeypatch.setattr(nodes, "read", lambda _: {"n7": "its template died"})

    outcome = submission.submit(order(layout, scheduler, avoid=False))

    assert scheduler.sent[0].profile.exclude == ""
    assert "n7" not in outcome.text


def test_local_workers_exclude_no_node(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler(name="local")
    monkeypatch.setattr(nodes, "read", lambda _: {"n7": "its template died"})

    submission.submit(order(layout, scheduler))

    assert scheduler.sent[0].profile.exclude == ""


# -- what does not fit
def test_what_does_not_fit_yet_stays_wanted_and_the_text_says_by_which_rule(layout: Layout) -> None:
    scheduler = Scheduler(limit=100, most=120)

    outcome = submission.submit(order(layout, scheduler, pending=1200, workers=1200))

    assert [request.tasks for request in scheduler.sent] == [100, 20]
    assert outcome.text == "120 of 1,200 workers submitted; MaxSubmit; the rest follows as tasks end"
    assert {(one.wanted, one.most, one.array) for one in submits.submissions(layout)} == {(1200, 120, 100)}


def test_what_has_ended_makes_room_for_the_next_submit(layout: Layout) -> None:
    scheduler = Scheduler(limit=100, most=120)
    submission.submit(order(layout, scheduler, pending=1200, workers=1200))
    scheduler.jobs[scheduler.sent[0].token] = 30

    submission.submit(order(layout, scheduler, pending=800, workers=1200))

    assert [request.tasks for request in scheduler.sent] == [100, 20, 70]


def test_tasks_of_other_work_leave_less_room(layout: Layout) -> None:
    scheduler = Scheduler(most=120, others=118)

    submission.submit(order(layout, scheduler))

    assert [request.tasks for request in scheduler.sent] == [2]


def test_a_limit_that_only_a_refusal_tells_is_found_by_halves(layout: Layout) -> None:
    scheduler = Scheduler(limit=100, most=10, counts=False)

    outcome = submission.submit(order(layout, scheduler, workers=60))

    assert sum(request.tasks for request in scheduler.sent) == 10
    assert "10 of 60 workers submitted; MaxSubmit" in outcome.text
    said = {one.outcome for one in submits.submissions(layout) if isinstance(one, submits.Answer)}
    assert said == {"sent", "not sent"}


def test_no_room_at_all_is_temporary_and_loses_nothing(layout: Layout) -> None:
    scheduler = Scheduler(most=120, others=120)

    with pytest.raises(TemporaryError, match="no room now for a worker: MaxSubmit"):
        submission.submit(order(layout, scheduler))
    scheduler.others = 0
    submission.submit(order(layout, scheduler))

    assert [request.tasks for request in scheduler.sent] == [6]


# -- a scheduler that cannot answer now
def test_temporary_refusals_are_tried_again_after_growing_pauses(layout: Layout) -> None:
    scheduler = Scheduler(answers=["busy", "busy", "busy"])
    pauses: list[float] = []
    said: list[str] = []

    submission.submit(order(layout, scheduler, pause=pauses.append, say=said.append))

    assert [request.token for request in scheduler.sent] == [token(plan(), 1)]
    assert pauses == sorted(pauses)
    assert all(5 * 2 / 3 <= pause <= 20 for pause in pauses)
    assert len(said) == len(pauses) == 3
    assert "cannot take jobs now; again in" in said[0]


def test_a_scheduler_that_stays_busy_is_left_in_peace(layout: Layout) -> None:
    scheduler = Scheduler(answers=["busy"] * 9)

    with pytest.raises(TemporaryError):
        submission.submit(order(layout, scheduler))

    assert len(scheduler.answers) == 9 - 5
    (record,) = submits.submissions(layout)
    assert isinstance(record, submits.Answer)
    assert record.outcome == "not sent"


# -- live control
def named(name: str, **changes: Any) -> Profile:
    return Profile(name=name, **changes)


def test_two_profiles_serve_one_run_beside_each_other(layout: Layout) -> None:
    scheduler = Scheduler()

    submission.submit(order(layout, scheduler, workers=4, profile=named("a100")))
    submission.submit(order(layout, scheduler, workers=3, profile=named("cpu")))
    again = submission.submit(order(layout, scheduler, workers=4, profile=named("a100")))

    assert [(one.profile.name, one.tasks) for one in scheduler.sent] == [("a100", 4), ("cpu", 3)]
    assert (again.sent, again.live) == (0, 4)


def test_fewer_workers_are_taken_back_and_the_new_number_is_kept(layout: Layout) -> None:
    scheduler = Scheduler()
    first = submission.submit(order(layout, scheduler, workers=6))

    outcome = submission.submit(order(layout, scheduler, workers=2))

    assert scheduler.reduced == [(first.tokens, 4)]
    assert outcome.text == "2 workers wanted: 4 waiting cancelled"
    assert outcome.changed
    assert submits.submissions(layout)[-1].wanted == 2


def test_a_search_that_nears_its_end_takes_no_worker_back(layout: Layout) -> None:
    scheduler = Scheduler()
    submission.submit(order(layout, scheduler, workers=6))

    outcome = submission.submit(order(layout, scheduler, workers=6, pending=2))

    assert scheduler.reduced == []
    assert (outcome.sent, outcome.changed) == (0, False)


def test_a_new_throttle_reaches_what_is_live_and_is_kept(layout: Layout) -> None:
    scheduler = Scheduler()
    first = submission.submit(order(layout, scheduler))

    submission.submit(order(layout, scheduler, profile=Profile(throttle=2)))

    tokens, before, after = scheduler.changes[-1]
    assert (tokens, before.throttle, after.throttle) == (first.tokens, 0, 2)
    assert submits.submissions(layout)[-1].profile.throttle == 2


def test_after_a_cancel_nothing_is_wanted_any_more(layout: Layout) -> None:
    scheduler = Scheduler(most=4)
    submission.submit(order(layout, scheduler, workers=6))

    submission.cancel(layout, scheduler)

    last = submits.last_of(submits.submissions(layout), submits.Kind("slurm", ""))
    assert last is not None
    assert last.wanted == 0
    submission.submit(order(layout, scheduler, workers=2))
    assert [request.tasks for request in scheduler.sent] == [4, 2]


def test_a_copy_neither_counts_nor_ends_the_jobs_of_its_original(layout: Layout) -> None:
    scheduler = Scheduler()
    original = submission.submit(order(layout, scheduler)).tokens

    copy = submission.submit(order(layout, scheduler, mark="abcdef01", workers=2))
    ended = submission.cancel(layout, scheduler, "abcdef01")

    assert (copy.sent, copy.live, ended) == (2, 0, 2)
    assert copy.tokens[-1].endswith("-abcdef01-0002")
    assert set(scheduler.jobs) == set(original)


def test_packed_workers_are_sent_as_tasks_that_they_share(layout: Layout) -> None:
    block = slices.Slice(kind="packed", request=slices.Request(gres="gpu:1"), pack=slices.Pack(workers=4))
    scheduler = Scheduler()
    wanted = order(layout, scheduler, profile=Profile(slice=block), workers=10)

    outcome = submission.submit(wanted)

    assert [request.tasks for request in scheduler.sent] == [3]
    assert "3 tasks of 4 workers submitted" in outcome.text
    (answer,) = submits.submissions(layout)
    assert answer.wanted == 10
    assert submission.submit(wanted).sent == 0


def test_a_cancel_says_whose_trials_are_free(layout: Layout, departed: tuple[Scheduler, str]) -> None:
    scheduler, name = departed
    scheduler.over = frozenset([name])

    submission.cancel(layout, scheduler)

    assert taken(layout) == (f"worker of {name}",)
