"""Failures that `retry` took back, and the places at which their trials are claimed again.

Where trials are claimed by exclusively created names, a name is never used twice: a trial that runs again has
another number there, its *place*. Places 0 to N-1 are the trials; every retry appends its own, from a whole
superblock on. Whoever does not know of a retry sees its trials as ended, and does nothing.
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
        """The places of every retry."""
        return [range(batch.first, batch.first + len(batch.trials)) for batch in self.batches]

    @property
    def count(self) -> int:
        """How many places they have; before each of them, another place of the same trial has ended."""
        return sum(len(batch.trials) for batch in self.batches)

    def place(self, trial: int) -> int:
        """Return the place at which *trial* is claimed now."""
        rounds = self._rounds.get(trial)
        return rounds[-1][0] if rounds else trial

    def place_of_end(self, trial: int, attempt: int, state: str) -> int:
        """Return the place that an end record is the result of: one that was taken back has an old one."""
        at = trial
        for place, one in self._rounds.get(trial, ()):
            if state == "failed" and attempt <= one.attempt:
                return at
            at = place
        return at

    def trial(self, place: int) -> int:
        """Return the trial at *place*."""
        at = bisect_right(self._firsts, place) - 1
        return self.batches[at].trials[place - self._firsts[at]].trial if at >= 0 else place

    def trials(self, places: Iterable[int]) -> list[int]:
        """Return the trials at *places*."""
        return [self.trial(place) for place in places] if self.batches else list(places)

    @cached_property
    def _firsts(self) -> list[int]:
        return [batch.first for batch in self.batches]

    def ended(self) -> Iterator[tuple[int, Retried]]:
        """Yield (place, retry) of the places that ended with a failure that was taken back."""
        for rounds in self._rounds.values():
            at = rounds[0][1].trial
            for place, one in rounds:
                yield at, one
                at = place

    def next_place(self, trials: int, aligned: int) -> int:
        """Return the first place of another retry of a run with *trials* trials: a multiple of *aligned*."""
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
