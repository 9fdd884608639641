"""Which nodes later submissions avoid, from what the journals say of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpc_search.config.profile import Profile
from hpc_search.config.slices import Expect, Slice
from hpc_search.launchers import nodes
from hpc_search.launchers.nodes import Life, merged, to_avoid
from hpc_search.ledger import Ledger
from hpc_search.ledger.mismatches import MISMATCH, SLICE
from hpc_search.ledger.submits import Answer
from hpc_search.records import checked
from hpc_search.worker.breaker import BROKEN, NODE, NODE_FAILED
from hpc_search.worker.verdict import HOST_DIED
from tests.ledger_run import NO_PID, LedgerRun, end_of


def life(node: str, succeeded: float = 0.0, failed: float = 0.0, **more: Any) -> Life:
    return Life(f"{node}-{failed}", node, succeeded=succeeded, failed=failed, why="why", **more)


def test_two_failures_in_a_row_and_not_one() -> None:
    assert to_avoid([life("n1", failed=5)]) == {}
    assert to_avoid([life("n1", failed=5), life("n1", failed=9), life("n2", failed=5)]) == {"n1": "why"}


def test_a_success_on_the_node_ends_it() -> None:
    twice = [life("n1", failed=5), life("n1", failed=9)]
    assert to_avoid([*twice, life("n1", succeeded=10)]) == {}
    assert to_avoid([*twice, life("n1", succeeded=7)]) == {}
    assert to_avoid([*twice, life("n1", succeeded=3), life("n2", succeeded=99)]) == {"n1": "why"}


@pytest.mark.parametrize("name", ["", "a b", "n1;rm", "-x", "n1,n2"])
def test_what_is_no_name_of_a_node_never_reaches_sbatch(name: str) -> None:
    assert to_avoid([life(name, failed=5), life(name, failed=9)]) == {}


def test_the_profiles_own_nodes_stay_excluded() -> None:
    assert merged("n[1-3]", ["n9", "n8"]) == "n[1-3],n8,n9"
    assert merged("", []) == ""


@pytest.fixture
def run(tmp_path: Path) -> LedgerRun:
    return LedgerRun(tmp_path / "run", trials=20)


def worker(run: LedgerRun, node: str, **more: Any) -> Ledger:
    ledger = run.ledger(**more)
    ledger.note(NODE, node)
    return ledger


def broken(run: LedgerRun, node: str) -> None:
    ledger = worker(run, node)
    ledger.note(BROKEN, "the trial's code cannot be imported: ImportError: libcuda.so")
    ledger.exit("broken")


def test_imports_that_fail_on_one_node_only_are_its_fault(run: LedgerRun) -> None:
    broken(run, "n1")
    broken(run, "n1")
    # Nobody could ever import it: no fault of the node.
    assert nodes.read(run.layout) == {}
    good = worker(run, "n2")
    (claimed,) = good.claim(1)
    good.start(claimed, 1, 0)
    assert list(nodes.read(run.layout)) == ["n1"]
    run.close()


def test_templates_that_die_and_slices_that_are_lost_are_a_nodes_fault_until_a_trial_succeeds(
    run: LedgerRun,
) -> None:
    one = worker(run, "n1")
    (claimed,) = one.claim(1)
    one.finish(end_of(claimed, "pending", cause="lost", detail=HOST_DIED))
    one.exit("x")
    assert nodes.read(run.layout) == {}
    two = worker(run, "n1")
    two.note(NODE_FAILED, "trial 3 survived SIGKILL")
    assert nodes.read(run.layout) == {"n1": "trial 3 survived SIGKILL"}
    two.exit("slice lost")
    three = worker(run, "n1")
    (claimed,) = three.claim(1)
    three.finish(end_of(claimed))
    assert nodes.read(run.layout) == {}
    run.close()


def test_workers_that_vanish_at_once_count_and_those_that_lasted_do_not(run: LedgerRun) -> None:
    """A preemption without grace looks like that too, but hardly within three heartbeats, twice in a row."""
    for beats in (1, 1, 9, 9):
        node = "quick" if beats == 1 else "slow"
        mortal = worker(run, node, pid=NO_PID)
        for _ in range(beats):
            mortal.beat()
        (claimed,) = mortal.claim(1)
        mortal.start(claimed, 1, 0)
        mortal.flush()
    finder = worker(run, "n9")
    assert finder.recover() == 4
    assert nodes.read(run.layout) == {"quick": "a worker was lost soon after its start"}
    run.close()


def test_nodes_without_a_name_from_slurm_are_unknown_here(run: LedgerRun) -> None:
    for _ in range(2):
        ledger = run.ledger()
        ledger.note(NODE_FAILED, "x")
        ledger.exit("x")
    assert nodes.read(run.layout) == {}
    run.close()


def mismatch(run: LedgerRun, node: str, **more: Any) -> None:
    ledger = worker(run, node, **more)
    ledger.note(SLICE, "{}")
    ledger.note(MISMATCH, "'A100' does not contain 'H200'")
    ledger.exit(MISMATCH)


def test_two_wrong_slices_on_a_node_are_its_fault_where_another_node_has_the_right_one(
    run: LedgerRun,
) -> None:
    mismatch(run, "n1")
    assert nodes.read(run.layout) == {}
    mismatch(run, "n1")
    # So far the profile may be wrong.
    assert nodes.read(run.layout) == {}

    worker(run, "n2").note(SLICE, "{}")

    assert nodes.read(run.layout) == {"n1": "not the slice that the profile expects"}


def test_a_wrong_profile_is_no_fault_of_the_nodes_where_the_right_one_is_found_on_others(
    run: LedgerRun,
) -> None:
    run.layout.submits.mkdir()
    for number, name in ((1, "H300"), (2, "H200")):
        block = Slice(kind="whole", expect=Expect(name=name))
        about: dict[str, Any] = {"number": number, "token": f"r-{number}", "launcher": "slurm", "tasks": 1}
        answer = Answer(**about, profile=Profile(slice=block), outcome="sent")
        run.layout.submit_record(number).write_bytes(checked.encode(answer))
    for token in ("r-1", "r-1", "r-2"):
        mismatch(run, "n1", token=token)

    worker(run, "n2", token="r-2").note(SLICE, "{}")
    assert nodes.read(run.layout) == {}

    mismatch(run, "n1", token="r-2")
    assert nodes.read(run.layout) == {"n1": "not the slice that the profile expects"}
    run.close()
