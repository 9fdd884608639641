"""What the end of an attempt means."""

from __future__ import annotations

from typing import Any

import pytest

from hpc_search.records.index import Entry
from hpc_search.records.search import OomRetry, Retry
from hpc_search.worker.verdict import TIME_LIMIT, Observed, Verdict, another_chance, effective, judge, rung

DONE = {"state": "done", "value": 0.5}
OOM = {"state": "failed", "cause": "oom", "detail": "out of memory", "accumulates": True}
PARAMS = {"batch_size": 64}
LADDER = Retry(oom=OomRetry(halve="batch_size", times=3))


def verdict(before: Entry | None = None, retry: Retry | None = None, **seen: Any) -> tuple[str, str]:
    found = judge(Observed(**seen), before or Entry(), retry or Retry(), PARAMS)
    return found.state, found.cause


@pytest.mark.parametrize("status", [0, 1, -9, -11, None])
@pytest.mark.parametrize("stopping", ["", "signal SIGTERM"])
def test_a_result_that_arrived_is_the_end_whatever_happened_then(status: int | None, stopping: str) -> None:
    assert verdict(message=DONE, status=status, stopping=stopping, stalled=True, lost=True) == ("done", "")


def test_a_pruned_trial_is_pruned() -> None:
    assert verdict(message={"state": "pruned"}) == ("pruned", "")


@pytest.mark.parametrize("message", [{}, {"state": "failed", "cause": "error"}, {"state": "pending"}, OOM])
@pytest.mark.parametrize("status", [0, 1, -9, -11])
def test_from_the_stop_signal_on_every_failure_is_a_preemption(message: dict[str, Any], status: int) -> None:
    assert verdict(message=message, status=status, stopping="signal SIGTERM") == ("pending", "preempted")


def test_an_error_of_sources_that_were_changed_on_the_node_costs_no_retry() -> None:
    failed = {"state": "failed", "cause": "error", "detail": "ModuleNotFoundError"}
    assert verdict(message=failed, retry=Retry(error=0)) == ("failed", "error")
    assert verdict(message=failed, retry=Retry(error=0), mended="3 files") == ("pending", "lost")


def test_a_trial_without_a_sign_of_life_is_a_timeout_and_tried_again() -> None:
    assert verdict(stalled=True, status=-9) == ("pending", "timeout")
    assert verdict(stalled=True, status=-9, stopping="signal SIGTERM") == ("pending", "timeout")


@pytest.mark.parametrize("seen", [{"stopping": "x"}, {"stalled": True}, {"lost": True}])
def test_infrastructure_is_tried_again_until_nothing_has_progressed_for_long(seen: dict[str, Any]) -> None:
    assert verdict(Entry(stalls=3), **seen)[0] == "pending"
    assert verdict(Entry(stalls=4), **seen)[0] == "failed"
    assert verdict(Entry(stalls=4, step=3), step=3, **seen)[0] == "failed"
    assert verdict(Entry(stalls=4, step=3), step=4, **seen)[0] == "pending"
    assert verdict(Entry(stalls=1), Retry(no_progress=2), **seen)[0] == "failed"


def test_a_trial_lost_with_its_template_is_not_an_error() -> None:
    assert verdict(lost=True, status=None) == ("pending", "lost")


def test_an_error_fails_unless_the_search_tries_again() -> None:
    error = {"state": "failed", "cause": "error", "detail": "x"}
    assert verdict(message=error) == ("failed", "error")
    assert verdict(message=error, retry=Retry(error=1)) == ("pending", "error")
    assert verdict(Entry(errors=1), Retry(error=1), message=error) == ("failed", "error")


@pytest.mark.parametrize("cause", ["nonfinite", "noop"])
def test_what_would_come_out_the_same_is_not_tried_again(cause: str) -> None:
    message = {"state": "failed", "cause": cause, "detail": "x"}
    assert verdict(message=message, retry=Retry(error=5)) == ("failed", cause)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (-11, "SIGSEGV"),
        (3, "exit status 3"),
        (None, "not be started"),
        (-99, "signal 99"),
    ],
)
def test_a_death_without_a_word_is_an_error_that_says_how(status: int | None, words: str) -> None:
    found = judge(Observed(status=status), Entry(), Retry(), {})
    assert (found.state, found.cause) == ("failed", "error")
    assert words in found.detail


def test_a_trial_that_others_killed_is_lost_and_goes_on_from_its_checkpoint() -> None:
    assert verdict(status=-9) == ("pending", "lost")
    assert verdict(Entry(stalls=4), status=-9) == ("failed", "lost")
    assert verdict(Entry(stalls=4), status=-9, step=1) == ("pending", "lost")
    assert "the kernel kills so" in judge(Observed(status=-9), Entry(), Retry(), {}).detail
    assert verdict(status=-9, host_memory=True) == ("pending", "oom")


def test_a_trial_without_progress_on_one_node_is_tried_on_another_while_there_is_one() -> None:
    before, retry = Entry(stalls=4), Retry()
    failed = judge(Observed(lost=True), before, retry, {})
    assert failed.state == "failed"
    assert another_chance(failed, before, retry, other_nodes=False) == failed
    assert another_chance(failed, before, retry, other_nodes=True).state == "pending"
    assert another_chance(failed, Entry(stalls=9), retry, other_nodes=True) == failed
    error = judge(Observed(status=3), before, retry, {})
    assert another_chance(error, before, retry, other_nodes=True) == error


def test_out_of_memory_fails_without_a_ladder() -> None:
    assert verdict(message=OOM) == ("failed", "oom")


