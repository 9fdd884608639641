"""Reads `stages` and `searches`: the steps of a search, and several searches of one plan."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hpc_search.config.nodes import Mapping as MappingNode
from hpc_search.config.nodes import Node, Scalar
from hpc_search.config.nodes import Sequence as ListNode
from hpc_search.config.problems import below, near_miss, shown, words
from hpc_search.config.reader import Cursor, each, fields, nullable
from hpc_search.records.search import Narrow, PruningSpec, StageSpec, StrategySpec

#: Stages of a search, and searches of a plan, that one file may have.
MOST: Final = 100
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_NAME_WORDS: Final = "a name that a directory can have: at most 64 letters, digits, _ and -, no - in front"
_STAGES: Final = "a list of stages such as [{name: coarse, strategy: {tpe: {points: 20}}}]"
_SEARCHES: Final = "searches by name such as {criteria: {trial: train.py:criteria}}"
_NARROW: Final = "{stage: coarse, top: 0.25}"
_TOP: Final = "{top: {points: 5, stage: fine}}"
_STAGE_KEYS: Final = ("name", "strategy", "fixed", "seeds", "pruning", "narrow")
#: Keys whose entries a search adds to, or puts in the place of, those of the top level, name by name.
_BY_NAME: Final = ("space", "fixed", "when", "derived", "normalise")
#: Where a name can stand as a parameter; a search that gives it takes it out of the other places.
_PLACES: Final = ("space", "linked", "fixed", "derived")
#: Keys of which a search has only one: what it gives replaces all of them.
_ONE_OF: Final = (
    ("trial", "command", "metric_file", "files"),
    ("test", "test_command"),
    ("metric", "objectives"),
)

Section = Mapping[str, Cursor]
Reader = Callable[[Cursor], Any]


# -- stages
@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What a search says for all of its stages: None where it does not, or where that is wrong."""

    strategy: StrategySpec | None = None
    #: Whether it says a strategy at all.
    has_strategy: bool = False
    pruning: PruningSpec | None = None


def read_stages(cursor: Cursor, readers: Mapping[str, Reader], above: Inherited) -> tuple[StageSpec, ...]:
    """Return the stages, in order; of one that is wrong nothing is returned.

    *readers* are those of ``strategy``, ``seeds`` and ``pruning``; *above* is what stands for all stages.
    """
    items = cursor.items(_STAGES) or []
    if len(items) > MOST:
        cursor.add(f"has more than {MOST} stages")
        return ()
    names = _Names()
    return tuple(each(items, lambda item: _stage(item, readers, above, names)))


@dataclass(slots=True)
class _Names:
    """The stages so far."""

    seen: list[str] = field(default_factory=list)

    def take(self, cursor: Cursor, section: Section) -> str:
        """Return the name of the next stage, after noting what is wrong with it."""
        if "name" not in section:
            cursor.add("the key 'name' is missing", expected="name: coarse")
            return ""
        name = _name(section["name"]) or ""
        if name in self.seen:
            section["name"].add(
                f"the stage {shown(name)} is there twice", hint="give one of them another name"
            )
        self.seen.append(name)
        return name

    def earlier(self, cursor: Cursor) -> str | None:
        """Return the name of a stage before the last one."""
        known = [name for name in self.seen[:-1] if name]
        name = cursor.string("the name of an earlier stage")
        if name is None or name in known:
            return name
        near = near_miss(name, known)
        message = f"there is no stage {shown(name)} before this one" + (f"; {near}" if near else "")
        cursor.add(message, expected=words(known, "or") if known else "none: this is the first stage")
        return None


