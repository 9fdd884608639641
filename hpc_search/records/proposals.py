"""ledger/proposals: the points that adaptive strategies chose, in one order that all workers agree on."""

from __future__ import annotations

import hashlib
from typing import Any, Final, Literal

import msgspec

from hpc_search.errors import DamagedError
from hpc_search.records import checked
from hpc_search.records.plan import Block
from hpc_search.space import canonical

#: Entries of a pack.
PACK: Final = 128
_HINT: Final = "`hpc-search fsck RUN --repair` makes it again from the journals"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Entry number ``entry`` of the log: ``params`` were chosen for ``point``.

    ``after`` is the mark of the entry before, which its writer had read with all earlier ones. Two points
    of one ``family`` (search and stage) are never equal. ``worker`` and ``attempt`` say who proposed it,
    ``history`` and ``seen`` from what (see `records.journal.Propose`).
    """

    format: Literal["hpc_search.proposal"] = "hpc_search.proposal"
    version: Literal[1] = 1
    entry: int = 0
    point: int
    params: dict[str, Any]
    family: str = ""
    worker: str = ""
    attempt: int = 0
    history: str = ""
    seen: str = ""
    after: str = ""
    #: Mark of an entry that was lost, which nobody ran: this one stands in its place and counts for nothing.
    lost: str = ""

    @property
    def mark(self) -> str:
        """What names this entry and, by its own ``after``, all entries before it: 16 hexadecimal digits."""
        if self.lost:
            return self.lost
        text = canonical([self.after, self.entry, self.point, self.params])
        return hashlib.blake2b(text, digest_size=8).hexdigest()


def family_of(block: Block) -> str:
    """Return the search and stage that *block* belongs to."""
    return f"{block.part}/{block.stage_name}"


def encode_entries(entries: list[Entry]) -> bytes:
    """Return the bytes of *entries*, one line each."""
    return b"".join(map(checked.encode, entries))


def parse_entries(data: bytes, where: str, first: int, count: int) -> list[Entry]:
    """Return the *count* entries in *data*, numbered from *first* on.

    Raises:
        DamagedError: That is not what it holds; *where* is named.
    """
    found = [checked.decode(line, Entry, where, _HINT) for line in data.splitlines(keepends=True)]
    numbers = [one.entry for one in found]
    if numbers != list(range(first, first + count)):
        message = f"{where} holds the entries {numbers}, expected {first} to {first + count - 1}"
        raise DamagedError(message, hint=_HINT)
    return found
