"""Publishing which end records are the results, so that a published result never changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol, TypeVar

import xxhash

from hpc_search import durable
from hpc_search.errors import TemporaryError
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records.seal import SealEntry, encode_seal

_TRIES: Final = 20
_END: Final = frozenset({b"end"})


class Sealable(Protocol):
    """The end record that is a trial's result."""

    @property
    def attempt(self) -> int:
        """The attempt that ended."""

    @property
    def worker(self) -> str:
        """Whose journal it stands in."""

    @property
    def checksum(self) -> str:
        """The checksum of its line."""


_Found = TypeVar("_Found")
#: "WORKER.SEGMENT" -> (bytes, xxh3-64) of the journals that have a file.
Heads = dict[str, tuple[int, str]]


class Sealed(NamedTuple):
    """How many results were sealed just now, and how many sealed ones have no record left."""

    new: int
    lost: int


def seal(
    layout: Layout, read: Callable[[], tuple[_Found, Mapping[int, Sealable], Heads]]
) -> tuple[_Found, Sealed]:
    """Publish a seal for the results that *read* finds and that have none; return what it found.

    *read* returns that, the results of it by trial, and the heads of the journals that it read. The seal's
    number is chosen before anything is read. Winning that number proves that no seal was published meanwhile
    that the reading did not see; losing it means to read again.

    Raises:
        TemporaryError: Others won the number every time.
    """
    for _ in range(_TRIES):
        number = last_seal(layout) + 1
        found, results, heads = read()
        sealed = history.seals(layout)
        new = [_entry(trial, end) for trial, end in results.items() if trial not in sealed]
        lost = sum(trial not in results or results[trial].checksum != end for trial, end in sealed.items())
        if not new or _publish(layout, number, new, heads):
            return found, Sealed(len(new), lost)
    message = f"{layout.seals}: others published first, {_TRIES} times in a row"
    raise TemporaryError(message, hint="run `collect` again")


def _publish(layout: Layout, number: int, entries: list[SealEntry], heads: Heads) -> bool:
    layout.seals.mkdir(mode=0o700, parents=True, exist_ok=True)
    return durable.publish(layout.seal(number), encode_seal(entries, heads))


def _entry(trial: int, end: Sealable) -> SealEntry:
    return SealEntry(trial=trial, attempt=end.attempt, worker=end.worker, end=end.checksum)


def last_seal(layout: Layout) -> int:
    """Return the number of the last seal, 0 where there is none."""
    try:
        stems = [path.name.partition(".")[0] for path in layout.seals.iterdir()]
    except FileNotFoundError:
        return 0
    return max((int(stem) for stem in stems if stem.isdigit()), default=0)


def seal_results(layout: Layout) -> dict[int, history.Result]:
    """Seal every result that the journals hold; return them, by trial.

    Raises:
        TemporaryError: Others sealed results every time.
    """

    def read() -> tuple[dict[int, history.Result], dict[int, history.Result], Heads]:
        files = list(history.journal_files(layout))
        ends = (
            history.Line(file.worker, file.segment, at, line)
            for file in files
            for at, line in history.verified(file.data, _END)
        )
        results = history.results_of(layout, ends)
        heads = {
            f"{file.worker}.{file.segment}": (len(file.data), xxhash.xxh3_64_hexdigest(file.data))
            for file in files
            if not file.archived
        }
        return results, results, heads

    return seal(layout, read)[0]
