"""How many tasks the site takes: of one array, of one user, by account, QOS and partition.

What cannot be read is unlimited here, and learned from a refusal. Limits that others fill too (of a
whole account or QOS) are bounds from above for the same reason.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, NamedTuple

from hpc_search.config.profile import Profile
from hpc_search.site.client import ask
from hpc_search.site.partitions import Partition, read_partitions

#: Seconds that a question may take: without an answer there is no limit, and a refusal says it.
_TIMEOUT_S: Final = 20.0
_SETTING: Final = re.compile(r"^(\w+)\s*=\s*(.*?)\s*$", re.MULTILINE)
_USER_FIELDS: Final = (
    "defaultaccount,cluster,account,partition,defaultqos,maxjobs,maxsubmit,grpjobs,grpsubmit"
)
_ACCOUNT_FIELDS: Final = "cluster,account,parentname,grpjobs,grpsubmit"
_QOS_FIELDS: Final = "name,maxjobspu,maxsubmitpu,maxjobspa,maxsubmitpa,grpjobs,grpsubmit"
#: The columns of `_QOS_FIELDS` from the second on, as SLURM calls what makes a job wait or refused.
_QOS_RULES: Final = (
    ("QOSMaxJobsPerUserLimit", True),
    ("QOSMaxSubmitJobPerUserLimit", False),
    ("MaxJobsPerAccount", True),
    ("MaxSubmitJobsPerAccount", False),
    ("QOSGrpJobsLimit", True),
    ("QOSGrpSubmitJobsLimit", False),
)
_PER_ACCOUNT: Final = ("MaxJobsPerAccount", "MaxSubmitJobsPerAccount")


class Place(NamedTuple):
    """What the limits of a job go by."""

    account: str = ""
    qos: str = ""
    partition: str = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """At most *most* tasks of this user in these *accounts*, *qos* and *partitions* (empty: in any).

    ``rule`` is its name in SLURM's own words, or the field of the profile. ``running``: only those that
    run count, and more of them may wait.
    """

    most: int
    rule: str
    running: bool = False
    accounts: frozenset[str] = frozenset()
    qos: str = ""
    partitions: frozenset[str] = frozenset()

    def counts(self, place: Place) -> bool:
        """Return whether a task of *place* counts."""
        of_qos = not self.qos or place.qos == self.qos
        of_partition = not self.partitions or place.partition in self.partitions
        return of_qos and of_partition and (not self.accounts or place.account in self.accounts)


@dataclass(frozen=True, slots=True)
class Association:
    """What the site says of this user in an account, on one partition or ("") on all."""

    account: str
    partition: str = ""
    default_qos: str = ""
    bounds: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a site for one user, as far as they could be read.

    ``max_array`` is the largest number of tasks of one array, ``max_job_count`` what SLURM takes of all
    users together.
    """

    max_array: int | None = None
    max_job_count: int | None = None
    default_account: str = ""
    partitions: tuple[Partition, ...] = ()
    associations: tuple[Association, ...] = ()
    #: Account -> the account above it.
    parents: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, tuple[Bound, ...]] = field(default_factory=dict)
    qos: Mapping[str, tuple[Bound, ...]] = field(default_factory=dict)

    def partition(self, name: str) -> Partition:
        """Return the partition *name*, the default one for ""."""
        for one in self.partitions:
            if one.name == name or (not name and one.default):
                return one
        return Partition(name=name)

    def place(self, profile: Profile) -> Place:
        """Return where a job of *profile* counts, the site's defaults put in."""
        account = profile.account or self.default_account
        partition = self.partition(profile.partition).name
        mine = self._association(account, partition)
        return Place(account, profile.qos or (mine.default_qos if mine else ""), partition)

    def bounds(self, profile: Profile) -> tuple[Bound, ...]:
        """Return every bound that a job of *profile* meets; its own `max_submit`, `max_jobs` come first.

        A field of the profile takes the place of all that was read for the same thing.
        """
        own = [
            Bound(most, name, running=running)
            for name, most, running in (
                ("max_submit", profile.max_submit, False),
                ("max_jobs", profile.max_jobs, True),
            )
            if most
        ]
        said = {bound.running for bound in own}
        return (*own, *(bound for bound in self._read(profile) if bound.running not in said))

    def max_submit(self, profile: Profile) -> Bound | None:
        """Return the tightest bound of the tasks of *profile* that SLURM may know at a time."""
        return min((one for one in self.bounds(profile) if not one.running), key=_most, default=None)

    def max_running(self, profile: Profile) -> Bound | None:
        """Return the tightest bound of the tasks of *profile* that may run at a time."""
        return min((one for one in self.bounds(profile) if one.running), key=_most, default=None)

    def array(self, profile: Profile) -> int:
        """Return the most tasks of one array: the profile's, what was read, or SLURM's default."""
        return profile.max_array or self.max_array or DEFAULT_MAX_ARRAY

    def _association(self, account: str, partition: str) -> Association | None:
        mine = [one for one in self.associations if one.account == account]
        exact = [one for one in mine if one.partition == partition]
        return next(iter(exact or [one for one in mine if not one.partition]), None)

    def _read(self, profile: Profile) -> Iterator[Bound]:
        place = self.place(profile)
        mine = self._association(place.account, place.partition)
        yield from mine.bounds if mine else ()
        yield from self._of_qos(place.qos, place.account)
        of_partition = self.partition(place.partition).qos
        if of_partition and of_partition != place.qos:
            # A partition's QOS counts what is in the partition, whatever QOS the jobs have themselves.
            members = frozenset(one.name for one in self.partitions if one.qos == of_partition)
            for bound in self._of_qos(of_partition, place.account):
                yield replace(bound, qos="", partitions=members)
        account, seen = place.account, set[str]()
        while account and account not in seen:
            seen.add(account)
            yield from self.groups.get(account, ())
            account = self.parents.get(account, "")

    def _of_qos(self, name: str, account: str) -> Iterator[Bound]:
        for bound in self.qos.get(name, ()):
            per_account = bound.rule in _PER_ACCOUNT
            yield replace(bound, accounts=frozenset([account])) if per_account else bound


