"""What scontrol and sinfo print, of the test cluster (22.05) and in the formats of 23.11 and 24.11."""

from __future__ import annotations

import msgspec
import pytest

from hpc_search.site.config import Config, read_config
from hpc_search.site.machines import Gres, in_words, read_gres, read_machines
from hpc_search.site.partitions import Partition, minutes, read_partitions

CONFIG_22 = """Configuration data as of 2026-11-29T17:03:37
AccountingStorageEnforce = associations,limits,qos,safe
AuthInfo                = socket=/run/munge/munge.socket,cred_expire=5
JobRequeue              = 1
KillWait                = 5 sec
MaxArraySize            = 1001
MaxMemPerNode           = UNLIMITED
OverTimeLimit           = 0 min
PreemptMode             = REQUEUE
PreemptType             = preempt/partition_prio
PrologSlurmctld         = (null)
PowerPlugin             =
SchedulerParameters     = batch_sched_delay=0,sched_interval=2,bf_continue
SLURM_VERSION           = 22.05.8
SlurmctldHost[0]        = vm(127.0.0.1)
SlurmctldParameters     = (null)

Cgroup Support Configuration:
ConstrainDevices        = no
ConstrainRAMSpace       = yes
MinRAMSpace             = 30 MB

Slurmctld(primary) at vm is UP
"""
CONFIG_24 = """Configuration data as of 2025-02-03T09:00:00
AccountingStorageType   = accounting_storage/slurmdbd
JobRequeue              = 0
KillWait                = 30 sec
MaxArraySize            = 10001
PreemptMode             = CANCEL
PreemptParameters       = youngest_first
PreemptType             = preempt/qos
SchedulerParameters     = max_array_tasks=500,requeue_delay=300,bf_window=2880
SLURM_VERSION           = 24.11.1
SlurmctldParameters     = enable_configless,preempt_send_user_signal,rl_enable,rl_bucket_size=50

Cgroup Support Configuration:
ConstrainDevices        = yes
"""
LOW = (
    "PartitionName=low AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A "
    "DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO GraceTime=5 Hidden=NO MaxNodes=UNLIMITED "
    "MaxTime=UNLIMITED MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=node[1-4] PriorityJobFactor=1 "
    "PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=REQUEUE State=UP "
    "TotalCPUs=16 TotalNodes=4 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED "
    "MaxMemPerNode=UNLIMITED TRES=cpu=16,mem=16000M,node=4,gres/gpu:1g.10gb=8,gres/gpu:h200=8,gres/shard=32\n"
)
GPU_24 = """PartitionName=gpu_a100
   AllowGroups=hpc,ml DenyAccounts=guest AllowQos=normal,gpu
   AllocNodes=ALL Default=NO QoS=part_gpu
   DefaultTime=01:00:00 DisableRootJobs=NO ExclusiveUser=NO ExclusiveTopo=NO GraceTime=120 Hidden=NO
   MaxNodes=4 MaxTime=2-12:30:00 MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED MaxCPUsPerSocket=UNLIMITED
   Nodes=gpu[001-016]
   PriorityJobFactor=10 PriorityTier=10 RootOnly=NO ReqResv=NO OverSubscribe=NO
   OverTimeLimit=5 PreemptMode=OFF
   State=UP TotalCPUs=1024 TotalNodes=16 SelectTypeParameters=NONE
   JobDefaults=DefCpuPerGPU=8,DefMemPerGPU=62000
   DefMemPerCPU=3900 MaxMemPerCPU=7800
   TRES=cpu=1024,mem=8000G,node=16,billing=1024,gres/gpu=64,gres/gpu:a100=64
   TRESBillingWeights=CPU=1.0,Mem=0.25G,GRES/gpu=16.0

PartitionName=maint
   AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL
   MaxTime=00:30:00 State=DRAIN TotalCPUs=64 TotalNodes=1
"""


def test_the_configuration_has_words_numbers_and_options() -> None:
    config = read_config(CONFIG_22)

    assert config.word("SLURM_VERSION") == "22.05.8"
    assert config.number("KillWait") == 5
    assert (config.word("PrologSlurmctld"), config.word("PowerPlugin"), config.word("Absent")) == ("", "", "")
    assert config.word("MaxMemPerNode") == ""
    assert config.options("SchedulerParameters")["sched_interval"] == "2"
    assert config.yes("JobRequeue") is True
    assert config.yes("ConstrainDevices") is False
    assert config.yes("Absent") is None


