"""Reads `catalog`: named experiments over the defaults in `fixed`, and which of them are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from hpc_search.config.nodes import Scalar
from hpc_search.config.parameters import read_space
from hpc_search.config.problems import near_miss, shown, words
from hpc_search.config.reader import MOST_NAME, Cursor, not_printed
from hpc_search.config.strategy import read_names
from hpc_search.config.tables import read_table
from hpc_search.records.search import StrategySpec
from hpc_search.space import Space, duplicates
from hpc_search.strategies.catalog import EXPERIMENT

#: The mode of all experiments, where the file does not say which ones it has.
FULL: Final = "full"

_WHAT: Final = "catalog: {modes: {quick: [a]}, experiments: {a: {lr: 1e-4}, b: {lr: 1e-3}}}"
#: Columns of a table that can hold an experiment's name.
_TITLES: Final = ("experiment_name", "name", EXPERIMENT)
_KEYS: Final = ("modes", "experiments", "ignore")
#: What cannot stand beside a catalog: each experiment is a whole point.
_NOT_BESIDE: Final = (
    *("space", "linked", "when", "normalise", "constraints", "derived", "points", "stages"),
)


class Chosen(NamedTuple):
    """The experiments that the command line asks for, in place of those of the file."""

    mode: str = ""
    names: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether it asks for any."""
        return bool(self.mode or self.names)


class _Experiments(NamedTuple):
    rows: dict[str, Mapping[str, Any]]
    lines: dict[str, Cursor]


def read_catalog(
    section: Mapping[str, Cursor], spec: StrategySpec, base: Path, chosen: Chosen
) -> tuple[Space, StrategySpec] | None:
    """Return the space whose rows are the experiments asked for, and the strategy with their names."""
    cursor = section["strategy"]
    if "catalog" not in section:
        cursor.add("the strategy catalog needs the experiments", expected=_WHAT)
        return None
    before = len(cursor.book)
    for key in _NOT_BESIDE:
        if key in section:
            message = "cannot stand beside a catalog: each experiment is one whole point"
            section[key].add(f"{key} {message}", hint="put defaults under `fixed`, or use another strategy")
    parts = section["catalog"].keys(_KEYS, what=_WHAT)
    if parts is None:
        return None
    if "experiments" not in parts:
        section["catalog"].add("the key 'experiments' is missing", expected=_WHAT)
        return None
    fixed = read_space({key: section[key] for key in ("fixed",) if key in section}, cursor.book)
    found = _experiments(parts, base)
    modes = _modes(parts["modes"], found) if "modes" in parts and found else {}
    names = _asked(section, spec, chosen, modes, found) if found else []
    if fixed is None or not found or len(cursor.book) > before:
        return None
    space = _space(names, found, fixed.fixed)
    return None if space is None else (space, StrategySpec("catalog", {"names": names}))


def _experiments(parts: Mapping[str, Cursor], base: Path) -> _Experiments | None:
    ignored = read_names(parts["ignore"]) or [] if "ignore" in parts else []
    cursor = parts["experiments"]
    found = _Experiments({}, {})
    if isinstance(cursor.node, Scalar):
        pairs = [_named(row) for row in read_table(cursor, base) or ()]
        ignored = [*ignored, *_TITLES]
    else:
        entries = cursor.entries("experiments by name, or a CSV file")
        pairs = [(key.text, value) for key, value in entries or ()]
    for name, row in pairs:
        if not name.strip() or len(name) > MOST_NAME or any(map(not_printed, name)):
            row.add("an experiment has no usable name", found=shown(name), expected="a name on one line")
        elif name in found.lines:
            first = found.lines[name]
            row.add(f"the experiment {name!r} is also on line {first.line}", found=shown(name))
        found.lines.setdefault(name, row)
        found.rows[name] = _parameters(row, ignored)
    if not pairs and not isinstance(cursor.node, Scalar):
        cursor.add("is empty: it needs at least one experiment", expected=_WHAT)
    return found if pairs else None


