"""SLURM's reasons in plain words."""

from __future__ import annotations

import pytest

from hpc_search.site.reasons import explain

#: As the test cluster's 22.05 and newer ones write them.
WAITING = (
    *("None", "Priority", "Resources", "BeginTime", "Dependency", "Licenses", "Cleaning", "NodeDown"),
    *("QOSMaxJobsPerUserLimit", "QOSMaxSubmitJobPerUserLimit", "QOSGrpNodeLimit", "QOSGrpCpuLimit"),
    *("QOSMaxCpuPerUserLimit", "QOSMaxGRESPerUser", "QOSMaxMemoryPerUser", "QOSMaxNodePerUserLimit"),
    *("AssocMaxJobsLimit", "AssocGrpCpuLimit", "AssocGrpGRES", "AssocMaxSubmitJobLimit", "AssocGrpMemLimit"),
    *("AssocGrpCPURunMinutesLimit", "ReqNodeNotAvail", "PartitionDown", "PartitionInactive", "Reservation"),
)
STUCK = (
    *("DependencyNeverSatisfied", "PartitionTimeLimit", "PartitionNodeLimit", "JobHeldUser", "JobHeldAdmin"),
    *("launch failed requeued held", "InvalidAccount", "InvalidQOS", "AccountNotAllowed", "BadConstraints"),
    *(
        "MaxMemPerLimit",
        "NonZeroExitCode",
        "OutOfMemory",
        "JobArrayTaskLimit",
        "QOSMaxWallDurationPerJobLimit",
    ),
    *("QOSMinGRES", "AssocGrpCPUMinutesLimit", "QOSMaxCpuPerJobLimit", "QOSMaxCpuPerNode"),
)


@pytest.mark.parametrize("reason", WAITING)
def test_a_reason_that_passes_by_itself_says_wait(reason: str) -> None:
    found = explain(reason)

    assert found.meaning
    assert found.waits
    assert found.step.startswith("wait")


@pytest.mark.parametrize("reason", STUCK)
def test_a_reason_that_does_not_pass_says_what_to_do(reason: str) -> None:
    found = explain(reason)

    assert found.meaning
    assert found.step
    assert not found.waits


@pytest.mark.parametrize("reason", [*WAITING, *STUCK])
def test_a_step_is_a_command_and_tasks_in_the_queue_do_not_change_by_submit(reason: str) -> None:
    step = explain(reason).step

    assert "`--set" not in step.replace("`--set time_min=10`", "").replace("`cancel RUN`, then", "")
    for change in ("partition", "account", "qos", "mem"):
        assert f"submit RUN --set {change}=" not in step or "`cancel RUN`, then `submit" in step


def test_our_own_throttle_says_how_it_is_raised() -> None:
    assert "submit RUN --set throttle=N" in explain("JobArrayTaskLimit").step


def test_nodes_that_are_not_available_are_named() -> None:
    assert explain("ReqNodeNotAvail, UnavailableNodes:node[1-2]").meaning.endswith(": node[1-2]")
    assert explain("ReqNodeNotAvail(Unavailable:node3)").meaning.endswith(": node3")
    assert explain("(ReqNodeNotAvail, Reserved for maintenance)").meaning
    assert not explain("ReqNodeNotAvail").meaning.endswith(":")


def test_reasons_that_are_sentences_are_understood() -> None:
    down = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"

    assert explain(down) == explain("ReqNodeNotAvail")
    assert explain("Job's account not permitted to use this partition (low allows lab not closed)").step


def test_limits_name_who_sets_them_and_what_they_count() -> None:
    assert "QOS" in explain("QOSMaxJobsPerUserLimit").meaning
    assert "jobs that run at once of one user" in explain("QOSMaxJobsPerUserLimit").meaning
    assert "all of its users together" in explain("AssocGrpGRES").meaning
    assert "GPUs" in explain("AssocGrpGRES").meaning
    assert "`submit RUN` sends the rest" in explain("AssocMaxSubmitJobLimit").step


def test_a_reason_that_is_not_known_is_left_as_it_is() -> None:
    assert explain("SomethingNewIn25") == ("", "", True)
