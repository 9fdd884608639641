"""The log of proposed points: one proposal a point and no point twice, decided with full knowledge.

Entry n is a name in ledger/proposals that is published once, and only by a worker that has read the
entries 0 to n-1. Its ``after`` is the mark of entry n-1, which names all of them. What the log says is a
function of its entries alone, so every reader agrees on it: an entry counts unless its ``after`` is
not the mark of the entry before, its point has one, or a point of its family has equal parameters.

So that names stay few, whoever publishes the last of `PACK` entries publishes them again as one file, the
pack, and then removes their names. From then on the pack is the truth, and a removed name could be
created again by a worker that is stopped between reading and publishing, or whose client still shows it
what was there before. Such an entry is never taken for one of the log:

- It is only created after its pack was published, for a name is removed after that. So a name that is
  read while its pack does not exist is genuine; who reads a name looks for the pack after that.
- Caches may hide the pack. A listing after an own change of the directory is fresh: that is how
  whoever has published an entry, or is about to run a point because of one, finds the packs that there are.
  What they say replaces what was believed, and an entry that was created too late is removed.
- Who believed it meanwhile and published the next entry gave it the wrong ``after``: it does not count.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import msgspec

from hpc_search import durable
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.ledger.names import ABSENT, listed, looks
from hpc_search.records.proposals import PACK, Entry, encode_entries, parse_entries
from hpc_search.space import canonical

_ENTRY: Final = re.compile(r"(\d{7})(?:\.guard)?")
_PACKED: Final = re.compile(r"packed\.(\d{7})-\d{7}\.jsonl")
_HINT: Final = "`hpc-search fsck RUN --repair` makes it again from the journals"


class Proposals:
    """One reader's, or worker's, view of the log."""

    def __init__(self, layout: Layout) -> None:
        """Look at the run at *layout*; nothing is read yet."""
        self._layout = layout
        self._forget()

    def _forget(self) -> None:
        #: Every entry by number, those that do not count as well.
        self._log: list[Entry] = []
        #: Point -> the entry that counts.
        self.all: dict[int, Entry] = {}
        self._taken: defaultdict[str, set[bytes]] = defaultdict(set)
        self._head = ""
        #: The packs that were read, by their first entry; and how many entries are certain.
        self._packs: set[int] = set()
        self._sure = 0

    def __len__(self) -> int:
        """Return the number of entries, those that do not count as well."""
        return len(self._log)

    # -- reading
    def read(self) -> None:
        """Take in what is new.

        Raises:
            DamagedError: An entry does not verify.
        """
        while self._read_next():
            pass

    def of(self, point: int) -> Entry | None:
        """Return the entry of *point* as far as was read, None where it has none."""
        return self.all.get(point)

    def taken(self, family: str, params: dict[str, Any]) -> bool:
        """Return whether a point of *family* has *params*."""
        return canonical(params) in self._taken[family]

    def settled(self, point: int) -> Entry | None:
        """Return the entry of *point* once it is certain, None where it has none. Only for workers.

        Raises:
            DamagedError: An entry does not verify.
        """
        self.read()
        found = self.all.get(point)
        if found is not None and found.entry >= self._sure:
            # Any own change of the directory will do.
            durable.now(self._layout.proposals)
            self._make_sure()
        return self.all.get(point)

    def _read_next(self) -> bool:
        number = len(self._log)
        path = self._layout.proposal(number)
        data = _content(path)
        # In this order: a name that was there before its pack is genuine.
        if self._read_pack(number // PACK * PACK):
            return True
        if data is None:
            return False
        self._add(parse_entries(data, str(path), number, 1)[0])
        return True

    def _read_pack(self, first: int) -> bool:
        """Take in the pack from entry *first* on; return whether there is one."""
        if first in self._packs:
            return False
        path = self._layout.proposal_pack(first, first + PACK)
        data = _content(path)
        if data is None:
            return False
        entries = parse_entries(data, str(path), first, PACK)
        known = self._log[first : first + PACK]
        if known != entries[: len(known)]:
            # Something that was created too late was believed: from here on all is read again.
            before, packs = self._log[:first], self._packs
            self._forget()
            self._packs = {one for one in packs if one < first}
            for entry in before:
                self._add(entry)
            known = []
        self._packs.add(first)
        for entry in entries[len(known) :]:
            self._add(entry)
        return True

    def _add(self, entry: Entry) -> None:
        key = canonical(entry.params)
        counts = entry.point >= 0 and entry.after == self._head and entry.point not in self.all
        self._head = entry.mark
        self._log.append(entry)
        if counts and key not in self._taken[entry.family]:
            self.all[entry.point] = entry
            self._taken[entry.family].add(key)

    def _make_sure(self) -> list[str]:
        """Take in the packs of a listing, made after an own change of the directory; return the listing."""
        names = listed(self._layout.proposals)
        for first in sorted(_packs(names)):
            if first <= len(self._log):
                for _ in looks():
                    if first in self._packs or self._read_pack(first):
                        break
                else:
                    raise _unreadable(self._layout.proposal_pack(first, first + PACK))
        self._sure = len(self._log)
        return names

    # -- publishing
    def publish(self, wanted: Entry) -> Entry | None:
        """Return the entry of a point: *wanted* at the end of the log, or another one that was first.

        None where a point of its family has its parameters by now: another one has to be proposed.

        Raises:
            DamagedError: An entry does not verify, or one is missing.
            OSError: The file system refuses.
        """
        while True:
            known = self.settled(wanted.point)
            if known is not None:
                return known
            if self.taken(wanted.family, wanted.params):
                return None
            mine = msgspec.structs.replace(wanted, entry=len(self._log), after=self._head)
            if not self._create(mine):
                self._wait_for(mine.entry)
            elif self._stands(mine):
                return mine

    def _create(self, mine: Entry) -> bool:
        path = self._layout.proposal(mine.entry)
        data = encode_entries([mine])
        try:
            return durable.publish(path, data)
        except FileNotFoundError:
            os.makedirs(path.parent, mode=0o700, exist_ok=True)
            durable.fsync_dir(self._layout.ledger)
            return durable.publish(path, data)

    def _wait_for(self, number: int) -> None:
        """Read entry *number*, which somebody else has published; a client may see that late."""
        for _ in looks():
            self.read()
            if len(self._log) > number:
                return
        raise _unreadable(self._layout.proposal(number))

    def _stands(self, mine: Entry) -> bool:
        """Return whether *mine*, just created, is an entry of the log and counts.

        Raises:
            DamagedError: A later entry continues another one in its place, which is gone.
        """
        names = self._make_sure()
        if len(self._log) == mine.entry:
            self._add(mine)
            self._sure = len(self._log)
            self.read()
            if self._gap(mine):
                # A listing is not made at one moment: a pack may have been missed that was there.
                durable.now(self._layout.proposals)
                names = self._make_sure()
                if self._gap(mine):
                    path = self._layout.proposal(mine.entry)
                    path.unlink(missing_ok=True)
                    raise DamagedError(
                        f"{path} is missing, and later entries of the log are there", hint=_HINT
                    )
        self._tidy(names)
        return self.all.get(mine.point) == mine

    def _gap(self, mine: Entry) -> bool:
        """Return whether *mine* stands where the next entry says that another one stood."""
        here, behind = self._log[mine.entry : mine.entry + 1], self._log[mine.entry + 1 : mine.entry + 2]
        return here == [mine] and bool(behind) and behind[0].after != mine.mark

    def _tidy(self, names: list[str]) -> None:
        """Pack what is complete, and remove the names that packs cover."""
        packs = _packs(names)
        singles = {int(match[1]) for match in map(_ENTRY.fullmatch, names) if match is not None}
        for first in sorted({number // PACK * PACK for number in singles}):
            entries = self._log[first : first + PACK]
            if first not in packs and len(entries) == PACK:
                durable.publish(self._layout.proposal_pack(first, first + PACK), encode_entries(entries))
                packs.add(first)
        for number in singles:
            if number // PACK * PACK in packs:
                path = self._layout.proposal(number)
                durable.take_away(path.with_name(f"{path.name}.guard"))
                path.unlink(missing_ok=True)


def _packs(names: list[str]) -> set[int]:
    """Return the first entries of the packs among *names*."""
    return {int(match[1]) for match in map(_PACKED.fullmatch, names) if match is not None}


def _content(path: Path) -> bytes | None:
    try:
        return durable.read_bytes(path)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise


def _unreadable(path: Path) -> DamagedError:
    return DamagedError(f"{path} is there and cannot be read", hint="`hpc-search fsck RUN` says more")
