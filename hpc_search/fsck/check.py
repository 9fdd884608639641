"""One pass over every file of a run; reads only."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from hpc_search.errors import UsageError
from hpc_search.fsck import (
    amendments,
    archives,
    audits,
    documents,
    doubts,
    exclusive,
    files,
    gates,
    index,
    journals,
    known,
    planned,
    proposals,
    results,
    retries,
    seals,
    shapes,
    snapshots,
    strangers,
    vault,
    verdicts,
)
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case
from hpc_search.fsck.index import Index, Lost, Named
from hpc_search.fsck.journals import Facts
from hpc_search.fsck.live import maybe_live
from hpc_search.fsck.seals import Seals
from hpc_search.layout import Layout
from hpc_search.records.plan import Plan

#: One or several numbers in the words of a finding.
_NUMBERS: Final = re.compile(r"\d[\d, ]*(and \d+ more)?")

#: Where results stand.
_TRUTH: Final = re.compile(
    r"plan\.json|workers(/[0-9a-f]{16}(/journal\..*)?)?|ledger(/(archive|seals|retries|open)(/.*)?)?"
)
#: Evidence of cases that say that something is lost.
_FOLLOWS: Final = ("lost/", "head/", "gap/")


@dataclass(slots=True)
class Checkup:
    """What a pass found: the cases, and what a repair needs to know."""

    plan: Plan | None
    cases: list[Case] = field(default_factory=list)
    facts: Facts = field(default_factory=Facts)
    seals: Seals = field(default_factory=Seals)
    index: Index = field(default_factory=lambda: Index(None, [], []))
    names: dict[int, Named] = field(default_factory=dict)
    lost: Lost = field(default_factory=Lost)
    #: Whether trials are claimed by exclusively created names.
    exclusive: bool = False
    #: RUN-relative path -> why it could not be read.
    unread: dict[str, str] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0


def examine(layout: Layout, live: Collection[str] = ()) -> Checkup:
    """Verify every file of the run at *layout*; workers in *live* may still write.

    Raises:
        UsageError: It is no run.
    """
    if not os.path.isdir(layout.root) or not (os.path.lexists(layout.plan) or os.path.isdir(layout.ledger)):
        message = f"{layout.root} is not a run: it has neither plan.json nor ledger/"
        raise UsageError(message, hint="`python -m hpc_search plan CONFIG --run DIR` makes one")
    disk = Disk(layout)
    tree = shapes.walk(disk)
    found = planned.check_planned(disk)
    amendments.check_amendments(disk, found)
    checkup = Checkup(found.plan, found.cases)
    checkup.files = len(tree.files)
    checkup.bytes = sum(one.st_size for name, one in tree.files.items() if not shapes.foreign(name))
    checkup.cases += planned.check_instance(disk)
    # The index is read first: what it calls final stands in the journals by then.
    data = disk.read(layout.claims)
    written = results.read_written(disk)
    again = retries.read_retries(disk, found.plan.run_id if found.plan is not None else "")
    checkup.cases += again.cases
    checkup.facts.again = again.known
    checkup.seals = seals.read_seals(disk, written.seals if written is not None else 0, again.known)
    checkup.cases += checkup.seals.cases
    _read_journals(disk, checkup, live)
    if checkup.plan is not None:
        _ledger(disk, checkup, checkup.plan, data)
    checkup.cases += shapes.check_names(tree)
    if checkup.plan is not None and written is not None:
        whole = not any(case.finding.level != "note" and case.remedy != "collect" for case in checkup.cases)
        checkup.cases += audits.check_audit(disk, checkup.plan, checkup.facts, written, whole=whole)
    checkup.cases = known.without(layout, _told(disk, checkup.cases, shapes.misfits(disk, tree)))
    checkup.unread = dict(disk.errors)
    return checkup


def _told(disk: Disk, cases: list[Case], misfits: list[Case]) -> list[Case]:
    """Return *cases* without what follows from names that are no files, or that cannot be read; and these."""
    first = [*misfits, *disk.cases()]
    told = {case.finding.path for case in first}
    blind = any(map(truth, disk.errors))
    return first + [
        case
        for case in cases
        if case.finding.path not in told and not (blind and case.evidence.startswith(_FOLLOWS))
    ]


def truth(path: str) -> bool:
    """Return whether results stand in the file *path*: where it cannot be read, nothing is lost yet."""
    return _TRUTH.fullmatch(path) is not None


def confirmed(layout: Layout) -> Checkup:
    """Verify every file of a run that may be at work; what only looks like damage is looked at again.

    The files are not read at one moment: a trial can end, a journal be folded, a seal be published between
    two of them. Damage stays; what a second look does not find was such a change.

    Raises:
        UsageError: It is no run.
    """
    seen = examine(layout, maybe_live(Disk(layout)))
    if not any(map(_bad, seen.cases)):
        return seen
    again = examine(layout, maybe_live(Disk(layout)))
    known = {_sign(case) for case in seen.cases}
    again.cases = [case for case in again.cases if not _bad(case) or _sign(case) in known]
    return again


def _bad(case: Case) -> bool:
    return case.finding.level == "damaged"


def _sign(case: Case) -> tuple[str, str]:
    """Return what tells a case from others; the numbers in its words may have grown."""
    return case.finding.path, case.evidence or _NUMBERS.sub("#", case.finding.what)


def _read_journals(disk: Disk, checkup: Checkup, live: Collection[str]) -> None:
    facts, plan = checkup.facts, checkup.plan
    archived: dict[tuple[str, str], bytes] = {}
    pairs = list(journals.live_segments(disk))
    for archive in archives.read_archives(disk):
        checkup.cases += archive.cases
        archived |= archive.contents
        pairs += archive.segments
    pairs, strange = strangers.set_apart(disk, pairs, plan.run_id if plan is not None else "")
    checkup.cases += strange
    for place, segment in pairs:
        if not any(segment.number == other.number for _, other in facts.segments[segment.worker]):
            facts.add(place, segment)
            checkup.cases += journals.segment_cases(place, segment, ended=segment.worker not in live)
    checkup.cases += journals.gaps(facts)
    _others(disk, checkup, archived, live)


def _others(
    disk: Disk, checkup: Checkup, archived: dict[tuple[str, str], bytes], live: Collection[str]
) -> None:
    facts, plan = checkup.facts, checkup.plan
    checkup.cases += seals.check_heads(checkup.seals, facts, archived)
    checkup.cases += files.check_samples(disk, facts, archived)
    checkup.cases += files.check_logs(disk, facts, archived)
    if plan is not None:
        checkup.cases += files.check_checkpoints(disk, facts, plan)
        checkup.cases += snapshots.check_snapshots(disk, plan)
        checkup.cases += proposals.check_proposals(disk, facts, plan)
        checkup.cases += verdicts.check_verdicts(plan, facts.verdicts)
        checkup.cases += gates.check_gates(disk, plan)
        checkup.cases += vault.check_vault(disk, plan, facts)
    checkup.cases += files.check_workers(disk, live=set(live))
    checkup.cases += files.check_reports(disk)
    tokens = {opening.token for opening in facts.openings.values() if opening.token}
    checkup.cases += documents.check_submits(disk, tokens)
    checkup.cases += documents.check_profile(disk, slurm=documents.used_slurm(disk))
    checkup.cases += documents.check_doctor(disk)
    checkup.cases += documents.check_locks(disk)
    checkup.cases += documents.stop_marks(disk)


def _ledger(disk: Disk, checkup: Checkup, plan: Plan, data: bytes | None) -> None:
    facts, sealed = checkup.facts, checkup.seals.results
    checkup.exclusive = exclusive.uses_names(disk.layout, plan)
    if not checkup.exclusive:
        checkup.index = index.read_index(data, plan.trials, plan.added)
        checkup.cases += checkup.index.cases
    marks = exclusive.check_names(disk, plan, facts) if checkup.exclusive else exclusive.Marks()
    if _disbelieve(disk, checkup, marks.results) and checkup.exclusive:
        # What the journals say of a mark has changed.
        marks = exclusive.check_names(disk, plan, facts)
    checkup.cases += marks.cases
    if not checkup.exclusive:
        published = {trial: end for trial, (end, _) in sealed.items()}
        # A claim that was made since the index was read stands in it by now.
        now = index.read_index(disk.read(disk.layout.claims), plan.trials, plan.added)
        checkup.cases += index.compare(checkup.index, facts, published, now)
    checkup.names = index.names_of_results(checkup.index, facts, sealed, marks.results)
    checkup.lost = index.lost_results(checkup.names, facts, plan.trials)
    checkup.cases += checkup.lost.cases
    checkup.cases += results.check_results(disk, plan, facts, sealed)


def _disbelieve(disk: Disk, checkup: Checkup, marks: dict[int, tuple[str, str]]) -> bool:
    """Take end records that no worker wrote out of what the journals say; return whether there are any."""
    facts, sealed = checkup.facts, checkup.seals.results
    names = index.names_of_results(checkup.index, facts, sealed, marks)
    known = doubts.named_checksums(checkup.index, facts, sealed, marks)
    found = doubts.doubtful(facts, names, known)
    checkup.cases += doubts.cases(disk, facts, found)
    doubts.drop(facts, found)
    return bool(found)
