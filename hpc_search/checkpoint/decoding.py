"""The decoding half of `tree`: JSON values that anybody may have written, as a nested state."""

from __future__ import annotations

import base64
import binascii
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpc_search.checkpoint import buffers, views
from hpc_search.checkpoint.buffers import Spec
from hpc_search.checkpoint.encoding import MOST_LEVELS, PAIRS, PLAIN, SERIES
from hpc_search.checkpoint.views import Shown


@dataclass(slots=True)
class Decoder:
    """Builds the state of a tree, whose buffers hold *values*."""

    specs: Sequence[Spec]
    values: Sequence[Any]
    _views: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    _containers: list[Any] = field(default_factory=list)

    def decode(self, node: Any, level: int) -> Any:
        """Return the value of *node*.

        Raises:
            ValueError: It is not what `Encoder` makes.
        """
        kind = type(node)
        if kind in PLAIN or kind is int or kind is str:
            return node
        if level > MOST_LEVELS:
            raise ValueError(f"the tree is nested deeper than {MOST_LEVELS} levels")
        if kind is list:
            number = self._begun()
            self._containers[number] = [self.decode(item, level + 1) for item in node]
            return self._containers[number]
        if kind is not dict or not node:
            raise ValueError(f"{node!r:.80} is not a value")
        tag, *more = node
        if more not in ([], ["metadata"]) or (more and tag != "ordered"):
            raise ValueError(f"tags {list(node)!r:.80} are unknown")
        return self._tagged(tag, node, level + 1)

    def _tagged(self, tag: str, node: dict[str, Any], level: int) -> Any:
        content = node[tag]
        if tag in PAIRS or tag == "set":
            number = self._begun()
            make = self._mapping if tag in PAIRS else self._series
            self._containers[number] = make(tag, content, node, level)
            return self._containers[number]
        if tag in SERIES:
            return self._series(tag, content, node, level)
        if tag == "buffer":
            return self._buffer(content)
        if tag == "same":
            return self._same(content)
        if tag == "scalar":
            return _decode_numpy_scalar(content)
        return _decode_scalar(tag, content)

    def _begun(self) -> int:
        self._containers.append(None)
        return len(self._containers) - 1

    def _same(self, number: Any) -> Any:
        known = type(number) is int and 0 <= number < len(self._containers)
        if not known or self._containers[number] is None:
            raise ValueError(f"container {number!r:.40} does not exist before")
        return self._containers[number]

    def _series(self, tag: str, content: Any, _node: dict[str, Any], level: int) -> Any:
        return _hashed(SERIES[tag], [self.decode(item, level) for item in _items(content)])

    def _mapping(self, tag: str, content: Any, node: dict[str, Any], level: int) -> Any:
        rows = _items(content)
        if not all(type(row) is list and len(row) == 2 for row in rows):
            raise ValueError(f"`{tag}` is not a list of pairs")
        pairs = [(self.decode(key, level), self.decode(value, level)) for key, value in rows]
        value = _hashed(PAIRS[tag] if tag != "counter" else _counter, pairs)
        if "metadata" in node:
            value._metadata = self.decode(node["metadata"], level)  # noqa: SLF001
        return value

    def _buffer(self, content: Any) -> Any:
        index, *rest = _items(content) or [None]
        if type(index) is not int or not 0 <= index < len(self.values) or len(rest) not in (0, 1, 3):
            raise ValueError(f"buffer {content!r:.80} does not exist")
        if not rest and self.specs[index].kind != "bytes":
            return self.values[index]
        key = (index, *(tuple(one) if type(one) is list else one for one in rest))
        if key not in self._views:
            # Once: a hostile tree could refer to large bytes a million times.
            self._views[key] = self._view(self.values[index], self.specs[index].kind, rest)
        return self._views[key]

    @staticmethod
    def _view(value: Any, kind: str, rest: list[Any]) -> Any:
        if kind == "bytes":
            return bytes(value)
        numbers = [rest[-2:] if len(rest) == 3 else rest, [[rest[0]]] if len(rest) == 3 else []]
        if not all(type(n) is int for lists in numbers for one in lists for n in _items(one)):
            raise ValueError(f"{rest!r:.80} is no view of a buffer")
        if len(rest) == 1:
            return buffers.in_order(value, tuple(rest[0]))
        return views.seen(value, Shown(rest[0], tuple(rest[1]), tuple(rest[2])))


def _items(content: Any) -> list[Any]:
    if type(content) is not list:
        raise ValueError(f"{content!r:.80} is not a list")
    return content


def _counter(pairs: Iterable[tuple[Any, Any]]) -> Counter[Any]:
    return Counter(dict(pairs))


def _hashed(make: Callable[[Any], Any], items: list[Any]) -> Any:
    try:
        return make(items)
    except TypeError as error:
        raise ValueError(f"a key or a member cannot be hashed: {error}") from None


def _decode_scalar(tag: str, content: Any) -> Any:
    if type(content) is not str:
        raise ValueError(f"`{tag}` is not text")
    try:
        if tag == "int":
            return int(content, 16)
        if tag == "float":
            return struct.unpack(">d", bytes.fromhex(content))[0]
        if tag == "complex":
            return complex(*struct.unpack(">dd", bytes.fromhex(content)))
        if tag == "text":
            return bytes.fromhex(content).decode("utf-32-be", "surrogatepass")
        if tag == "bytes":
            return base64.b64decode(content, validate=True)
    except (struct.error, binascii.Error) as error:
        raise ValueError(f"`{tag}` {content!r:.40}: {error}") from None
    raise ValueError(f"tag {tag!r:.40} is unknown")


def _decode_numpy_scalar(content: Any) -> Any:
    import numpy as np

    if len(_items(content)) != 2 or not all(type(item) is str for item in content):
        raise ValueError("`scalar` is not [dtype, hexadecimal]")
    name, data = content[0], bytes.fromhex(content[1])
    if name == "S":
        return np.bytes_(data)
    if name == "U":
        return np.str_(data.decode("utf-32-be", "surrogatepass"))
    dtype = buffers.array_dtype(name)
    if dtype.kind in "SU" or len(data) != dtype.itemsize:
        raise ValueError(f"`scalar` has {len(data)} bytes, {name} has {dtype.itemsize}")
    # A 0-d array indexed by () gives the scalar itself, of exactly this dtype.
    return np.frombuffer(data, dtype).reshape(())[()]
