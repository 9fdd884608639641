"""What was found on a cluster: what SLURM said, and what happened to the tasks of one small array."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from hpc_search.site.config import Config
from hpc_search.site.machines import Machine
from hpc_search.site.partitions import Partition
from hpc_search.slices.observed import Observed

#: The settings that are kept: what a run meets. A release of SLURM has not all of them.
SETTINGS: Final = (
    *("SLURM_VERSION", "ClusterName", "MaxArraySize", "MaxJobCount", "MinJobAge", "SlurmdTimeout"),
    *("PreemptType", "PreemptMode", "PreemptExemptTime", "PreemptParameters", "KillWait", "OverTimeLimit"),
    *("JobRequeue", "AuthInfo", "SchedulerParameters", "SlurmctldParameters", "KillOnBadExit"),
    *("LaunchParameters", "ProctrackType", "TaskPlugin", "JobAcctGatherParams", "SelectTypeParameters"),
    *("ConstrainDevices", "ConstrainRAMSpace", "ConstrainCores", "GresTypes", "PrivateData"),
    *("AccountingStorageType", "AccountingStorageEnforce", "EnforcePartLimits", "UnkillableStepTimeout"),
)
#: What the tasks of the array do, by their index.
ROLES: Final = ("limit", "requeue", "cancel")
#: Seconds of the array's time limit, SLURM's shortest, and by which a measured time may be off.
LIMIT_S: Final = 60.0
_TOLERANCE_S: Final = 3.0
Outcome = Literal["ran", "not sent", "refused", "not started", "failed", "skipped"]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for; "" leaves the choice to us. ``gres`` is the slice."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    gres: str = ""


class Account(msgspec.Struct, frozen=True):
    """An account that this user may use, on one partition or ("") on all, with its default QOS."""

    name: str
    partition: str = ""
    qos: str = ""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The most tasks of an array; of this user known to SLURM; running; with the rules that say so."""

    array: int | None = None
    submit: int | None = None
    submit_rule: str = ""
    running: int | None = None
    running_rule: str = ""


class Permission(msgspec.Struct, frozen=True):
    """What SLURM said to a job for a slice that it only had to test: "" where it takes it."""

    gres: str
    refusal: str


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What SLURM said. ``user`` is root or has ``groups``; empty tuples: it did not say."""

    settings: dict[str, str]
    partitions: tuple[Partition, ...] = ()
    machines: tuple[Machine, ...] = ()
    accounts: tuple[Account, ...] = ()
    default_account: str = ""
    qoses: tuple[str, ...] = ()
    user: str = ""
    groups: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def config(self) -> Config:
        """The settings."""
        return Config(self.settings)

    def partition(self, name: str) -> Partition | None:
        """Return the partition *name*."""
        return next((one for one in self.partitions if one.name == name), None)

    def machines_of(self, partition: str) -> tuple[Machine, ...]:
        """Return the kinds of nodes of *partition*."""
        return tuple(one for one in self.machines if one.partition == partition)


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a task saw where it ran. Seconds; exit codes are None where a command did not run.

    ``age`` is how long ago its interpreter was started, ``worker`` how long the verb `work` takes to start.
    ``visible`` are the lines of nvidia-smi; ``seen`` is what a worker would look at before it claims.
    """

    node: str
    age: float
    worker: float
    worker_code: int | None
    same: bool
    writable: str
    umask: int
    cores: int
    scontrol: str
    sbatch: str
    times: bool
    restarts: int
    visible: tuple[str, ...] = ()
    seen: Observed | None = None
    environment: dict[str, str] = {}


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of a task's record: what happened, seconds after the start of its interpreter."""

    what: str
    at: float
    words: str = ""
    look: Look | None = None


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """When signals came, in seconds; None: not seen.

    The signal that was asked for ``asked`` before the end came ``warning`` after the interpreter's start and
    ``warned`` before TERM, which came ``limit`` after the start in a job of `LIMIT_S`; ``killed`` later was
    the last sign of life. ``cancelled`` and ``cancel_killed``: the same after a scancel. ``pending``: a task
    that requeued itself waited; ``restarts`` is its SLURM_RESTART_COUNT afterwards.
    """

    asked: int = 0
    warned: float | None = None
    warning: float | None = None
    limit: float | None = None
    killed: float | None = None
    cancelled: float | None = None
    cancel_killed: float | None = None
    requeued: bool = False
    requeue_words: str = ""
    pending: float | None = None
    restarts: int | None = None

    @property
    def late(self) -> int:
        """Seconds by which the warning came later than asked, 0 where it came in time."""
        if self.warning is None or self.warned is None:
            return 0
        left = min(LIMIT_S - self.warning, self.warned)
        return max(0, round(self.asked - left - _TOLERANCE_S))


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """The array: how it ended, in words where it did not run; seconds until its first task ran."""

    outcome: Outcome
    words: str = ""
    token: str = ""
    wait: float | None = None
    signals: bool = False
    look: Look | None = None
    timing: Timing = Timing()


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about the cluster; ``problems`` keep runs from working there."""

    asked: Asked
    bounds: Bounds
    tried: Tried
    permissions: tuple[Permission, ...] = ()
    profile: str = ""
    problems: tuple[str, ...] = ()
