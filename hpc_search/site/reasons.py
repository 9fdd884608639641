"""Why SLURM lets a job wait: its words, what they mean, and what to do; a table, nothing is asked."""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Explained(NamedTuple):
    """A reason in plain words, and the next step; both "" where the reason is not known.

    ``waits``: whether waiting alone can help, because nothing has to be done by anybody.
    """

    meaning: str
    step: str
    waits: bool


_WAIT: Final = "wait"
_SMALLER: Final = "a shorter walltime starts sooner: `submit RUN --set time=30`, `--set time_min=10`"
_ADMIN: Final = "ask the administrators of the cluster"
_AGAIN: Final = "`cancel RUN`, then submit with another value"
#: What waits in the queue keeps what it was sent with.
_OTHER: Final = "`cancel RUN`, then `submit RUN --set {}`"
_ELSEWHERE: Final = _OTHER.format("partition=NAME")
_RAISE: Final = "`submit RUN --set throttle=N` raises it (0: no limit)"

#: Reason -> meaning, next step. A step that begins with "wait" needs nobody's help.
_TABLE: Final[dict[str, tuple[str, str]]] = {
    "None": ("just submitted; the scheduler has not looked at it yet", _WAIT),
    "Priority": ("jobs of higher priority wait for the same resources", f"{_WAIT}; {_SMALLER}"),
    "Resources": ("it is next, but what it asks for is not free yet", f"{_WAIT}; {_SMALLER}"),
    "BeginTime": (
        "may not start yet: after a requeue a job waits about two minutes, else until its begin time",
        _WAIT,
    ),
    "JobArrayTaskLimit": ("the throttle of our own array: so many of its tasks run already", _RAISE),
    "Dependency": ("waits for another job to end", f"{_WAIT}; `scontrol show job ID` names that job"),
    "DependencyNeverSatisfied": (
        "waits for a job that failed or was cancelled: it will never start",
        "`cancel RUN`, then `submit RUN` without the dependency",
    ),
    "JobHeldUser": (
        "held by you (`scontrol hold`), or by SLURM after a failed launch",
        "`scontrol release ID`",
    ),
    "JobHeldAdmin": ("held by an administrator", _ADMIN),
    "launch failed requeued held": (
        "a node could not start it, so SLURM holds it",
        "`scontrol release ID`; where it happens again, keep off that node: `submit RUN --set exclude=NODE`",
    ),
    "job requeued in held state": ("requeued by an administrator and held", "`scontrol release ID`"),
    "ReqNodeNotAvail": (
        "nodes that it needs are down, drained or reserved for maintenance",
        f"{_WAIT}; `sinfo -R` says why; a walltime that ends before the maintenance starts sooner",
    ),
    "Reserved": ("the nodes are reserved", f"{_WAIT}; `scontrol show reservation` lists until when"),
    "Reservation": (
        "its reservation has not begun, or is not yours",
        f"{_WAIT}; `scontrol show reservation` lists when it begins",
    ),
    "ReservationDeleted": ("its reservation was deleted", _OTHER.format("reservation=")),
    "PartitionDown": ("the partition takes jobs but starts none", f"{_WAIT}, or {_ELSEWHERE}"),
    "PartitionInactive": ("the partition is closed", f"{_WAIT}, or {_ELSEWHERE}"),
    "PartitionTimeLimit": (
        "the walltime is above what the partition allows",
        'lower it: `submit RUN --set time=MINUTES`; `sinfo -o "%P %l"` lists the limits',
    ),
    "PartitionNodeLimit": ("asks for more nodes than the partition gives or has", _ELSEWHERE),
    "PartitionConfig": (
        "the partition does not allow what it asks for, or has no such node (cores, memory, time)",
        f"{_ELSEWHERE}, `cpus=N`, `mem=SIZE`",
    ),
    "NodeDown": ("a node that it needs is down", f"{_WAIT}; `sinfo -R` says why"),
    "FrontEndDown": ("no front end is up", _WAIT),
    "Licenses": ("waits for a licence that others use", f"{_WAIT}; `scontrol show lic` lists them"),
    "BurstBufferResources": ("waits for a burst buffer", _WAIT),
    "BurstBufferStageIn": ("its burst buffer is being filled", _WAIT),
    "Cleaning": ("its last run is being cleaned up", _WAIT),
    "Prolog": ("its prolog is running", _WAIT),
    "InvalidAccount": ("the account is not valid any more", _OTHER.format("account=NAME")),
    "InvalidQOS": ("the QOS is not valid any more", _OTHER.format("qos=NAME")),
    "AccountNotAllowed": ("the partition does not take this account", _OTHER.format("account=NAME")),
    "QOSNotAllowed": ("the partition does not take this QOS", _OTHER.format("qos=NAME")),
    "AccountingPolicy": ("over a limit of the account or the QOS", f"{_WAIT} until jobs end"),
    "BadConstraints": (
        "no node has what it asks for (constraint, gres, memory, cores)",
        f'{_AGAIN}; `sinfo -o "%N %f %G %m %c"` lists what there is',
    ),
    "MaxMemPerLimit": ("asks for more memory than allowed", _OTHER.format("mem=SIZE")),
    "NonZeroExitCode": ("it ended with an error", "see RUN/submitit for its log"),
    "OutOfMemory": ("it ran out of the memory that it asked for", _OTHER.format("mem=SIZE")),
    "TimeLimit": ("it reached its walltime", "`submit RUN` goes on"),
    "InactiveLimit": ("it reached the limit of inactivity", _ADMIN),
    "JobLaunchFailure": ("it could not be started", "`submit RUN`; see RUN/submitit for its log"),
    "RaisedSignal": ("it ended by a signal", "`submit RUN`"),
    "SystemFailure": ("SLURM, the file system or the network failed", f"{_WAIT}, or {_ADMIN}"),
    "SchedDefer": ("the scheduler looks at it in its next round", _WAIT),
    "DeadLine": ("it cannot end before its deadline", _AGAIN),
    "NodePrologFailed": ("the prolog of a node failed", f"{_WAIT}, or {_ADMIN}"),
}
_FOLDED: Final = {name.lower(): found for name, found in _TABLE.items()}

