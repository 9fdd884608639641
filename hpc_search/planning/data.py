"""The data's ids, labels, groups and other columns: from a CSV table or a function of the user."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpc_search.config.problems import near_miss
from hpc_search.errors import UsageError, about
from hpc_search.planning import code
from hpc_search.planning.csvtable import read_records
from hpc_search.records.search import DataSpec
from hpc_search.splits import Table


def load_table(spec: DataSpec, base: Path) -> Table:
    """Return the table that *spec* names; relative paths are below *base*.

    Raises:
        UsageError: The file, the function or a column is missing, or the rows do not fit together.
    """
    with about("data"):
        if spec.function:
            return _from_value(_call(spec.function, base), spec)
        return _from_csv(base / spec.index, spec)


def further_columns(spec: DataSpec) -> tuple[str, ...]:
    """Return the columns of the table that are neither ids, labels, groups nor times."""
    return tuple(dict.fromkeys((*([spec.path] if spec.path else ()), *spec.columns)))


def _from_csv(path: Path, spec: DataSpec) -> Table:
    with about("data.index"):
        header, rows, lines = read_records(path)
    _need_columns(str(path), header, spec)
    places = {name: place for place, name in enumerate(header)}

    def column(name: str) -> tuple[str, ...]:
        place = places[name]
        return tuple(row[place] for row in rows)

    return Table(
        ids=_typed(column(spec.id)),
        labels=column(spec.label) if spec.label else None,
        groups=column(spec.group) if spec.group else None,
        times=column(spec.time) if spec.time else None,
        columns={name: column(name) for name in further_columns(spec)},
        source=str(path),
        lines=lines,
    )


def _need_columns(source: str, columns: Sequence[str], spec: DataSpec) -> None:
    wanted = [name for name in (spec.id, spec.label, spec.group, spec.time) if name]
    missing = [name for name in dict.fromkeys((*wanted, *further_columns(spec))) if name not in columns]
    if missing:
        message = f"{source}: no column {', '.join(map(repr, missing))}"
        raise UsageError(message, hint=_columns_words(columns, missing))


def _columns_words(columns: Sequence[object], missing: Sequence[str]) -> str:
    """Return which *columns* there are, and why those that are *missing* may not be seen."""
    names = [str(name) for name in columns]
    if len(names) == 1 and (mark := next((one for one in ";\t|" if one in names[0]), "")):
        return f"its fields are separated by {mark!r}; expected are commas"
    # Spaces around a name, and what is not printed, are seen in quotes alone.
    shown = [name if name == name.strip() and name.isprintable() and name else repr(name) for name in names]
    near = [words for words in (near_miss(name, names) for name in missing) if words]
    return "; ".join([f"its columns are: {', '.join(shown)}", *near])


def _typed(ids: Sequence[str]) -> tuple[str | int, ...]:
    # Python reads no longer ones.
    if all(text.isdecimal() and len(text) <= 4000 and str(int(text)) == text for text in ids):
        return tuple(int(text) for text in ids)
    return tuple(ids)


def load_named(reference: str, base: Path, what: str = "data") -> Any:
    """Return what ``module:name`` or ``file.py:name`` names, for the key *what*; its module is imported.

    Raises:
        UsageError: There is no such thing, or the module fails.
    """
    name = code.parse_reference(reference)
    source = code.find_source(name, base)
    if source is not None:
        code.check_function(name, source)
    with _importing(reference, base, what):
        return getattr(importlib.import_module(name.module), name.function)


def _call(reference: str, base: Path) -> object:
    function = load_named(reference, base)
    with _importing(reference, base, "data"):
        return function()


@contextmanager
def _importing(reference: str, base: Path, what: str) -> Iterator[None]:
    """Let code of the user import what is in *base*; what it does wrong is told in words."""
    sys.path.insert(0, str(base))
    try:
        yield
    except (Exception, SystemExit) as error:
        raise _failed(reference, what, error) from error
    finally:
        sys.path.remove(str(base))


def _failed(reference: str, key: str, error: BaseException) -> UsageError:
    """Return the words for whatever the user's code did, with the place in it."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    place = f"\n  at {frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""
    text = "\n  ".join(str(error).splitlines())
    words = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return UsageError(
        f"{reference} failed: {words}{place}",
        hint="it is called by `plan` without arguments; correct it, then plan again",
        key=key,
    )


def _from_value(value: object, spec: DataSpec) -> Table:
    if isinstance(value, Table):
        if lacking := [name for name in further_columns(spec) if name not in value.columns]:
            message = f"{spec.function} returned a Table without {', '.join(map(repr, lacking))}"
            raise UsageError(message, hint="give it columns={name: values}, or leave the name out of data:")
        return value
    columns: Any = value
    if not isinstance(value, Mapping) and not hasattr(value, "columns"):
        message = f"{spec.function} returned {type(value).__name__}"
        raise UsageError(message, hint="it must return a mapping of columns, a DataFrame or splits.Table")
    names = list(columns.keys())
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        message = f"{spec.function} returned several columns named {', '.join(map(repr, twice))}"
        raise UsageError(message, hint="give each column a name of its own")
    _need_columns(spec.function, names, spec)
    return Table.of(
        columns[spec.id],
        columns[spec.label] if spec.label else None,
        columns[spec.group] if spec.group else None,
        columns[spec.time] if spec.time else None,
        {name: columns[name] for name in further_columns(spec)},
    )
