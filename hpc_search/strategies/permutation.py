"""A keyed permutation of range(n) for any n, computed one number at a time, the same everywhere.

Above 64 numbers it is a Feistel network over the bits of n - 1 with cycle walking (Black and Rogaway,
"Ciphers with arbitrary finite domains", 2002): numbers outside the range are permuted again until one
is inside, fewer than twice on average. Below, where a network reaches few of the permutations, it is
a Fisher-Yates shuffle. Keys are expanded by SHAKE-256, which gives halves of any width.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

#: Part of the format: a change gives other points for the same number.
_ROUNDS: Final = 8
_SHUFFLED: Final = 64


@dataclass(frozen=True, slots=True)
class Permutation:
    """The permutation of range(*n*) that *key* chooses.

    Raises:
        ValueError: *n* is below 1.
    """

    n: int
    key: bytes
    _table: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Shuffle a small range once."""
        if self.n < 1:
            raise ValueError(f"a range to permute needs at least one number, not {self.n}")
        object.__setattr__(self, "_table", _shuffled(self.n, self.key) if self.n <= _SHUFFLED else ())

    def __call__(self, number: int) -> int:
        """Return what stands at place *number*.

        Raises:
            IndexError: *number* is outside range(n).
        """
        self._check(number)
        if self._table:
            return self._table[number]
        number = self._forward(number)
        while number >= self.n:
            number = self._forward(number)
        return number

    def inverse(self, number: int) -> int:
        """Return the place at which *number* stands.

        Raises:
            IndexError: *number* is outside range(n).
        """
        self._check(number)
        if self._table:
            return self._table.index(number)
        number = self._backward(number)
        while number >= self.n:
            number = self._backward(number)
        return number

    def _check(self, number: int) -> None:
        if not 0 <= number < self.n:
            raise IndexError(f"{number} is outside 0..{self.n - 1}")

    def _widths(self) -> tuple[int, int]:
        bits = (self.n - 1).bit_length()
        return bits // 2, bits - bits // 2

    def _forward(self, number: int) -> int:
        left_bits, right_bits = self._widths()
        left, right = number >> right_bits, number & ((1 << right_bits) - 1)
        for step in range(_ROUNDS):
            left, right = right, left ^ self._mix(step, right, left_bits)
            left_bits, right_bits = right_bits, left_bits
        return left << right_bits | right

    def _backward(self, number: int) -> int:
        left_bits, right_bits = self._widths()
        left, right = number >> right_bits, number & ((1 << right_bits) - 1)
        for step in reversed(range(_ROUNDS)):
            left_bits, right_bits = right_bits, left_bits
            left, right = right ^ self._mix(step, left, left_bits), left
        return left << right_bits | right

    def _mix(self, step: int, half: int, bits: int) -> int:
        # The width is in the text, so that halves of different widths are mixed differently.
        return _expand(self.key + b"%d:%d:" % (step, bits) + _bytes(half), bits)


def _shuffled(n: int, key: bytes) -> tuple[int, ...]:
    table = list(range(n))
    stream = hashlib.shake_256(key).digest(16 * n)
    for last in range(n - 1, 0, -1):
        # 128 bits: the remainder is uniform to within 2^-121.
        other = int.from_bytes(stream[16 * last : 16 * last + 16], "big") % (last + 1)
        table[last], table[other] = table[other], table[last]
    return tuple(table)


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _expand(data: bytes, bits: int) -> int:
    digest = hashlib.shake_256(data).digest((bits + 7) // 8)
    return int.from_bytes(digest, "big") >> (-bits % 8)