def _stage(
    cursor: Cursor, readers: Mapping[str, Reader], above: Inherited, names: _Names
) -> StageSpec | None:
    before = len(cursor.book)
    section = cursor.keys(_STAGE_KEYS, what="a stage such as {name: coarse, strategy: {tpe: {points: 20}}}")
    if section is None:
        return None
    name = names.take(cursor, section)
    given = fields(
        section,
        {
            "fixed": _fixed,
            "seeds": readers["seeds"],
            "narrow": lambda c: _narrow(c, names),
            "pruning": nullable(readers["pruning"]),
        },
    )
    strategy = above.strategy
    if "strategy" in section:
        strategy = _strategy(section["strategy"], readers["strategy"], names)
    elif not above.has_strategy:
        cursor.add(
            "the key 'strategy' is missing: a stage without one has no number of points",
            expected="strategy: {random: {points: 20}}, or one for all stages beside `stages`",
        )
    if "pruning" not in section:
        given["pruning"] = above.pruning
    if strategy is not None and "narrow" in given:
        _fits_narrow(section, strategy)
    if len(cursor.book) > before or strategy is None:
        return None
    return StageSpec(name=name, strategy=strategy, **given)


def _name(cursor: Cursor) -> str | None:
    """Return a name that can be a directory's."""
    return cursor.matching(_NAME, _NAME_WORDS)


def _fixed(cursor: Cursor) -> dict[str, Any] | None:
    entries = cursor.entries("a mapping from parameters to values, such as {epochs: 3}")
    return None if entries is None else {key.text: value.plain() for key, value in entries}


def _narrow(cursor: Cursor, names: _Names) -> Narrow | None:
    section = cursor.keys(("stage", "top"), what=_NARROW)
    if section is None:
        return None
    if "stage" not in section:
        cursor.add("the key 'stage' is missing: the one whose best points set the bounds", expected=_NARROW)
        return None
    given = fields(section, {"stage": names.earlier, "top": _share})
    return Narrow(**given) if "stage" in given else None


def _share(cursor: Cursor) -> float | None:
    share = cursor.number("a share above 0, at most 1")
    if share is not None and not 0 < share <= 1:
        cursor.add("is out of range", expected="a share above 0, at most 1", hint="0.25: the best quarter")
        return None
    return share


def _strategy(cursor: Cursor, reader: Reader, names: _Names) -> StrategySpec | None:
    """Return a strategy, one of those of every search or ``{top: {points: 5, stage: fine}}``."""
    entries = cursor.entries() if isinstance(cursor.node, MappingNode) else []
    if not entries or len(entries) != 1 or entries[0][0].text != "top":
        strategy: StrategySpec | None = reader(cursor)
        return strategy
    options = entries[0][1]
    section = options.keys(("points", "stage"), what=_TOP)
    if section is None:
        return None
    for key in ("points", "stage"):
        if key not in section:
            options.add(f"the key {key!r} is missing", expected=_TOP)
    given = fields(section, {"points": lambda c: c.integer(1), "stage": names.earlier})
    return StrategySpec("top", given) if len(given) == 2 else None


def _fits_narrow(section: Section, strategy: StrategySpec) -> None:
    """Note a strategy whose points do not come from the bounds that `narrow` sets."""
    kind = strategy.kind
    if kind == "grid":
        section["narrow"].add(
            "the size of a narrowed grid is not known before the stage it comes from has ended",
            found="strategy: grid",
            expected="a strategy with a number of points",
            hint="write {random: {points: N}}: where the narrowed space has N points it is all of them",
        )
    elif kind in ("top", "points", "catalog"):
        section["narrow"].add(
            "sets bounds that no point is drawn from",
            found=f"strategy: {kind}",
            expected="a strategy that draws points, such as random or tpe",
            hint="remove narrow: the points are given",
        )


