"""The limits of a site, from the words of scontrol and sacctmgr."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_search.config.profile import Profile
from hpc_search.site.limits import Limits, Place, parse, read_limits
from hpc_search.site.partitions import minutes

CONFIG = """Configuration data as of 2026-11-29T17:05:01
AccountingStorageEnforce = associations,limits,qos,safe
ClusterName             = lab
MaxArraySize            = 1001
MaxJobCount             = 10000
SchedulerParameters     = batch_sched_delay=0,bf_continue
"""
PARTITIONS = """\
PartitionName=low AllowGroups=ALL Default=YES QoS=N/A DefaultTime=00:30:00 MaxTime=2-00:00:00 State=UP
PartitionName=gpu AllowGroups=ALL Default=NO QoS=gpus DefaultTime=NONE MaxTime=UNLIMITED State=UP
PartitionName=gpu-long AllowGroups=ALL Default=NO QoS=gpus DefaultTime=NONE MaxTime=UNLIMITED State=UP
"""
USER = """lab|lab|lab||normal|50|300||
lab|lab|lab|gpu|gold||40||
lab|other|lab||normal|1|1||
lab|lab|team||||||
"""
ACCOUNTS = """lab|root|||
lab|lab|root||400
lab|team|lab|7|
other|lab|root||2
"""
QOS = """normal||||||5000
small|8|120||||
gpus||||60|4|
"""


def limits(**changes: str) -> Limits:
    given = {"config": CONFIG, "partitions": PARTITIONS, "mine": USER, "accounts": ACCOUNTS, "qos": QOS}
    return parse(**(given | changes))


def rules(profile: Profile) -> dict[str, int]:
    return {bound.rule: bound.most for bound in limits().bounds(profile)}


def test_the_largest_index_is_one_less_than_max_array_size() -> None:
    assert limits().max_array == 1000


def test_a_lower_limit_of_the_scheduler_holds_as_well() -> None:
    text = CONFIG.replace("bf_continue", "max_array_tasks=150,bf_continue")

    assert limits(config=text).max_array == 150


def test_a_job_counts_where_the_sites_defaults_put_it() -> None:
    assert limits().place(Profile()) == Place("lab", "normal", "low")
    assert limits().place(Profile(partition="gpu")) == Place("lab", "gold", "gpu")
    assert limits().place(Profile(account="team", qos="small")) == Place("team", "small", "low")


def test_all_limits_of_the_account_and_those_above_and_of_the_qos_hold() -> None:
    assert rules(Profile(qos="small")) == {
        "AssocMaxJobsLimit": 50,
        "AssocMaxSubmitJobLimit": 300,
        "QOSMaxJobsPerUserLimit": 8,
        "QOSMaxSubmitJobPerUserLimit": 120,
        "AssocGrpSubmitJobsLimit": 400,
    }
    assert rules(Profile(account="team")) == {"AssocGrpJobsLimit": 7, "AssocGrpSubmitJobsLimit": 400}


def test_the_qos_of_a_partition_counts_whatever_qos_a_job_has() -> None:
    found = {bound.rule: bound for bound in limits().bounds(Profile(partition="gpu"))}

    bound = found["MaxSubmitJobsPerAccount"]
    assert bound.most == 60
    assert bound.counts(Place("lab", "gold", "gpu-long"))
    assert not bound.counts(Place("team", "gold", "gpu"))
    assert not bound.counts(Place("lab", "gold", "low"))


def test_an_accounts_limit_counts_the_accounts_below_it() -> None:
    found = {bound.rule: bound for bound in limits().bounds(Profile())}

    assert found["AssocGrpSubmitJobsLimit"].counts(Place("team", "", ""))
    assert not found["AssocMaxSubmitJobLimit"].counts(Place("team", "", ""))


def test_the_tightest_limit_has_its_name() -> None:
    tightest = limits().max_submit(Profile(qos="small"))

    assert tightest is not None
    assert (tightest.most, tightest.rule) == (120, "QOSMaxSubmitJobPerUserLimit")


def test_a_field_of_the_profile_takes_the_place_of_what_was_read() -> None:
    profile = Profile(qos="small", max_submit=500, max_array=10)

    assert rules(profile) == {"max_submit": 500, "AssocMaxJobsLimit": 50, "QOSMaxJobsPerUserLimit": 8}
    assert limits().array(profile) == 10


def test_limits_that_the_site_does_not_enforce_are_none() -> None:
    text = CONFIG.replace("associations,limits,qos,safe", "associations")

    assert limits(config=text).bounds(Profile(qos="small")) == ()


def test_what_cannot_be_read_is_unlimited() -> None:
    asked: list[Sequence[str]] = []

    def silent(argv: Sequence[str], _timeout: float) -> None:
        asked.append(argv)

    found = read_limits("me", silent)

    assert len(asked) == 5
    assert found == Limits()
    assert found.bounds(Profile()) == ()
    assert found.array(Profile()) == 1000


def test_the_times_of_a_partition_are_minutes() -> None:
    assert limits().partition("").default_time == 30
    assert limits().partition("low").max_time == 2880
    assert limits().partition("gpu").max_time is None
    assert minutes("UNLIMITED") is None
