"""Below which trial nothing is pending: by the index's header, or for one worker alone."""

from __future__ import annotations

from hpc_search.ledger import corrections, owning
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.index import Image, Session
from hpc_search.records.index import Entry, Header


class Cursor:
    """Where one worker looks for the next pending trial.

    The header's cursor is everybody's. Who works on some folds alone leaves it, since what it passes over may
    be pending, and keeps one of its own.
    """

    def __init__(self, gates: Gates) -> None:
        """Look at what *gates* let through."""
        self._gates = gates
        self._own = 0

    def at(self, header: Header) -> int:
        """Return the trial below which nothing is pending."""
        return self._own if self._gates.folds else header.cursor

    def pick(self, session: Session, owner: int, limit: int, opened: int | None) -> list[tuple[int, Entry]]:
        """Own up to *limit* trials, lowest first; *opened* is the lowest one behind a gate just opened."""
        first = self.at(session.header)
        first = first if opened is None else min(first, opened)
        taken, after = owning.pick(session, owner, limit, self._gates, first)
        if self._gates.folds:
            self._own = after
        else:
            session.header = session.header._replace(cursor=after)
        return taken

    def given_back(self, session: Session, number: int) -> None:
        """Look at trial *number* again."""
        self._own = min(self._own, number)
        if number < session.header.cursor:
            session.header = session.header._replace(cursor=number)

    def passed_over(self, image: Image) -> bool:
        """Return whether something below it can be claimed; an own one is put right.

        It was given back, by a worker that was killed before it wrote the header or by any that looks at
        other folds too, or its gate was opened since.
        """
        place = corrections.stray(image, self._gates, self.at(image.header))
        if place is not None and self._gates.folds:
            self._own = place
        return place is not None
