"""Reads `points`: those that come first, written by hand or taken from a table, a run or an Optuna study."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from hpc_search.config.nodes import Mapping as MappingNode
from hpc_search.config.problems import near_miss, shown, words
from hpc_search.config.reader import Cursor, fields
from hpc_search.config.tables import read_table
from hpc_search.errors import HpcSearchError
from hpc_search.space import CONTINUOUS, Choice, Dimension, Excluded, Space, canonical, point_hash

#: Points taken from another search, where the file does not say how many.
TOP: Final = 10

_WHAT: Final = "a list of points: [{learning_rate: 1e-3}, {run: runs/first, top: 10}, {csv: points.csv}]"
#: What names points that stand elsewhere, with its options.
_ELSEWHERE: Final[dict[str, tuple[str, ...]]] = {"run": ("top",), "optuna": ("study", "top"), "csv": ()}
#: Points of another search that are told to be left out.
_TOLD: Final = 5

Params = dict[str, Any]
#: A point of another search: its name for messages, its parameters, and which of them that search fixes.
Found = tuple[str, Params, Collection[str]]
#: Returns the points of another search, best first: from ("run", its place, {}) or ("optuna", its place,
#: {"study": name}), relative to a directory.
Reader = Callable[[str, str, Mapping[str, Any], Path], Iterable[Found]]


@dataclass(slots=True)
class Elsewhere:
    """How points of other searches are read, and what the user has to know of those that were left out."""

    read: Reader
    notes: list[str] = field(default_factory=list)


def read_points(
    cursor: Cursor, space: Space, base: Path, elsewhere: Elsewhere | None = None
) -> tuple[Params, ...]:
    """Return full points of *space*, each once; paths are relative to *base*."""
    found = _Found(space, base, elsewhere)
    for item in cursor.items(_WHAT) or ():
        kind = _kind(item, space)
        if kind == "csv":
            for row in read_table(dict(_pairs(item))["csv"], base) or ():
                found.take(row)
        elif kind:
            found.take_from(kind, item)
        else:
            found.take(item)
    return tuple(found.points)


def _pairs(item: Cursor) -> list[tuple[str, Cursor]]:
    return [(key.text, value) for key, value in item.entries() or ()]


def _kind(item: Cursor, space: Space) -> str:
    """Return where the points of *item* stand: "run", "optuna", "csv"; "" where it is a point itself."""
    keys = {key.text for key, _ in item.node.entries} if isinstance(item.node, MappingNode) else set()
    return next((kind for kind in _ELSEWHERE if kind in keys and kind not in space.names), "")


class _Found:
    """The points so far."""

    def __init__(self, space: Space, base: Path, elsewhere: Elsewhere | None) -> None:
        self.points: list[Params] = []
        self._space = space
        self._base = base
        self._elsewhere = elsewhere
        self._places: dict[str, str] = {}
        self._settled = set(space.names) - set(space.searched)

    def take(self, item: Cursor) -> None:
        """Add a point that the user wrote; note what is wrong with it."""
        entries = item.entries("a point: parameters and their values")
        if entries is None:
            return
        before = len(item.book)
        cursors = {key.text: value for key, value in entries}
        params = {name: value.plain() for name, value in cursors.items()}
        if len(item.book) > before:
            return
        for name, value in cursors.items():
            if problem := _of_value(self._space, name, params[name]):
                message, expected = problem
                value.add(message, expected=expected)
        if missing := _missing(self._space, params):
            message = f"lacks {words(map(repr, missing))}"
            item.add(message, expected="a value for every parameter of the space that is not fixed")
        if len(item.book) > before:
            return
        try:
            earlier = self._add(params, f"line {item.line}")
        except ValueError as error:
            item.add(str(error))
            return
        if earlier:
            item.add(f"is the point of {earlier} again", hint="remove one of them: no point runs twice")

    def take_from(self, kind: str, item: Cursor) -> None:
        """Add the best points of another search that are points of this space; tell which ones are not."""
        section = item.keys((kind, *_ELSEWHERE[kind]), what=_WHAT)
        if section is None:
            return
        options = fields(
            section,
            {
                kind: lambda c: c.text("a path", most=1000),
                "study": lambda c: c.text("the name of a study"),
                "top": lambda c: c.integer(1),
            },
        )
        if kind not in options:
            return
        top = options.pop("top", TOP)
        if self._elsewhere is None:
            item.add(f"points of another {kind} are read by `plan` only", hint="write the points themselves")
            return
        place = options.pop(kind)
        try:
            taken, left = self._best(self._elsewhere.read(kind, place, options, self._base), top)
        except HpcSearchError as error:
            section[kind].add(error.message, hint=error.hint)
            return
        self._elsewhere.notes += _told(f"{kind} {place}", taken, top, left)
        if not taken:
            message = "has no point of this space"
            section[kind].add(message, found=left[0] if left else "nothing that is done", hint="see `space`")

    def _best(self, ranked: Iterable[Found], top: int) -> tuple[int, list[str]]:
        """Return how many points were taken, and which ones were left out before the last of them."""
        taken, left = 0, []
        for name, params, constant in ranked:
            if taken == top:
                break
            # What this search fixes or derives is its own affair, what the other one fixes that one's.
            names = self._settled.union(set(constant) - set(self._space.names))
            own = {key: value for key, value in params.items() if key not in names}
            try:
                # A point that is given already counts as taken: it is one of the best.
                self._add(own, name)
                taken += 1
            except ValueError as error:
                left.append(f"{name}: {error}")
        return taken, left

    def _add(self, params: Mapping[str, Any], place: str) -> str:
        """Add the full point; return the place of an equal one that is there already."""
        full = _full(self._space, params)
        name = point_hash(full)
        if name in self._places:
            return self._places[name]
        self._places[name] = place
        self.points.append(full)
        return ""


def _told(source: str, taken: int, top: int, left: list[str]) -> list[str]:
    told = [f"points of {source}, left out: {text}" for text in left[:_TOLD]]
    told += [f"points of {source}, left out: {len(left) - _TOLD} more"] if len(left) > _TOLD else []
    return told if taken == top else [*told, f"points of {source}: {taken} of the {top} asked for"]


def _missing(space: Space, params: Mapping[str, Any]) -> list[str]:
    """Return the parameters that every point has and *params* lack."""
    return [name for name in space.searched if name not in params and name not in space.conditional]


def _of_value(space: Space, name: str, value: Any) -> tuple[str, str] | None:
    """Return what is wrong with the *value* of parameter *name*, and what is expected."""
    if name in space.fixed:
        wrong = canonical(value) != canonical(space.fixed[name])
        return (f"{name} is fixed", f"{shown(space.fixed[name])}, or leave it out") if wrong else None
    if name not in space.names:
        near = near_miss(name, space.names)
        message = f"the space has no parameter {shown(name)}" + (f"; {near}" if near else "")
        known = list(map(repr, space.names))[:30]
        return message, words(known, "or") if known else "none: the space is empty"
    try:
        _own(space, name, value)
    except ValueError as error:
        return f"{name}: {error}", ""
    return None


def _own(space: Space, name: str, value: Any) -> Any:
    """Return *value* as the space has it: an integer where it has integers.

    Raises:
        ValueError: The parameter cannot have it.
    """
    if name not in space.searched or space.becomes(name, value):
        return value
    group = next((group for group in space.linked if name in group), {})
    dimension = Choice(group[name]) if group else space.dimensions[name]
    if not isinstance(dimension, CONTINUOUS):
        return dimension.value(dimension.digit(value))
    if not dimension.has(value):
        raise ValueError(f"{shown(value)} is not in the range {_range(dimension)}")
    return float(value)


def _range(dimension: Dimension) -> str:
    return f"{dimension.__struct_config__.tag} {list(msgspec.structs.astuple(dimension)[:2])}"


def _full(space: Space, params: Mapping[str, Any]) -> Params:
    """Return the point as the space has it: normalised, with fixed and derived values.

    Raises:
        ValueError: It is none.
    """
    wrong = [_of_value(space, name, value) for name, value in params.items()]
    problems = [problem[0] for problem in wrong if problem is not None]
    problems += [f"lacks {name!r}" for name in _missing(space, params)]
    if problems:
        raise ValueError("; ".join(problems))
    found = space.resolve({name: _own(space, name, value) for name, value in params.items()})
    if isinstance(found, Excluded):
        raise ValueError(f"is excluded by {found.path}: {found.text}")  # noqa: TRY004 - as the others
    return found
