"""Strict YAML 1.2: one document becomes a tree of nodes that know their lines.

PyYAML scans and parses; its events are put together here, without recursion, so that a limit is
met before memory or the stack is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hpc_search.config.problems import Book, shown
from hpc_search.config.scalars import ScalarValue, resolve
from hpc_search.config.syntax import explain

if TYPE_CHECKING:
    from yaml import CollectionStartEvent, Event, ScalarEvent

MOST_BYTES: Final = 1_000_000
MOST_DEPTH: Final = 32
MOST_NODES: Final = 100_000
MOST_ALIASES: Final = 100

_TAG: Final = "tag:yaml.org,2002:"
_TAGGED: Final[dict[str, tuple[type, ...]]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "null": (type(None),),
}


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value; ``text`` as written, ``plain`` where it stands without quotes."""

    line: int
    text: str
    value: ScalarValue
    plain: bool = True


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    line: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values in the order of the file; every key is a string and stands once."""

    line: int
    entries: tuple[tuple[Scalar, Node], ...]


Node = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True)
class _Built:
    """A finished node, the number of nodes it expands to and the levels it needs."""

    node: Node
    size: int
    height: int


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been seen."""

    line: int
    anchor: str | None
    mapping: bool
    children: list[_Built] = field(default_factory=list)


def parse(data: bytes, book: Book) -> Node:
    """Return the one document of *data*; what can be read past goes to *book*.

    Raises:
        ConfigError: Too large, not UTF-8, not YAML, empty, several documents, or over a limit.
    """
    import yaml

    text = _decode(data, book)
    builder = _Builder(book)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML lets chr() of an escape beyond Unicode and int() of a long %YAML version escape.
        explain(error, text, book)
    return builder.result()


def _decode(data: bytes, book: Book) -> str:
    if len(data) > MOST_BYTES:
        book.refuse(0, "the file is too large", found=f"over {MOST_BYTES:,} bytes", expected="at most 1 MB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        book.refuse(
            line,
            "the file is not UTF-8 text",
            found=f"byte 0x{data[error.start]:02x} at offset {error.start}",
            hint="save it with the encoding UTF-8",
        )


