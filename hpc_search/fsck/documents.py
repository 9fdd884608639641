"""Small files of the ledger and of commands: records with a checksum of their own, and texts."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Final

import msgspec

from hpc_search.config.profile import signature_holds
from hpc_search.fsck.findings import Case, Finding, note
from hpc_search.fsck.mend import mend, mend_lines
from hpc_search.layout import Layout
from hpc_search.records import checked

_SUBMIT: Final = re.compile(r"(\d{4,})\.(intent|jobs)\.json")
_TOKEN: Final = re.compile(r"-(\d{4,})$")
#: Intents with an answer that `submit` keeps.
_KEPT_INTENTS: Final = 8


def check_submits(layout: Layout, tokens: set[str]) -> Iterator[Case]:
    """Yield what is wrong with the records of submissions; *tokens* are those that workers had."""
    found: dict[int, dict[str, bytes]] = {}
    for path in sorted(layout.submits.iterdir()) if layout.submits.is_dir() else ():
        match = _SUBMIT.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        data = path.read_bytes()
        if not checked.verifies(data):
            data = yield from _mend(path.relative_to(layout.root).as_posix(), data, match[2])
        found.setdefault(int(match[1]), {})[match[2]] = data
    used = {int(match[1]) for match in map(_TOKEN.search, tokens) if match is not None}
    for number in sorted(used | set(range(1, max(found, default=0)))):
        if number not in found:
            name = layout.submit_record(number).relative_to(layout.root).as_posix()
            why = "workers had its token" if number in used else "later ones are there"
            lost = "which jobs were submitted then"
            yield Case(Finding(path=name, what=f"it is missing: {why}", lost=lost), "accept", b"", name)
    yield from _pairs(layout, found)


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
            fields = msgspec.json.decode(answer)
            intent = _Intent(**{name: fields[name] for name in _Intent.__struct_fields__ if name in fields})
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


class _Intent(msgspec.Struct, kw_only=True):
    """The fields of an intent, in the order in which `submit` writes them."""

    format: str
    version: int
    number: int
    token: str
    launcher: str
    tasks: int
    first_seat: int = 0
    host: str = ""
    created: float = 0.0
    gone: tuple[str, ...] = ()


def check_profile(layout: Layout, *, slurm: bool) -> Iterator[Case]:
    """Yield what is wrong with the profile of the last submission; there is one where *slurm* was used."""
    if not layout.profile.is_file():
        if slurm:
            lost = "partition, account, limits of the last submission: the next submit needs --profile FILE"
            finding = Finding(path=layout.profile.name, what="it is missing: SLURM was used", lost=lost)
            yield Case(finding, "accept", b"", layout.profile.name)
        return
    data = layout.profile.read_bytes()
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


def used_slurm(layout: Layout) -> bool:
    """Return whether a submission to SLURM was sent."""
    for path in sorted(layout.submits.glob("*.jobs.json")):
        data = path.read_bytes()
        if checked.verifies(data):
            fields = msgspec.json.decode(data)
            if fields.get("launcher") == "slurm" and fields.get("outcome") in ("sent", "adopted"):
                return True
    return False


def check_doctor(layout: Layout) -> Iterator[Case]:
    """Yield what is wrong with the report of the last doctor."""
    if not layout.doctor.is_file():
        return
    data = layout.doctor.read_bytes()
    if checked.verifies(data):
        return
    again = f"`hpc-search doctor {layout.root}` makes it again"
    finding = Finding(path=layout.doctor.name, what="it does not verify", held="a report", next=again)
    mended = mend_lines(data)
    whole = mended is not None and checked.verifies(mended)
    yield Case(finding, "write", mended) if mended and whole else Case(finding, "quarantine")


def check_locks(layout: Layout) -> Iterator[Case]:
    """Yield what is wrong with the lock files, which are empty."""
    for path in sorted(layout.ledger.glob("*.lock")) if layout.ledger.is_dir() else ():
        if path.is_file() and path.stat().st_size:
            name = path.relative_to(layout.root).as_posix()
            yield Case(Finding(path=name, what="a lock file is empty; this one is not"), "write", b"")
    if layout.claims.exists() and not layout.claims_lock.exists():
        name = layout.claims_lock.relative_to(layout.root).as_posix()
        yield Case(Finding(path=name, what="it is missing"), "write", b"")


def stop_mark(layout: Layout) -> Iterator[Case]:
    """Yield that the search was stopped, and why."""
    if layout.stop.is_file():
        first = layout.stop.read_text(errors="replace").partition("\n")[0]
        yield note(layout.stop.relative_to(layout.root).as_posix(), f"the search was stopped: {first}")
