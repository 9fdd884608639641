"""Chooses a profile from what was found, with the reason for each field. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from hpc_search.config.dump import block, flow
from hpc_search.config.problems import near_miss
from hpc_search.config.profile import Profile
from hpc_search.config.slices import CHECKS, Request, Slice, kind_of
from hpc_search.doctor.cluster.found import Account, Asked, Bounds, Tried, Wish
from hpc_search.errors import UsageError
from hpc_search.site.machines import Gres, Machine, read_gres
from hpc_search.site.partitions import Partition
from hpc_search.slices.observe import excused
from hpc_search.slices.observed import Observed

#: Workers of a profile where there is room for more.
_WORKERS: Final = 8
#: Most cores that a worker with a GPU asks for.
_CORES: Final = 16
#: An array of this size is what SLURM takes where nobody changed it.
_USUAL_ARRAY: Final = 1000


class Choice(NamedTuple):
    """A profile, and why each of its fields is as it is."""

    profile: Profile
    why: dict[str, str]


def choose(asked: Asked, bounds: Bounds, wish: Wish) -> Choice:
    """Return the profile for what was wished.

    Raises:
        UsageError: A partition, account, QOS or slice is unknown or cannot be used; all of it at once.
    """
    problems = [*_unknown(asked, wish)]
    partition, account, wrong = _place(asked, wish) if not problems else (None, "", ())
    problems += wrong
    if problems:
        raise UsageError(
            "\n".join(problems), hint="`hpc-search doctor --cluster` without options chooses itself"
        )
    name = partition.name if partition else ""
    chosen = [
        *_where(asked, wish, partition, account),
        _time(partition),
        *_size(asked, wish, partition),
        *_limits(bounds),
    ]
    workers = _workers(asked.machines_of(name), wish.gres, bounds)
    chosen.append(("workers", *workers))
    fields = {key: value for key, value, _ in chosen}
    return Choice(Profile(name=_name(asked, name, wish), **fields), {key: why for key, _, why in chosen})


def measured(choice: Choice, asked: Asked, tried: Tried) -> Choice:
    """Return *choice* with what the array has shown."""
    timing, look = tried.timing, tried.look
    changes: dict[str, tuple[Any, str]] = {}
    delay = choice.profile.signal_delay
    if timing.warned is not None:
        late = timing.late
        words = f"measured: asked {timing.asked} s before the end, it came {timing.warned:.0f} s before TERM"
        changes["signal_delay"] = (delay + late, words)
    elif tried.signals and tried.outcome == "ran":
        changes["signal_delay"] = (delay, "measured: no signal came; workers watch the time themselves")
    if timing.pending is not None:
        changes["requeue"] = (True, f"measured: comes back after {timing.pending:.0f} s")
    elif timing.requeue_words:
        changes["requeue"] = (False, f"measured: a task cannot requeue itself: {timing.requeue_words}")
    elif asked.config.yes("JobRequeue") is False:
        changes["requeue"] = (True, "asked for, because JobRequeue is off here")
    if look is not None:
        words = f"measured on {look.node}: {look.sbatch or 'sbatch answers there'}"
        changes["nodes_submit"] = (not look.sbatch, words)
    if look is not None and look.seen is not None and (failed := unable(look.seen)):
        block = choice.profile.slice
        checks = tuple(check for check in block.expect.checks if check not in failed)
        expect = msgspec.structs.replace(block.expect, checks=checks)
        words = "; ".join(f"{name}: {why}" for name, why in failed.items())
        changes["slice"] = (
            msgspec.structs.replace(block, expect=expect),
            f"measured on {look.node}, cannot be looked at: {words}",
        )
    profile = msgspec.structs.replace(choice.profile, **{key: value for key, (value, _) in changes.items()})
    return Choice(profile, {**choice.why, **{key: why for key, (_, why) in changes.items()}})


def unable(seen: Observed) -> dict[str, str]:
    """Return the ways of looking at a GPU that are not possible there, and why.

    Where the driver answers, a torch that cannot use the GPU is a fault, and not left out.
    """
    failed = {name: why for name, why in seen.unseen.items() if not excused(why)}
    return {} if "nvml" in seen.looked else failed


def text(choice: Choice, head: tuple[str, ...]) -> str:
    """Return the profile as a file, *head* as its first lines, what is chosen with its reason."""
    values: dict[str, Any] = {"name": choice.profile.name}
    values |= {key: getattr(choice.profile, key) for key in choice.why}
    if "slice" in values:
        values["slice"] = _slice(choice.profile.slice)
    if "time" in values and not choice.profile.time:
        values["time"] = "auto"
    lines = block(values).splitlines()
    width = max(len(line) for line in lines if len(line) < 40)
    said = [
        f"{line:{width}}  # {' '.join(choice.why[key].split())}" if choice.why.get(key) else line
        for key, line in zip(values, lines, strict=True)
    ]
    return "\n".join([*(f"# {line}".rstrip() for line in head), "", *said, ""])


def _slice(one: Slice) -> dict[str, Any]:
    said: dict[str, Any] = {"kind": one.kind}
    if one.request.gres:
        said["request"] = {"gres": one.request.gres}
    if one.expect.checks != CHECKS:
        said["expect"] = {"checks": list(one.expect.checks)}
    return said


def _name(asked: Asked, partition: str, wish: Wish) -> str:
    kind = kind_of(wish.gres) if wish.gres else ""
    parts = [asked.config.word("ClusterName") or "cluster", partition, kind]
    return "-".join(part for part in parts if part)


# -- what is not there
def _unknown(asked: Asked, wish: Wish) -> Iterator[str]:
    for what, name, known in (
        ("partition", wish.partition, [one.name for one in asked.partitions]),
        ("account", wish.account, list(dict.fromkeys(one.name for one in asked.accounts))),
        ("QOS", wish.qos, list(asked.qoses)),
    ):
        if name and known and name not in known:
            near = near_miss(name, known)
            yield f"there is no {what} {name!r} for {asked.user} here" + (
                f"; {near}" if near else f"; there are: {', '.join(known)}"
            )
    if wish.gres and asked.machines and not any(fits(one, wish.gres) for one in asked.machines):
        there = {flow(gres.request) for one in asked.machines for gres in one.gres}
        yield f"no node has the slice {wish.gres!r}; there are: {', '.join(sorted(there)) or 'none'}"


def fits(machine: Machine, gres: str) -> bool:
    """Return whether a node of *machine* has what *gres* asks for."""
    return all(_has(machine, one) for one in read_gres(gres))


def _has(machine: Machine, wanted: Gres) -> bool:
    same = [one.count for one in machine.gres if one.name == wanted.name and wanted.type in ("", one.type)]
    return sum(same) >= wanted.count


# -- where
def _place(asked: Asked, wish: Wish) -> tuple[Partition | None, str, tuple[str, ...]]:
    """Return the partition and the account, or what is wrong."""
    if not asked.partitions:
        return None, wish.account or asked.default_account, ()
    wanted = [one for one in asked.partitions if wish.partition in ("", one.name)]
    wanted.sort(key=lambda one: (not one.default, -one.nodes))
    refusals = []
    for partition in wanted:
        machines = asked.machines_of(partition.name)
        if wish.gres and machines and not any(fits(one, wish.gres) for one in machines):
            refusals.append(f"partition {partition.name} has no slice {wish.gres!r}")
            continue
        for account in accounts_for(asked, partition, wish):
            qos = wish.qos or account.qos
            said = partition.refusal(
                account=account.name, qos=qos, groups=asked.groups, root=asked.user == "root"
            )
            if not said:
                return partition, account.name, ()
            refusals.append(f"partition {partition.name} {said}")
    return None, "", tuple(dict.fromkeys(refusals))


def accounts_for(asked: Asked, partition: Partition, wish: Wish) -> list[Account]:
    """Return the accounts to try on *partition*, the default one first; a nameless one if none is known."""
    mine = [
        one
        for one in asked.accounts
        if one.partition in ("", partition.name) and wish.account in ("", one.name)
    ]
    mine.sort(key=lambda one: one.name != asked.default_account)
    return mine or [Account(wish.account)]


def _where(
    asked: Asked, wish: Wish, partition: Partition | None, account: str
) -> Iterator[tuple[str, Any, str]]:
    if partition is not None:
        words = (
            "given" if wish.partition else "the default one" if partition.default else "the first you can use"
        )
        yield "partition", partition.name, f"{words}; {_preemption(asked, partition)}"
    if account:
        default = "your default" if account == asked.default_account else "the one that the partition takes"
        yield "account", account, "given" if wish.account else default
    if wish.qos:
        yield "qos", wish.qos, "given"


def _preemption(asked: Asked, partition: Partition) -> str:
    mode = mode_of(asked, partition)
    if mode == "OFF":
        return "its jobs are not preempted"
    return f"its jobs may be preempted ({mode}) after {partition.grace} s of grace"


def mode_of(asked: Asked, partition: Partition) -> str:
    """Return what happens to a job of *partition* that is preempted, OFF where none is."""
    if not asked.config.preempts:
        return "OFF"
    mode = partition.preempt or asked.config.word("PreemptMode") or "OFF"
    rest = [word for word in mode.split(",") if word not in ("GANG", "WITHIN")]
    return ",".join(rest) or "OFF"


# -- how much
def _time(partition: Partition | None) -> tuple[str, Any, str]:
    most = partition.max_time if partition else None
    limit = "without a limit of the partition" if most is None else f"within the partition's {most} minutes"
    return "time", 0, f"learned from the trials, {limit}"


def _size(asked: Asked, wish: Wish, partition: Partition | None) -> Iterator[tuple[str, Any, str]]:
    name = partition.name if partition else ""
    machines = [one for one in asked.machines_of(name) if fits(one, wish.gres)]
    request = Request(gres=wish.gres)
    kind = kind_of(wish.gres)
    yield (
        "slice",
        Slice(kind=kind, request=request),
        "given" if wish.gres else "none asked for: --slice gpu:1",
    )
    slices = [max(slots(one, wish.gres), one.gpus) for one in machines]
    cpus, words = 1, "a trial with `threads: 1` needs one core"
    if wish.gres and machines:
        each = min(one.cpus // max(1, count) for one, count in zip(machines, slices, strict=True))
        cpus, words = max(1, min(each, _CORES)), "the nodes' cores for each of their GPUs or shares"
    yield "cpus", cpus, words
    yield from _memory(asked, machines, partition, cpus)


def slots(machine: Machine, gres: str) -> int:
    """Return how many times a node of *machine* has what *gres* asks for; its cores without a slice."""
    wanted = read_gres(gres)
    if not wanted:
        return machine.cpus
    have = {
        one: sum(
            other.count for other in machine.gres if other.name == one.name and one.type in ("", other.type)
        )
        for one in wanted
    }
    return min(count // one.count for one, count in have.items())


def _memory(
    asked: Asked, machines: list[Machine], partition: Partition | None, cpus: int
) -> Iterator[tuple[str, Any, str]]:
    parameters = asked.config.word("SelectTypeParameters").upper()
    real = [one for one in machines if one.memory > 1]
    if not real or (parameters and "MEMORY" not in parameters):
        return
    each = min(one.memory // max(1, one.cpus) for one in real)
    words = f"{each} MB for each core of the nodes"
    if partition and partition.most_mem_per_cpu and partition.most_mem_per_cpu < each:
        each, words = partition.most_mem_per_cpu, "MaxMemPerCPU of the partition"
    total = each * cpus
    if partition and partition.most_mem_per_node and partition.most_mem_per_node < total:
        total, words = partition.most_mem_per_node, "MaxMemPerNode of the partition"
    yield "mem", f"{total}M", words


def _limits(bounds: Bounds) -> Iterator[tuple[str, Any, str]]:
    if bounds.array is not None and bounds.array < _USUAL_ARRAY:
        yield "max_array", max(1, bounds.array), "MaxArraySize, less one"
    if bounds.submit is not None:
        yield "max_submit", bounds.submit, bounds.submit_rule


def _workers(machines: tuple[Machine, ...], gres: str, bounds: Bounds) -> tuple[int, str]:
    room = sum(slots(one, gres) * one.usable for one in machines if fits(one, gres))
    limits = [(_WORKERS, "tasks; `--workers N` changes it once")]
    limits += [(room, f"as many as fit on the {'slices' if gres else 'cores'} at once")] if room else []
    limits += [(bounds.running, bounds.running_rule)] if bounds.running else []
    limits += [(bounds.submit, bounds.submit_rule)] if bounds.submit else []
    return min(limits, key=lambda limit: limit[0])
