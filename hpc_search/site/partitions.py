"""The partitions of a site, as `scontrol -o show partition` prints them, and who may use which."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

#: ``key=value`` up to the next key: a value may have spaces, as in a reason.
_PAIR: Final = re.compile(r"(\w[\w/]*)=(.*?)(?=\s+\w[\w/]*=|\s*$)")
_DAYS: Final = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")
_EVERYBODY: Final = frozenset({"", "ALL", "(null)"})


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """One partition. Times are minutes, memory MB, ``grace`` seconds; None is no limit or not said.

    Lists of who may or may not use it are empty where everybody may. ``preempt`` is its own mode, "" the
    site's; ``qos`` the QOS whose limits hold for all of its jobs.
    """

    name: str
    default: bool = False
    state: str = "UP"
    nodes: int = 0
    cpus: int = 0
    max_time: int | None = None
    default_time: int | None = None
    tier: int = 1
    preempt: str = ""
    grace: int = 0
    qos: str = ""
    over_time: int | None = None
    mem_per_cpu: int | None = None
    mem_per_node: int | None = None
    most_mem_per_cpu: int | None = None
    most_mem_per_node: int | None = None
    accounts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    qoses: tuple[str, ...] = ()
    no_accounts: tuple[str, ...] = ()
    no_qoses: tuple[str, ...] = ()
    root_only: bool = False
    reserved: bool = False

    def refusal(self, *, account: str, qos: str, groups: Collection[str], root: bool) -> str:
        """Return why a job of this user under *account* and *qos* is not taken, "" where it is.

        An empty *account* or *qos* is not known and is not held against it.
        """
        if self.state != "UP":
            return f"is {self.state}"
        if self.root_only and not root:
            return "is for root only (RootOnly)"
        if self.reserved:
            return "takes jobs with a reservation only (ReqResv)"
        if self.groups and not root and not set(self.groups) & set(groups):
            return f"is for the groups {', '.join(self.groups)} (AllowGroups)"
        for what, name, allowed, denied in (
            ("account", account, self.accounts, self.no_accounts),
            ("QOS", qos, self.qoses, self.no_qoses),
        ):
            if name and allowed and name not in allowed:
                return f"takes the {what} {', '.join(allowed)} only, not {name}"
            if name and name in denied:
                return f"does not take the {what} {name}"
        return ""


def read_partitions(text: str) -> tuple[Partition, ...]:
    """Return the partitions in *text*, one a line or in blocks."""
    blocks = re.split(r"(?m)^(?=PartitionName=)", text)
    return tuple(
        _partition(dict(_PAIR.findall(" ".join(block.split())))) for block in blocks if block.strip()
    )


def minutes(text: str) -> int | None:
    """Return SLURM's ``D-HH:MM:SS`` as minutes, rounded down; None for UNLIMITED, NONE and the like."""
    match = _DAYS.fullmatch(text)
    if match is None:
        return None
    days, hours, mins, _ = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + mins


def _partition(found: Mapping[str, str]) -> Partition:
    mode = found.get("PreemptMode", "").upper()
    return Partition(
        name=found.get("PartitionName", ""),
        default=found.get("Default") == "YES",
        state=found.get("State", "UP"),
        nodes=_number(found, "TotalNodes") or 0,
        cpus=_number(found, "TotalCPUs") or 0,
        max_time=minutes(found.get("MaxTime", "")),
        default_time=minutes(found.get("DefaultTime", "")),
        tier=_number(found, "PriorityTier") or 0,
        preempt="" if mode in ("", "N/A") else mode,
        grace=_number(found, "GraceTime") or 0,
        qos=_of(found, "QoS"),
        over_time=_number(found, "OverTimeLimit"),
        mem_per_cpu=_number(found, "DefMemPerCPU"),
        mem_per_node=_number(found, "DefMemPerNode"),
        most_mem_per_cpu=_number(found, "MaxMemPerCPU"),
        most_mem_per_node=_number(found, "MaxMemPerNode"),
        accounts=_names(found, "AllowAccounts"),
        groups=_names(found, "AllowGroups"),
        qoses=_names(found, "AllowQos"),
        no_accounts=_names(found, "DenyAccounts"),
        no_qoses=_names(found, "DenyQos"),
        root_only=found.get("RootOnly") == "YES",
        reserved=found.get("ReqResv") == "YES",
    )


def _of(found: Mapping[str, str], key: str) -> str:
    value = found.get(key, "")
    return "" if value in ("N/A", "(null)") else value


def _number(found: Mapping[str, str], key: str) -> int | None:
    value = found.get(key, "")
    return int(value) if value.isdecimal() else None


def _names(found: Mapping[str, str], key: str) -> tuple[str, ...]:
    value = found.get(key, "")
    return () if value in _EVERYBODY else tuple(value.split(","))
