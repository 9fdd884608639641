"""What sbatch said when it did not accept a submission, and what the user can do about it."""

from __future__ import annotations

import re
from typing import Final

from hpc_search.errors import HpcSearchError, RefusedError, TemporaryError
from hpc_search.launchers.base import NoRoomError, UnclearError

#: Exit status of coreutils' timeout: its own, and where it had to kill.
TIMED_OUT: Final = frozenset({124, 137})
#: A shell's exit status of a program that a signal ended is this and the signal's number.
_KILLED: Final = 128
#: exit(-1), as sbatch does for an option that it does not know: no signal has that number.
_EXIT_MINUS_ONE: Final = 255

#: SLURM's words (strerror texts and option errors), the profile's fields that cause them, what helps.
_PERMANENT: Final = (
    (r"invalid partition|partition name", "partition", "`sinfo -s` lists the partitions"),
    (r"not permitted to use this partition", "partition, account", "`sinfo -s` lists the partitions"),
    (
        r"invalid account",
        "account, partition",
        "`sacctmgr show assoc user=$USER format=account,partition,qos` lists yours",
    ),
    (r"invalid qos", "qos", "`sacctmgr show assoc user=$USER format=account,qos` lists yours"),
    (r"invalid wckey", "extra.wckey", "ask the site which wckey is yours"),
    (r"invalid generic resource|\bgres\b", "gres", "`sinfo -o '%P %G'` lists what the partitions have"),
    (
        r"accounting/qos policy|max.*limit",
        "time, cpus, mem, gres, qos",
        "`sacctmgr show qos` and `sacctmgr show assoc user=$USER` list the limits",
    ),
    (
        r"job array specification",
        "max_array",
        "`scontrol show config | grep MaxArraySize`; max_array <= that - 1",
    ),
    (r"time limit|--time\b|time specification", "time", "`sinfo -o '%P %l'` lists the limits"),
    (r"memory", "mem", "`sinfo -o '%P %m'` lists the memory of the nodes in MB"),
    (r"feature", "constraint", "`sinfo -o '%P %f'` lists the features"),
    (r"reservation", "reservation", "`scontrol show reservation` lists them"),
    (r"signal specification", "signal_delay", "a number of seconds"),
    (r"cpu count|processors|node count", "cpus", "`sinfo -o '%P %c'` lists the cores of the nodes"),
    (
        r"node configuration is not available",
        "gres, cpus, mem, constraint",
        "no node has all of it together: `sinfo -o '%P %c %m %G %f'` lists what there is",
    ),
    (r"invalid node name", "exclude", "`sinfo -N` lists the nodes"),
    (r"unrecognized option|invalid option", "extra", "a key of `extra` is no option of this sbatch"),
    (r"permission denied|access denied", "account, partition", "ask the site"),
)
#: Said before anything reached the controller, or by a controller that took nothing.
_TEMPORARY: Final = re.compile(
    r"unable to contact slurm controller|connection refused|resource temporarily unavailable"
    r"|temporarily unable to accept|standby mode|munge|authentication|job submit.*disabled",
    re.IGNORECASE,
)
_UNCLEAR: Final = re.compile(
    r"timed out|zero bytes|unexpected message|send failure|receive failure|unspecified error|lost connection",
    re.IGNORECASE,
)
#: sbatch did not get as far as any cluster.
_NOT_SET_UP: Final = re.compile(
    r"slurm\.conf|configuration file|configuration source|fetch_config|clustername needs", re.IGNORECASE
)
#: The rules that count the jobs of a user, an account or a QOS; the words below them fit other rules too.
_COUNTED: Final = re.compile(r"\b(?:QOS|Assoc)\w*Submit\w*|\b(?:QOS|Assoc)\w+")
_POLICY: Final = re.compile(r"accounting/qos policy", re.IGNORECASE)
_FAILED: Final = "batch job submission failed"


def explain(status: int, words: str) -> HpcSearchError:
    """Return the error for sbatch's exit *status* (not 0, or 0 with an unreadable answer) and its *words*."""
    quoted = quote(words) or f"nothing (exit status {status})"
    if status > 0 and _NOT_SET_UP.search(words):
        return RefusedError(f"sbatch finds no SLURM cluster from here. It said:\n{quoted}", hint=SET_UP)
    if status in TIMED_OUT and not words.strip():
        return UnclearError("sbatch did not answer in time, so the jobs may exist or not", hint=_AGAIN)
    # An exit status of 0 means that it accepted the jobs, whatever else was printed.
    unclear = status <= 0 or _KILLED < status < _EXIT_MINUS_ONE or status in TIMED_OUT
    if unclear or not words.strip() or _UNCLEAR.search(words):
        return UnclearError(f"sbatch did not say whether the jobs exist. It said:\n{quoted}", hint=_AGAIN)
    if _TEMPORARY.search(words):
        return TemporaryError(
            f"SLURM cannot take jobs now; nothing was sent. It said:\n{quoted}", hint=_AGAIN
        )
    rule = _COUNTED.search(words)
    if "Submit" in rule[0] if rule else _POLICY.search(words):
        return NoRoomError(
            f"SLURM takes no more tasks now. It said:\n{quoted}",
            hint="the same command again when other jobs have ended; `sacctmgr show qos` lists the limits",
            rule=rule[0] if rule else "",
        )
    for pattern, fields, advice in _PERMANENT:
        if re.search(pattern, words, re.IGNORECASE):
            message = f"SLURM refused the submission. It said:\n{quoted}"
            return RefusedError(message, hint=f"change `{fields}` in the profile: {advice}")
    if _FAILED in words.lower():
        return UnclearError(f"sbatch answered something unknown:\n{quoted}", hint=_AGAIN)
    message = f"sbatch refused the script. It said:\n{quoted}"
    return RefusedError(message, hint="correct the profile; `submit RUN --dry-run` prints the script")


SET_UP: Final = "log in to the cluster and submit there, or set SLURM_CONF to the path of its slurm.conf"
_AGAIN: Final = "the same command again later: it looks the jobs up by name before it sends anything"


def quote(words: str) -> str:
    """Return *words* as indented lines, without blank ones, at most twenty."""
    lines = [line.rstrip() for line in words.splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[:20])
