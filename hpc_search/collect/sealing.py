"""Publishing which end records are the results, so that a published result never changes."""

from __future__ import annotations

from typing import Final, NamedTuple

from hpc_search import durable
from hpc_search.collect.reading import Attempt, Attempts, read_attempts
from hpc_search.errors import TemporaryError
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records.seal import SealEntry, encode_seal

_TRIES: Final = 20


class Sealed(NamedTuple):
    """The attempts, all results of them sealed. ``lost`` counts sealed results with no record left."""

    attempts: Attempts
    new: int
    lost: int


def seal_results(layout: Layout) -> Sealed:
    """Read the journals and publish a seal for the results that have none.

    The seal's number is chosen before anything is read. Winning that number proves that no seal was
    published meanwhile that the reading did not see; losing it means to read again.

    Raises:
        TemporaryError: Other collects won the number every time.
    """
    for _ in range(_TRIES):
        number = last_seal(layout) + 1
        attempts = read_attempts(layout)
        sealed = history.seals(layout)
        results = attempts.results
        new = [_entry(end) for trial, end in results.items() if trial not in sealed]
        lost = sum(trial not in results or results[trial].checksum != end for trial, end in sealed.items())
        if not new or _publish(layout, number, new, attempts.heads):
            return Sealed(attempts, len(new), lost)
    message = f"{layout.seals}: other collects published first, {_TRIES} times in a row"
    raise TemporaryError(message, hint="run `collect` again")


def _publish(
    layout: Layout, number: int, entries: list[SealEntry], heads: dict[str, tuple[int, str]]
) -> bool:
    layout.seals.mkdir(mode=0o700, parents=True, exist_ok=True)
    return durable.publish(layout.seal(number), encode_seal(entries, heads))


def _entry(end: Attempt) -> SealEntry:
    return SealEntry(trial=end.trial, attempt=end.attempt, worker=end.worker, end=end.checksum)


def last_seal(layout: Layout) -> int:
    """Return the number of the last seal, 0 where there is none."""
    try:
        stems = [path.name.partition(".")[0] for path in layout.seals.iterdir()]
    except FileNotFoundError:
        return 0
    return max((int(stem) for stem in stems if stem.isdigit()), default=0)
