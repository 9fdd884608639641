"""A nested state as a JSON structure and flat buffers, and back: exact, and no code path from file to code.

Scalars of JSON stand for themselves; everything else is an object of one key, its tag:

    int       beyond 2^53, hexadecimal          dict, ordered, counter   [[key, value], ...]
    float     8 bytes, big-endian, hexadecimal  tuple, set, frozenset    [value, ...]
    complex   16 bytes, likewise                bytes                    base64, up to 1 KiB
    scalar    numpy: [dtype, hexadecimal]       buffer                   [index], [index, order of dimensions]

``ordered`` keeps the ``_metadata`` that torch modules version their state_dict with. Tensors and arrays that
show the same memory in the same way are one buffer, and one object afterwards; lists and dicts that are held
twice come back as two. A set comes back equal; the order of its iteration is Python's.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hpc_search.checkpoint import buffers
from hpc_search.checkpoint.buffers import Source, Spec
from hpc_search.errors import UsageError

#: Levels of containers in containers; deeper is refused, and so is what contains itself.
MOST_LEVELS: Final = 100
#: Levels that a checkpoint puts around the state of one object.
_OUTER_LEVELS: Final = 8
#: Bytes of JSON that are ever parsed: as Python objects they are ten to fifty times as large.
MOST_TEXT: Final = 128 << 20
#: Containers that are ever parsed; a number that JSON cannot hold is one, too.
MOST_NODES: Final = 1 << 23
#: Longer bytes get a buffer of their own.
_INLINE_BYTES: Final = 1024
_EXACT_INT: Final = 1 << 53
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][\w.]*")
_PLAIN: Final = frozenset({bool, str, type(None)})
_PAIRS: Final[dict[str, type]] = {"dict": dict, "ordered": OrderedDict, "counter": Counter}
_SERIES: Final[dict[str, type]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_TAGS: Final[dict[type, str]] = {kind: tag for tag, kind in (_PAIRS | _SERIES).items()}


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
    encoder = _Encoder()
    tree = encoder.encode(state, name, 0)
    rows = [[s.spec.kind, s.spec.dtype, list(s.spec.shape)] for s in encoder.sources]
    text = _dump({"buffers": rows, "tree": tree})
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
    _Encoder().encode(value, name, _OUTER_LEVELS)


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
    return _Decoder(structure.specs, values).decode(structure.tree, 0)


def _dump(document: object) -> bytes:
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii")


def _nodes(text: bytes) -> int:
    # Brackets in texts count, too: an upper bound is enough.
    return text.count(b"[") + text.count(b"{")


def _refuse_constant(text: str) -> None:
    raise ValueError(f"a bare number {text!r:.40} is not exact")


@dataclass(slots=True)
class _Encoder:
    sources: list[Source] = field(default_factory=list)
    _seen: dict[tuple[object, ...], list[Any]] = field(default_factory=dict)

    def encode(self, value: Any, path: str, level: int) -> object:
        kind = type(value)
        if kind in _PLAIN or (kind is int and -_EXACT_INT <= value <= _EXACT_INT):
            return value
        if kind is list or kind in _TAGS:
            return self._container(value, path, level + 1)
        if buffers.is_tensor(value) or buffers.is_array(value):
            return {"buffer": self._buffer(value, path)}
        if kind is bytes:
            return self._bytes(value)
        return _scalar(value, path)

    def _container(self, value: Any, path: str, level: int) -> object:
        if level > MOST_LEVELS:
            raise UsageError(f"{path[:200]}: nested deeper than {MOST_LEVELS} levels, or contains itself")
        if isinstance(value, dict):
            return self._mapping(value, path, level)
        items = [self.encode(item, f"{path}[{i}]", level) for i, item in enumerate(value)]
        if type(value) is list:
            return items
        if isinstance(value, set | frozenset):
            items.sort(key=_dump)
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
        if key is not None:
            self._seen[key] = reference
        return reference

    def _bytes(self, value: bytes) -> object:
        if len(value) <= _INLINE_BYTES:
            return {"bytes": base64.b64encode(value).decode("ascii")}
        self.sources.append(Source(Spec("bytes", "uint8", (len(value),)), value))
        return {"buffer": [len(self.sources) - 1]}


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
        return ["U", str(value).encode("utf-32-be", "surrogatepass").hex()]
    try:
        buffers.array_dtype(value.dtype.str)
    except ValueError as error:
        raise UsageError(f"{path}: a numpy scalar cannot be saved: {error}") from None
    return [value.dtype.str, value.tobytes().hex()]


@dataclass(slots=True)
class _Decoder:
    specs: Sequence[Spec]
    values: Sequence[Any]
    _views: dict[tuple[int, tuple[int, ...]], Any] = field(default_factory=dict)

    def decode(self, node: Any, level: int) -> Any:
        kind = type(node)
        if kind in _PLAIN or kind is int:
            return node
        if level > MOST_LEVELS:
            raise ValueError(f"the tree is nested deeper than {MOST_LEVELS} levels")
        if kind is list:
            return [self.decode(item, level + 1) for item in node]
        if kind is not dict or not node:
            raise ValueError(f"{node!r:.80} is not a value")
        tag, *more = node
        if more not in ([], ["metadata"]) or (more and tag != "ordered"):
            raise ValueError(f"tags {list(node)!r:.80} are unknown")
        return self._tagged(tag, node, level + 1)

    def _tagged(self, tag: str, node: dict[str, Any], level: int) -> Any:
        content = node[tag]
        if tag in _PAIRS:
            return self._mapping(tag, content, node, level)
        if tag in _SERIES:
            items = [self.decode(item, level) for item in _items(content)]
            return _hashed(_SERIES[tag], items)
        if tag == "buffer":
            return self._buffer(content)
        if tag == "scalar":
            return _decode_numpy_scalar(content)
        return _decode_scalar(tag, content)

    def _mapping(self, tag: str, content: Any, node: dict[str, Any], level: int) -> Any:
        rows = _items(content)
        if not all(type(row) is list and len(row) == 2 for row in rows):
            raise ValueError(f"`{tag}` is not a list of pairs")
        pairs = [(self.decode(key, level), self.decode(value, level)) for key, value in rows]
        value = _hashed(_PAIRS[tag] if tag != "counter" else _counter, pairs)
        if "metadata" in node:
            value._metadata = self.decode(node["metadata"], level)  # noqa: SLF001
        return value

    def _buffer(self, content: Any) -> Any:
        index, *rest = _items(content) or [None]
        if type(index) is not int or not 0 <= index < len(self.values) or len(rest) > 1:
            raise ValueError(f"buffer {content!r:.80} does not exist")
        value = self.values[index]
        if self.specs[index].kind == "bytes":
            if (index, ()) not in self._views:
                # Once: a hostile tree could refer to large bytes a million times.
                self._views[index, ()] = bytes(value)
            return self._views[index, ()]
        if not rest:
            return value
        if not all(type(axis) is int for axis in _items(rest[0])):
            raise ValueError(f"buffer {content!r:.80} has no order of dimensions")
        key = (index, tuple(rest[0]))
        if key not in self._views:
            self._views[key] = buffers.in_order(value, key[1])
        return self._views[key]


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