class _Builder:
    """Puts events together; anchors name finished nodes, which aliases share."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.stack: list[_Open] = []
        self.anchors: dict[str, _Built | None] = {}
        self.root: _Built | None = None
        self.documents = 0
        self.aliases = 0
        self.seen = 0

    def take(self, event: Event) -> None:
        """Use one event; those without content are passed over."""
        import yaml

        line = event.start_mark.line + 1 if event.start_mark else 0
        match event:
            case yaml.DocumentStartEvent():
                self._document(line)
            case yaml.ScalarEvent():
                self._put(_Built(self._scalar(event, line), 1, 1), line, event.anchor)
            case yaml.AliasEvent():
                self._alias(event.anchor or "", line)
            case yaml.CollectionStartEvent():
                self._begin(event, line)
            case yaml.CollectionEndEvent():
                self._end()
            case _:
                pass

    def result(self) -> Node:
        """Return the document's node; an empty file is refused."""
        empty = self.root is None or (isinstance(self.root.node, Scalar) and self.root.node.text == "")
        if self.root is None or empty:
            self.book.refuse(1, "the file is empty", expected="keys and values in YAML")
        return self.root.node

    def _document(self, line: int) -> None:
        self.documents += 1
        if self.documents > 1:
            self.book.refuse(
                line,
                "a second YAML document begins here",
                expected="one document a file",
                hint="remove '---'",
            )

    def _put(self, built: _Built, line: int, anchor: str | None) -> None:
        if len(self.stack) + built.height > MOST_DEPTH:
            self.book.refuse(line, f"nested deeper than {MOST_DEPTH} levels")
        if anchor is not None:
            self.anchors[anchor] = built
        self._count(1, line)
        if self.stack:
            self.stack[-1].children.append(built)
        else:
            self.root = built

    def _count(self, nodes: int, line: int) -> None:
        self.seen += nodes
        if self.seen > MOST_NODES:
            self.book.refuse(line, f"more than {MOST_NODES:,} values, aliases counted by what they stand for")

    def _alias(self, name: str, line: int) -> None:
        self.aliases += 1
        if self.aliases > MOST_ALIASES:
            self.book.refuse(line, f"more than {MOST_ALIASES} aliases (*name)")
        target = self.anchors.get(name)
        if target is None:
            known = "stands inside what it names" if name in self.anchors else "names no anchor before it"
            self.book.refuse(line, f"the alias *{name} {known}")
        self._count(target.size - 1, line)
        self._put(target, line, None)

    def _begin(self, event: CollectionStartEvent, line: int) -> None:
        import yaml

        mapping = isinstance(event, yaml.MappingStartEvent)
        tag = event.tag
        if tag not in (None, "!", _TAG + ("map" if mapping else "seq")):
            self._unknown_tag(tag, line)
        if len(self.stack) >= MOST_DEPTH:
            self.book.refuse(line, f"nested deeper than {MOST_DEPTH} levels")
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        self.stack.append(_Open(line, event.anchor, mapping))

    def _end(self) -> None:
        opened = self.stack.pop()
        node = self._mapping(opened) if opened.mapping else Sequence(opened.line, _nodes(opened.children))
        size = 1 + sum(child.size for child in opened.children)
        height = 1 + max((child.height for child in opened.children), default=0)
        self._put(_Built(node, size, height), opened.line, opened.anchor)

    def _mapping(self, opened: _Open) -> Mapping:
        nodes = _nodes(opened.children)
        entries: dict[str, tuple[Scalar, Node]] = {}
        for key, value in zip(nodes[::2], nodes[1::2], strict=True):
            if not isinstance(key, Scalar) or not isinstance(key.value, str):
                self._bad_key(key)
            elif key.value in entries:
                first = entries[key.value][0].line
                message = f"the key {shown(key.value)} stands twice, on line {first} and on line {key.line}"
                self.book.add(key.line, "", message, hint="keep one of them")
            elif key.plain and key.text == "<<":
                self.book.add(key.line, "", "merge keys (<<) are not in YAML 1.2", hint="write the keys out")
            else:
                entries[key.value] = (key, value)
        return Mapping(opened.line, tuple(entries.values()))

    def _bad_key(self, key: Node) -> None:
        if isinstance(key, Scalar):
            hint = f'write it in quotes: "{key.text}"' if key.text else ""
            self.book.add(key.line, "", "a key is not a string", found=key.text[:60] or "null", hint=hint)
        else:
            found = "a list" if isinstance(key, Sequence) else "a mapping"
            hint = "a text that begins with { or [ needs quotes"
            self.book.add(key.line, "", "a key is not a string", found=found, hint=hint)

    def _scalar(self, event: ScalarEvent, line: int) -> Scalar:
        plain = event.style is None
        text = self._paired(event.value, line)
        tag: str | None = event.tag
        if tag is None:
            return Scalar(line, text, resolve(text) if plain else text, plain)
        name = tag.removeprefix(_TAG)
        if tag == "!" or name == "str":
            return Scalar(line, text, text, plain=False)
        value = resolve(text)
        if name not in _TAGGED:
            self._unknown_tag(tag, line)
        elif not isinstance(value, _TAGGED[name]) or (isinstance(value, bool) and name != "bool"):
            self.book.add(line, "", f"the tag !!{name} does not fit its value", found=text[:60])
        return Scalar(line, text, float(value) if name == "float" and isinstance(value, int) else value)

    def _unknown_tag(self, tag: str, line: int) -> None:
        hint = "remove it; a text that begins with ! needs quotes"
        self.book.add(line, "", f"unknown tag {tag[:60]!r}", expected="values without tags", hint=hint)

    def _paired(self, text: str, line: int) -> str:
        """Return *text* with the surrogate pairs that JSON writes joined."""
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            self.book.add(
                line, "", "an escape names half of a character (a lone surrogate)", found=ascii(text)[:60]
            )
            return text.encode("utf-8", "replace").decode()


def _nodes(built: list[_Built]) -> tuple[Node, ...]:
    return tuple(child.node for child in built)
