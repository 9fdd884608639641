"""Checks between the keys of a search file: counts, times, and names that must fit each other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from msgspec import structs

from hpc_search.config.nodes import Sequence as ListNode
from hpc_search.config.problems import near_miss, shown, words
from hpc_search.config.reader import Cursor
from hpc_search.config.scalars import INT_HIGH
from hpc_search.records.plan import FoldsSpec, Retry, Search, StrategySpec
from hpc_search.space import Choice, Int, LogInt, LogUniform, Space, Uniform

#: Placeholders of a command that are no parameters.
RESERVED: Final = ("number", "fold", "seed", "attempt", "checkpoint_dir", "threads", "device", "accumulation")

_PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_DEFAULTS: Final[dict[str, Any]] = {field.name: field.default for field in structs.fields(Search)}


def together(section: Mapping[str, Cursor], given: Mapping[str, Any]) -> None:
    """Note what is wrong between keys; parts that are wrong in themselves are None in *given*."""
    space: Space | None = given["space"]
    _times(section, given)
    _folds(section, given)
    if space is None:
        return
    if "command" in section:
        _placeholders(section["command"], space)
    if "retry" in section:
        _halved(section["retry"], given.get("retry"), space)
        _accumulates(section, given.get("retry"))
    if given["strategy"] is not None:
        _counts(section, given, space, given["strategy"])


def factors(space: Space) -> str:
    """Return the size of a finite space as a product, dimensions first: ``5 x 5 x 3^7``."""
    counts = [count for _, count in _counted(space)]
    groups = [(count, len(list(same))) for count, same in groupby(counts)]
    return " x ".join(
        f"{count:,}^{times}" if times > 2 else " x ".join([f"{count:,}"] * times) for count, times in groups
    )


def product(space: Space, points: int) -> str:
    """Return the number of points of a finite space, with its factors where there are several."""
    text = factors(space)
    return f"{text} = {number(points)}" if " " in text or "^" in text else number(points)


def number(count: int) -> str:
    """Return *count* with separators; beyond 30 digits only its size, ``about 10^57``."""
    return f"{count:,}" if count < 10**30 else f"about 10^{int(math.log10(count))}"


def _counted(space: Space) -> Iterator[tuple[str, int]]:
    for name, dimension in space.dimensions.items():
        if not isinstance(dimension, Uniform | LogUniform):
            yield name, dimension.count()
    for group in space.linked:
        yield " + ".join(group), len(next(iter(group.values())))


def _value(given: Mapping[str, Any], key: str) -> Any:
    return given[key] if key in given else _DEFAULTS[key]


def _times(section: Mapping[str, Cursor], given: Mapping[str, Any]) -> None:
    heartbeat, lease = _value(given, "heartbeat"), _value(given, "lease")
    unread = any(name in section and name not in given for name in ("heartbeat", "lease"))
    if unread or lease >= 5 * heartbeat:
        return
    key = "lease" if "lease" in section else "heartbeat"
    section[key].add(
        "the lease is shorter than 5 heartbeats, so a live worker would be taken for dead",
        found=f"lease {lease:g} s, heartbeat {heartbeat:g} s",
        expected=f"lease of {5 * heartbeat:g} s or more",
    )


def _folds(section: Mapping[str, Cursor], given: Mapping[str, Any]) -> None:
    folds: FoldsSpec | None = given.get("folds")
    if folds is None:
        return
    data = given.get("data")
    column = {"stratified": "label", "grouped": "group"}.get(folds.kind, "")
    if data is None and "data" not in section:
        expected = "data: {index: data.csv, id: sample, label: y}"
        section["folds"].add("folds need the samples that they split", expected=expected)
    elif data is not None and column and not getattr(data, column):
        message = f"{folds.kind} folds need the column {column!r}"
        section["data"].add(message, expected=f"data: {{..., {column}: NAME}}")


def _placeholders(command: Cursor, space: Space) -> None:
    known = dict.fromkeys((*space.names, *RESERVED))
    if not isinstance(command.node, ListNode):
        return
    arguments = command.items() or []
    for argument in arguments:
        text = getattr(argument.node, "value", None)
        for match in _PLACEHOLDER.finditer(text) if isinstance(text, str) else ():
            name = match[1]
            if match[0] in ("{{", "}}") or name in known:
                continue
            near = near_miss(name, known) if name else ""
            message = (
                "has a brace without its other half" if name is None else f"unknown parameter {shown(name)}"
            )
            hint = "a brace that is meant as itself is written twice: {{ }}"
            argument.add(
                message + (f"; {near}" if near else ""),
                expected=f"one of {words([*known][:30], 'or')}",
                hint=hint,
            )


def _halved(cursor: Cursor, retry: Retry | None, space: Space) -> None:
    if retry is None or retry.oom is None:
        return
    values = _values_of(retry.oom.halve, space)
    wrong = [value for value in values if type(value) is not int or value < 1]
    if wrong:
        message = f"retry.oom.halve: {retry.oom.halve!r} cannot be halved"
        cursor.add(message, found=shown(wrong[0]), expected="a parameter whose values are integers above 0")


def _accumulates(section: Mapping[str, Cursor], retry: Retry | None) -> None:
    """Note a command that gets the batch as an argument and not its accumulation.

    Half of a batch alone would be another training. A program that takes both from HPC_SEARCH_TRIAL may.
    """
    if retry is None or retry.oom is None or retry.oom.ladder == "plain" or "command" not in section:
        return
    node = section["command"].node
    texts = [getattr(item, "value", None) for item in node.items] if isinstance(node, ListNode) else []
    found = [match[1] for text in texts if isinstance(text, str) for match in _PLACEHOLDER.finditer(text)]
    if retry.oom.halve in found and "accumulation" not in found:
        section["retry"].add(
            "retry.oom: the command is never given its accumulation, so that half of the batch would change "
            "the training",
            found="a command without {accumulation}",
            expected="an argument such as --accumulate={accumulation}, or ladder: plain",
        )


def _values_of(name: str, space: Space) -> tuple[Any, ...]:
    """Return values that *name* takes; of a range its lower bound."""
    match space.dimensions.get(name):
        case Choice(values=values):
            return values
        case Int(low=low) | LogInt(low=low):
            return (low,)
        case Uniform(low=low) | LogUniform(low=low):
            return (float(low),)
    linked = [group[name] for group in space.linked if name in group]
    return linked[0] if linked else tuple(space.fixed[key] for key in (name,) if key in space.fixed)


def _counts(
    section: Mapping[str, Cursor], given: Mapping[str, Any], space: Space, strategy: StrategySpec
) -> None:
    points = _points(section["strategy"], space, strategy)
    if points is None:
        return
    expected = _value(given, "expect_points")
    if expected is not None and expected != points:
        section["expect_points"].add(
            f"the search has {number(points)} points, not {expected:,}",
            found=f"{expected:,}",
            expected=product(space, points) if strategy.kind == "grid" else number(points),
            hint="change the space, or expect_points",
        )
    _limit(section, given, points)


def _points(cursor: Cursor, space: Space, strategy: StrategySpec) -> int | None:
    size = space.size()
    if strategy.kind == "grid":
        if size is None:
            names = words(map(repr, space.continuous))
            hint = "give lists of values, or use strategy: {random: {points: 200, seed: 0}}"
            message = f"a grid needs finite dimensions; continuous: {names}"
            cursor.add(message, found="grid", expected="lists, int or log_int", hint=hint)
        return size
    points: int = strategy.options["points"]
    if size is not None and points > size:
        hint = "use strategy: grid for all of them"
        message = f"{points:,} points cannot be drawn without replacement from {size:,}"
        cursor.add(message, found=f"points: {points}", expected=f"at most {product(space, size)}", hint=hint)
        return None
    return points


def _limit(section: Mapping[str, Cursor], given: Mapping[str, Any], points: int) -> None:
    folds: FoldsSpec | None = given.get("folds")
    counts = {"points": points, "folds": folds.n if folds else 1, "seeds": len(_value(given, "seeds"))}
    trials = counts["points"] * counts["folds"] * counts["seeds"]
    most = _value(given, "max_trials")
    if trials <= most:
        return
    factored = " x ".join(
        f"{number(count)} {name[:-1] if count == 1 else name}" for name, count in counts.items()
    )
    raised = f"; to run all of it write max_trials: {trials}" if trials <= INT_HIGH else ""
    section["max_trials" if "max_trials" in section else "strategy"].add(
        f"the search has more than {most:,} trials",
        found=f"{factored} = {number(trials)} trials",
        expected=f"at most {most:,} trials (max_trials)",
        hint=f"make the search smaller, or draw from it by strategy random{raised}",
    )