_NAME: Final = re.compile(r"[a-z]+")
#: Nodes at the end: ``ReqNodeNotAvail, UnavailableNodes:node[1-2]``, ``ReqNodeNotAvail(Unavailable:node1)``.
_NODES: Final = re.compile(r"Unavailable(?:Nodes)?:([A-Za-z0-9_.,\[\]-]+)")
#: How a reason begins that SLURM writes as a sentence.
_SENTENCES: Final = {
    "nodes required for job are down": "reqnodenotavail",
    "job's qos not permitted": "qosnotallowed",
    "job's account not permitted": "accountnotallowed",
}

#: QOSMaxCpuPerUserLimit, AssocGrpGRES, QOSGrpNodeLimit, AssocMaxSubmitJobLimit, ...
_LIMIT: Final = re.compile(
    r"(?P<owner>QOS|Assoc)(?P<kind>Max|Grp|Min)(?P<what>[A-Za-z]*?)"
    r"(?P<per>Per(?:User|Account|Acct|Node|Job))?(?:Limit)?(?:Per(?:User|Account|Acct|Node|Job)(?:Limit)?)?",
    re.IGNORECASE,
)
_OWNERS: Final = {"qos": "the QOS", "assoc": "your account"}
_WHAT: Final = {
    "job": "jobs that run at once",
    "jobs": "jobs that run at once",
    "submitjob": "jobs in the queue",
    "submitjobs": "jobs in the queue",
    "cpu": "cores",
    "cpumins": "core-minutes (the allotment is used up)",
    "cpuminutes": "core-minutes (the allotment is used up)",
    "cpurunmins": "core-minutes of running jobs",
    "cpurunminutes": "core-minutes of running jobs",
    "node": "nodes",
    "gres": "GPUs",
    "gresminutes": "GPU-minutes (the allotment is used up)",
    "gresrunminutes": "GPU-minutes of running jobs",
    "mem": "memory",
    "memory": "memory",
    "wall": "walltime",
    "wallduration": "walltime",
    "billing": "billing units",
    "resource": "resources",
    "unknown": "resources",
}
_PER: Final = {"user": " of one user", "account": " of one account", "acct": " of one account"}


def explain(reason: str) -> Explained:
    """Return what SLURM's pending *reason* means and what to do; of nodes it names, too."""
    words = reason.strip().removeprefix("(").lower()
    name = _NAME.match(words)
    key = next((entry for start, entry in _SENTENCES.items() if words.startswith(start)), "")
    found = _FOLDED.get(key or words.rstrip(")")) or (_FOLDED.get(name[0]) if name is not None else None)
    if found is not None:
        meaning, step = found
        nodes = _NODES.search(reason)
        return Explained(f"{meaning}: {nodes[1]}" if nodes else meaning, step, step.startswith(_WAIT))
    match = _LIMIT.fullmatch(reason.strip().strip("()"))
    return _of_limit(match) if match else Explained("", "", waits=True)


def _of_limit(match: re.Match[str]) -> Explained:
    owner = _OWNERS[match["owner"].lower()]
    words = match["what"].lower()
    what = _WHAT.get(words, words or "resources")
    whose = next((text for word, text in _PER.items() if f"per{word}" in match[0].lower()), "")
    if match["kind"].lower() == "min":
        return Explained(f"asks for less than {owner} demands: {what}", _AGAIN, waits=False)
    each = match[0].lower()
    if "perjob" in each or "pernode" in each or words.startswith("wall"):
        return Explained(
            f"one job asks for more than {owner} allows: {what}", f"{_AGAIN} of that", waits=False
        )
    step = f"{_WAIT} until jobs end; your limits: `sacctmgr show assoc user=$USER` and `sacctmgr show qos`"
    if words in ("submitjob", "submitjobs"):
        step = f"{_WAIT}: `submit RUN` sends the rest once jobs have ended"
    elif "used up" in what:
        return Explained(
            f"{owner} has no {what}", f"{_ADMIN}, or {_OTHER.format('account=NAME')}", waits=False
        )
    group = " (all of its users together)" if match["kind"].lower() == "grp" else ""
    return Explained(f"the limit of {owner} on {what}{whose}{group} is reached", step, waits=True)
