"""The records of vault/: a look at the test side is never forgotten, so no repair removes one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from hpc_search.collect import DIGESTS, Written, final
from hpc_search.errors import DamagedError
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding, note
from hpc_search.fsck.journals import Facts
from hpc_search.fsck.mend import mend_lines
from hpc_search.ledger import vault
from hpc_search.records import checked
from hpc_search.records.plan import Plan
from hpc_search.records.vault import Again, Opening, Refused, Result

_RECORD: Final = re.compile(r"(opening|again|refused|result)\.(\d{3,})(?:\.(\d{2,}))?\.json")
_Record = Opening | Again | Refused | Result
_KINDS: Final[Mapping[str, type[_Record]]] = {
    "opening": Opening,
    "again": Again,
    "refused": Refused,
    "result": Result,
}
_HELD: Final = {
    "opening": "who opened the test side, when, why and for which states",
    "again": "who went on with an interrupted test",
    "refused": "why nothing was tested",
    "result": "what the test side gave",
}
_GOES_ON: Final = "`hpc-search test` goes on with the opening, and looks again at the same states"
_Name = tuple[str, int, int]


def check_vault(disk: Disk, plan: Plan, facts: Facts) -> Iterator[Case]:
    """Yield what is wrong with the records of the test side."""
    found: dict[_Name, _Record] = {}
    there: set[_Name] = set()
    for path in disk.listed(disk.layout.vault):
        match = _RECORD.fullmatch(path.name)
        data = disk.read(path) if match is not None else None
        if match is None or data is None:
            continue
        key = match[1], int(match[2]), int(match[3] or 0)
        there.add(key)
        name = disk.name(path)
        right = checked.verifies(data)
        if not right and (mended := mend_lines(data)) is not None and checked.verifies(mended):
            what = "it has one wrong byte, which its checksum gives back"
            yield Case(Finding(path=name, what=what, held=_HELD[match[1]]), "write", mended)
            data, right = mended, True
        record = _decoded(data, match[1], name) if right else None
        if record is None:
            yield _damaged(name, match[1])
        elif _names(record) != key or getattr(record, "run_id", plan.run_id) != plan.run_id:
            yield _stranger(name, record)
        else:
            found[key] = record
    segments = (segment for pairs in facts.segments.values() for _, segment in pairs)
    known = vault.noted(record for segment in segments for record, _ in segment.records)
    yield from _gaps(disk, there, known)
    yield from _pairs(disk, found, known)
    yield from _gone(disk, there)


def _decoded(data: bytes, kind: str, name: str) -> _Record | None:
    try:
        return checked.decode(data, _KINDS[kind], name)
    except DamagedError:
        return None


def _names(record: _Record) -> _Name:
    if isinstance(record, Opening):
        return "opening", record.number, 0
    if isinstance(record, Again):
        return "again", record.opening, record.number
    if isinstance(record, Refused):
        return "refused", record.opening, record.after
    return "result", record.opening, 0


def _damaged(name: str, kind: str) -> Case:
    held = _HELD[kind]
    finding = Finding(path=name, what="it does not verify", held=held)
    if kind == "result":
        return Case(msgspec.structs.replace(finding, next=_GOES_ON), "quarantine")
    # It stays where it is: that the test side was opened is known by its name.
    return Case(msgspec.structs.replace(finding, lost=held), "accept", b"", name)


def _stranger(name: str, record: _Record) -> Case:
    kind, number, _ = _names(record)
    what = f"it is {kind} {number} of run {getattr(record, 'run_id', 'unknown')}"
    return Case(Finding(path=name, what=what, lost=_HELD[kind]), "accept", b"", name)


def _gaps(disk: Disk, there: set[_Name], known: vault.Noted) -> Iterator[Case]:
    """Yield openings that are missing before, or beside, what came after them, or that journals *know*."""
    last = max([*(number for _, number, _ in there), *known.openings], default=0)
    for number in range(1, last + 1):
        if ("opening", number, 0) not in there:
            name = disk.name(disk.layout.vault_opening(number))
            proof = "a journal says that it was" if number in known.openings else "what came after it is"
            finding = Finding(path=name, what=f"it is missing: {proof} there", lost=_HELD["opening"])
            yield Case(finding, "accept", b"", name)
    for number in sorted(known.results):
        path = disk.layout.vault_result(number)
        if ("result", number, 0) not in there and not disk.set_aside(path):
            what = "it is missing: a journal says that it was there"
            yield Case(
                Finding(path=disk.name(path), what=what, lost=_HELD["result"]), "accept", b"", path.name
            )
    before = {(n, time - 1) for kind, n, time in there if kind == "again" and time > 1}
    before |= {(n, after) for kind, n, after in there if kind == "refused" and after}
    for number, time in sorted(before):
        if ("again", number, time) not in there:
            name = disk.name(disk.layout.vault_again(number, time))
            finding = Finding(path=name, what="it is missing: a later one is there", lost=_HELD["again"])
            yield Case(finding, "accept", b"", name)


def _pairs(disk: Disk, found: Mapping[_Name, _Record], known: vault.Noted) -> Iterator[Case]:
    """Yield openings that are not those that their results are of, and notes on all others."""
    for record in found.values():
        if isinstance(record, Result):
            yield from _other_result(disk, record, known)
        if not isinstance(record, Opening):
            continue
        path = disk.layout.vault_opening(record.number)
        result = found.get(("result", record.number, 0))
        mark = vault.digest_of(record)
        others = [f"result {record.number} is of"] * (isinstance(result, Result) and result.of != mark)
        others += ["a journal tells of"] * (known.openings.get(record.number, mark) != mark)
        if others:
            what = f"it is not the opening that {others[0]}: somebody changed it"
            yield Case(
                Finding(path=disk.name(path), what=what, lost=_HELD["opening"]), "accept", b"", path.name
            )
            continue
        by = vault.by_words(record.by)
        left = "" if result is not None else "; nothing came of it yet: `hpc-search test` goes on"
        why = f": {record.reason}" if record.reason else ""
        yield note(disk.name(path), f"the test side was opened {by}{why}{left}")


def _other_result(disk: Disk, record: Result, known: vault.Noted) -> Iterator[Case]:
    if vault.digest_of(record) not in known.results.get(record.opening, {vault.digest_of(record)}):
        path = disk.layout.vault_result(record.opening)
        what = "it is not the result that a journal tells of: somebody changed it"
        yield Case(Finding(path=disk.name(path), what=what, lost=_HELD["result"]), "accept", b"", path.name)


def _gone(disk: Disk, there: set[_Name]) -> Iterator[Case]:
    """Yield that no opening is left of those that the last collect knew."""
    if there:
        return
    try:
        written = checked.decode(disk.read(disk.layout.result(DIGESTS)) or b"", Written, DIGESTS)
    except DamagedError:
        return
    if final.NAME in written.files:
        what = f"its records are gone: results/{final.NAME} says that the test side was opened"
        yield Case(Finding(path="vault", what=what, lost=_HELD["opening"]), "accept", b"", "vault")
