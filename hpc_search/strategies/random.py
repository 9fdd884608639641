"""Random points without replacement, each computed from its number alone.

- A finite space: a keyed permutation of its range, so that nothing is rejected and nothing repeats.
- With continuous dimensions: these and the ``log_int`` ones are drawn by counter-based uniforms; the
  other dimensions go through a keyed permutation of their range again and again, with a new key each
  time, so that their combinations are used equally often.
- A finite space with ``log_int``: every dimension is drawn independently, and a point that was drawn
  before is drawn again: sampling without replacement by the logarithmic mass. After 16 repeats in a
  row, when most of the mass is used up, the next unused point of a keyed permutation of all points is
  taken, so that asking for every point ends too. The sequence is drawn once a strategy object.
  ``weights`` and priors are such masses too.
- A space with rules: the same by its tables, where it is finite and without masses. Else draw after draw,
  each computed from its number: what the rules exclude, and what was drawn before, is passed over.

The first k points do not depend on how many are asked for.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from hpc_search.errors import UsageError
from hpc_search.space import (
    CONTINUOUS,
    Choice,
    Excluded,
    Int,
    LogInt,
    LogUniform,
    Normal,
    Quantized,
    Space,
    Uniform,
    canonical,
)
from hpc_search.strategies.permutation import Permutation

#: Part of the format: a change gives other points for the same number.
_REPEATS: Final = 16
#: Draws in a row without a new point, after which a space that cannot be counted is taken for used up.
_MISSES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Random:
    """``points`` different points of the space, chosen by ``seed``."""

    points: int
    seed: int = 0
    name: str = "random"
    adaptive: bool = False
    #: The sequence of the last space that needs one: a cache, no part of the value.
    _drawn: list[tuple[Space, tuple[int, ...]]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def count(self, space: Space) -> int:
        """Return the number of points asked for.

        Raises:
            UsageError: *space* has fewer points.
        """
        return asked(self.name, self.points, space)

    def point(self, space: Space, index: int) -> dict[str, Any]:
        """Return point number *index*.

        Raises:
            IndexError: There is no such point.
            UsageError: *space* has fewer points than are asked for.
        """
        if not 0 <= index < self.count(space):
            raise IndexError(f"point {index} is outside 0..{self.points - 1}")
        if space.ruled is not None:
            return self._ruled(space, index)
        sampled = _sampled(space)
        if sampled and space.size() is not None:
            return _numbered(space, self._sequence(space)[index])
        given = {name: d.quantile(_uniform(self.seed, index, name)) for name, d in sampled.items()}
        size = space.size(given) or 1
        return space.draw(_permutation(self.seed, size, index // size)(index % size), given)

    def _ruled(self, space: Space, index: int) -> dict[str, Any]:
        size, ruled = space.size(), space.ruled
        if size is not None and ruled is not None and not ruled.weighted:
            return space.point(_permutation(self.seed, size, 0)(index))
        draws = self._sequence(space)
        if index >= len(draws):
            message = f"strategy random found only {len(draws):,} different points that the rules allow"
            raise UsageError(message, hint="ask for fewer points, or loosen the constraints")
        found = drawn(space, self.seed, draws[index])
        assert isinstance(found, dict)
        return found

    def place(self, space: Space, params: dict[str, Any]) -> int:
        """Return the number of the point *params*.

        Raises:
            LookupError: Points are drawn one after the other, or some dimension is continuous.
        """
        size = space.size()
        masses = _masses(space) if space.ruled is None else space.ruled.weighted
        if size is None or masses:
            raise LookupError("only going through the points tells")
        return _permutation(self.seed, size, 0).inverse(space.index(params))

    def _sequence(self, space: Space) -> tuple[int, ...]:
        for known, numbers in self._drawn:
            if known is space or known == space:
                return numbers
        draws = (
            _distinct(_candidates(space, self.seed), _leftovers(space, self.seed))
            if space.ruled is None
            else different(space, lambda draw: drawn(space, self.seed, draw))
        )
        numbers = tuple(itertools.islice(draws, self.points))
        self._drawn[:] = [(space, numbers)]
        return numbers


def drawn(space: Space, seed: int, draw: int) -> dict[str, Any] | Excluded | None:
    """Return draw number *draw* of a space with rules; ~k is place k in a permutation of all points.

    None where a rule has no value for it.
    """
    assert space.ruled is not None
    if draw < 0:
        return space.point(_permutation(seed, space.size() or 1, -1)(~draw))
    values = space.ruled.composed(
        lambda name: _uniform(seed, draw, name),
        lambda size: _permutation(seed, size, draw // size)(draw % size) if size else 0,
    )
    try:
        return space.settled(values)
    except ValueError:
        return None


def asked(name: str, points: int, space: Space) -> int:
    """Return *points*, which the strategy *name* shall draw from *space* without repeats.

    Raises:
        UsageError: *space* has fewer.
    """
    size = space.size()
    if size is not None and points > size:
        message = f"strategy {name} asks for {points:,} points; the space has {size:,} different ones"
        raise UsageError(message, hint=f"ask for at most {size} points, or use strategy: grid for all")
    return points


def different(space: Space, drawn: Callable[[int], dict[str, Any] | Excluded | None]) -> Iterator[int]:
    """Yield the draws that are points not drawn before; it ends where none are found any more.

    *drawn* returns draw number 0, 1, ...; and for -1, -2, ... all points of a *space* that can be counted.
    """
    size = space.size()
    seen: set[bytes] = set()
    misses, draw = 0, 0
    while misses < (_MISSES if size is None else _REPEATS):
        found = drawn(draw)
        key = _digest(found) if isinstance(found, dict) else b""
        if key and key not in seen:
            seen.add(key)
            misses = -1
            yield draw
        misses += 1
        draw += 1
    for place in range(size or 0):
        found = drawn(~place)
        if isinstance(found, dict) and _digest(found) not in seen:
            yield ~place


def _digest(params: dict[str, Any]) -> bytes:
    return hashlib.blake2b(canonical(params), digest_size=16).digest()


_Sampled = Choice | Uniform | LogUniform | Normal | Int | LogInt | Quantized


def _sampled(space: Space) -> dict[str, _Sampled]:
    return {name: d for name, d in space.dimensions.items() if isinstance(d, CONTINUOUS) or d.weighted}


def _masses(space: Space) -> dict[str, Choice | Int | LogInt | Quantized]:
    finite = {name: d for name, d in space.dimensions.items() if not isinstance(d, CONTINUOUS)}
    return {name: d for name, d in finite.items() if d.weighted}


def _numbered(space: Space, number: int) -> dict[str, Any]:
    """Return the point of *number*, whose last digits are the dimensions with a mass."""
    given = {}
    for name, dimension in reversed(_masses(space).items()):
        number, digit = divmod(number, dimension.count())
        given[name] = dimension.value(digit)
    return space.draw(number, given)


def _candidates(space: Space, seed: int) -> Iterator[int]:
    """Yield numbers as ``_numbered`` reads them, drawn with replacement, for ever."""
    logs = _masses(space)
    size = space.size(logs) or 1
    # 128 bits more than the range has: the remainder is uniform to within 2^-128.
    width = (size.bit_length() + 7) // 8 + 16
    for draw in itertools.count():
        stream = hashlib.shake_256(b"%d:%d" % (seed, draw)).digest(width + 8 * len(logs))
        number = int.from_bytes(stream[:width], "big") % size
        for place, dimension in zip(range(width, len(stream), 8), logs.values(), strict=True):
            value = dimension.quantile(_fraction(stream[place : place + 8]))
            number = number * dimension.count() + dimension.digit(value)
        yield number


def _leftovers(space: Space, seed: int) -> Iterator[int]:
    """Yield every number of a finite *space* once."""
    size = space.size() or 1
    permutation = _permutation(seed, size, -1)
    return (permutation(place) for place in range(size))


def _distinct(candidates: Iterator[int], leftovers: Iterator[int]) -> Iterator[int]:
    """Yield numbers that were not yielded before; at most ``_REPEATS`` candidates for each."""
    seen: set[int] = set()
    while True:
        tries = itertools.chain(itertools.islice(candidates, _REPEATS), leftovers)
        number = next((number for number in tries if number not in seen), None)
        if number is None:
            return
        seen.add(number)
        yield number


def _permutation(seed: int, size: int, cycle: int) -> Permutation:
    return Permutation(size, hashlib.blake2b(b"%d:%d" % (seed, cycle), digest_size=32).digest())


def _uniform(seed: int, index: int, name: str) -> float:
    return _fraction(hashlib.blake2b(f"{seed}:{index}:{name}".encode(), digest_size=8).digest())


def _fraction(data: bytes) -> float:
    """Return a number of 53 bits in [0, 1) from 8 bytes, the same on every machine."""
    return (int.from_bytes(data, "big") >> 11) * 2.0**-53
