"""The split of a table as the search file says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress

from hpc_search.errors import UsageError
from hpc_search.records.search import FoldsSpec
from hpc_search.splits import named, shuffled
from hpc_search.splits.columns import check_columns
from hpc_search.splits.folds import Fold, Split
from hpc_search.splits.foldsfile import from_file
from hpc_search.splits.ordered import Timeline
from hpc_search.splits.overlaps import check_sides
from hpc_search.splits.plugged import Splitter, from_splitter
from hpc_search.splits.shuffled import Pair, Units
from hpc_search.splits.spec import check_spec
from hpc_search.splits.table import Table
from hpc_search.splits.words import listed


def make_split(
    table: Table, spec: FoldsSpec, *, file: str | bytes = "", splitter: Splitter | None = None
) -> Split:
    """Return the folds that *spec* says, of all kinds.

    *file* is the content of the folds.json that ``spec.file`` names, *splitter* what ``spec.function`` names.
    Rows are shuffled by the seed of *spec* alone: the same arguments give the same split. Groups of the table
    stay together in each kind. A test part of ``test_share`` is taken first and is in no fold.

    Raises:
        UsageError: The table has not what the kind needs, or too few rows, groups or members of a
            class, or two sides of a fold share what they must not; the message has the numbers.
    """
    check_spec(spec)
    check_columns(table, spec.kind, spec.apart)
    if spec.kind == "file":
        split = from_file(table, file, spec.file or "folds.json", spec.apart)
    elif spec.kind == "hash" and spec.shares:
        split = Split((named.by_hash(table, spec.shares, spec.seed),))
    elif spec.kind == "shuffle" and spec.shares:
        split = Split((named.by_shuffle(table, spec.shares, spec.seed),))
    elif spec.kind == "splitter":
        if splitter is None:
            message = f"the splitter {spec.function!r} is not there"
            raise UsageError(message, hint="name it as module:name in folds: {splitter: ...}", key="folds")
        test = _test_part(table, spec)
        split = from_splitter(table, splitter, test, spec.function)
    elif spec.outer:
        split = Split(tuple(_nested(table, spec)))
    else:
        test = _checked_test(table, spec)
        pairs = _repeated(table, _without(table, test), spec, spec.seed)
        split = Split(tuple(_numbered(pairs, test)))
    apart = (*spec.apart, "time") if spec.kind == "time" else spec.apart
    if spec.kind in {"file", "splitter"}:
        _check_differ(split, spec.file or spec.function)
    check_sides(split, table, apart)
    return split


def _check_differ(split: Split, name: str) -> None:
    """Check that no fold comes twice: it would count twice in every mean and error.

    Raises:
        UsageError: Some do; all are named.
    """
    same: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for fold in split.folds:
        same.setdefault((fold.train, fold.val, fold.test), []).append(fold.number)
    if twice := [numbers for numbers in same.values() if len(numbers) > 1]:
        lines = (f"{name}: folds {listed(numbers)} have the same rows on each side" for numbers in twice)
        raise UsageError(
            "\n".join(lines), hint="each fold counts once: give it rows of its own, or remove it"
        )


def _test_part(table: Table, spec: FoldsSpec) -> list[int]:
    if spec.kind == "time":
        return Timeline(table).newest(spec.test_share, spec.n)
    units = Units.of(table, "kfold" if spec.kind == "splitter" else spec.kind)
    return shuffled.take_test(units, _without(table, ()), spec.test_share, spec.seed)


def _checked_test(table: Table, spec: FoldsSpec) -> list[int]:
    """Return the rows of the test part, which leave enough for the folds.

    Raises:
        UsageError: They do not; it is said which share would.
    """
    if spec.kind == "time" or not spec.test_share:
        return _test_part(table, spec)
    units, rows = Units.of(table, spec.kind), _without(table, ())

    def taken(share: float) -> list[int]:
        test = shuffled.take_test(units, rows, share, spec.seed)
        shuffled.check_enough(units, _without(table, test), spec.n or 2)
        return test

    try:
        return taken(spec.test_share)
    except UsageError as error:
        wrong = error
    for share in (part / 100 for part in range(95, -1, -5) if part / 100 < spec.test_share):
        with suppress(UsageError):
            left = len(rows) - len(taken(share))
            message = f"a test share of {spec.test_share:g} is too large: {wrong.message}"
            small = f"a test share of {share:g} leaves enough, {left:,} rows"
            hint = f"{small if share else 'leave test_share out: no smaller one does'}; or {wrong.hint}"
            wrong = UsageError(message, hint=hint, key="folds.test_share")
            break
    raise wrong


def _nested(table: Table, spec: FoldsSpec) -> Iterator[Fold]:
    """Return the inner folds of each outer one: its validation rows are the test rows of all of them."""
    kind = "grouped" if spec.kind == "leave_one_group_out" else spec.kind
    if kind == "time":
        outer = Timeline(table).folds(spec.outer, spec.gap, "outer folds")
    else:
        outer = shuffled.deal(
            Units.of(table, kind), _without(table, ()), spec.outer, spec.seed, "outer folds"
        )
    number = 0
    for which, (train, test) in enumerate(outer):
        try:
            inner = list(_repeated(table, list(train), spec, derived_seed(spec.seed, f"outer {which}")))
        except UsageError as error:
            message = f"outer fold {which}: {error.message}"
            raise UsageError(message, hint=error.hint, key=error.key) from error
        yield from _numbered(inner, test, number, which)
        number += len(inner)


def _repeated(table: Table, rows: list[int], spec: FoldsSpec, seed: int) -> Iterator[Pair]:
    if spec.kind == "time":
        yield from Timeline(table, rows).folds(spec.n, spec.gap)
        return
    units = Units.of(table, spec.kind)
    if spec.kind == "leave_one_group_out":
        yield from shuffled.leave_one_out(units, rows)
        return
    shuffled.check_repeats(units, rows, spec.n, spec.repeats)
    for repeat in range(spec.repeats):
        # The first repeat is the split without repeats: more of them only add folds.
        own = derived_seed(seed, f"repeat {repeat}") if repeat else seed
        yield from shuffled.deal(units, rows, spec.n, own)


def _numbered(
    pairs: Iterable[Pair], test: Iterable[int], first: int = 0, outer: int | None = None
) -> Iterator[Fold]:
    shared = tuple(sorted(test))
    for number, (train, val) in enumerate(pairs, first):
        yield Fold(number, train, val, shared, outer)


def _without(table: Table, taken: Iterable[int]) -> list[int]:
    chosen = set(taken)
    return [row for row in range(len(table.ids)) if row not in chosen]


def derived_seed(seed: int, purpose: str) -> int:
    """Return the seed that *seed* has for *purpose*: another one, and always the same."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {purpose}".encode(), digest_size=4).digest(), "big")
