"""Reads `data` and `folds`: where the samples stand, and how they are split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from hpc_search.config.nodes import Scalar
from hpc_search.config.problems import words
from hpc_search.config.programs import FUNCTION, read_function
from hpc_search.config.reader import Cursor, each, fields
from hpc_search.records.search import DataSpec, FoldsSpec
from hpc_search.splits.spec import SEED_MAX, SHARED, SHUFFLED

#: Kinds that are one number of folds.
_COUNTED: Final = ("kfold", "stratified", "grouped", "stratified_grouped", "time")
#: Ways to split, and the further keys of each.
SCHEMES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(SHUFFLED, ("seed", "test_share", "repeats", "apart")),
    "leave_one_group_out": ("seed", "test_share", "apart"),
    "time": ("gap", "test_share", "apart"),
    **dict.fromkeys(SHARED, ("seed", "apart")),
    "file": ("apart",),
    "splitter": ("seed", "test_share", "apart"),
    "nested": ("seed", "gap", "repeats", "apart"),
}
#: Kinds that nested folds can have inside.
_INNER: Final = (*SHUFFLED, "leave_one_group_out", "time")
#: Seed of the DNA workflow that the hash split follows.
_HASH_SEED: Final = 42
_MOST_FOLDS: Final = 100_000
_FOLDS_WORDS: Final = f"folds such as {{stratified: 5}}, with {words(SCHEMES, 'or')}"
_DATA_WORDS: Final = "data such as {index: data.csv, id: sample, label: y}"
_NESTED_WORDS: Final = "{outer: 5, inner: {stratified: 4}}"
_SHARES_WORDS: Final = "shares of train, validation and test that add up to 1: [0.7, 0.15, 0.15]"
#: Columns of the data, in the order of a file.
_COLUMNS: Final = ("id", "label", "group", "time", "path")

Kind = dict[str, Any]


# -- data
def read_data(cursor: Cursor) -> DataSpec | None:
    """Return where ids, labels, groups and other columns come from."""
    keys = ("index", "function", *_COLUMNS, "root", "columns")
    section = cursor.keys(keys, what=_DATA_WORDS)
    if section is None:
        return None
    if ("index" in section) == ("function" in section):
        cursor.add("needs one of index and function", expected="{index: data.csv, id: sample, label: y}")
    if "root" in section and "path" not in section:
        section["root"].add("is the directory of the files that `path` names", expected="path: COLUMN")
    readers: dict[str, Callable[[Cursor], object]] = dict.fromkeys(("index", "root", *_COLUMNS), _name)
    given = fields(section, readers | {"function": read_function, "columns": _names})
    if FUNCTION.fullmatch(given.get("index", "")):
        given["function"] = given.pop("index")
    return DataSpec(**given)


def _name(cursor: Cursor) -> str | None:
    return cursor.text("a name on one line", most=1000)


def _names(cursor: Cursor) -> tuple[str, ...] | None:
    """Return names of columns, none of them twice."""
    items = cursor.items("a list of columns: [tissue, chromosome]", empty=True)
    if items is None:
        return None
    names = tuple(each(items, _name))
    for place, name in enumerate(names):
        if name in names[:place]:
            items[place].add("the column is there twice", hint="remove one of them")
    return names


# -- folds
def read_folds(cursor: Cursor) -> FoldsSpec | None:
    """Return how the data are split."""
    before = len(cursor.book)
    options = dict.fromkeys(key for keys in SCHEMES.values() for key in keys)
    section = cursor.keys((*SCHEMES, *options), what=_FOLDS_WORDS)
    if section is None:
        return None
    schemes = [scheme for scheme in SCHEMES if scheme in section]
    if len(schemes) != 1:
        message = f"needs one of {words(SCHEMES, 'and')}"
        cursor.add(message, expected="one way to split, such as {stratified: 5}")
    kinds = [_READERS[scheme](section[scheme], scheme) for scheme in schemes]
    known = {key for kind in kinds if kind is not None for key in _keys(kind)}
    for key in (key for key in options if key in section and known and key not in known):
        section[key].add(f"is no key of {schemes[0]} folds", hint="remove it")
    given = fields(section, _OPTIONS)
    if len(cursor.book) > before or not kinds or kinds[0] is None:
        return None
    return FoldsSpec(**{**kinds[0], **given})


def _keys(kind: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the further keys that folds of *kind* can have."""
    own = SCHEMES[kind["kind"]]
    return tuple(key for key in SCHEMES["nested"] if key in (*own, "seed")) if "outer" in kind else own


def _counted(cursor: Cursor, scheme: str) -> Kind | None:
    count = cursor.integer(2, _MOST_FOLDS)
    return None if count is None else {"kind": scheme, "n": count}