def _named(row: Cursor) -> tuple[str, Cursor]:
    """Return the name of a table's row, and the rest of it."""
    entries = row.entries() or []
    title = next((title for title in _TITLES if any(key.text == title for key, _ in entries)), "")
    named = (value.node for key, value in entries if key.text == title)
    name = next((node.text for node in named if isinstance(node, Scalar)), "")
    if not name:
        row.add("has no name", expected=f"a column {words(_TITLES[:2], 'or')} with a name in every row")
    return name or f"line {row.line}", row


def _parameters(row: Cursor, ignored: Iterable[str]) -> dict[str, Any]:
    entries = () if row.is_null else row.entries("parameters and their values: {learning_rate: 1e-4}") or ()
    read: dict[str, Any] = {}
    for key, value in entries:
        if key.text in ignored:
            continue
        if key.text == EXPERIMENT:
            value.add(f"the parameter {EXPERIMENT} is the name of the experiment", hint="call it otherwise")
        read[key.text] = value.plain()
    return read


def _modes(cursor: Cursor, found: _Experiments) -> dict[str, list[str]]:
    modes: dict[str, list[str]] = {}
    for key, value in cursor.entries("modes by name: {quick: [a, b]}") or ():
        names = read_names(value) or []
        for item, name in zip(value.items() or (), names, strict=False):
            _check_known(item, name, found.rows, "experiment")
        if key.text == FULL:
            value.add(f"the mode {FULL!r} is always there: all experiments", hint="call it otherwise")
        modes[key.text] = names
    return modes


def _asked(
    section: Mapping[str, Cursor],
    spec: StrategySpec,
    chosen: Chosen,
    modes: Mapping[str, list[str]],
    found: _Experiments,
) -> list[str]:
    """Return the names asked for: by the command line, else by the file; all where neither does."""
    cursor = section["strategy"]
    mode = chosen.mode if chosen else spec.options.get("mode", "")
    # Named twice on the command line it is meant once; a file with a name twice was refused.
    names = list(dict.fromkeys(chosen.names)) if chosen else list(spec.options.get("names", ()))
    if mode:
        known = {FULL: list(found.rows), **modes}
        _check_known(cursor, mode, known, "mode")
        return known.get(mode, [])
    for name in names:
        _check_known(cursor, name, found.rows, "experiment")
    return names or list(found.rows)


def _check_known(cursor: Cursor, name: str, known: Iterable[str], what: str) -> None:
    known = list(known)
    if name in known:
        return
    near = near_miss(name, known)
    message = f"the catalog has no {what} {shown(name)}" + (f"; {near}" if near else "")
    cursor.add(message, found=shown(name), expected=words(known[:30], "or"))


def _space(names: list[str], found: _Experiments, fixed: Mapping[str, Any]) -> Space | None:
    """Return the space with one row for each of *names*; note what an experiment lacks, and equal ones."""
    columns = list(dict.fromkeys(parameter for name in names for parameter in found.rows[name]))
    wrong = False
    rows = []
    for name in names:
        row = {**{key: fixed[key] for key in columns if key in fixed}, **found.rows[name]}
        missing = [key for key in columns if key not in row]
        if missing:
            message = f"the experiment {shown(name)} has no value for {words(map(repr, missing))}"
            hint = "other experiments have one: give it here, or a default under `fixed`"
            found.lines[name].add(message, found=shown(name), hint=hint)
            wrong = True
        rows.append([row.get(key) for key in columns])
    for first, later in duplicates(rows):
        message = f"the experiments {shown(names[first])} and {shown(names[later])} are equal"
        found.lines[names[later]].add(message, found=shown(names[later]), hint="remove one of them")
        wrong = True
    if wrong:
        return None
    group = {key: tuple(row[place] for row in rows) for place, key in enumerate(columns)}
    rest = {key: value for key, value in fixed.items() if key not in group}
    return Space({}, (group,) if group else (), rest)
