"""A nested state as a JSON structure and flat buffers, and back: exact, and no code path from file to code.

Scalars of JSON stand for themselves; everything else is an object of one key, its tag:

    int       beyond 2^53, hexadecimal          dict, ordered, counter   [[key, value], ...]
    float     8 bytes, big-endian, hexadecimal  tuple, set, frozenset    [value, ...]
    complex   16 bytes, likewise                bytes                    base64, up to 1 KiB
    scalar    numpy: [dtype, hexadecimal]       buffer                   [index], [index, dimensions' order],
    text      with surrogates: UTF-32 in hex                             [index, offset, shape, strides]
    same      a list, dict or set again: its number, in the order of their beginnings

``ordered`` keeps the ``_metadata`` that torch modules version their state_dict with. Tensors and arrays that
show the same memory in the same way are one buffer, and one object afterwards; those that show parts of one
memory are parts of one buffer again. A set comes back equal; the order of its iteration is Python's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from hpc_search.checkpoint import buffers
from hpc_search.checkpoint.buffers import Source, Spec
from hpc_search.checkpoint.decoding import Decoder
from hpc_search.checkpoint.encoding import MOST_LEVELS, Encoder, dump
from hpc_search.errors import UsageError

__all__ = ["MOST_LEVELS", "Encoded", "Structure", "check", "decode", "encode", "parse"]
#: Levels that a checkpoint puts around the state of one object.
_OUTER_LEVELS: Final = 8
#: Bytes of JSON that are ever parsed: as Python objects they are ten to fifty times as large.
MOST_TEXT: Final = 128 << 20
#: Containers that are ever parsed; a number that JSON cannot hold is one, too.
MOST_NODES: Final = 1 << 23


@dataclass(frozen=True, slots=True)
class Encoded:
    """A state ready to be written: JSON text and the buffers that it refers to."""

    text: bytes
    sources: tuple[Source, ...]

    def private(self) -> Encoded:
        """Return the same state in memory of its own: what happens to the objects no longer changes it."""
        return Encoded(self.text, buffers.private(self.sources))


@dataclass(frozen=True, slots=True)
class Structure:
    """What JSON text of a file declares: a tree, and the specs of the buffers it refers to."""

    tree: Any
    specs: tuple[Spec, ...]


def encode(state: object, name: str = "state") -> Encoded:
    """Return *state* as JSON text and buffers; tensors are referred to, not copied.

    Raises:
        UsageError: Something in it cannot be saved; the message names its path.
    """
    encoder = Encoder()
    tree = encoder.whole(state, name)
    rows = [[s.spec.kind, s.spec.dtype, list(s.spec.shape)] for s in encoder.sources]
    text = dump({"buffers": rows, "tree": tree})
    if len(text) > MOST_TEXT:
        raise UsageError(
            f"{name}: numbers, texts and containers take {len(text)} bytes, at most {MOST_TEXT} can be saved",
            hint="save long lists of numbers as arrays",
        )
    if (nodes := _nodes(text)) > MOST_NODES:
        raise UsageError(
            f"{name}: it has {nodes} containers, at most {MOST_NODES} can be saved",
            hint="save long lists of numbers as arrays",
        )
    return Encoded(text, tuple(encoder.sources))


def check(value: object, name: str) -> None:
    """Raise what `encode` raises for *value* inside a state, with paths that start at *name*.

    Raises:
        UsageError: Something in it cannot be saved; the message names its path.
    """
    Encoder().whole(value, name, _OUTER_LEVELS)


def parse(text: bytes) -> Structure:
    """Return what *text* declares, before anything is allocated.

    Raises:
        ValueError: It is not what `encode` writes.
    """
    if len(text) > MOST_TEXT:
        raise ValueError(f"the structure has {len(text)} bytes, at most {MOST_TEXT} are parsed")
    if (nodes := _nodes(text)) > MOST_NODES:
        raise ValueError(f"the structure has {nodes} containers, at most {MOST_NODES} are parsed")
    try:
        document = json.loads(text, parse_constant=_refuse_constant, parse_float=_refuse_constant)
    except RecursionError:
        raise ValueError("the structure is nested too deeply") from None
    if type(document) is not dict or document.keys() != {"buffers", "tree"}:
        raise ValueError("the structure has not exactly `buffers` and `tree`")
    if type(document["buffers"]) is not list:
        raise ValueError("`buffers` is not a list")
    return Structure(document["tree"], tuple(buffers.parse_spec(row) for row in document["buffers"]))


def decode(structure: Structure, values: Sequence[Any]) -> Any:
    """Return the state of *structure*, whose buffers hold *values*.

    Raises:
        ValueError: The tree is not what `encode` writes.
    """
    return Decoder(structure.specs, values).decode(structure.tree, 0)


def _nodes(text: bytes) -> int:
    # Brackets in texts count, too: an upper bound is enough.
    return text.count(b"[") + text.count(b"{")


def _refuse_constant(text: str) -> None:
    raise ValueError(f"a bare number {text!r:.40} is not exact")
