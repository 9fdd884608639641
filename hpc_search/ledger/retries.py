"""Failures that `retry` took back, and the places at which their trials are claimed again.

Where trials are claimed by exclusively created names, a name is never used twice: a trial that runs again has
another number there, its *place*. Places 0 to N-1 are the trials of the first plan; every retry appends its
own, from a whole superblock on. Whoever does not know of a retry sees its trials as ended, and does nothing.
Trials that an amended plan added get places in the same way, from the first worker that misses theirs: so no
two of them, retry or amendment, take the same ones.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger.names import listed
from hpc_search.records.index import Entry
from hpc_search.records.retries import Retried, Retries, parse_retries

_NAME: Final = re.compile(r"(\d{4,})\.json")
_UNTOUCHED: Final = Entry()


@dataclass(frozen=True)
class Known:
    """All retries of a run, in order."""

    batches: tuple[Retries, ...] = ()
    numbers: tuple[int, ...] = ()
    _rounds: dict[int, list[tuple[int, Retried]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Order them by trial."""
        rounds: defaultdict[int, list[tuple[int, Retried]]] = defaultdict(list)
        for batch in self.batches:
            for place, one in enumerate(batch.trials, batch.first):
                rounds[one.trial].append((place, one))
        self._rounds.update(rounds)

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self._rounds)

    # -- what counts
    def latest(self) -> Iterator[Retried]:
        """Yield the newest retry of every trial that has one."""
        return (rounds[-1][1] for rounds in self._rounds.values())

    def retired(self, trial: int, attempt: int, state: str) -> bool:
        """Return whether an end record with these does not count any more."""
        rounds = self._rounds.get(trial)
        return rounds is not None and state == "failed" and attempt <= rounds[-1][1].attempt

    def unsealed(self, trial: int, end: str) -> bool:
        """Return whether the end record with checksum *end* was taken back, published or not."""
        return any(end == one.end for _, one in self._rounds.get(trial, ()))

    def entry(self, trial: int) -> Entry:
        """Return the entry of *trial* before its first attempt that counts."""
        rounds = self._rounds.get(trial)
        return rounds[-1][1].entry if rounds else _UNTOUCHED

    @cached_property
    def entries(self) -> dict[int, Entry]:
        """Trial -> its entry before its first attempt that counts, of those that run again."""
        return {one.trial: one.entry for one in self.latest()}

    # -- places
    @property
    def places(self) -> list[range]:
        """The places of every retry, and of trials that were added."""
        return [batch.places for batch in self.batches]

    def places_of(self, trials: int) -> list[range]:
        """Return those of them that a worker may claim whose plan has *trials* trials."""
        return [batch.places for batch in self.batches if batch.end <= trials]

    def placed(self, trials: int) -> int:
        """Return how many trials have places, of a run whose first plan had *trials*."""
        return max((trials, *(sum(batch.added) for batch in self.batches)))

    @property
    def count(self) -> int:
        """How many places they have; before each of them, another place of the same trial has ended."""
        return sum(len(batch.trials) for batch in self.batches)

    def place(self, trial: int) -> int:
        """Return the place at which *trial* is claimed now."""
        rounds = self._rounds.get(trial)
        return rounds[-1][0] if rounds else self.home(trial)

    def home(self, trial: int) -> int:
        """Return the first place of *trial*."""
        for batch in self.batches:
            first, count = batch.added
            if first <= trial < first + count:
                return batch.first + trial - first
        return trial

    def place_of_end(self, trial: int, attempt: int, state: str) -> int:
        """Return the place that an end record is the result of: one that was taken back has an old one."""
        at = self.home(trial)
        for place, one in self._rounds.get(trial, ()):
            if state == "failed" and attempt <= one.attempt:
                return at
            at = place
        return at

    def trial(self, place: int) -> int:
        """Return the trial at *place*."""
        at = bisect_right(self._firsts, place) - 1
        if at < 0:
            return place
        batch = self.batches[at]
        local = place - batch.first
        return batch.added[0] + local if batch.added[1] else batch.trials[local].trial

    def trials(self, places: Iterable[int]) -> list[int]:
        """Return the trials at *places*."""
        return [self.trial(place) for place in places] if self.batches else list(places)

    @cached_property
    def _firsts(self) -> list[int]:
        return [batch.first for batch in self.batches]

    def ended(self) -> Iterator[tuple[int, Retried]]:
        """Yield (place, retry) of the places that ended with a failure that was taken back."""
        for rounds in self._rounds.values():
            at = self.home(rounds[0][1].trial)
            for place, one in rounds:
                yield at, one
                at = place

    def next_place(self, trials: int, aligned: int) -> int:
        """Return the first free place, a multiple of *aligned*; the first plan had *trials* trials."""
        end = max((one.stop for one in self.places), default=trials)
        return -(-end // aligned) * aligned


def names(layout: Layout) -> list[int]:
    """Return the numbers of the retries, in order."""
    found = map(_NAME.fullmatch, listed(layout.retries))
    return sorted(int(match[1]) for match in found if match is not None)


def read(layout: Layout) -> Known:
    """Return all retries of the run.

    Raises:
        DamagedError: One does not verify.
    """
    numbers = names(layout)
    if not numbers:
        return Known()
    paths = [layout.retry(number) for number in numbers]
    return Known(tuple(parse_retries(durable.read_bytes(path), str(path)) for path in paths), tuple(numbers))
