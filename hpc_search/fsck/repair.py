"""Doing what can be done about what a check found. Nothing is removed that holds anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.collect import collect
from hpc_search.errors import HpcSearchError
from hpc_search.fsck import exclusive, known
from hpc_search.fsck import index as index_check
from hpc_search.fsck.check import Checkup, examine
from hpc_search.fsck.findings import Case, Finding
from hpc_search.layout import Layout
from hpc_search.ledger import names, rebuild
from hpc_search.ledger.index import Index, read_header
from hpc_search.locks import coarse_lock
from hpc_search.records.index import Entry

_LOCKS: Final = ("submit", "archive", "collect")
#: Passes: what one puts right can show more to the next (a plan that can be read again).
_PASSES: Final = 6


def repair(layout: Layout) -> tuple[Checkup, tuple[Finding, ...]]:
    """Repair what can be repaired; return the last check and what was done and found.

    Raises:
        TemporaryError: Another command is at work on the run.
    """
    done: list[Finding] = []
    with ExitStack() as stack:
        for verb in _LOCKS:
            stack.enter_context(coarse_lock(layout.coarse_lock(verb)))
        for _ in range(_PASSES):
            checkup = examine(layout)
            cases = [case for case in checkup.cases if case.remedy not in ("none", "collect")]
            if not cases:
                break
            done += _act(layout, checkup, cases)
    checkup = examine(layout)
    again = [case for case in checkup.cases if case.remedy == "collect"]
    if again:
        done += _collect(layout, checkup, again)
        checkup = examine(layout)
    left = tuple(case.finding for case in checkup.cases if case.finding.next != known.SAID)
    return checkup, (*done, *left)


def _act(layout: Layout, checkup: Checkup, cases: Sequence[Case]) -> list[Finding]:
    done = []
    # How far the journals are in the index is not true any more; before the change, should this be killed.
    with suppress(OSError):
        layout.reconciled.unlink()
    for path, group in _by_path(case for case in cases if case.remedy == "write").items():
        done += _write(layout, path, group)
    for case in cases:
        if case.remedy == "quarantine":
            done.append(_set_aside(layout, case))
        elif case.remedy == "remove":
            done.append(_remove(layout, case))
        elif case.remedy == "folder":
            (layout.root / case.finding.path).mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.fsync_dir((layout.root / case.finding.path).parent)
            done.append(_said(case, "made again"))
    accepted = [case for case in cases if case.remedy == "accept"]
    rebuilt = [case for case in cases if case.remedy == "rebuild"]
    if rebuilt and not any(case.remedy == "write" for case in cases):
        # After the journals: it is made from them.
        done += _rebuild(layout, checkup, rebuilt)
        known.add(layout, [case for case in rebuilt if case.evidence])
    if accepted:
        _keep_tables(layout, checkup)
        known.add(layout, accepted)
        done += [_said(case, "written down in quarantine/known.jsonl") for case in accepted]
    return done


def _said(case: Case, words: str) -> Finding:
    level = "lost" if case.finding.lost else "repaired"
    more = f"{case.finding.next}; {words}" if case.finding.next and level == "lost" else words
    return msgspec.structs.replace(case.finding, level=level, next=more)


def _by_path(cases: Iterable[Case]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.finding.path, []).append(case)
    return found


def _write(layout: Layout, path: str, cases: Sequence[Case]) -> list[Finding]:
    """Put the right bytes at *path*; the ones that were there go to the quarantine."""
    target = layout.root / path
    kept = ""
    if target.is_file() and target.stat().st_size:
        kept = f", the damaged file is {_copy_aside(layout, path, cases[0].finding.what)}"
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    durable.replace(target, cases[0].content)
    # What else is wrong there is seen by the next pass.
    cases = [case for case in cases if case.content == cases[0].content]
    return [_said(case, f"put right{kept}") for case in cases]


def _place(layout: Layout, path: str) -> Path:
    """Return a free name in the quarantine for *path*."""
    place = layout.quarantine / path
    number = 0
    while os.path.lexists(place):
        number += 1
        place = layout.quarantine / f"{path}.{number}"
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


def _copy_aside(layout: Layout, path: str, why: str) -> str:
    place = _place(layout, path)
    durable.write_file(place, (layout.root / path).read_bytes())
    return _explain(layout, place, why)


def _set_aside(layout: Layout, case: Case) -> Finding:
    path = case.finding.path
    place = _place(layout, path)
    durable.replace_file(layout.root / path, place)
    if case.content:
        names.create(layout.root / path, case.content.decode())
    durable.fsync_dir((layout.root / path).parent)
    return _said(case, f"moved to {_explain(layout, place, case.finding.what)}")


def _explain(layout: Layout, place: Path, why: str) -> str:
    reason = place.with_name(f"{place.name}.reason")
    durable.replace(reason, f"{why}\n".encode())
    return place.relative_to(layout.root).as_posix()


def _remove(layout: Layout, case: Case) -> Finding:
    path = layout.root / case.finding.path
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return _said(case, "removed")


def _rebuild(layout: Layout, checkup: Checkup, cases: Sequence[Case]) -> list[Finding]:
    plan = checkup.plan
    if plan is None:
        return []
    if checkup.exclusive:
        exclusive.reopen(layout, checkup.lost.runnable)
        return [_said(case, "the trial can be claimed again") for case in cases]
    index = Index(layout)
    try:
        with index.locked() as path:
            header = read_header(layout)
            generation = header.generation + 1 if header is not None else 1
            made = rebuild.rebuild(layout, plan.trials, generation)
            durable.replace(path, index_check.with_kept(made, kept_entries(checkup)))
    finally:
        index.close()
    return [_said(case, "the index was made again from the journals") for case in cases]


def kept_entries(checkup: Checkup) -> dict[int, Entry]:
    """Return the entries of published results that are lost, where the index still has them."""
    entries = checkup.index.entries
    found = {}
    for trial, checksum in checkup.lost.kept.items():
        entry = entries[trial] if trial < len(entries) else None
        if entry is not None and entry.final and f"{entry.end:016x}" == checksum:
            found[trial] = entry
    return found


def _keep_tables(layout: Layout, checkup: Checkup) -> None:
    """Keep the tables of the last collect, where they are the last to hold a published result."""
    target = layout.quarantine / "results"
    if not checkup.lost.kept or not layout.results.is_dir() or target.exists():
        return
    layout.quarantine.mkdir(mode=0o700, exist_ok=True)
    temporary = durable.temporary_name(target)
    shutil.copytree(layout.results, temporary)
    durable.publish_dir(temporary, target)


def _collect(layout: Layout, checkup: Checkup, cases: Sequence[Case]) -> list[Finding]:
    if checkup.plan is None:
        return []
    try:
        collect(layout, checkup.plan)
    except HpcSearchError as error:
        words = f"collect could not make it again: {error.message}"
        return [msgspec.structs.replace(case.finding, next=words) for case in cases]
    return [_said(case, "collected again") for case in cases]
