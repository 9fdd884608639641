"""How the data are split, in words: folds, the sizes of their sides, and what stands on two of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hpc_search.layout import Layout
from hpc_search.records.search import FoldsSpec
from hpc_search.records.splits import Overlap, SplitsIndex

_SIDES = ("train", "val", "test")


def folds_lines(splits: SplitsIndex) -> list[str]:
    """Return the rows on the folds of a plan."""
    folds, data = splits.folds, splits.data
    rows = [
        f"  folds      {len(folds)} ({_kind(splits.spec)})",
        f"  sides      {_sizes(splits)} of {data.rows:,} rows",
        f"  test side  {_test(splits)}",
    ]
    if data.index and not data.spec.group:
        rows.insert(1, "  groups     none: each row counts as independent of all others")
    if (rest := splits.files.get(Layout(Path()).splits_rest.as_posix())) is not None:
        rows.append(f"  left out   {rest.rows:,} rows are in no fold")
    if data.files:
        rows.append(f"  files      {data.files:,} of {data.bytes:,} bytes, listed with their sizes")
    return rows + [f"  overlap    {text}" for text in overlap_words(splits.overlaps, len(folds))]


def overlap_words(overlaps: Iterable[Overlap], folds: int) -> list[str]:
    """Return which values stand on two sides of a fold: column after column, a row a pair of sides."""
    found: dict[str, dict[tuple[str, str], list[Overlap]]] = {}
    for overlap in overlaps:
        found.setdefault(overlap.column, {}).setdefault(overlap.sides, []).append(overlap)
    return [
        f"{column}: {_most(several)} on both {one} and {other}, in {len(several)} of {folds} folds, "
        f"such as {several[0].examples[0]!r}"
        for column, pairs in found.items()
        for (one, other), several in sorted(pairs.items(), key=lambda pair: _place(pair[0]))
    ]


def _place(sides: tuple[str, str]) -> tuple[int, ...]:
    return tuple(map(_SIDES.index, sides))


def _most(overlaps: list[Overlap]) -> str:
    low, high = min(one.count for one in overlaps), max(one.count for one in overlaps)
    values = "value" if high == 1 else "values"
    return f"{high:,} {values}" if low == high else f"{low:,} to {high:,} values"


def _kind(spec: FoldsSpec) -> str:
    seed = f"by split seed {spec.seed}"
    match spec.kind:
        case "leave_one_group_out":
            text = "one for each group"
        case "time":
            text = f"in the order of time, {spec.gap:,} rows between train and val"
        case "hash" | "shuffle":
            shares = "/".join(f"{share:g}" for share in spec.shares or ())
            how = "md5 of name and seed" if spec.kind == "hash" else "shuffle of names"
            text = f"shares {shares}, by {how}, {seed}"
        case "file":
            text = f"of {spec.file}"
        case "splitter":
            text = f"of {spec.function}"
        case _:
            text = f"{spec.kind}, shuffled {seed}"
    text += f", {spec.repeats} times" if spec.repeats > 1 else ""
    text += f", test share {spec.test_share:g}" if spec.test_share else ""
    text += f", no {' or '.join(spec.apart)} on two sides" if spec.apart else ""
    return f"{spec.outer} outer, each with {spec.n or 'its'} inner: {text}" if spec.outer else text


def _sizes(splits: SplitsIndex) -> str:
    parts = []
    for side in _SIDES:
        sizes = [splits.files[fold.sides[side]].rows for fold in splits.folds if side in fold.sides]
        if sizes:
            low, high = min(sizes), max(sizes)
            parts.append(f"{side} {low:,}" if low == high else f"{side} {low:,} to {high:,}")
    return ", ".join(parts)


def _test(splits: SplitsIndex) -> str:
    folds = splits.folds
    tests = {fold.test for fold in folds}
    if tests == {""}:
        return "none: `test` has nothing to look at"
    if len(tests) == 1:
        return "all folds have the same; only `test` looks at it, once"
    each = "each outer fold" if folds[0].outer is not None else "each fold"
    return f"{each} has its own; only `test` looks at them, once"