# -- several searches
def read_searches(
    cursor: Cursor, top: Section, known: Sequence[str], reader: Callable[[str, Section, Cursor], Any]
) -> tuple[Any, ...]:
    """Return what *reader* makes of each search: its name, its keys with what it inherits, and itself.

    *known* are the keys that a search may have.
    """
    entries = cursor.entries(_SEARCHES) or []
    if isinstance(cursor.node, MappingNode) and not entries:
        cursor.add("is empty: it needs at least one search", expected=_SEARCHES)
    if len(entries) > MOST:
        cursor.add(f"has more than {MOST} searches")
        return ()
    return tuple(filter(None, (_search(key, value, top, known, reader) for key, value in entries)))


def _search(
    key: Scalar,
    cursor: Cursor,
    top: Section,
    known: Sequence[str],
    reader: Callable[[str, Section, Cursor], Any],
) -> Any:
    name = key.text
    if not _NAME.fullmatch(name):
        cursor.book.add(
            key.line, cursor.path, "is no name for a search", found=shown(name), expected=_NAME_WORDS
        )
    empty: Section = {}
    own = empty if cursor.is_null else cursor.keys(known, what=f"the keys of a search: {words(known)}")
    inherited = {key: value for key, value in top.items() if key in known}
    return None if own is None else reader(name, inherit(inherited, own), cursor)


def inherit(top: Section, own: Section) -> dict[str, Cursor]:
    """Return the keys of a search: its *own*, and those of the *top* level that it does not replace."""
    replaced = {key for keys in _ONE_OF if any(key in own for key in keys) for key in keys}
    found = {key: value for key, value in top.items() if key not in replaced}
    names = {name for key in _PLACES if key in own for name in _names(own[key])}
    for key in _PLACES:
        if key in found and names:
            found[key] = _without(found[key], names)
    for key, value in own.items():
        above = found.get(key)
        found[key] = joined(above, value) if key in _BY_NAME and above is not None else value
    return found


def _names(cursor: Cursor) -> Iterator[str]:
    """Yield the parameters that a `space`, `linked`, `fixed` or `derived` names."""
    nodes = cursor.node.items if isinstance(cursor.node, ListNode) else (cursor.node,)
    for node in nodes:
        if isinstance(node, MappingNode):
            yield from (key.text for key, _ in node.entries)


def _without(cursor: Cursor, names: set[str]) -> Cursor:
    """Return *cursor* without the parameters *names*."""
    if isinstance(cursor.node, ListNode):
        groups = tuple(left for node in cursor.node.items if (left := _left(node, names)) is not None)
        return Cursor(cursor.book, ListNode(cursor.node.line, groups), cursor.path)
    return Cursor(cursor.book, _left(cursor.node, names) or MappingNode(cursor.line, ()), cursor.path)


def _left(node: Node, names: set[str]) -> Node | None:
    if not isinstance(node, MappingNode):
        return node
    entries = tuple((key, value) for key, value in node.entries if key.text not in names)
    return MappingNode(node.line, entries) if entries or not node.entries else None


@dataclass(frozen=True, slots=True)
class Joined(Cursor):
    """A mapping with entries of two places of the file; each entry keeps the path of its own."""

    origins: Mapping[str, str] = field(default_factory=dict)

    def entries(self, what: str = "a mapping") -> list[tuple[Scalar, Cursor]] | None:
        """Return keys and values."""
        found = Cursor.entries(self, what)
        return found and [
            (key, Cursor(self.book, value.node, below(self.origins.get(key.text, self.path), key.text)))
            for key, value in found
        ]


def joined(above: Cursor, own: Cursor) -> Cursor:
    """Return *above* with the entries of *own* added, or in the place of those of the same name."""
    if not isinstance(above.node, MappingNode) or not isinstance(own.node, MappingNode):
        return own
    later = {key.text: (key, value) for key, value in own.node.entries}
    entries = [later.pop(key.text, (key, value)) for key, value in above.node.entries]
    node = MappingNode(own.node.line, (*entries, *later.values()))
    mine = {key.text for key, _ in own.node.entries}
    origins = {key.text: above.path for key, _ in above.node.entries if key.text not in mine}
    return Joined(own.book, node, own.path, origins)