def test_out_of_memory_is_tried_with_half_the_batch_as_often_as_asked() -> None:
    states = [verdict(Entry(ooms=ooms), LADDER, message=OOM)[0] for ooms in range(5)]
    assert states == ["pending", "pending", "pending", "failed", "failed"]


@pytest.mark.parametrize("size", [1, None, "64", 0.5])
def test_a_batch_that_cannot_be_halved_fails(size: object) -> None:
    found = judge(Observed(message=OOM), Entry(), LADDER, {"batch_size": size})
    assert found.state == "failed"
    assert "cannot be halved" in found.detail


def test_a_trial_that_never_read_its_accumulation_keeps_its_batch() -> None:
    found = judge(Observed(message={**OOM, "accumulates": False}), Entry(), LADDER, PARAMS)
    assert found.state == "failed"
    assert "trial.accumulation" in found.detail
    plain = Retry(oom=OomRetry(ladder="plain"))
    assert judge(Observed(message={**OOM, "accumulates": False}), Entry(), plain, PARAMS) == Verdict(
        "pending", "oom", "out of memory"
    )


def test_halved_batches_keep_the_product_with_the_accumulation() -> None:
    found = [effective(PARAMS, Entry(ooms=ooms), LADDER) for ooms in range(5)]
    assert found == [
        ({}, 1),
        ({"batch_size": 32}, 2),
        ({"batch_size": 16}, 4),
        ({"batch_size": 8}, 8),
        ({"batch_size": 8}, 8),
    ]


def test_a_plain_ladder_does_not_accumulate() -> None:
    plain = Retry(oom=OomRetry(ladder="plain"))
    assert effective(PARAMS, Entry(ooms=2), plain) == ({"batch_size": 16}, 1)


def test_without_a_ladder_or_a_number_nothing_is_changed() -> None:
    assert effective(PARAMS, Entry(ooms=2), Retry()) == ({}, 1)
    assert effective({"batch_size": "auto"}, Entry(ooms=2), LADDER) == ({}, 1)


# -- memory of the host
@pytest.mark.parametrize("message", [{}, {"state": "failed", "cause": "error", "detail": "killed by signal"}])
def test_a_kill_for_host_memory_is_tried_again_unchanged_on_a_budget_of_its_own(
    message: dict[str, Any],
) -> None:
    found = judge(Observed(status=-9, host_memory=True, message=message), Entry(), Retry(), {})
    assert (found.state, found.cause, found.host_memory) == ("pending", "oom", True)
    assert "memory of the host" in found.detail
    assert effective(PARAMS, Entry(kills=1), LADDER) == ({}, 1)
    assert verdict(Entry(kills=1), status=-9, host_memory=True) == ("failed", "oom")
    assert verdict(Entry(errors=9, ooms=9), status=-9, host_memory=True) == ("pending", "oom")
    assert verdict(Entry(kills=2), Retry(memory=3), status=-9, host_memory=True)[0] == "pending"
    assert verdict(Entry(), Retry(memory=0), status=-9, host_memory=True)[0] == "failed"


def test_where_that_is_spent_the_ladder_begins() -> None:
    plain = Retry(oom=OomRetry(ladder="plain"))
    kills = [verdict(Entry(kills=kills), plain, host_memory=True, status=-9)[0] for kills in range(6)]
    assert kills == ["pending", "pending", "pending", "pending", "failed", "failed"]
    assert [effective(PARAMS, Entry(kills=kills), plain)[0] for kills in range(4)] == [
        {},
        {},
        {"batch_size": 32},
        {"batch_size": 16},
    ]
    # Both kinds are steps of one ladder.
    assert effective(PARAMS, Entry(kills=2, ooms=1), plain)[0] == {"batch_size": 16}
    assert rung(Entry(kills=9, ooms=9), plain) == 3
    assert rung(Entry(kills=9, ooms=9), Retry()) == 0


def test_a_stop_is_no_lack_of_memory() -> None:
    assert verdict(status=-9, host_memory=True, stopping="signal SIGTERM") == ("pending", "preempted")


# -- memory of a program
def test_a_program_that_says_it_ran_out_of_memory_goes_down_the_ladder() -> None:
    found = judge(
        Observed(status=1, out_of_memory="CUDA out of memory.", accumulates=True), Entry(), LADDER, PARAMS
    )
    assert found == Verdict("pending", "oom", "CUDA out of memory.")
    assert judge(Observed(status=1, out_of_memory="x"), Entry(), Retry(), PARAMS) == Verdict(
        "failed", "oom", "x"
    )


# -- hung, stopped and undying trials
def test_a_hung_trial_has_a_budget_where_the_search_gives_one() -> None:
    assert verdict(Entry(hangs=3), stalled=True) == ("pending", "timeout")
    assert verdict(Entry(hangs=1), Retry(timeout=2), stalled=True) == ("pending", "timeout")
    assert verdict(Entry(hangs=2), Retry(timeout=2), stalled=True) == ("failed", "timeout")
    assert verdict(Entry(), Retry(timeout=0), stalled=True) == ("failed", "timeout")


def test_three_whole_walltimes_without_a_checkpoint_are_a_timeout() -> None:
    seen = [
        judge(Observed(stopping=TIME_LIMIT, walltimes=n), Entry(), Retry(no_progress=99), {})
        for n in range(4)
    ]
    assert [(found.state, found.cause) for found in seen] == [
        ("pending", "preempted"),
        ("pending", "preempted"),
        ("pending", "preempted"),
        ("failed", "timeout"),
    ]
    assert "save more often" in seen[3].detail


def test_a_trial_that_survives_sigkill_is_lost_and_no_error() -> None:
    assert verdict(unkillable=True, stalled=True) == ("pending", "lost")
    assert verdict(unkillable=True, message=DONE) == ("done", "")
