"""Small files of the ledger and of commands: records with a checksum of their own, and texts."""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterator
from typing import Final

import msgspec

from hpc_search.config.profile import signature_holds
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding, note
from hpc_search.fsck.mend import mend, mend_lines
from hpc_search.fsck.numbers import gaps
from hpc_search.layout import Layout
from hpc_search.ledger.submits import Intent
from hpc_search.records import checked

_SUBMIT: Final = re.compile(r"(\d{4,})\.(intent|jobs)\.json")
_TOKEN: Final = re.compile(r"-(\d{4,})$")
#: Intents with an answer that `submit` keeps.
_KEPT_INTENTS: Final = 8


def check_submits(disk: Disk, tokens: set[str]) -> Iterator[Case]:
    """Yield what is wrong with the records of submissions; *tokens* are those that workers had."""
    found: dict[int, dict[str, bytes]] = {}
    there: set[int] = set()
    for path in disk.listed(disk.layout.submits):
        match = _SUBMIT.fullmatch(path.name)
        data = disk.read(path) if match is not None else None
        if match is None or data is None:
            continue
        number = int(match[1])
        data = yield from _whole(disk.name(path), data, number, match[2])
        there.add(number)
        if data:
            found.setdefault(number, {})[match[2]] = data
    used = {int(match[1]) for match in map(_TOKEN.search, tokens) if match is not None}
    yield from _missing(disk, found.keys(), there, used)
    yield from _pairs(disk.layout, found)


def _missing(disk: Disk, whole: Collection[int], there: set[int], used: set[int]) -> Iterator[Case]:
    """Yield the submissions of which there is no record, a finding a range of them."""
    last = max(whole, default=0)
    for missing in gaps({*whole, *(number for number in used - there if number < last)}):
        if number := next((number for number in missing if number not in there), 0):
            yield _gone(disk, number, missing.stop - 1, "later ones are there")
    for number in sorted(used - there):
        yield _gone(disk, number, number, "workers had its token")


def _gone(disk: Disk, number: int, last: int, why: str) -> Case:
    name = disk.name(disk.layout.submit_record(number))
    to = f", and so are those up to {last}" if last > number else ""
    finding = Finding(path=name, what=f"it is missing{to}: {why}", lost="which jobs were submitted then")
    return Case(finding, "accept", b"", name)


def _whole(path: str, data: bytes, number: int, kind: str) -> Generator[Case, None, bytes]:
    """Return the record in *data*, b"" where it is not the one of submission *number*."""
    if not checked.verifies(data):
        data = yield from _mend(path, data, kind)
    if not data:
        return b""
    try:
        inside = msgspec.json.decode(data, type=_Numbered).number
    except msgspec.DecodeError:
        inside = -1
    if inside == number:
        return data
    what = f"it is the record of submission {inside}" if inside >= 0 else "it is no record of a submission"
    yield Case(Finding(path=path, what=f"{what}, expected that of {number}"), "quarantine")
    return b""


class _Numbered(msgspec.Struct):
    number: int


def _mend(path: str, data: bytes, kind: str) -> Generator[Case, None, bytes]:
    mended = mend_lines(data)
    held = "what was about to be submitted" if kind == "intent" else "which jobs were submitted"
    if mended is not None and checked.verifies(mended):
        what = "it has one wrong byte, which its checksum gives back"
        yield Case(Finding(path=path, what=what, held=held), "write", mended)
        return mended
    lost = "which jobs were submitted then" if kind == "jobs" else ""
    finding = Finding(
        path=path,
        what="it does not verify",
        held=held,
        lost=lost,
        next="its token is looked up by the next submit",
    )
    yield Case(finding, "quarantine")
    return b""


def _pairs(layout: Layout, found: dict[int, dict[str, bytes]]) -> Iterator[Case]:
    newest = sorted(found)[-_KEPT_INTENTS:]
    for number in newest:
        kinds = found[number]
        answer = kinds.get("jobs", b"")
        if answer and "intent" not in kinds:
            path = layout.submit_intent(number).relative_to(layout.root).as_posix()
            if b'"outcome":"set"' in answer:
                continue  # nothing was to be sent
            intent = msgspec.json.decode(answer, type=Intent)
            yield Case(Finding(path=path, what="it is missing"), "write", checked.encode(intent))
        if "intent" in kinds and "jobs" not in kinds:
            path = layout.submit_record(number).relative_to(layout.root).as_posix()
            finding = Finding(
                path=path,
                what="it is missing: the submission was cut short, or the file was removed",
                next="its token is looked up by the next submit",
                level="unproven",
            )
            yield Case(finding)


def check_profile(disk: Disk, *, slurm: bool) -> Iterator[Case]:
    """Yield what is wrong with the profile of the last submission; there is one where *slurm* was used."""
    layout = disk.layout
    data = disk.read(layout.profile)
    if data is None:
        if slurm:
            lost = "partition, account, limits of the last submission: the next submit needs --profile FILE"
            finding = Finding(path=layout.profile.name, what="it is missing: SLURM was used", lost=lost)
            yield Case(finding, "accept", b"", layout.profile.name)
        return
    if signature_holds(data):
        return
    mended = mend(data, signature_holds)
    finding = Finding(
        path=layout.profile.name,
        what="it is not what the last submit wrote",
        held="the profile of the last submission",
        next="" if mended else "the next submit asks for --profile FILE",
    )
    yield Case(finding, "write", mended) if mended else Case(finding, "quarantine")


def used_slurm(disk: Disk) -> bool:
    """Return whether a submission to SLURM was sent."""
    for path in disk.listed(disk.layout.submits):
        data = disk.read(path) if path.name.endswith(".jobs.json") else None
        if data is not None and checked.verifies(data):
            fields = msgspec.json.decode(data)
            if fields.get("launcher") == "slurm" and fields.get("outcome") in ("sent", "adopted"):
                return True
    return False


def check_doctor(disk: Disk) -> Iterator[Case]:
    """Yield what is wrong with the report of the last doctor."""
    layout = disk.layout
    data = disk.read(layout.doctor)
    if data is None or checked.verifies(data):
        return
    again = f"`hpc-search doctor {layout}` makes it again"
    finding = Finding(path=layout.doctor.name, what="it does not verify", held="a report", next=again)
    mended = mend_lines(data)
    whole = mended is not None and checked.verifies(mended)
    yield Case(finding, "write", mended) if mended and whole else Case(finding, "quarantine")


def check_locks(disk: Disk) -> Iterator[Case]:
    """Yield what is wrong with the lock files, which are empty."""
    for path in disk.listed(disk.layout.ledger):
        if path.name.endswith(".lock") and disk.size(path):
            yield Case(
                Finding(path=disk.name(path), what="a lock file is empty; this one is not"), "write", b""
            )
    lock = disk.layout.claims_lock
    if disk.exists(disk.layout.claims) and not disk.exists(lock):
        yield Case(Finding(path=disk.name(lock), what="it is missing"), "write", b"")


def stop_marks(disk: Disk) -> Iterator[Case]:
    """Yield that the search was stopped or paused, and why."""
    for path, words in ((disk.layout.stop, "the search was stopped: "), (disk.layout.paused, "the run is ")):
        data = disk.read(path)
        if data is not None:
            first = data.decode(errors="replace").partition("\n")[0]
            yield note(disk.name(path), f"{words}{first}")
