"""What was found on a cluster, judged: rows of the table. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hpc_search.doctor.cluster.choice import accounts_for, mode_of
from hpc_search.doctor.cluster.found import Asked, Bounds, Cluster, Permission, Wish
from hpc_search.doctor.report import Row, Status
from hpc_search.site.config import Config
from hpc_search.site.machines import in_words
from hpc_search.site.partitions import Partition

_NAMES: Final = 6
#: Seconds below which SLURM forgets a job before it has been missed twice.
_FORGETS_S: Final = 60
#: Seconds after which the death of a node is noticed late.
_SLOW_DEATH_S: Final = 600
_EXPORTED: Final = "; it is asked for as sbatch's --requeue"


def cluster_rows(cluster: Cluster, partition: str, wish: Wish) -> tuple[Row, ...]:
    """Return the rows of what SLURM said; *partition* is the chosen one."""
    asked, config = cluster.asked, cluster.asked.config
    chosen = asked.partition(partition)
    found = [_version(config), *(_unknown(what) for what in asked.unknown)]
    found += _partitions(asked, chosen, wish)
    found += _machines(asked, partition)
    found += _slices(cluster.permissions)
    found += _limits(cluster.bounds, config, known="accounts and QOS" not in asked.unknown)
    found += _preemption(asked, chosen)
    found += _requeue(config)
    found += _ends(config, chosen)
    found += _safety(asked, config, chosen)
    found += _records(config)
    return tuple(found)


def _unknown(what: str) -> Row:
    return Row(what, "n/a", "unknown: SLURM did not say", "a refusal will say it")


def _version(config: Config) -> Row:
    version = config.word("SLURM_VERSION") or "unknown"
    return Row("SLURM", "PASS", f"{version}, cluster {config.word('ClusterName') or 'unknown'}")


# -- partitions
def _partitions(asked: Asked, chosen: Partition | None, wish: Wish) -> Iterator[Row]:
    if chosen is not None:
        yield Row(f"partition {chosen.name}", "PASS", _about(chosen), _walltime(chosen))
    usable: list[str] = []
    refused: list[str] = []
    for one in asked.partitions:
        if chosen is None or one.name != chosen.name:
            said = _refusal(asked, one, wish)
            (refused if said else usable).append(f"{one.name} {said}" if said else one.name)
    if usable or refused:
        words = [f"also yours: {_first(usable)}"] if usable else []
        words += [f"not yours: {_first(refused, '; ')}"] if refused else []
        yield Row("other partitions", "PASS", "; ".join(words), "--partition NAME takes another one")


def _refusal(asked: Asked, partition: Partition, wish: Wish) -> str:
    said = [
        partition.refusal(
            account=one.name, qos=wish.qos or one.qos, groups=asked.groups, root=asked.user == "root"
        )
        for one in accounts_for(asked, partition, wish)
    ]
    return "" if "" in said else said[0]


def _first(names: list[str], between: str = ", ") -> str:
    more = len(names) - _NAMES
    return between.join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")


def _about(one: Partition) -> str:
    default = f", {one.default_time} min where nothing is asked" if one.default_time else ""
    words = f"{_minutes(one.max_time)}{default}; {one.nodes} nodes, {one.cpus} cores, tier {one.tier}"
    return f"{words}; default partition" if one.default else words


def _minutes(minutes: int | None) -> str:
    if minutes is None:
        return "no time limit"
    return f"{minutes // 60} h at most" if minutes >= 120 and not minutes % 60 else f"{minutes} min at most"


def _walltime(one: Partition) -> str:
    if one.max_time is None:
        return "the walltime is learned from the trials"
    return "walltimes are asked within that; work that is left is requeued or sent again"


def _machines(asked: Asked, partition: str) -> Iterator[Row]:
    for one in asked.machines_of(partition):
        features = f", features {','.join(one.features)}" if one.features else ""
        words = f"{one.usable} of {one.nodes} usable: {one.cpus} cores, {one.memory} MB each{features}"
        gpus = in_words(one.gres) or "no GPUs"
        meaning = "" if one.usable else "down, drained or reserved now: jobs wait"
        yield Row("nodes", "PASS" if one.usable else "NOTE", f"{words}; {gpus}", meaning)


def _slices(permissions: tuple[Permission, ...]) -> Iterator[Row]:
    good = [one.gres for one in permissions if one.gres and not one.refusal]
    if good:
        yield Row("slices", "PASS", f"sbatch takes {', '.join(good)}", "--slice NAME makes a profile for one")
    for one in permissions:
        if one.refusal:
            yield Row(
                f"slice {one.gres}",
                "NOTE",
                f"refused: {one.refusal}",
                "a profile with it would be refused so",
            )


# -- limits
def _limits(bounds: Bounds, config: Config, *, known: bool) -> Iterator[Row]:
    array = "unknown" if bounds.array is None else f"{bounds.array} tasks"
    jobs = config.word("MaxJobCount") or "unknown"
    meaning = "larger submissions are cut into several arrays"
    yield Row("arrays", "PASS", f"{array} at most; {jobs} jobs in the whole cluster", meaning)
    if bounds.submit is not None:
        words = f"{bounds.submit} of your tasks known to SLURM ({bounds.submit_rule})"
        yield Row(
            "jobs", "PASS", words, "what does not fit is sent by workers that end, or by `submit` again"
        )
    if bounds.running is not None:
        words = f"{bounds.running} of your tasks run at once ({bounds.running_rule})"
        yield Row("jobs running", "PASS", words, "more workers than that only wait")
    if known and bounds.submit is None and bounds.running is None:
        yield Row("jobs", "PASS", "no limit of yours was found", "")
    if "rl_enable" in config.options("SlurmctldParameters"):
        yield Row(
            "questions to SLURM", "PASS", "limited (rl_enable)", "hpc_search asks twice a minute at most"
        )


# -- how jobs end
def _preemption(asked: Asked, chosen: Partition | None) -> Iterator[Row]:
    config = asked.config
    if not config.preempts or chosen is None:
        yield Row("preemption", "PASS", "none at this site" if config.values else "unknown")
        return
    mode, kind = mode_of(asked, chosen), config.word("PreemptType").removeprefix("preempt/")
    if mode == "OFF":
        yield Row("preemption", "PASS", f"not in this partition ({kind})", "jobs here are not preempted")
        return
    spared = config.word("PreemptExemptTime")
    words = f"{mode} ({kind}{f', not in its first {spared}' if spared.strip('0:') else ''})"
    yield Row("preemption", *_mode(mode, words))
    yield _grace(config, chosen)


def _mode(mode: str, found: str) -> tuple[Status, str, str]:
    if mode == "REQUEUE":
        return (
            "PASS",
            found,
            "a preempted task goes back to the queue and its trial goes on from its checkpoint",
        )
    if mode == "CANCEL":
        return "NOTE", found, "a preempted task is gone: `submit` starts the missing workers again"
    return "NOTE", found, "a task may be stopped and go on later: its lease may run out, no result changes"


def _grace(config: Config, chosen: Partition) -> Row:
    wait = config.number("KillWait") or 30
    early = config.signals_preempted
    if early:
        words = f"{chosen.grace} s, the warning signal comes at once (preempt_send_user_signal)"
        return Row("grace", "PASS", words, "workers save when they are warned")
    if not chosen.grace:
        words = f"GraceTime 0: TERM, and KILL {wait} s later"
        return Row("grace", "NOTE", words, f"a save has {wait} s; save_interval bounds what is lost")
    words = f"{chosen.grace} s or up to 30 s more: TERM to the step at once, KILL at the end"
    return Row("grace", "PASS", words, "workers save on TERM, and then wait to be requeued")


def _requeue(config: Config) -> Iterator[Row]:
    on, wait = config.yes("JobRequeue"), config.requeue_wait_s
    if on is None:
        return
    words = f"{'on' if on else 'off'} by default (JobRequeue); a requeued task waits {wait} s or more"
    yield Row("requeue", "PASS", words + ("" if on else _EXPORTED), "shown as BeginTime in squeue")
    death = config.number("SlurmdTimeout")
    if death is not None:
        late = death == 0 or death > _SLOW_DEATH_S
        meaning = "a task of a dead node is requeued after that; its trials are taken over after the lease"
        yield Row(
            "dead nodes", "NOTE" if late else "PASS", f"noticed after {death} s (SlurmdTimeout)", meaning
        )


def _ends(config: Config, chosen: Partition | None) -> Iterator[Row]:
    wait = config.number("KillWait")
    if wait is not None:
        meaning = "time for a last save where no warning came"
        yield Row("TERM to KILL", "PASS" if wait >= 5 else "NOTE", f"{wait} s (KillWait)", meaning)
    over = (
        chosen.over_time if chosen and chosen.over_time is not None else config.number("OverTimeLimit")
    ) or 0
    if over:
        yield Row(
            "time limit", "PASS", f"exceeded by {over} min (OverTimeLimit)", "not counted on by workers"
        )


# -- what keeps jobs apart
def _safety(asked: Asked, config: Config, chosen: Partition | None) -> Iterator[Row]:
    track = config.word("ProctrackType").removeprefix("proctrack/")
    if track == "cgroup":
        yield Row("end of a job", "PASS", "nothing survives it (proctrack/cgroup)")
    elif track:
        meaning = "processes may outlive a job: a requeued task can run twice; attempts fence each other"
        yield Row("end of a job", "NOTE", f"proctrack/{track}", meaning)
    sampled = "overmemorykill" in config.options("JobAcctGatherParams")
    ram = config.yes("ConstrainRAMSpace")
    if ram or sampled:
        words = "held by cgroups" if ram else "sampled (OverMemoryKill)"
        yield Row("memory", "PASS", words, "a trial over `mem` ends as oom")
    elif ram is False:
        meaning = "a trial over `mem` is not stopped; the node may run out of memory"
        yield Row("memory", "NOTE", "not held (ConstrainRAMSpace no)", meaning)
    gpus = chosen and any(one.gres for one in asked.machines_of(chosen.name))
    if gpus and config.yes("ConstrainDevices") is False:
        meaning = "a task can open the GPUs of others; CUDA_VISIBLE_DEVICES alone keeps it to its own"
        yield Row("GPUs of others", "NOTE", "can be opened (ConstrainDevices no)", meaning)
    elif gpus and config.yes("ConstrainDevices"):
        yield Row("GPUs of others", "PASS", "cannot be opened (ConstrainDevices)")


def _records(config: Config) -> Iterator[Row]:
    kept = config.number("MinJobAge")
    if kept is not None:
        short = 0 < kept < _FORGETS_S
        meaning = "an unclear submission is looked up by name within that time, then in sacct"
        yield Row("ended jobs", "NOTE" if short else "PASS", f"known for {kept} s (MinJobAge)", meaning)
    if not config.values:
        return
    storage = config.word("AccountingStorageType").removeprefix("accounting_storage/")
    if storage not in ("", "none"):
        enforced = config.word("AccountingStorageEnforce")
        yield Row("accounting", "PASS", f"{storage}{f'; enforces {enforced}' if enforced else ''}")
    else:
        meaning = "no sacct: how a job ended is known from its worker and for MinJobAge only"
        yield Row("accounting", "NOTE", "none", meaning)
