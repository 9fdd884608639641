"""The data's ids, labels and groups: from a CSV table or a function of the user."""

from __future__ import annotations

import csv
import importlib
import sys
import traceback
from collections.abc import Mapping, Sequence
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
    )


def _need_columns(path: Path, columns: Sequence[str], spec: DataSpec) -> None:
    wanted = [name for name in (spec.id, spec.label, spec.group) if name]
    missing = [name for name in wanted if name not in columns]
    if missing:
        message = f"{path}: no column {', '.join(map(repr, missing))}"
        raise UsageError(message, hint=f"its columns are: {', '.join(columns)}")


def _typed(ids: list[str]) -> tuple[str | int, ...]:
    if all(text.isdecimal() and str(int(text)) == text for text in ids):
        return tuple(int(text) for text in ids)
    return tuple(ids)


def _call(reference: str, base: Path) -> object:
    name = code.parse_reference(reference)
    source = code.find_source(name, base)
    if source is not None:
        code.check_function(name, source)
    sys.path.insert(0, str(base))
    try:
        return getattr(importlib.import_module(name.module), name.function)()
    except (Exception, SystemExit) as error:
        raise _failed(reference, error) from error
    finally:
        sys.path.remove(str(base))


def _failed(reference: str, error: BaseException) -> UsageError:
    """Return the words for whatever the user's code did, with the place in it."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename
    ]
    place = f"\n  at {frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if len(frames) > 1 else ""
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return UsageError(
        f"data: {reference} failed: {words}{place}",
        hint="it is called by `plan` without arguments; correct it, then plan again",
    )


def _from_value(value: object, spec: DataSpec) -> Table:
    if isinstance(value, Table):
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
    )
