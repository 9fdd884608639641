"""The encoding half of `tree`: a nested state as JSON values, and the buffers that they refer to."""

from __future__ import annotations

import base64
import json
import re
import struct
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from hpc_search.checkpoint import buffers, views
from hpc_search.checkpoint.buffers import Source, Spec
from hpc_search.checkpoint.views import Extent
from hpc_search.errors import UsageError

#: Levels of containers in containers; deeper is refused, and so is what contains itself.
MOST_LEVELS: Final = 100
#: Longer bytes get a buffer of their own.
_INLINE_BYTES: Final = 1024
_EXACT_INT: Final = 1 << 53
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][\w.]*")
#: JSON would join two of these to another character.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
PLAIN: Final = frozenset({bool, type(None)})
PAIRS: Final[dict[str, type]] = {"dict": dict, "ordered": OrderedDict, "counter": Counter}
SERIES: Final[dict[str, type]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
#: Containers that cannot change: whether they are one or two makes no difference.
_FIXED: Final = frozenset({tuple, frozenset})
_TAGS: Final[dict[type, str]] = {kind: tag for tag, kind in (PAIRS | SERIES).items()}


def dump(document: object) -> bytes:
    """Return *document* as JSON text."""
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii")


class _Held(NamedTuple):
    """A tensor or array of the state: where it is in memory, what it is, its path, what refers to it."""

    extent: Extent
    value: Any
    path: str
    reference: list[Any]


@dataclass(slots=True)
class Encoder:
    """Collects the buffers of one state while it turns it into JSON values."""

    sources: list[Source] = field(default_factory=list)
    _seen: dict[tuple[object, ...], list[Any]] = field(default_factory=dict)
    _held: list[_Held] = field(default_factory=list)
    _references: list[list[Any]] = field(default_factory=list)
    #: Number of each container that can change, by its id; those that are not through yet.
    _numbers: dict[int, int] = field(default_factory=dict)
    _open: set[int] = field(default_factory=set)

    def whole(self, state: Any, path: str, level: int = 0) -> object:
        """Return *state* encoded, after which the sources are complete."""
        tree = self.encode(state, path, level)
        joined: dict[int, Source] = {}
        for group in _overlapping(self._held):
            joined |= _joined(group)
        if joined:
            self._renumber(joined)
        return tree

    def _renumber(self, joined: dict[int, Source]) -> None:
        used = sorted({reference[0] for reference in self._references})
        places = {index: place for place, index in enumerate(used)}
        self.sources = [joined.get(index, self.sources[index]) for index in used]
        for reference in self._references:
            reference[0] = places[reference[0]]

    def encode(self, value: Any, path: str, level: int) -> object:
        """Return *value* as a JSON value.

        Raises:
            UsageError: It cannot be saved; with its path.
        """
        kind = type(value)
        if kind in PLAIN or (kind is int and -_EXACT_INT <= value <= _EXACT_INT):
            return value
        if kind is str:
            return _text(value)
        if kind is list or kind in _TAGS:
            return self._container(value, path, level + 1)
        if buffers.is_tensor(value) or buffers.is_array(value):
            return {"buffer": self._buffer(value, path)}
        if kind is bytes:
            return self._bytes(value)
        return _scalar(value, path)

    def _container(self, value: Any, path: str, level: int) -> object:
        if level > MOST_LEVELS or id(value) in self._open:
            raise UsageError(f"{path[:200]}: nested deeper than {MOST_LEVELS} levels, or contains itself")
        if type(value) in _FIXED:
            return self._filled(value, path, level)
        if id(value) in self._numbers:
            return {"same": self._numbers[id(value)]}
        self._numbers[id(value)] = len(self._numbers)
        self._open.add(id(value))
        filled = self._filled(value, path, level)
        self._open.remove(id(value))
        return filled

    def _filled(self, value: Any, path: str, level: int) -> object:
        if isinstance(value, dict):
            return self._mapping(value, path, level)
        items = [self.encode(item, f"{path}[{i}]", level) for i, item in enumerate(value)]
        if type(value) is list:
            return items
        if isinstance(value, set | frozenset):
            items.sort(key=dump)
        return {_TAGS[type(value)]: items}

    def _mapping(self, value: dict[Any, Any], path: str, level: int) -> object:
        tag = _TAGS[type(value)]
        pairs = [
            [self.encode(key, f"{path} (a key)", level), self.encode(item, path + _step(key), level)]
            for key, item in value.items()
        ]
        metadata = getattr(value, "_metadata", None) if tag == "ordered" else None
        if metadata is None:
            return {tag: pairs}
        return {tag: pairs, "metadata": self.encode(metadata, f"{path}._metadata", level)}

    def _buffer(self, value: Any, path: str) -> list[Any]:
        make: Callable[..., Any] = buffers.from_tensor if buffers.is_tensor(value) else buffers.from_array
        source, order = make(value, path)
        key = buffers.identity(value)
        if key is not None and key in self._seen:
            return self._seen[key]
        reference = [len(self.sources)] if order is None else [len(self.sources), list(order)]
        self.sources.append(source)
        self._references.append(reference)
        if key is not None:
            self._seen[key] = reference
            self._held.append(_Held(views.extent_of(value), value, path, reference))
        return reference

    def _bytes(self, value: bytes) -> object:
        if len(value) <= _INLINE_BYTES:
            return {"bytes": base64.b64encode(value).decode("ascii")}
        self.sources.append(Source(Spec("bytes", "uint8", (len(value),)), value))
        self._references.append([len(self.sources) - 1])
        return {"buffer": self._references[-1]}


def _overlapping(held: list[_Held]) -> Iterator[list[_Held]]:
    """Yield those that share memory, together."""
    group: list[_Held] = []
    end = -1
    for one in sorted(held, key=lambda one: one.extent):
        if group and one.extent.device == group[0].extent.device and one.extent.start < end:
            group.append(one)
            end = max(end, one.extent.end)
            continue
        if len(group) > 1:
            yield group
        group, end = [one], one.extent.end
    if len(group) > 1:
        yield group


def _joined(group: list[_Held]) -> dict[int, Source]:
    """Let all of *group* refer to one source; return it by the index that they refer to."""
    device, start, _ = group[0].extent
    whole = Extent(device, start, max(one.extent.end for one in group))
    try:
        source = views.base([one.value for one in group], whole)
    except ValueError as error:
        paths = sorted({one.path for one in group})
        raise UsageError(
            f"{paths[0]} and {paths[1]} share memory, and {error}: a resumed trial could not share it again",
            hint="save a copy of one of them (clone(), copy()), or only one",
        ) from None
    index = group[0].reference[0]
    for one in group:
        offset, shape, strides = views.shown(one.value, whole)
        one.reference[:] = [index, offset, list(shape), list(strides)]
    return {index: source}


def _text(value: str) -> object:
    if value.isascii() or not _SURROGATE.search(value):
        return value
    return {"text": _utf32(value).hex()}


def _utf32(value: str) -> bytes:
    return value.encode("utf-32-be", "surrogatepass")


def _step(key: object) -> str:
    if type(key) is str and _PLAIN_KEY.fullmatch(key):
        return f".{key}"
    # Python refuses to write integers of more than 4300 digits in decimal.
    return f"[{key:#x}]"[:80] if type(key) is int and abs(key) > _EXACT_INT else f"[{key!r:.80}]"


def _scalar(value: Any, path: str) -> object:
    kind = type(value)
    if kind is int:
        return {"int": f"{value:x}"}
    if kind is float:
        return {"float": struct.pack(">d", value).hex()}
    if kind is complex:
        return {"complex": struct.pack(">dd", value.real, value.imag).hex()}
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return {"scalar": _numpy_scalar(value, path)}
    raise UsageError(
        f"{path}: objects of type {kind.__module__}.{kind.__qualname__} cannot be saved",
        hint="save numbers, text, bytes, containers, arrays, tensors, or a state_dict() of it",
    )


def _numpy_scalar(value: Any, path: str) -> list[str]:
    if value.dtype.kind == "S":
        return ["S", bytes(value).hex()]
    if value.dtype.kind == "U":
        # numpy's str() leaves zeros at the end out.
        return ["U", _utf32(value).hex()]
    try:
        buffers.array_dtype(value.dtype.str)
    except ValueError as error:
        raise UsageError(f"{path}: a numpy scalar cannot be saved: {error}") from None
    return [value.dtype.str, value.tobytes().hex()]
