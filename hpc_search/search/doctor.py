"""Examining a directory or a run, and what that changes in a run."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hpc_search import __version__, durable
from hpc_search.errors import HpcSearchError, UsageError
from hpc_search.layout import Layout
from hpc_search.ledger import mode
from hpc_search.records import checked
from hpc_search.search.runs import Run, open_run, runs_root, writable

if TYPE_CHECKING:
    from hpc_search.doctor import Measured, Report, Row
    from hpc_search.search.cluster import ClusterPlan


def doctor(
    target: str = ".", *, second_mount: str = "", srun: bool = False, cluster: ClusterPlan | None = None
) -> Report:
    """Examine the directory or run *target*, in seconds; a run keeps the report and may change its claiming.

    Args:
        target: A directory, a run, or the name of a run under ``runs/``.
        second_mount: The same directory by a second mount of its file system on this machine.
        srun: Whether to run two tasks on two nodes through SLURM.
        cluster: Whether and how to examine the cluster as well; takes up to some minutes.

    Raises:
        UsageError: There is no such directory, *second_mount* shows another one, or the cluster has no such
            partition, account, QOS or slice.
        TemporaryError: The controller of the cluster does not answer.
    """
    from hpc_search.doctor.verdict import advice

    started = time.monotonic()
    measured = _examine(target, Path(second_mount) if second_mount else None, srun)
    if measured.place.is_run:
        return _of_run(measured, started, cluster)
    report = _with_cluster(_reported(measured, started), cluster, started)
    return _with_notes(report, advice(measured, report.verdict.claiming) if report.verdict.usable else ())


def _with_cluster(report: Report, plan: ClusterPlan | None, started: float) -> Report:
    if plan is None:
        return report
    from hpc_search.search.cluster import examine

    job = plan.job and report.verdict.usable
    found = examine(report.directory, replace(plan, job=job))
    return msgspec.structs.replace(
        report,
        rows=(*report.rows, *found.rows),
        notes=(*report.notes, *found.notes),
        about_files=len(report.rows),
        cluster=found.cluster,
        seconds=round(time.monotonic() - started, 3),
    )


def _examine(target: str, second: Path | None, srun: bool) -> Measured:
    # Looked for by another process: where a file server is down, a look at a path never returns.
    from hpc_search.doctor import examine

    path = Path(target)
    _require_working_directory(path)
    measured = examine(path, second=second, srun=srun)
    if measured.place.kind == "missing" and len(path.parts) == 1:
        named = examine(runs_root() / target, second=second, srun=srun)
        measured = measured if named.place.kind == "missing" else named
    if measured.place.kind == "missing":
        raise UsageError(f"there is no directory {target!r}", hint=f"make it first: mkdir -p {target}")
    if measured.place.kind == "file":
        raise UsageError(
            f"{target} is not a directory", hint="give the directory where runs shall live, or a run"
        )
    return measured


def _require_working_directory(path: Path) -> None:
    if path.is_absolute():
        return
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UsageError(
            "the working directory was deleted", hint="cd to a directory that is there, or give a full path"
        ) from None


def _reported(measured: Measured, started: float, extra: tuple[Row, ...] = (), **wanted: float) -> Report:
    from hpc_search.doctor import Report, rows, verdict

    return Report(
        hpc_search=__version__,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        host=socket.gethostname(),
        directory=measured.place.path,
        seconds=round(time.monotonic() - started, 3),
        verdict=verdict(measured, **wanted),
        rows=(*rows(measured), *extra),
        measured=measured,
    )


def _of_run(measured: Measured, started: float, plan: ClusterPlan | None) -> Report:
    """Return the report on a run, judged by its own lease, stored in it; its claiming may change."""
    from hpc_search.doctor.judging import lease_row
    from hpc_search.doctor.verdict import shortest_lease

    try:
        run = open_run(measured.place.path)
        search = run.plan.search
    except (HpcSearchError, OSError) as error:
        report = _with_cluster(_reported(measured, started), plan, started)
        return _with_notes(report, [f"not stored: {_words(error)}"])
    shortest = shortest_lease(measured, search.heartbeat)
    row = lease_row(search.lease, shortest)
    report = _reported(measured, started, (row,), heartbeat=search.heartbeat, default=search.lease)
    return _stored(run, _with_cluster(report, plan, started))


def _stored(run: Run, report: Report) -> Report:
    try:
        layout = writable(run).layout
        report = _with_notes(report, _switched(layout, report))
        durable.replace(layout.doctor, checked.encode(report))
    except (UsageError, OSError) as error:
        return _with_notes(report, [f"not stored in the run: {_words(error)}"])
    return report


def _words(error: HpcSearchError | OSError) -> str:
    if isinstance(error, HpcSearchError):
        return error.message
    # Not its file: that is a temporary one.
    return error.strerror or str(error)


def _switched(layout: Layout, report: Report) -> list[str]:
    from hpc_search.doctor.verdict import locks_tried

    if report.verdict.claiming == "lock" or not report.verdict.usable:
        return []
    if not locks_tried(report.measured):
        return ["how this run claims is left as it is: nothing is known of locks here"]
    if mode.exclusive(layout):
        return ["this run claims so already"]
    mode.require_exclusive(layout, f"doctor: {report.verdict.why}")
    return ["this run claims so from now on, for good (ledger/mode.exclusive)"]


def _with_notes(report: Report, notes: Sequence[str]) -> Report:
    return msgspec.structs.replace(report, notes=(*report.notes, *notes))
