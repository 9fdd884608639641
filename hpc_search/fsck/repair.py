"""Doing what can be done about what a check found. Nothing is removed that holds anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, get_args

import msgspec

from hpc_search import durable
from hpc_search.collect import collect
from hpc_search.errors import HpcSearchError
from hpc_search.fsck import exclusive, known, shapes
from hpc_search.fsck import index as index_check
from hpc_search.fsck.check import Checkup, examine
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding, Remedy
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
    # Also a lock may be something else; nobody makes such names, so nobody is at work on them.
    tried = _Tried(layout)
    tried.each(_set_aside, shapes.misfits(disk := Disk(layout), shapes.walk(disk)))
    with ExitStack() as stack:
        for verb in _LOCKS:
            stack.enter_context(coarse_lock(layout.coarse_lock(verb)))
        for _ in range(_PASSES):
            checkup = examine(layout)
            cases = [case for case in checkup.cases if case.remedy not in ("none", "collect")]
            cases = [case for case in cases if case.key not in tried.failed]
            if not cases:
                break
            _act(layout, checkup, cases, tried)
    checkup = examine(layout)
    again = [case for case in checkup.cases if case.remedy == "collect"]
    if again:
        tried.done += _collect(layout, checkup, again)
        checkup = examine(layout)
    return checkup, (
        *tried.done,
        *(tried.left(case) for case in checkup.cases if case.finding.next != known.SAID),
    )


class _Tried:
    """What was done, and what the file system did not let be done: the rest is done all the same."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.done: list[Finding] = []
        #: Key of a case -> why it stays.
        self.failed: dict[str, str] = {}

    def each(self, act: Callable[[Layout, Case], Finding], cases: Iterable[Case]) -> None:
        """Do *act* for each of *cases*."""
        for case in cases:
            self.all(lambda layout, group: [act(layout, group[0])], [case])

    def all(self, act: Callable[[Layout, Sequence[Case]], list[Finding]], cases: Sequence[Case]) -> None:
        """Do *act* for *cases*, together."""
        try:
            self.done += act(self._layout, cases)
        except OSError as error:
            why = f"{error.strerror or error} ({error.filename})" if error.filename else str(error)
            self.failed.update((case.key, why) for case in cases)

    def left(self, case: Case) -> Finding:
        """Return what is to be said of a case that is still there."""
        why = self.failed.get(case.key)
        words = f"it could not be put right: {why}; mend that and repair again"
        return msgspec.structs.replace(case.finding, next=words) if why else case.finding


def _act(layout: Layout, checkup: Checkup, cases: Sequence[Case], tried: _Tried) -> None:
    # How far the journals were read is not true any more; before the change, should this be killed.
    for kept in (layout.reconciled, layout.hours):
        with suppress(OSError):
            kept.unlink()
    by = {remedy: [case for case in cases if case.remedy == remedy] for remedy in get_args(Remedy)}
    for group in _by_path(by["write"]).values():
        tried.all(_write, group)
    tried.each(_set_aside, by["quarantine"])
    tried.each(_remove, by["remove"])
    tried.each(_folder, by["folder"])
    if by["rebuild"] and not by["write"]:
        # After the journals: it is made from them.
        tried.all(lambda _, group: _rebuild(layout, checkup, group), by["rebuild"])
        known.add(layout, [case for case in by["rebuild"] if case.evidence and case.key not in tried.failed])
    if by["accept"]:
        tried.all(lambda _, group: _accept(layout, checkup, group), by["accept"])


def _folder(layout: Layout, case: Case) -> Finding:
    path = layout.root / case.finding.path
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    durable.fsync_dir(path.parent)
    return _said(case, "made again")


def _accept(layout: Layout, checkup: Checkup, cases: Sequence[Case]) -> list[Finding]:
    _keep_tables(layout, checkup)
    known.add(layout, cases)
    return [_said(case, "written down in quarantine/known.jsonl") for case in cases]


def _said(case: Case, words: str) -> Finding:
    level = "lost" if case.finding.lost else "repaired"
    more = f"{case.finding.next}; {words}" if case.finding.next and level == "lost" else words
    return msgspec.structs.replace(case.finding, level=level, next=more)


def _by_path(cases: Iterable[Case]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.finding.path, []).append(case)
    return found


def _write(layout: Layout, cases: Sequence[Case]) -> list[Finding]:
    """Put the right bytes at the path of *cases*; the ones that were there go to the quarantine."""
    path, content = cases[0].finding.path, cases[0].content
    kept = ""
    damaged = Disk(layout).read(layout.root / path)
    if damaged:
        place = _place(layout, path)
        durable.write_file(place, damaged)
        kept = f", the damaged file is {_explain(layout, place, cases[0].finding.what)}"
    for name in (path, *cases[0].more):
        target = layout.root / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.replace(target, content)
    # What else is wrong there is seen by the next pass.
    return [_said(case, f"put right{kept}") for case in cases if case.content == content]


def _place(layout: Layout, path: str) -> Path:
    """Return a free name in the quarantine for what is at *path*."""
    if os.path.lexists(layout.quarantine) and not os.path.isdir(layout.quarantine):
        durable.replace_file(layout.quarantine, _free(layout.root / "not-quarantine"))
    place = layout.quarantine / path
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        # What was in place of a directory is there already.
        layout.quarantine.mkdir(mode=0o700, exist_ok=True)
        place = layout.quarantine / path.replace("/", "~")
    return _free(place)


def _free(place: Path) -> Path:
    """Return *place*, or a name like it where that is taken."""
    free, number = place, 0
    while os.path.lexists(free):
        number += 1
        free = place.with_name(f"{place.name}.{number}")
    return free


def _set_aside(layout: Layout, case: Case) -> Finding:
    path = case.finding.path
    place = _place(layout, path)
    if not os.path.lexists(layout.root / path) or path == layout.quarantine.name:
        # With another case; or what was in place of the quarantine, which is free now.
        return _said(case, "moved away")
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
