"""Examining a cluster: asks SLURM, sends one small array, writes the profile that follows."""

from __future__ import annotations

import grp
import os
import pwd
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hpc_search import durable
from hpc_search.config.profile import load_profile
from hpc_search.doctor.cluster import choice, outcome
from hpc_search.doctor.cluster.found import SETTINGS, Account, Asked, Bounds, Cluster, Permission, Tried, Wish
from hpc_search.doctor.cluster.rows import cluster_rows
from hpc_search.errors import TemporaryError, UsageError
from hpc_search.launchers.slurm import SlurmLauncher
from hpc_search.search import clusterjob
from hpc_search.site import limits
from hpc_search.site.client import Reply, reply
from hpc_search.site.config import read_config
from hpc_search.site.machines import SINFO, read_machines
from hpc_search.site.partitions import read_partitions

if TYPE_CHECKING:
    from hpc_search.config.profile import Profile
    from hpc_search.doctor import Row

#: Seconds that a question to SLURM may take.
_ASK_S: Final = 20.0
#: Most kinds of slices that sbatch is asked about.
_SLICES: Final = 6
_NO_CONFIGURATION: Final = re.compile(
    r"cannot stat|unable to process configuration|configuration source|ClusterName needs", re.IGNORECASE
)
_SHOWN: Final = {"scontrol": "the configuration", "sinfo": "the nodes", "sacctmgr": "accounts and QOS"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """What `doctor --cluster` was asked for.

    ``out`` of None: a name is made, and a file that is there already is kept.
    """

    wish: Wish
    out: Path | None = None
    force: bool = False
    job: bool = True
    signals: bool = True


@dataclass(frozen=True, slots=True)
class Examined:
    """The cluster as found, the rows about it, and what to say at the end."""

    cluster: Cluster
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def examine(directory: str, plan: ClusterPlan) -> Examined:
    """Examine the cluster with *directory* as the place that the nodes have to see.

    Raises:
        UsageError: There is no SLURM here, or what was wished is not there; everything at once.
        TemporaryError: The controller does not answer.
    """
    SlurmLauncher().check()
    _refuse_out(plan)
    asked, site = ask_site()
    chosen = choice.choose(asked, Bounds(), plan.wish)
    bounds = _bounds(site, chosen.profile)
    chosen = choice.choose(asked, bounds, plan.wish)
    permissions = tuple(_permissions(asked, chosen.profile, plan))
    tried = Tried(outcome="skipped")
    if plan.job:
        tried = clusterjob.run(directory, chosen.profile, asked.config, signals=plan.signals)
        chosen = choice.measured(chosen, asked, tried)
    problems = [*outcome.problems(tried, chosen.profile.slice), *_refused(permissions, plan.wish)]
    written, note = ("", "no profile is written") if problems else _write(chosen, plan, asked, tried)
    cluster = Cluster(
        asked=asked,
        bounds=bounds,
        tried=tried,
        permissions=permissions,
        profile=written,
        problems=tuple(problems),
    )
    partition = chosen.profile.partition
    rows = (*cluster_rows(cluster, partition, plan.wish), *outcome.tried_rows(tried, asked.config))
    return Examined(cluster, rows, (note,))


# -- asking
def ask_site() -> tuple[Asked, limits.Limits]:
    """Return what SLURM says of itself, by six questions asked at once.

    Raises:
        UsageError: SLURM is not configured on this machine.
        TemporaryError: The controller does not answer.
    """
    said: dict[tuple[str, ...], Reply] = {}

    def ask(argv: Sequence[str], _: float = _ASK_S) -> str | None:
        got = said[tuple(argv)] = reply(argv, _ASK_S)
        return got.out if got.status == 0 else None

    with ThreadPoolExecutor(2) as pool:
        nodes, site = pool.submit(ask, SINFO), pool.submit(limits.read_limits, ask=ask)
        machines, bounds = nodes.result(), site.result()
    by_word = {word: got for argv, got in said.items() for word in argv[:4]}
    if by_word["config"].status != 0:
        raise _silent(by_word["config"])
    return _asked({word: got.out for word, got in by_word.items()}, machines or "", bounds, said), bounds


def _asked(
    text: Mapping[str, str], machines: str, site: limits.Limits, said: Mapping[tuple[str, ...], Reply]
) -> Asked:
    """Return what was said: *text* by a word of the question."""
    values = read_config(text["config"]).values
    default, mine = limits.parse_user(text["user"], values.get("ClusterName", ""))
    entry = pwd.getpwuid(os.geteuid())
    return Asked(
        settings={key: values[key] for key in SETTINGS if key in values},
        partitions=read_partitions(text["partition"]),
        machines=read_machines(machines),
        accounts=tuple(Account(one.account, one.partition, one.default_qos) for one in mine),
        default_account=default,
        qoses=tuple(site.qos),
        user=entry.pw_name,
        groups=tuple(_groups()),
        unknown=_silences(said),
    )


def _groups() -> Iterator[str]:
    for number in {os.getegid(), *os.getgroups()}:
        try:
            yield grp.getgrgid(number).gr_name
        except KeyError:
            continue


def _silences(said: Mapping[tuple[str, ...], Reply]) -> tuple[str, ...]:
    failed = (argv for argv, got in said.items() if got.status != 0)
    return tuple(dict.fromkeys(_SHOWN[argv[0]] for argv in failed))


def _silent(said: Reply) -> UsageError | TemporaryError:
    words = " ".join(said.err.split())[:400]
    if _NO_CONFIGURATION.search(words):
        return _not_configured(f"scontrol said: {words}")
    message = f"the SLURM controller does not answer. scontrol said: {words or 'nothing in time'}"
    return TemporaryError(message, hint="the same command again later; `scontrol ping` tells when it is back")


def _not_configured(words: str) -> UsageError:
    return UsageError(
        f"SLURM is not configured on this machine: {words}",
        hint="log in to a login node of the cluster, or name the file: export SLURM_CONF=/path/slurm.conf",
    )


def _bounds(site: limits.Limits, profile: Profile) -> Bounds:
    submit, running = site.max_submit(profile), site.max_running(profile)
    return Bounds(
        array=site.max_array,
        submit=submit.most if submit else None,
        submit_rule=submit.rule if submit else "",
        running=running.most if running else None,
        running_rule=running.rule if running else "",
    )


def _permissions(asked: Asked, profile: Profile, plan: ClusterPlan) -> Iterator[Permission]:
    """Ask sbatch about each kind of slice of the partition; about the profile itself where no job is sent."""
    here = [gres.request for one in asked.machines_of(profile.partition) for gres in one.gres]
    known = [name for name in here if name.startswith(("gpu", "shard", "mps"))]
    wanted = [*([plan.wish.gres] if not plan.job else []), *known]
    where = {key: getattr(profile, key) for key in ("partition", "account", "qos")}
    options = [f"--{key}={value}" for key, value in where.items() if value]
    for gres in tuple(dict.fromkeys(wanted))[:_SLICES]:
        slices = [f"--gres={gres}"] if gres else []
        said = reply(
            ["sbatch", "--test-only", "--time=1", "--ntasks=1", *options, *slices, "--wrap=true"], _ASK_S
        )
        words = "" if said.status == 0 else " ".join(said.err.split()) or "no answer"
        yield Permission(gres, words[:300])


def _refused(permissions: tuple[Permission, ...], wish: Wish) -> list[str]:
    return [
        f"sbatch refuses {one.gres or 'a job'}: {one.refusal}"
        for one in permissions
        if one.refusal and one.gres == wish.gres
    ]


# -- the profile
def _refuse_out(plan: ClusterPlan) -> None:
    if plan.out is None:
        return
    if plan.out.exists() and not plan.force:
        raise UsageError(f"{plan.out} is there already", hint="--force replaces it; or another --profile-out")
    if not plan.out.parent.is_dir():
        raise UsageError(
            f"there is no directory {str(plan.out.parent)!r}", hint=f"mkdir -p {plan.out.parent}"
        )


def place(plan: ClusterPlan, name: str) -> Path:
    """Return where the profile *name* is written: what is there may have been edited, and stays."""
    free = (Path(f"{name}{number}.yaml") for number in chain([""], (f"-{n}" for n in count(2))))
    return plan.out or next(path for path in free if plan.force or not path.exists())


def _write(chosen: choice.Choice, plan: ClusterPlan, asked: Asked, tried: Tried) -> tuple[str, str]:
    """Write the profile; return its path and what to say."""
    ran = {"ran": "One array was run with it", "skipped": "Not tried"}
    config = asked.config
    path = place(plan, chosen.profile.name)
    head = (
        f"Cluster {config.word('ClusterName')}, SLURM {config.word('SLURM_VERSION')}: by doctor --cluster on",
        f"{socket.gethostname()}, {datetime.now(UTC).isoformat(timespec='minutes')}.",
        f"{ran.get(tried.outcome) or f'Not tried: {tried.words}'}. What is left out is read from the site.",
        f"hpc-search submit RUN --profile {path}",
    )
    text = choice.text(chosen, head).encode()
    if plan.force:
        durable.replace(path, text)
    elif not durable.publish(path, text):
        return (
            "",
            f"{path} is there already and is kept: --force replaces it, --profile-out FILE names another",
        )
    load_profile(path)
    return str(path), f"profile: {path}; next: hpc-search submit RUN --profile {path}"