#: Where MaxArraySize is SLURM's default of 1001: an index has to be below it.
DEFAULT_MAX_ARRAY: Final = 1000


def read_limits(user: str = "", ask: Callable[[Sequence[str], float], str | None] = ask) -> Limits:
    """Return the limits of the site for *user* (""), this one, by five short questions asked at once."""
    name = user or pwd.getpwuid(os.getuid()).pw_name
    show = ("sacctmgr", "-nP", "show")
    questions = (
        ("scontrol", "show", "config"),
        ("scontrol", "-o", "show", "partition"),
        (*show, "user", "where", f"name={name}", "withassoc", f"format={_USER_FIELDS}"),
        (*show, "assoc", "where", "user=", f"format={_ACCOUNT_FIELDS}"),
        (*show, "qos", f"format={_QOS_FIELDS}"),
    )
    with ThreadPoolExecutor(len(questions)) as pool:
        config, partitions, mine, accounts, qos = pool.map(partial(_asked, ask), questions)
    return parse(config, partitions, mine, accounts, qos)


def _asked(ask: Callable[[Sequence[str], float], str | None], argv: Sequence[str]) -> str:
    return ask(argv, _TIMEOUT_S) or ""


def parse(config: str, partitions: str, mine: str, accounts: str, qos: str) -> Limits:
    """Return the limits from the answers to the questions of `read_limits`, "" for one that failed."""
    settings = dict(_SETTING.findall(config))
    enforced = re.findall(r"\w+", settings.get("AccountingStorageEnforce", "limits"))
    arrays = Limits(
        max_array=_max_array(settings),
        max_job_count=_number(settings.get("MaxJobCount", "")),
        partitions=read_partitions(partitions),
    )
    if not {"limits", "safe", "all"} & set(enforced):
        return arrays
    cluster = settings.get("ClusterName", "")
    parents, groups = parse_accounts(accounts, cluster)
    default, associations = parse_user(mine, cluster)
    return replace(
        arrays,
        default_account=default,
        associations=associations,
        parents=parents,
        groups=groups,
        qos=parse_qos(qos),
    )


def parse_user(text: str, cluster: str) -> tuple[str, tuple[Association, ...]]:
    """Return the default account and the associations from lines of `_USER_FIELDS`."""
    default, found = "", []
    for row in _rows(text, 9):
        default = default or row[0]
        if not cluster or row[1] in ("", cluster):
            of_account, of_partition = frozenset([row[2]]), frozenset(filter(None, [row[3]]))
            rules = (
                (row[5], "AssocMaxJobsLimit", True),
                (row[6], "AssocMaxSubmitJobLimit", False),
                (row[7], "AssocGrpJobsLimit", True),
                (row[8], "AssocGrpSubmitJobsLimit", False),
            )
            bounds = (
                Bound(most, rule, running, of_account, "", of_partition)
                for text, rule, running in rules
                if (most := _number(text)) is not None
            )
            found.append(Association(row[2], row[3], row[4], tuple(bounds)))
    return default, tuple(found)


def parse_accounts(text: str, cluster: str) -> tuple[dict[str, str], dict[str, tuple[Bound, ...]]]:
    """Return the account above each, and the bounds of each, from lines of `_ACCOUNT_FIELDS`."""
    rows = [row for row in _rows(text, 5) if not cluster or row[0] == cluster]
    parents = {row[1]: row[2] for row in rows}
    groups = {}
    for _, account, _, jobs, submit in rows:
        below = frozenset(name for name in parents if account in _line(name, parents))
        rules = ((jobs, "AssocGrpJobsLimit", True), (submit, "AssocGrpSubmitJobsLimit", False))
        bounds = tuple(
            Bound(most, rule, running, below)
            for text, rule, running in rules
            if (most := _number(text)) is not None
        )
        if bounds:
            groups[account] = bounds
    return parents, groups


def _line(account: str, parents: Mapping[str, str]) -> list[str]:
    """Return *account* and all above it."""
    found: list[str] = []
    while account and account not in found:
        found.append(account)
        account = parents.get(account, "")
    return found


def parse_qos(text: str) -> dict[str, tuple[Bound, ...]]:
    """Return the bounds of each QOS from lines of `_QOS_FIELDS`."""
    found = {}
    for name, *values in _rows(text, 7):
        found[name] = tuple(
            Bound(most, rule, running, qos=name)
            for value, (rule, running) in zip(values, _QOS_RULES, strict=True)
            if (most := _number(value)) is not None
        )
    return found


def _max_array(settings: Mapping[str, str]) -> int | None:
    size = _number(settings.get("MaxArraySize", ""))
    own = re.search(r"\bmax_array_tasks=(\d+)", settings.get("SchedulerParameters", ""))
    found = [size - 1] if size else []
    return min([*found, *([int(own[1])] if own else [])], default=None)


def _rows(text: str, columns: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        row = line.split("|")
        if len(row) == columns:
            yield row


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _most(bound: Bound) -> int:
    return bound.most
