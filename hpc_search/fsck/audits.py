"""audit.log and the folds' logs, line by line, against the merge made again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final

from hpc_search.collect import Written
from hpc_search.collect.audit import merged, texts, until
from hpc_search.collect.happenings import Files
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.journals import Facts
from hpc_search.ledger.history import JournalFile
from hpc_search.planning import digest
from hpc_search.records.plan import Plan

_AGAIN: Final = "`hpc-search collect` makes it again"
#: Differences that are named, and lines between the first and the last one that are compared one by one.
_NAMED: Final = 3
_COMPARED: Final = 4_000


def check_audit(disk: Disk, plan: Plan, facts: Facts, written: Written, *, whole: bool) -> Iterator[Case]:
    """Yield the logs that are not what the last collect wrote, and what is wrong with which line.

    Lines are compared only where all else is *whole*: what damaged files held is named where they are.
    """
    wanted = {"audit.log": written.audit, **written.audits} if written.audit else {}
    # What a record was that a repair took away was told then.
    records = (name for name in written.merged if name.startswith(f"{disk.layout.vault.name}/"))
    whole = whole and not any(disk.set_aside(disk.layout.root / name) for name in records)
    should = _made_again(disk, plan, facts, written) if whole and wanted and written.merged else {}
    for name, known in wanted.items():
        data = disk.read(disk.layout.root / name)
        if data is None:
            finding = Finding(
                path=name, what="it is missing", held="nothing that cannot be made again", next=_AGAIN
            )
            yield Case(finding, "collect")
            continue
        lines = _differences(data, should[name]) if name in should else []
        if digest(data) != known:
            what = f"it is not what the last collect wrote{': ' * bool(lines)}{_words(lines)}"
            finding = Finding(path=name, what=what, held="nothing that cannot be made again", next=_AGAIN)
            yield Case(finding, "collect")
        elif lines and name == "audit.log":
            what = f"the journals and records do not give it any more: {_words(lines)}"
            lost = "what a line of a journal, or a record, said; its audit line has it"
            yield Case(Finding(path=name, what=what, lost=lost), "accept", b"", f"{name}/{digest(data)}")


def _made_again(disk: Disk, plan: Plan, facts: Facts, written: Written) -> dict[str, bytes]:
    journals = (
        JournalFile(worker, segment.number, segment.whole, bool(place.archive))
        for worker, pairs in facts.segments.items()
        for place, segment in pairs
    )
    files = Files(disk.layout, disk.read, lambda directory: [path.name for path in disk.listed(directory)])
    return texts(disk.layout, until(merged(files, plan, journals), written.merged), plan)


def _differences(data: bytes, should: bytes) -> list[str]:
    """Return in words how the lines of *data* differ from those that there should be."""
    if data == should:
        return []
    found, wanted = _lines(data), _lines(should)
    first = next((at for at, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]), -1)
    first = min(len(found), len(wanted)) if first < 0 else first
    if max(len(found), len(wanted)) - first > _COMPARED:
        line = wanted[first] if first < len(wanted) else "nothing"
        return [f"from line {first + 1} on, which should be: {line}"]
    matcher = SequenceMatcher(None, found[first:], wanted[first:], autojunk=False)
    words: list[str] = []
    for kind, low, high, start, stop in matcher.get_opcodes():
        if kind != "equal":
            words += _block(
                found, wanted, range(first + low, first + high), range(first + start, first + stop)
            )
    return words


def _block(found: Sequence[str], wanted: Sequence[str], here: range, there: range) -> Iterator[str]:
    both = min(len(here), len(there))
    for at, right in zip(here[:both], there[:both], strict=True):
        yield f"line {at + 1} was changed, it should be: {wanted[right]}"
    for right in there[both:]:
        yield f"line {right + 1} is missing: {wanted[right]}"
    for at in here[both:]:
        yield f"line {at + 1} does not belong there: {found[at]}"


def _lines(data: bytes) -> list[str]:
    return data.decode(errors="replace").split("\n")[: -1 if data.endswith(b"\n") else None]


def _words(lines: Sequence[str]) -> str:
    more = f" (and {len(lines) - _NAMED} more)" if len(lines) > _NAMED else ""
    return "; ".join(lines[:_NAMED]) + more
