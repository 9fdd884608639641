"""Groups of linked lists: the i-th values of all of them belong together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hpc_search.space.canonical import canonical, find


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put *name* in front of what a ValueError says."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def rows_of(group: Mapping[str, Sequence[object]]) -> int:
    """Return the length of the lists."""
    return len(next(iter(group.values())))


def without(group: Mapping[str, tuple[Any, ...]], names: Collection[str]) -> dict[str, tuple[Any, ...]]:
    """Return a linked group without *names*, and without rows that are then equal."""
    kept = {name: values for name, values in group.items() if name not in names}
    rows: dict[bytes, tuple[Any, ...]] = {}
    for row in zip(*kept.values(), strict=True):
        rows.setdefault(canonical(row), row)
    columns = zip(*rows.values(), strict=True)
    return dict(zip(kept, columns, strict=True)) if kept else {}


def row_of(group: Mapping[str, Sequence[Any]], params: Mapping[str, Any]) -> int:
    """Return the number of the row that *params* have.

    Raises:
        ValueError: There is none.
    """
    rows = [{name: values[row] for name, values in group.items()} for row in range(rows_of(group))]
    with naming(", ".join(group)):
        return find(rows, {name: params[name] for name in group})


def check_group(group: Mapping[str, Sequence[object]]) -> None:
    """Check that the lists belong together.

    Raises:
        ValueError: There are none, they are empty or of different lengths, or a value has no canonical form.
    """
    lengths = {name: len(values) for name, values in group.items()}
    if not group or 0 in lengths.values():
        raise ValueError(f"a linked group needs parameters with values, not {lengths}")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"linked lists have different lengths: {lengths}")
    for values in group.values():
        canonical(values)
