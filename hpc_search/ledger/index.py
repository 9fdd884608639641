"""The index of a run: ledger/claims.bin, changed under the lock, read without it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from hpc_search import durable
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.locks import IndexLock
from hpc_search.records import index as codec
from hpc_search.records.index import Entry, Header

#: Bytes of the index, whole records, that are compared at a time.
_PART: Final = 1024 * codec.RECORD_BYTES
#: Times that an index is read where a record of it is torn: its writer writes it whole in the meantime.
_TORN_TRIES: Final = 3
_T = TypeVar("_T")


class IndexDamagedError(DamagedError):
    """The index is missing or does not verify; it is rebuilt from the journals."""


def new_index(trials: int) -> tuple[bytes, int]:
    """Return the first bytes of an index of *trials* untouched trials, and its whole size (sparse)."""
    return codec.encode_header(Header(trials)), codec.index_bytes(trials)


class Session:
    """The index while its lock is held: records read and written whole."""

    def __init__(self, path: str) -> None:
        """Open *path* now, under the lock, so that no older view of it is used."""
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise IndexDamagedError(f"{path} is missing") from error
        header = codec.parse_header(os.pread(self._fd, codec.HEADER_BYTES, 0))
        if header is None:
            os.close(self._fd)
            raise IndexDamagedError(f"{path}: the header does not verify")
        self._path = path
        self._written = header
        self.header = header

    def read(self, number: int) -> Entry:
        """Return the entry of trial *number*."""
        return self.read_range(number, number + 1)[0]

    def read_range(self, first: int, end: int) -> list[Entry]:
        """Return the entries of the trials *first* to *end* - 1.

        Raises:
            IndexDamagedError: A record does not verify or is missing.
        """
        size = codec.RECORD_BYTES
        data = os.pread(self._fd, (end - first) * size, codec.entry_offset(first))
        entries = codec.parse_entries(data[: len(data) - len(data) % size])
        if len(entries) != end - first or None in entries:
            raise IndexDamagedError(f"{self._path}: a record between {first} and {end} does not verify")
        return [entry for entry in entries if entry is not None]

    def pending(self, first: int, end: int, limit: int) -> list[tuple[int, Entry]]:
        """Return at most *limit* pending trials from *first* to *end* - 1; others are passed over unparsed.

        Raises:
            IndexDamagedError: A record that says pending does not verify, or the file is too short.
        """
        size = codec.RECORD_BYTES
        data = os.pread(self._fd, (end - first) * size, codec.entry_offset(first))
        if len(data) != (end - first) * size:
            raise IndexDamagedError(f"{self._path}: a record between {first} and {end} is missing")
        # The first byte of a record is its state.
        states = data[::size]
        found: list[tuple[int, Entry]] = []
        place = states.find(codec.PENDING)
        while place >= 0 and len(found) < limit:
            entry = codec.parse_entry(data[place * size : (place + 1) * size])
            if entry is None:
                raise IndexDamagedError(f"{self._path}: the record of trial {first + place} does not verify")
            found.append((first + place, entry))
            place = states.find(codec.PENDING, place + 1)
        return found

    def write(self, number: int, entry: Entry) -> None:
        """Write the entry of trial *number*, once, whole."""
        os.pwrite(self._fd, codec.encode_entry(entry), codec.entry_offset(number))

    def extend(self, trials: int) -> None:
        """Have records for *trials* trials: those that an amended plan has more are untouched."""
        if self.header.trials < trials:
            if os.fstat(self._fd).st_size < codec.index_bytes(trials):
                os.ftruncate(self._fd, codec.index_bytes(trials))
            self.header = self.header._replace(trials=trials)

    def close(self) -> None:
        """Write the header where it changed, and close the file before the lock is given back."""
        try:
            if self.header != self._written:
                os.pwrite(self._fd, codec.encode_header(self.header), 0)
        finally:
            os.close(self._fd)


class Index:
    """Opens sessions on one run's index."""

    def __init__(self, layout: Layout, timeout: float = 60.0) -> None:
        """Use the index of *layout*; wait for its lock at most *timeout* seconds."""
        self._path = layout.claims
        self._name = os.fspath(self._path)
        self._lock = IndexLock(layout.claims_lock, timeout)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Hold the lock and give the open index."""
        self._lock.acquire()
        try:
            session = Session(self._name)
            try:
                yield session
            finally:
                session.close()
        finally:
            self._lock.release()

    @contextmanager
    def locked(self) -> Iterator[Path]:
        """Hold the lock without opening the file: for a rebuild."""
        self._lock.acquire()
        try:
            yield self._path
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the lock's descriptor (in a forked child too)."""
        self._lock.close()


