"""What the numbers of a ``folds`` entry may be, whatever the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, get_args, get_type_hints

from hpc_search.errors import UsageError
from hpc_search.records.search import FoldsSpec

#: The kinds of folds that ``make_split`` knows.
KINDS: Final[tuple[str, ...]] = get_args(get_type_hints(FoldsSpec)["kind"])
#: Kinds that shuffle by the seed, and so can be repeated with another one.
SHUFFLED: Final = ("kfold", "stratified", "grouped", "stratified_grouped")
#: Kinds of which only the data say how many folds there are.
UNCOUNTED: Final = ("leave_one_group_out", "file", "splitter")
#: Kinds with one fold, cut at shares.
SHARED: Final = ("hash", "shuffle")
#: numpy's generators take no seed outside 0..SEED_MAX.
SEED_MAX: Final = 2**32 - 1


def check_spec(spec: FoldsSpec) -> None:
    """Check everything about *spec* that needs no data.

    Raises:
        UsageError: Something is wrong; everything that is, is named.
    """
    problems = list(spec_problems(spec))
    if problems:
        raise UsageError("\n".join(f"folds: {found}" for found, _ in problems), hint=problems[0][1])


def spec_problems(spec: FoldsSpec) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with *spec*, and what to do about it."""
    if spec.kind not in KINDS:
        yield f"unknown kind of folds {spec.kind!r}", f"use one of: {', '.join(KINDS)}"
        return
    if spec.kind not in (*UNCOUNTED, *SHARED) and spec.n < 2:
        yield f"found {spec.n}, expected at least 2", f"write folds: {{{spec.kind}: 5}}"
    if not 0 <= spec.seed <= SEED_MAX:
        yield f"split seed: found {spec.seed}, expected 0 to {SEED_MAX}", "choose a smaller seed"
    if not 0.0 <= spec.test_share < 1.0:
        yield f"test share: found {spec.test_share}, expected 0 or more and below 1", "try 0.2"
    if spec.gap < 0 or (spec.gap and spec.kind != "time"):
        expected = "0 or more" if spec.kind == "time" else f"none with kind {spec.kind}"
        yield f"gap: found {spec.gap}, expected {expected}", "gap goes with folds: {time: N, gap: ROWS}"
    yield from _repeat_problems(spec)
    yield from _outer_problems(spec)
    yield from _test_problems(spec)
    yield from _share_problems(spec)


def _repeat_problems(spec: FoldsSpec) -> Iterator[tuple[str, str]]:
    if spec.repeats < 1:
        yield f"repeats: found {spec.repeats}, expected at least 1", "leave repeats out for one"
    if spec.repeats > 1 and spec.kind not in SHUFFLED:
        hint = f"repeats go with: {', '.join(SHUFFLED)}"
        yield f"repeats: found {spec.repeats}; folds of kind {spec.kind} would be the same each time", hint


def _outer_problems(spec: FoldsSpec) -> Iterator[tuple[str, str]]:
    if not spec.outer:
        return
    if spec.outer < 2:
        yield f"outer: found {spec.outer}, expected at least 2", "write nested: {outer: 5, inner: {kfold: 4}}"
    if spec.kind in (*SHARED, "file", "splitter"):
        yield f"folds of kind {spec.kind} cannot be nested", "use kfold, stratified, grouped or time inside"
    if spec.test_share:
        message = f"test share: found {spec.test_share}; each outer fold of nested folds is a test side"
        yield message, "leave test_share out"


def _test_problems(spec: FoldsSpec) -> Iterator[tuple[str, str]]:
    if spec.test_share and spec.kind in (*SHARED, "file"):
        message = f"test share: found {spec.test_share}; folds of kind {spec.kind} have their own test side"
        yield message, "leave test_share out"


def _share_problems(spec: FoldsSpec) -> Iterator[tuple[str, str]]:
    if spec.kind not in SHARED:
        if spec.shares is not None:
            yield f"shares: found {spec.shares}; they go with hash and shuffle only", "leave them out"
        return
    hint = f"write folds: {{{spec.kind}: [0.7, 0.15, 0.15]}}"
    if spec.shares is None or len(spec.shares) != 3:
        yield f"shares: found {spec.shares}, expected those of train, validation and test", hint
        return
    train, val, test = spec.shares
    if not (train > 0 and val > 0 and test >= 0):
        yield f"shares: found {train:g}, {val:g}, {test:g}; train and validation need more than 0", hint
    elif abs(sum(spec.shares) - 1) > 1e-9:
        yield f"shares: {train:g} + {val:g} + {test:g} = {sum(spec.shares):.10g}, expected 1", hint