@pytest.mark.parametrize(
    ("text", "wait", "preempts", "signals"),
    [(CONFIG_22, 5, True, False), (CONFIG_24, 300, True, True), ("", None, False, False)],
)
def test_requeue_and_preemption_follow_from_it(
    text: str, wait: int | None, preempts: bool, signals: bool
) -> None:
    config = read_config(text)

    assert (config.requeue_wait_s, config.preempts, config.signals_preempted) == (wait, preempts, signals)


def test_a_requeued_job_waits_for_its_credential_where_nothing_is_said() -> None:
    assert Config({"AuthInfo": "(null)"}).requeue_wait_s == 120


def test_a_partition_is_read_from_a_line() -> None:
    (low,) = read_partitions(LOW)

    assert low == Partition(
        name="low", default=True, nodes=4, cpus=16, tier=1, preempt="REQUEUE", grace=5, max_time=None
    )


def test_partitions_are_read_from_blocks_of_a_newer_release() -> None:
    gpu, maint = read_partitions(GPU_24)

    assert (gpu.name, gpu.max_time, gpu.default_time, gpu.grace) == ("gpu_a100", 3630, 60, 120)
    assert (gpu.groups, gpu.no_accounts, gpu.qoses) == (("hpc", "ml"), ("guest",), ("normal", "gpu"))
    assert (gpu.qos, gpu.over_time, gpu.mem_per_cpu, gpu.most_mem_per_cpu) == ("part_gpu", 5, 3900, 7800)
    assert (maint.state, maint.max_time) == ("DRAIN", 30)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"state": "DOWN"}, "is DOWN"),
        ({"groups": ("ml",)}, "groups ml"),
        ({"accounts": ("other",)}, "account other only, not lab"),
        ({"no_accounts": ("lab",)}, "does not take the account lab"),
        ({"qoses": ("gpu",)}, "QOS gpu only, not normal"),
        ({"root_only": True}, "root only"),
        ({"reserved": True}, "reservation"),
    ],
)
def test_who_may_use_a_partition(changes: dict[str, object], words: str) -> None:
    (low,) = read_partitions(LOW)
    said = msgspec.structs.replace(low, **changes).refusal(
        account="lab", qos="normal", groups=("hpc",), root=False
    )
    assert words in said
    assert bool(said) == bool(words)


def test_what_is_not_known_of_the_user_is_not_held_against_a_partition() -> None:
    gpu = read_partitions(GPU_24)[0]

    assert gpu.refusal(account="", qos="", groups=("ml",), root=False) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [("UNLIMITED", None), ("NONE", None), ("00:30:00", 30), ("2-00:00:00", 2880), ("1-01:01:59", 1501)],
)
def test_minutes(text: str, expected: int | None) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(null)", ()),
        ("gpu:h200:2,shard:h200:8,shard:1g.10gb:0", (Gres("gpu", "h200", 2), Gres("shard", "h200", 8))),
        ("gpu:a100:4(S:0-1)", (Gres("gpu", "a100", 4),)),
        ("gpu:4(S:0,2),tmpfs:1T", (Gres("gpu", "", 4), Gres("tmpfs", "", 1 << 40))),
        ("gpu", (Gres("gpu", "", 1),)),
        ("gpu:nv_1g.5gb:7(S:0),gpu:a100:1", (Gres("gpu", "nv_1g.5gb", 7), Gres("gpu", "a100", 1))),
        ("craynetwork:4,ssd:2K", (Gres("craynetwork", "", 4), Gres("ssd", "", 2048))),
    ],
)  # fmt: skip
def test_generic_resources(text: str, expected: tuple[Gres, ...]) -> None:
    assert read_gres(text) == expected


def test_nodes_that_differ_in_their_state_are_one_kind() -> None:
    found = read_machines(
        "low|3|4|4000|idle|(null)|gpu:h200:2,gpu:1g.10gb:2,shard:h200:8\n"
        "low|1|4|4000|down*|(null)|gpu:h200:2,gpu:1g.10gb:2,shard:h200:8\n"
        "big|2|64|515000|mix-|a100,ib|(null)\n"
        "big|2|64|515000|idle~|a100,ib|(null)\n"
        "big|1|64|515000|drain$|a100,ib|(null)\n"
        "sinfo: a line of its own\n"
    )
    assert [(one.partition, one.nodes, one.usable) for one in found] == [("low", 4, 3), ("big", 5, 4)]
    assert found[1].features == ("a100", "ib")
    assert (
        in_words(found[0].gres)
        == "gpu:h200 x 2 per node: whole; gpu:1g.10gb x 2 per node: mig; shard: 4 a GPU of h200"
    )
    assert [one.request for one in found[0].gres] == ["gpu:h200:1", "gpu:1g.10gb:1", "shard:1"]
