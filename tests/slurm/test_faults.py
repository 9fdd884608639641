"""Whatever happens to tasks, nodes and controller: all trials are done once, with undisturbed bits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.slurm.attempts import Attempt, attempts, lost_work, wrong_causes
from tests.slurm.cluster import Cluster
from tests.slurm.searches import SteppedSearch, cancelled_at_the_end
from tests.waiting import wait_until
from tools.campaigns.checker import Outcomes, Rules, outcomes, verdict

TRIALS = 6
#: The step at which trials are held.
HOLD = 10


@pytest.fixture(scope="module")
def undisturbed(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    search = SteppedSearch(slurm, tmp_path_factory.mktemp("undisturbed"), TRIALS)
    search.run_locally()
    return outcomes(search.layout)


@pytest.fixture
def search(slurm: Cluster, tmp_path: Path) -> Iterator[SteppedSearch]:
    search = SteppedSearch(slurm, tmp_path, TRIALS)
    with cancelled_at_the_end(search):
        yield search


@pytest.fixture
def nodes(slurm: Cluster) -> Iterator[Callable[..., None]]:
    """Break nodes; they are whole again after the test."""
    with ExitStack() as stack:

        def break_node(how: str, node: str) -> None:
            stack.callback(wait_until, lambda: node not in out_of_service(slurm), 60)
            stack.callback(slurm.control, "start-node", node)
            slurm.control(how, node)

        yield break_node


def problems(search: SteppedSearch, undisturbed: Outcomes, *, stamps: bool = True) -> list[str]:
    """Return what is not as if nothing had happened."""
    return verdict(search.run, undisturbed, Rules(stamps=stamps)) + wrong_causes(attempts(search))


def out_of_service(cluster: Cluster) -> set[str]:
    """Return the nodes that take no jobs now."""
    shown = cluster.run("sinfo", "-h", "-N", "-p", "low", "-o", "%N %T").stdout.splitlines()
    usable = {"idle", "mixed", "allocated", "completing"}
    return {row.split()[0] for row in shown if row.split()[1] not in usable}


def by_name(search: SteppedSearch) -> dict[str, Attempt]:
    """Return the attempts by NUMBER-ATTEMPT."""
    return {f"{one.trial}-{one.number}": one for one in attempts(search)}


def test_tasks_that_are_told_to_end_save_and_go_on_at_that_step(
    search: SteppedSearch, undisturbed: Outcomes
) -> None:
    for trial in range(TRIALS):
        (search.directory / f"gate-{trial}-1").touch()
    # Trial 5 sleeps through its warning: for it the preemption is a kill.
    (search.directory / "gate-5-1").rename(search.directory / "deaf-5-1")
    cluster = search.cluster
    search.send(4, extra="{nodelist: node1}")
    search.wait_until_held("0-1", "1-1", "2-1", "3-1")
    search.send(6, partition="abrupt", extra="{nodelist: node2}")
    search.wait_until_held("4-1", "5-1")
    tasks = {search.task_of(trial).split("_")[1]: trial for trial in range(4)}

    high = ("sbatch", "--parsable", "-p", "high", "--nodelist=node2", "--exclusive", "-o", "/dev/null")
    cluster.run(*high, "--wrap", "true")
    cluster.run("scontrol", "requeue", search.task_of(tasks["1"]))
    cluster.run("scancel", "--signal=USR2", search.task_of(tasks["2"]))
    # The last task has the id of the array: what it asks for itself must not befall the others.
    cluster.run("scancel", "--signal=USR1", search.task_of(tasks["3"]))

    wait_until(lambda: search.states() == {"done": 5, "running": 1}, 90, on_timeout=lambda: search)
    alone = tasks["0"]
    (search.directory / f"gate-{alone}-1").unlink()
    search.wait()
    assert problems(search, undisturbed) == []
    found = by_name(search)
    told = set(range(5)) - {alone}
    assert {name: found[name].cause for name in found if name.endswith("-1")} == {
        f"{alone}-1": None,
        **{f"{trial}-1": "preempted" for trial in told},
        "5-1": "lost",
    }
    lost = {one.trial: one for one in lost_work(attempts(search))}
    assert {trial: lost[trial].steps for trial in told} == dict.fromkeys(told, 0)


def test_a_crashed_node_and_one_taken_for_dead_cost_one_attempt_each(
    search: SteppedSearch, undisturbed: Outcomes, nodes: Callable[..., None]
) -> None:
    for name in ("deaf-0-1", "deaf-1-1"):
        (search.directory / name).touch()
    search.send(2, cpus=4)
    search.wait_until_held("0-1", "1-1")
    crashed, silent = (search.opening_of(trial).host for trial in (0, 1))

    nodes("kill-node", crashed)
    nodes("kill-slurmd", silent)

    search.wait(120)
    found = by_name(search)
    assert {search.opening_of(trial, 2).restart for trial in (0, 1)} == {1}
    assert search.opening_of(1, 2).host not in (crashed, silent)
    assert found["1-1"].end is None
    # The worker that SLURM takes for dead still runs, and brings a late result.
    (search.directory / "deaf-1-1").unlink()
    wait_until(lambda: "superseded" in notes(search), 30, on_timeout=lambda: search)
    assert problems(search, undisturbed) == []


def notes(search: SteppedSearch) -> set[str]:
    """Return the events of all workers' notes."""
    return {record.event for _, record in search.records("note")}


