"""The data's ids, labels, groups and other columns: from a CSV table or a function of the user."""

from __future__ import annotations

import csv
import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpc_search.errors import PASSING, TemporaryError, UsageError
from hpc_search.planning import code
from hpc_search.records.search import DataSpec
from hpc_search.splits import Table


def load_table(spec: DataSpec, base: Path) -> Table:
    """Return the table that *spec* names; relative paths are below *base*.

    Raises:
        UsageError: The file, the function or a column is missing, or the rows do not fit together.
    """
    if spec.function:
        return _from_value(_call(spec.function, base), spec)
    return _from_csv(base / spec.index, spec)


def further_columns(spec: DataSpec) -> tuple[str, ...]:
    """Return the columns of the table that are neither ids, labels, groups nor times."""
    return tuple(dict.fromkeys((*([spec.path] if spec.path else ()), *spec.columns)))


def _from_csv(path: Path, spec: DataSpec) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or [])
            _need_columns(path, columns, spec)
            rows = list(reader)
    except OSError as error:
        message = f"data.index: {path} cannot be read ({error.strerror})"
        if error.errno in PASSING:
            raise TemporaryError(message, hint="plan again when the file system answers") from error
        raise UsageError(message, hint="the path is relative to the search file") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"data.index: {path} is not a CSV table: {error}") from error
    ragged = [number for number, row in enumerate(rows, 2) if None in row.values() or None in row]
    if ragged:
        raise UsageError(f"{path}:{ragged[0]}: the row does not have {len(columns)} fields")
    return Table(
        ids=_typed([row[spec.id] for row in rows]),
        labels=tuple(row[spec.label] for row in rows) if spec.label else None,
        groups=tuple(row[spec.group] for row in rows) if spec.group else None,
        times=tuple(row[spec.time] for row in rows) if spec.time else None,
        columns={name: tuple(row[name] for row in rows) for name in further_columns(spec)},
    )


def _need_columns(path: Path, columns: Sequence[str], spec: DataSpec) -> None:
    wanted = [name for name in (spec.id, spec.label, spec.group, spec.time) if name]
    missing = [name for name in dict.fromkeys((*wanted, *further_columns(spec))) if name not in columns]
    if missing:
        message = f"{path}: no column {', '.join(map(repr, missing))}"
        raise UsageError(message, hint=f"its columns are: {', '.join(columns)}")


def _typed(ids: list[str]) -> tuple[str | int, ...]:
    if all(text.isdecimal() and str(int(text)) == text for text in ids):
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
        raise _failed(f"{what}: {reference}", error) from error
    finally:
        sys.path.remove(str(base))


def _failed(what: str, error: BaseException) -> UsageError:
    """Return the words for whatever the user's code did, with the place in it."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    place = f"\n  at {frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return UsageError(
        f"{what} failed: {words}{place}",
        hint="it is called by `plan` without arguments; correct it, then plan again",
    )


def _from_value(value: object, spec: DataSpec) -> Table:
    if isinstance(value, Table):
        if lacking := [name for name in further_columns(spec) if name not in value.columns]:
            message = f"data: {spec.function} returned a Table without {', '.join(map(repr, lacking))}"
            raise UsageError(message, hint="give it columns={name: values}, or leave the name out of data:")
        return value
    columns: Any = value
    if not isinstance(value, Mapping) and not hasattr(value, "columns"):
        message = f"data: {spec.function} returned {type(value).__name__}"
        raise UsageError(message, hint="it must return a mapping of columns, a DataFrame or splits.Table")
    _need_columns(Path(spec.function), list(columns.keys()), spec)
    return Table.of(
        columns[spec.id],
        columns[spec.label] if spec.label else None,
        columns[spec.group] if spec.group else None,
        columns[spec.time] if spec.time else None,
        {name: columns[name] for name in further_columns(spec)},
    )
