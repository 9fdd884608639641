"""The records of vault/: reading them all, and publishing the next one."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from hpc_search import durable
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.ledger.book import Writer
from hpc_search.ledger.liveness import this_process
from hpc_search.ledger.names import listed
from hpc_search.records import checked
from hpc_search.records import journal as lines
from hpc_search.records.vault import Again, Opening, Person, Refused, Result

#: Notes of a journal that have number and checksum of an opening, and of a result: their files cannot go
#: without a trace.
OPENED: Final = "test side"
TESTED: Final = "test result"
_NAME: Final = re.compile(r"(opening|result|again|refused)\.(\d{3,})(?:\.(\d{2,}))?\.json")
_HINT: Final = "`hpc-search fsck RUN` says what is wrong with it; what it says of the test side is not known"
_T = TypeVar("_T", bound=msgspec.Struct)


class Look(NamedTuple):
    """One opening of the test side, who went on with it, where it was refused, and what came of it."""

    opening: Opening
    again: tuple[Again, ...] = ()
    result: Result | None = None
    refused: tuple[Refused, ...] = ()

    @property
    def number(self) -> int:
        """Number of the opening, from 1."""
        return self.opening.number

    @property
    def refusal(self) -> Refused | None:
        """How its last try was refused, None where it was not."""
        last = (one for one in self.refused if one.after == len(self.again) and self.result is None)
        return next(last, None)

    @property
    def interrupted(self) -> int:
        """How often somebody went on with it after it had begun to look."""
        return len(self.again) - sum(one.after < len(self.again) for one in self.refused)


def looks(layout: Layout) -> list[Look]:
    """Return all openings, in order.

    Raises:
        DamagedError: A record does not verify, or an opening is missing before what came after it.
    """
    if os.path.lexists(layout.vault) and not layout.vault.is_dir():
        message = f"{layout.vault} is no directory: what it says of the test side is not known"
        raise DamagedError(message, hint=f"`hpc-search fsck {layout} --repair` sets it aside")
    names = sorted(name for name in listed(layout.vault) if _NAME.fullmatch(name))
    numbers = sorted({int(name.split(".")[1]) for name in names})
    return [_look(layout, number, names) for number in numbers]


def _look(layout: Layout, number: int, names: list[str]) -> Look:
    opening = _read(layout, layout.vault_opening(number).name, Opening)
    again = [_read(layout, name, Again) for name in names if name.startswith(f"again.{number:03d}.")]
    refused = [_read(layout, name, Refused) for name in names if name.startswith(f"refused.{number:03d}.")]
    name = layout.vault_result(number).name
    result = _read(layout, name, Result) if name in names else None
    return Look(opening, tuple(again), result, tuple(refused))


def _read(layout: Layout, name: str, kind: type[_T]) -> _T:
    path = layout.vault / name
    try:
        data = durable.read_bytes(path)
    except FileNotFoundError:
        # Others are there: its name was there, or comes before theirs.
        data = b""
    return checked.decode(data, kind, str(path), _HINT)


def note_opening(writer: Writer, opening: Opening) -> None:
    """Put *opening* into a journal."""
    writer.note(OPENED, f"opening {opening.number} {digest_of(opening)}")


def note_result(writer: Writer, result: Result) -> None:
    """Put *result* into a journal."""
    writer.note(TESTED, f"result {result.opening} {digest_of(result)}")


class Noted(NamedTuple):
    """What journals know of the vault: number -> checksum of each opening, and of all its results.

    A result that was damaged is taken away by a repair, and another one follows.
    """

    openings: dict[int, str]
    results: dict[int, frozenset[str]]


def noted(records: Iterable[lines.AnyRecord | None]) -> Noted:
    """Return what *records* of journals note."""
    notes = [one for one in records if isinstance(one, lines.Note) and one.event in (OPENED, TESTED)]
    openings: dict[int, str] = {}
    results: dict[int, frozenset[str]] = {}
    for one in notes:
        _, number, mark = one.text.split()
        if one.event == OPENED:
            openings[int(number)] = mark
        else:
            results[int(number)] = results.get(int(number), frozenset()) | {mark}
    return Noted(openings, results)


def journaled(layout: Layout) -> Noted:
    """Return what the journals of the run know."""
    found = history.lines(layout, frozenset({b"note"}))
    return noted(lines.parse_line(one.data) for one in found)


def unrecorded(layout: Layout, found: Sequence[Look]) -> str:
    """Return in words which openings the journals know and *found* has not, "" where it has them all."""
    known = {look.number: digest_of(look.opening) for look in found}
    openings = sorted(journaled(layout).openings.items())
    wrong = [number for number, mark in openings if known.get(number) != mark]
    names = ", ".join(layout.vault_opening(number).name for number in wrong)
    one = f"the record of it is gone, or is another one: {layout.vault}/{names}"
    return f"the journals say that the test side was opened, and {one}" if wrong else ""


def unreported(layout: Layout, found: Sequence[Look]) -> str:
    """Return in words which results the journals know and *found* has not, "" where it has them all.

    What a repair has set aside, as it was damaged, is not asked for.
    """
    marks = {look.number: digest_of(look.result) for look in found if look.result is not None}
    aside = listed(layout.quarantine / layout.vault.name)
    wrong = [
        layout.vault_result(number)
        for number, known in sorted(journaled(layout).results.items())
        if marks.get(number) not in known
    ]
    names = [path.name for path in wrong if not any(name.startswith(path.name) for name in aside)]
    one = f"the record of that is gone, or is another one: {layout.vault}/{', '.join(names)}"
    return f"the journals say that the test side gave a result, and {one}" if names else ""


def counted(layout: Layout) -> tuple[int, int]:
    """Return how many openings and results there are by their names alone."""
    kinds = [match[1] for match in map(_NAME.fullmatch, listed(layout.vault)) if match is not None]
    return kinds.count("opening"), kinds.count("result")


def person(code: str) -> Person:
    """Return who does this now, with the sources that have the digest *code*."""
    me = this_process()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return Person(
        user=user,
        host=socket.gethostname(),
        pid=me.pid,
        start_time=me.start_time,
        boot_id=me.boot_id,
        when=round(time.time(), 3),
        code=code,
    )


def publish_opening(layout: Layout, opening: Opening) -> bool:
    """Publish *opening* durably; return whether nobody else had its number."""
    layout.vault.mkdir(mode=0o700, exist_ok=True)
    durable.fsync_dir(layout.root)
    return durable.publish(layout.vault_opening(opening.number), checked.encode(opening))


def publish_again(layout: Layout, look: Look, by: Person) -> Again | None:
    """Say that *by* goes on with an opening, and return that; None where somebody else was first."""
    record = Again(opening=look.number, number=len(look.again) + 1, by=by)
    path = layout.vault_again(look.number, record.number)
    return record if durable.publish(path, checked.encode(record)) else None


def publish_refused(layout: Layout, look: Look, by: Person, why: Sequence[str]) -> bool:
    """Say that this try tested nothing, and *why*; return whether nobody else said it of the same try."""
    after = len(look.again)
    record = Refused(opening=look.number, after=after, by=by, why=tuple(why))
    return durable.publish(layout.vault_refused(look.number, after), checked.encode(record))


def publish_result(layout: Layout, result: Result) -> bool:
    """Publish what came of an opening; return whether nobody else did."""
    return durable.publish(layout.vault_result(result.opening), checked.encode(result))


def digest_of(record: Opening | Result) -> str:
    """Return what others name a record by: the checksum in its line."""
    return checked.encode(record)[-19:-3].decode()


def digest_of_scores(ids: Sequence[str | int], scores: Sequence[float]) -> str:
    """Return blake2b-128 of the scores of samples, in the order of their ids."""
    pairs = sorted(zip(ids, scores, strict=True), key=lambda pair: str(pair[0]))
    return hashlib.blake2b(msgspec.json.encode(pairs), digest_size=16).hexdigest()


def by_words(by: Person) -> str:
    """Return who did it and when, in words."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(by.when))
    return f"{when} by {by.user} on {by.host} (process {by.pid})"


def refused_words(refused: Refused) -> str:
    """Return why nothing was tested, in one line."""
    return f"refused, as the data are not those of the plan: {'; '.join(refused.why)}"


def value_words(result: Result) -> str:
    """Return what came of it, in one line."""
    rows: Mapping[str, str] = {
        f"{one.part} {one.metric}".lstrip(): f"{one.mean:.6g}" for one in result.values
    }
    return ", ".join(f"{name} = {value}" for name, value in rows.items())
