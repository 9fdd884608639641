"""What an adaptive strategy knows: the points proposed so far and what became of them. Pure values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

Fate = Literal["running", "done", "failed", "pruned"]


class Observation(NamedTuple):
    """One point of the search that is known.

    ``point`` is its place within the search (0 ... budget - 1), ``values`` the mean of each objective where
    it is done, else (). ``curve`` are the reports of the selection metric as (step, value), in order of
    steps, where it was pruned, else (). `steering.proposer` says which of its trials count.
    """

    point: int
    params: dict[str, Any]
    fate: Fate
    values: tuple[float, ...] = ()
    curve: tuple[tuple[int, float], ...] = ()


class History(NamedTuple):
    """All proposed points but the one that is asked for, by number."""

    observations: tuple[Observation, ...] = ()

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of blake2b over all of it as JSON, keys sorted."""
        # Asked for at every proposal: thirty times as fast as the canonical form of each.
        whole = msgspec.json.encode(self.observations, order="deterministic")
        return hashlib.blake2b(whole, digest_size=8).hexdigest()

    @property
    def text(self) -> str:
        """Which points it holds, such as ``0-41,43;running 44-46;failed 42``: with the ledger, all of it."""
        named: dict[str, list[int]] = {}
        for seen in self.observations:
            named.setdefault(seen.fate, []).append(seen.point)
        words = [ranges(named.pop("done", []))]
        words += [f"{fate} {ranges(points)}" for fate, points in sorted(named.items())]
        return ";".join(words)


def ranges(numbers: Iterable[int]) -> str:
    """Return ascending *numbers* as text: ``0-41,43``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in runs)


def points_of(text: str) -> dict[str, list[int]]:
    """Return fate -> points of a history's ``text``.

    Raises:
        ValueError: It is no such text.
    """
    found: dict[str, list[int]] = {}
    for place, words in enumerate(text.split(";")):
        fate, _, numbers = ("done", "", words) if place == 0 else words.partition(" ")
        found[fate] = _numbers(numbers.split(",") if numbers else [])
    return found


def _numbers(runs: Sequence[str]) -> list[int]:
    found: list[int] = []
    for run in runs:
        low, _, high = run.partition("-")
        found += range(int(low), int(high or low) + 1)
    return found