def _groups(cursor: Cursor, scheme: str) -> Kind | None:
    if not (isinstance(cursor.node, Scalar) and cursor.node.value is True):
        cursor.add("has as many folds as the data have groups", expected=f"{scheme}: true")
        return None
    return {"kind": scheme}


def _shares(cursor: Cursor, scheme: str) -> Kind | None:
    before = len(cursor.book)
    items = cursor.items(_SHARES_WORDS)
    shares = tuple(each(items or (), lambda item: item.number("a share between 0 and 1")))
    if items is None or len(cursor.book) > before:
        return None
    if len(shares) != 3:
        cursor.add(f"has {len(shares)} shares", expected=_SHARES_WORDS)
        return None
    train, val, test = shares
    if min(train, val) <= 0 or test < 0 or not math.isclose(train + val + test, 1, abs_tol=1e-9):
        found = f"{train:g} + {val:g} + {test:g} = {train + val + test:g}"
        cursor.add("are no shares of the data", found=found, expected=_SHARES_WORDS)
        return None
    seed = {"seed": _HASH_SEED} if scheme == "hash" else {}
    return {"kind": scheme, "n": 1, "shares": shares, **seed}


def _file(cursor: Cursor, scheme: str) -> Kind | None:
    name = cursor.text("the name of a folds.json, relative to the search file", most=1000)
    return None if name is None else {"kind": scheme, "file": name}


def _splitter(cursor: Cursor, scheme: str) -> Kind | None:
    function = read_function(cursor)
    return None if function is None else {"kind": scheme, "function": function}


def _nested(cursor: Cursor, _: str) -> Kind | None:
    section = cursor.keys(("outer", "inner"), what=_NESTED_WORDS)
    if section is None:
        return None
    for key in ("outer", "inner"):
        if key not in section:
            cursor.add(f"the key {key!r} is missing", expected=_NESTED_WORDS)
    given = fields(section, {"outer": lambda c: c.integer(2, _MOST_FOLDS), "inner": _inner})
    return {**given.pop("inner"), **given} if len(given) == 2 else None


def _inner(cursor: Cursor) -> Kind | None:
    section = cursor.keys(_INNER, what="the inner folds, such as {stratified: 4}")
    if section is None:
        return None
    if len(section) != 1:
        cursor.add(f"needs one of {words(_INNER, 'and')}", expected="{stratified: 4}")
        return None
    return next(_READERS[scheme](value, scheme) for scheme, value in section.items())


def _seed(cursor: Cursor) -> int | None:
    if not isinstance(cursor.node, Scalar) or isinstance(cursor.node.value, str):
        cursor.add("the split seed cannot be searched: all trials share the folds", expected="an integer")
        return None
    return cursor.integer(0, SEED_MAX)


def _share(cursor: Cursor) -> float | None:
    share = cursor.number("a share of the data, 0 or more and below 1")
    if share is not None and not 0 <= share < 1:
        cursor.add("is out of range", expected="0 or more and below 1")
        return None
    return share


_READERS: Final[Mapping[str, Callable[[Cursor, str], Kind | None]]] = {
    **dict.fromkeys(_COUNTED, _counted),
    **dict.fromkeys(SHARED, _shares),
    "leave_one_group_out": _groups,
    "file": _file,
    "splitter": _splitter,
    "nested": _nested,
}
_OPTIONS: Final[Mapping[str, Callable[[Cursor], object]]] = {
    "seed": _seed,
    "test_share": _share,
    "repeats": lambda c: c.integer(1, 1000),
    "gap": lambda c: c.integer(0, 1_000_000_000),
    "apart": _names,
}


# -- written again
def dump_samples(data: DataSpec | None, folds: FoldsSpec | None) -> dict[str, Any]:
    """Return the keys that are read here."""
    found: dict[str, Any] = {}
    if data is not None:
        keys = ("index", "function", *_COLUMNS, "root", "columns")
        found["data"] = {key: getattr(data, key) for key in keys if getattr(data, key)}
    if folds is not None:
        outer = {"outer": folds.outer} if folds.outer else {}
        named = {key: getattr(folds, key) for key in _keys({"kind": folds.kind, **outer})}
        # The others stand where they say something.
        unsaid = {"repeats": 1, "gap": 0, "apart": ()}
        options = {key: value for key, value in named.items() if unsaid.get(key, ...) != value}
        inner = {folds.kind: _scheme(folds)}
        found["folds"] = {**({"nested": {**outer, "inner": inner}} if outer else inner), **options}
    return found


def _scheme(folds: FoldsSpec) -> Any:
    if folds.kind == "leave_one_group_out":
        return True
    return folds.shares or folds.file or folds.function or folds.n