def extend(layout: Layout, trials: int) -> None:
    """Have the index hold *trials* trials; where it is damaged, whoever rebuilds it does that.

    Raises:
        LockUnavailableError: Others hold its lock all the time; the next worker does it.
    """
    index = Index(layout)
    try:
        with suppress(IndexDamagedError), index.session() as session:
            session.extend(trials)
    finally:
        index.close()


def read_entry(layout: Layout, number: int) -> Entry | None:
    """Return one entry without the lock, None where it cannot be read."""
    try:
        fd = os.open(layout.claims, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.pread(fd, codec.RECORD_BYTES, codec.entry_offset(number))
    except OSError:
        return None
    finally:
        os.close(fd)
    return codec.parse_entry(data) if len(data) == codec.RECORD_BYTES else None


def read_header(layout: Layout) -> Header | None:
    """Return the header without the lock, None where it cannot be read."""
    try:
        with layout.claims.open("rb") as file:
            return codec.parse_header(file.read(codec.HEADER_BYTES))
    except OSError:
        return None


class Image(NamedTuple):
    """The index as it stood at one moment, verified; ``states`` has a byte a trial."""

    header: Header
    states: bytes
    data: bytes

    @property
    def finals(self) -> int:
        """How many trials are final by their records."""
        return sum(self.states.count(state) for state in range(codec.DONE, len(codec.STATES)))

    def open_in(self, part: range) -> int:
        """Return how many of the trials in *part* are not final."""
        states = self.states[part.start : part.stop]
        return sum(states.count(state) for state in range(codec.DONE))

    def numbers(self, *states: int) -> list[int]:
        """Return the trials in one of *states*, ascending."""
        found: list[int] = []
        for state in states:
            place = self.states.find(state)
            while place >= 0:
                found.append(place)
                place = self.states.find(state, place + 1)
        return sorted(found)

    def entry(self, number: int) -> Entry:
        """Return the entry of trial *number*."""
        at = codec.entry_offset(number)
        entry = codec.parse_entry(self.data[at : at + codec.RECORD_BYTES])
        return entry if entry is not None else Entry()


def read_image(layout: Layout, before: Image | None = None) -> Image:
    """Return the index, read without the lock; where a record is torn it is read again.

    What is as it was in *before* is not verified again.

    Raises:
        IndexDamagedError: It is missing, or does not verify.
        OSError: It cannot be read at the moment.
    """
    return _read(layout, lambda header, data: _parse_image(header, data, before))


def read_index(layout: Layout) -> tuple[Header, list[Entry]]:
    """Return header and all entries, read as `read_image` does.

    Raises:
        IndexDamagedError: It is missing, or does not verify.
        OSError: It cannot be read at the moment.
    """
    return _read(layout, _parse_index)


def _read(layout: Layout, parse: Callable[[Header, bytes], _T | None]) -> _T:
    for _ in range(_TORN_TRIES):
        try:
            data = durable.read_bytes(layout.claims)
        except FileNotFoundError as error:
            raise IndexDamagedError(f"{layout.claims} is missing") from error
        header = codec.parse_header(data)
        whole = header is not None and len(data) >= codec.index_bytes(header.trials)
        parsed = parse(header, data) if header is not None and whole else None
        if parsed is not None:
            return parsed
    raise IndexDamagedError(f"{layout.claims} does not verify")


def _parse_image(header: Header, data: bytes, before: Image | None) -> Image | None:
    end = codec.index_bytes(header.trials)
    if before is None or before.header.trials != header.trials:
        states = codec.verified_states(data[codec.HEADER_BYTES : end])
        return None if states is None else Image(header, states, data)
    for start in range(codec.HEADER_BYTES, end, _PART):
        part = data[start : min(start + _PART, end)]
        if part != before.data[start : start + len(part)] and codec.verified_states(part) is None:
            return None
    return Image(header, data[codec.HEADER_BYTES : end : codec.RECORD_BYTES], data)


def _parse_index(header: Header, data: bytes) -> tuple[Header, list[Entry]] | None:
    found = codec.parse_entries(data[codec.HEADER_BYTES : codec.index_bytes(header.trials)])
    entries = [entry for entry in found if entry is not None]
    return (header, entries) if len(entries) == header.trials else None
