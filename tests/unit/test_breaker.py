"""When equal failures stop the search, and when only the worker of a bad node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from hpc_search.ledger import Ledger, gone
from hpc_search.records import journal as lines
from hpc_search.worker import breaker
from hpc_search.worker.breaker import Standing, Streak, judge, judge_import, masked
from hpc_search.worker.failures import Failures
from tests.ledger_run import LedgerRun, end_of


def failed(
    trial: int, detail: str = "ValueError: x", cause: str = "error", state: str = "failed"
) -> lines.End:
    return lines.End(trial=trial, attempt=1, state=state, params={}, cause=cause, detail=detail)  # type: ignore[arg-type]


def done(trial: int) -> lines.End:
    return lines.End(trial=trial, attempt=1, state="done", params={}, value=1.0)


def standing(worker: str, node: str, *ends: lines.End, **more: Any) -> Standing:
    one = Standing(worker, node)
    for end in ends:
        one = one.after(end)
    return replace(one, **more)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ValueError: lr = 0.001 is bad", "ValueError: lr = 1e-05 is bad"),
        ("OSError: /scratch/job.77/a.h5 is gone", "OSError: /scratch/job.9/b.h5 is gone"),
        ("RuntimeError: at 0x7f3a00ff", "RuntimeError: at 0x5511ee"),
        ("RuntimeError: id deadbeef00 failed", "RuntimeError: id 0123456789ab failed"),
        (
            'Traceback\n  File "/a/x.py", line 3, in f\nKeyError: 3',
            'Traceback\n  File "/b", line 9\nKeyError: 4',
        ),
    ],
)
def test_numbers_paths_and_addresses_do_not_make_failures_differ(one: str, other: str) -> None:
    assert masked(one) == masked(other)


def test_words_do() -> None:
    assert masked("ValueError: unknown optimizer 'adam'") != masked("ValueError: unknown optimizer 'sgd'")
    assert masked("decade facade") == "decade facade"


def test_a_streak_counts_different_trials_that_failed_alike_since_the_last_success() -> None:
    streak = Streak()
    for end in (failed(1), failed(1), failed(2, "ValueError: x"), failed(3, cause="lost")):
        streak = streak.after(end)
    assert streak.trials == {1, 2}
    assert streak.after(failed(4, state="pending")).trials == {1, 2, 4}
    assert streak.after(failed(4, "KeyError: y")).trials == {4}
    assert streak.after(failed(4, cause="timeout")).trials == {4}
    assert streak.after(done(5)) == Streak()


THREE = (failed(1), failed(2), failed(3))


def test_one_node_that_works_alone_stops_the_search() -> None:
    mine = standing("a", "n1", *THREE)
    assert judge(mine, [mine], 3) == "stop"
    assert judge(mine, [mine, standing("b", "n1", done(9))], 3) == "stop"
    assert judge(mine, [mine, standing("b", "n2", done(9), exited=True)], 3) == "stop"


def test_fewer_failures_or_a_limit_of_0_stop_nothing() -> None:
    mine = standing("a", "n1", *THREE)
    assert judge(mine, [mine], 4) == "go on"
    assert judge(mine, [mine], 0) == "go on"


def test_where_several_nodes_work_one_of_them_never_stops_the_search() -> None:
    mine = standing("a", "n1", *THREE)
    assert judge(mine, [standing("b", "n2", done(9))], 3) == "leave"
    assert judge(mine, [standing("b", "n2")], 3) == "leave"
    assert judge(mine, [standing("b", "n2", failed(7, "KeyError: other"))], 3) == "leave"
    assert judge(mine, [standing("b", "n2", failed(7), done(8))], 3) == "leave"


def test_two_nodes_with_the_same_failure_do() -> None:
    mine = standing("a", "n1", *THREE)
    assert judge(mine, [standing("b", "n2", failed(7)), standing("c", "n3", done(9))], 3) == "stop"
    # The first one left when it was alone with it.
    left = standing("b", "n2", failed(7), exited=True)
    assert judge(mine, [left, standing("c", "n3", done(9))], 3) == "stop"


@pytest.mark.parametrize("cause", ["oom", "nonfinite"])
def test_points_that_are_too_large_or_diverge_stop_nothing_once_a_trial_succeeded(cause: str) -> None:
    mine = standing("a", "n1", *(failed(n, "no room", cause) for n in range(3)))
    assert judge(mine, [mine], 3) == "stop"
    assert judge(mine, [standing("b", "n1", done(9), failed(4))], 3) == "go on"
    before = standing("a", "n1", done(9), *(failed(n, "no room", cause) for n in range(3)))
    assert judge(before, [before], 3) == "go on"


def test_an_import_that_fails_on_one_of_several_nodes_stops_nobody_else() -> None:
    mine = standing("a", "n1", broken="no module x")
    assert judge_import(mine, [mine]) == "stop"
    assert judge_import(mine, [standing("b", "n1")]) == "stop"
    assert judge_import(mine, [standing("b", "n2")]) == "leave"
    assert judge_import(mine, [standing("b", "n2", broken="no module y")]) == "leave"
    assert judge_import(mine, [standing("b", "n2", broken="no module x", exited=True)]) == "stop"
    assert judge_import(mine, [standing("b", "n2", exited=True)]) == "stop"


@pytest.fixture
def run(tmp_path: Path) -> LedgerRun:
    return LedgerRun(tmp_path / "run", trials=20)


def failures_of(ledger: Ledger, node: str, stop_after: int) -> Failures:
    search = structs.replace(ledger.plan.search, stop_after=stop_after)
    ledger.plan = structs.replace(ledger.plan, search=search)
    return Failures(ledger, node)


def work(
    run: LedgerRun, failures: Failures, ledger: Any, count: int, detail: str = "ValueError: x"
) -> list[str]:
    """Fail *count* trials; return what follows each."""
    seen: list[str] = []
    for claimed in ledger.claim(count):
        end = end_of(claimed, "failed", cause="error", detail=f"{detail} {claimed.trial.number}")
        ledger.finish(end)
        seen.append(failures.after(end))
    return seen


def test_the_third_equal_failure_publishes_the_stop_with_words_and_workers_claim_nothing(
    run: LedgerRun, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = run.ledger()
    failures = failures_of(ledger, "n1", 3)
    assert work(run, failures, ledger, 3) == ["", "", "broken"]
    text = run.layout.stop.read_text()
    assert text.startswith("3 trials in a row failed in the same way (error: ValueError: x 2)")
    assert "stop_after" in text
    assert "3 trials in a row" in capsys.readouterr().err
    assert ledger.claim(1) == []
    run.close()


def test_a_node_that_fails_alone_is_left_and_the_second_one_stops_the_search(
    run: LedgerRun, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = (run.ledger(host=f"n{n}") for n in (1, 2, 3))
    assert work(run, failures_of(one, "n1", 2), one, 2) == ["", "node failed"]
    assert not run.layout.stop.exists()
    one.exit("node failed")
    (note,) = [note for note in run.records("note") if isinstance(note, lines.Note)]
    assert note.event == breaker.NODE_FAILED
    assert work(run, failures_of(two, "n2", 2), two, 2) == ["", "broken"]
    assert "nodes n1, n2" in run.layout.stop.read_text()
    assert three.claim(1) == []
    assert "only on n1" in capsys.readouterr().err
    run.close()


def test_workers_that_a_submission_found_gone_do_not_work_any_more(
    run: LedgerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = run.ledger(), run.ledger()
    monkeypatch.setattr(gone, "reported", lambda _: frozenset([one.id]))
    assert {found.worker: found.exited for found in breaker.standings(run.layout)} == {
        one.id: True,
        two.id: False,
    }
    run.close()


def test_the_name_that_slurm_gives_a_node_counts_and_not_the_hosts(run: LedgerRun) -> None:
    # Several nodes of a test cluster, or of a machine with containers, share a host.
    one, two = run.ledger(), run.ledger()
    two.note(breaker.NODE, "n2")
    assert {standing.node for standing in breaker.standings(run.layout)} == {one.me.host, "n2"}
    run.close()
