"""The codec of ledger/retries/NNNN.json: failures that were taken back, so that their trials run again."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from hpc_search.records import checked
from hpc_search.records.index import Entry

FORMAT: Final = "hpc_search.retries"


class Retried(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``trial`` failed by the end record with checksum ``end`` of ``worker``; that does not count any more.

    Nor does any other failure of an attempt up to ``attempt``. ``seconds`` is what they took in all; ``ooms``
    and ``kills`` are the out-of-memory retries that the next attempts shall still be charged with.
    """

    trial: int
    attempt: int
    end: str
    worker: str
    seconds: float = 0.0
    ooms: int = 0
    kills: int = 0

    @property
    def entry(self) -> Entry:
        """The index's entry of the trial as it runs again: pending, nothing used up."""
        return Entry(
            attempt=self.attempt,
            again=self.attempt,
            seconds=self.seconds,
            ooms=self.ooms,
            kills=self.kills,
        )


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """One command's failures; where names are claimed, their numbers there begin at ``first``.

    ``words`` say who took them back, when and why. A list without any gives such numbers to trials that an
    amendment ``added``: those from the first one of the pair, as many as its second.
    """

    format: Literal["hpc_search.retries"] = FORMAT
    version: Literal[1] = 1
    first: int
    words: str
    trials: tuple[Retried, ...]
    added: tuple[int, int] = (0, 0)

    @property
    def places(self) -> range:
        """The numbers that it gives."""
        return range(self.first, self.first + len(self.trials) + self.added[1])

    @property
    def end(self) -> int:
        """A number above those of all its trials."""
        return max((sum(self.added), *(one.trial + 1 for one in self.trials)))


def encode_retries(retries: Retries) -> bytes:
    """Return the bytes of the file."""
    return checked.encode(retries)


def parse_retries(data: bytes, where: str) -> Retries:
    """Return what *data* holds.

    Raises:
        DamagedError: It does not verify, or is of another version; *where* is named.
    """
    return checked.decode(data, Retries, where, "`hpc-search fsck RUN --repair`")
