"""Reads ``pruning``: which rule ends trials early, and when it looks at them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from hpc_search.config.nodes import Scalar
from hpc_search.config.problems import near_miss, shown, words
from hpc_search.config.reader import Cursor, fields
from hpc_search.records.search import PruningSpec

_Fields = Mapping[str, Callable[[Cursor], object]]
_MOST: Final = 1_000_000_000


def _eta(cursor: Cursor) -> int | None:
    value = cursor.node.value if isinstance(cursor.node, Scalar) else None
    if value == 1:
        cursor.add("of each rung all would go on", expected="2 or more: one in eta goes on")
        return None
    return cursor.integer(2, 1000)


def _keep(cursor: Cursor) -> float | None:
    keep = cursor.number("a percentage above 0 and below 100")
    if keep is not None and not 0 < keep < 100:
        cursor.add("is out of range", expected="above 0 and below 100: the best 25 percent are {keep: 25}")
        return None
    return keep


_FIRST: Final[_Fields] = {"first_step": lambda c: c.integer(0, 1)}
_RUNGS: Final[_Fields] = {
    "min_steps": lambda c: c.integer(1, _MOST),
    "max_steps": lambda c: c.integer(1, _MOST),
    "eta": _eta,
    **_FIRST,
}
_STEPS: Final[_Fields] = {
    "startup": lambda c: c.integer(0, _MOST),
    "warmup": lambda c: c.integer(0, _MOST),
    "interval": lambda c: c.integer(1, _MOST),
    **_FIRST,
}
_OPTIONS: Final[Mapping[str, _Fields]] = {
    "asha": _RUNGS,
    "hyperband": _RUNGS,
    "successive_halving": _RUNGS,
    "median": _STEPS,
    "percentile": {"keep": _keep, **_STEPS},
    "patient": {
        "patience": lambda c: c.integer(1, _MOST),
        "rule": lambda c: _inner(c),  # noqa: PLW0108 - it stands below
    },
}
_DEFAULTS: Final[Mapping[str, Any]] = {
    "min_steps": 1,
    "eta": 3,
    "keep": 25.0,
    "startup": 5,
    "warmup": 0,
    "interval": 1,
    "first_step": 0,
}
_RUNGS_WORDS: Final = "{min_steps: 1, max_steps: 27, eta: 3}"
_WORDS: Final = f"a rule such as {{asha: {_RUNGS_WORDS}}} or {{median: {{startup: 5}}}}"
_PATIENT_WORDS: Final = "{patience: 2, rule: {median: {}}}"


def read_pruning(cursor: Cursor) -> PruningSpec | None:
    """Return the rule, every default filled in; None where it is wrong."""
    if isinstance(cursor.node, Scalar):
        # `pruning: median` is the rule with its defaults.
        kind = cursor.one_of(_OPTIONS)
        return None if kind is None else _rule(kind, cursor, {})
    entries = cursor.entries(_WORDS)
    if entries is None:
        return None
    if len(entries) != 1:
        cursor.add("is not one rule", expected=_WORDS)
        return None
    key, options = entries[0]
    if key.text not in _OPTIONS:
        near = near_miss(key.text, _OPTIONS)
        message = f"unknown rule {shown(key.text)}" + (f"; {near}" if near else "")
        cursor.book.add(key.line, options.path, message, expected=words(tuple(_OPTIONS), "or"))
        return None
    section = {} if options.is_null else options.keys(tuple(_OPTIONS[key.text]))
    return None if section is None else _rule(key.text, options, section)


def _rule(kind: str, cursor: Cursor, section: Mapping[str, Cursor]) -> PruningSpec | None:
    known = len(cursor.book)
    readers = _OPTIONS[kind]
    given = fields(section, readers)
    needed = {"max_steps": _RUNGS_WORDS, "patience": _PATIENT_WORDS, "rule": _PATIENT_WORDS}
    for name in (name for name in needed if name in readers and name not in section):
        cursor.add(f"{kind} needs {name}", expected=f"{{{kind}: {needed[name]}}}")
    options = {name: given.get(name, _DEFAULTS.get(name)) for name in readers}
    if "max_steps" in given and given["max_steps"] <= options["min_steps"]:
        message = f"min_steps is {options['min_steps']}, so that no rung comes before the end"
        section["max_steps"].add(message, expected="more than min_steps")
    if len(cursor.book) > known:
        return None
    inner = options.pop("rule", None)
    return PruningSpec(kind=kind, options=options, inner=inner)


def _inner(cursor: Cursor) -> PruningSpec | None:
    inner = read_pruning(cursor)
    if inner is not None and inner.kind == "patient":
        cursor.add("patient waits for another rule, not for itself", expected=_PATIENT_WORDS)
        return None
    if inner is not None and inner.kind == "successive_halving":
        message = "successive_halving waits for all trials, patient lets some go on"
        cursor.add(message, expected="asha or hyperband inside of patient")
        return None
    return inner


def pruning_plain(spec: PruningSpec) -> dict[str, Any]:
    """Return the rule as a search file has it."""
    rule = {} if spec.inner is None else {"rule": pruning_plain(spec.inner)}
    return {spec.kind: {**spec.options, **rule}}