def test_a_restart_of_the_controller_changes_nothing(search: SteppedSearch, undisturbed: Outcomes) -> None:
    gates = [search.directory / f"gate-{trial}-1" for trial in range(TRIALS)]
    for gate in gates:
        gate.touch()
    search.send(3)
    wait_until(lambda: len(search.held()) == 3, 60, on_timeout=lambda: search)

    search.cluster.control("restart-ctld")

    assert "already submitted" in search.send(3)
    for gate in gates:
        gate.unlink()
    search.wait()
    assert problems(search, undisturbed) == []
    assert {one.number for one in attempts(search)} == {1}


def test_a_controller_killed_right_after_a_submit_loses_and_doubles_no_result(
    search: SteppedSearch, undisturbed: Outcomes
) -> None:
    search.write("pace", "0.1")
    search.send(6)

    search.cluster.control("restart-ctld", "--kill")

    def ended() -> bool:
        # Tasks may run twice, be held, or be forgotten: what an operator does, and `submit` again.
        search.cluster.control("resume")
        search.send(6)
        return wait_a_little_for(search)

    wait_until(ended, 120, on_timeout=lambda: search)
    assert problems(search, undisturbed) == []


def wait_a_little_for(search: SteppedSearch) -> bool:
    """Return whether every trial ends within seconds."""
    until = time.monotonic() + 4
    while time.monotonic() < until:
        if search.states().keys() <= {"done", "failed", "pruned"}:
            return True
        time.sleep(0.2)
    return False


def test_a_suspended_task_that_wakes_after_the_lease_changes_no_result(
    search: SteppedSearch, undisturbed: Outcomes
) -> None:
    (search.directory / "deaf-0-1").touch()
    search.write("pace", "0.1")
    # Each on a node of its own.
    search.send(2, cpus=4)
    search.wait_until_held("0-1")
    task = search.task_of(0)

    search.cluster.run("scontrol", "suspend", task)

    # The other worker takes over after the lease; for longer than that nobody beats for the first.
    search.wait()
    assert by_name(search)["0-2"].end is not None
    (search.directory / "deaf-0-1").unlink()
    search.cluster.run("scontrol", "resume", task)
    wait_until(lambda: "superseded" in notes(search), 30, on_timeout=lambda: search)
    search.wait_for_the_end_of_all_jobs()
    assert problems(search, undisturbed, stamps=False) == []
