"""Copies of a run below RUN/reruns, in which trials run without touching its ledger."""

from __future__ import annotations

import os
import secrets
import shutil

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import history, new_index, snapshots
from hpc_search.planning import encode_instance, load_instance
from hpc_search.records import journal as lines
from hpc_search.search.runs import Run


def ends(layout: Layout) -> list[lines.End]:
    """Return the end records of the run at *layout*, in the order of its journals."""
    found = (lines.parse_line(line.data) for line in history.lines(layout, frozenset({b"end"})))
    return [record for record in found if isinstance(record, lines.End)]


def clone(run: Run, name: str, code: str = "") -> Layout:
    """Return a new run directory below RUN/reruns, called *name* and more, with the same plan and splits.

    Nothing is done in it. It has the sources with the digest *code*, the newest where that is "".
    """
    target = Layout(run.layout.reruns / f"{name}-{secrets.token_hex(3)}")
    try:
        _copy(run, target)
        _copy_code(run, target, code)
    except OSError:
        shutil.rmtree(target.root, ignore_errors=True)
        raise
    return target


def _copy(run: Run, target: Layout) -> None:
    source = run.layout
    for directory in ("ledger/seals", "ledger/archive", "workers", "checkpoints", "samples"):
        (target.root / directory).mkdir(parents=True, mode=0o700)
    for path in (source.plan, source.code, source.provenance):
        if path.exists():
            shutil.copyfile(path, target.root / path.name)
    for place, copy in ((source.splits, target.splits), (source.stages, target.stages)):
        if place.exists():
            shutil.copytree(place, copy)
    instance = load_instance(source)
    durable.write_file(target.instance, encode_instance(instance))
    head, size = new_index(run.plan.trials)
    durable.write_file(target.claims, head)
    os.truncate(target.claims, size)


def _copy_code(run: Run, target: Layout, code: str) -> None:
    """Copy sources that were taken after the plan: those with the digest *code*, or the newest."""
    numbers = snapshots.numbers_of(run.layout)
    records = [snapshots.load(run.layout, number) for number in numbers]
    wanted = [record for record in records if code in ("", record.digest)]
    if not wanted or (code and code == run.plan.code_digest):
        return
    record = wanted[-1]
    if record.code != target.code.name:
        shutil.copyfile(run.path / record.code, target.root / record.code)
    snapshots.publish(target, record)
