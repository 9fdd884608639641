"""`doctor`: prove a file system and a cluster."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hpc_search.cli.options import Verbs, add_json, as_json, verb
from hpc_search.errors import EXIT_DONE, EXIT_FAILED, UsageError

if TYPE_CHECKING:
    from hpc_search.search.cluster import ClusterPlan

#: Columns where the table is not read on a terminal.
_WIDE: Final = 150
#: Options that say something about the cluster alone.
_OF_CLUSTER: Final = ("partition", "account", "qos", "slice", "profile_out", "no_job", "no_signals", "force")


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "doctor",
        "try on a directory what runs need of its file system, and on a cluster what they need of SLURM",
        "  hpc-search doctor /scratch/me\n"
        "  hpc-search doctor runs/digits --srun                    with two tasks of SLURM on two nodes\n"
        "  hpc-search doctor /mnt/a/me --second-mount /mnt/b/me    with two clients on this machine\n"
        "  hpc-search doctor /scratch/me --cluster                 the cluster too; writes a profile\n"
        "  hpc-search doctor --cluster --partition gpu --slice gpu:1 --profile-out gpu.yaml\n\n"
        "--cluster sends an array of three tasks of a minute by the code of `submit` and takes a minute or\n"
        "two: how a node starts a worker, when signals come, how a task is requeued. Ctrl-C ends it.\n"
        "srun takes partition and account from SLURM_PARTITION and SLURM_ACCOUNT.\n"
        "exit codes: 0 a run can live there; 1 none can; 2 no such directory, partition or account; 75 the\n"
        "controller of the cluster does not answer",
    )
    parser.add_argument(
        "target", metavar="DIR|RUN", nargs="?", default=".", help="a directory or a run (default: here)"
    )
    parser.add_argument(
        "--second-mount", metavar="DIR", default="", help="the same directory by another mount"
    )
    parser.add_argument("--srun", action="store_true", help="also between two nodes, by SLURM")
    _add_cluster(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the cluster")
    group.add_argument(
        "--cluster", action="store_true", help="examine the cluster and write a profile for it"
    )
    for name, what in (("partition", "P"), ("account", "A"), ("qos", "Q")):
        group.add_argument(f"--{name}", metavar=what, default="", help=f"this {name} (default: chosen)")
    group.add_argument("--slice", metavar="GRES", default="", help="a GPU or part of one, such as gpu:1")
    group.add_argument("--profile-out", metavar="FILE", type=Path, help="where the profile is written")
    group.add_argument("--force", action="store_true", help="replace that file")
    group.add_argument("--no-job", action="store_true", help="only ask SLURM, send nothing")
    group.add_argument(
        "--no-signals", action="store_true", help="do not wait for the time limit: seconds only"
    )
    group.add_argument("--yes", action="store_true", help="send the array without a question")


def run(given: argparse.Namespace) -> int:
    """Examine."""
    from hpc_search.search.doctor import doctor

    plan = _plan(given)
    report = doctor(given.target, second_mount=given.second_mount, srun=given.srun, cluster=plan)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDE
    print(as_json(report) if given.json else report.text(width))
    return EXIT_DONE if report.good else EXIT_FAILED


def _plan(given: argparse.Namespace) -> ClusterPlan | None:
    if not given.cluster:
        unused = [f"--{name.replace('_', '-')}" for name in _OF_CLUSTER if getattr(given, name)]
        if unused:
            raise UsageError(f"{', '.join(unused)}: of --cluster only", hint="add --cluster")
        return None
    from hpc_search.doctor.cluster.found import Wish
    from hpc_search.search.cluster import ClusterPlan

    wish = Wish(partition=given.partition, account=given.account, qos=given.qos, gres=given.slice)
    return ClusterPlan(
        wish=wish,
        out=given.profile_out,
        force=given.force,
        job=not given.no_job and _agreed(given),
        signals=not given.no_signals,
    )


def _agreed(given: argparse.Namespace) -> bool:
    """Return whether the array may be sent; where nobody can be asked it may."""
    if given.yes or given.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    answer = input("send one array of three tasks, a minute each, to the cluster? [Y/n] ")
    return answer.strip().lower() in ("", "y", "yes")
