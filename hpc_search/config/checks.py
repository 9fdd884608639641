"""Checks between the keys of a search file: counts, times, and names that must fit each other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hpc_search.config import folds_checks
from hpc_search.config.nodes import Sequence as ListNode
from hpc_search.config.parts import ReadPart, stage_name, value_of, values_of
from hpc_search.config.problems import near_miss, shown, words
from hpc_search.config.reader import Cursor
from hpc_search.config.rules import what_is_wrong
from hpc_search.config.scalars import INT_HIGH
from hpc_search.records.search import ADAPTIVE, FoldsSpec, Retry, StageSpec, StrategySpec
from hpc_search.space import (
    MOST_ROWS,
    Space,
    number,
    product,
)
from hpc_search.strategies.catalog import names_of

#: Placeholders of a command that are no parameters.
RESERVED: Final = ("number", "fold", "seed", "attempt", "checkpoint_dir", "threads", "device", "accumulation")

#: Stages and searches whose points are shown one by one.
_TERMS: Final = 12
_PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def together(section: Mapping[str, Cursor], given: Mapping[str, Any], parts: Sequence[ReadPart]) -> None:
    """Note what is wrong between keys: those of the file, and those of each of its searches."""
    _times(section, given)
    folds_checks.together(section, given)
    for part in parts:
        folds_checks.selection(section, given, part)
    counts = [count for part in parts for count in _of_part(section, given, part)]
    if None not in counts and counts:
        _totals(section, given, [count for count in counts if count is not None])


def _of_part(section: Mapping[str, Cursor], given: Mapping[str, Any], part: ReadPart) -> list[Count | None]:
    """Return the counts of each stage of *part*, None for one that cannot be counted."""
    space: Space | None = part.given["space"]
    if space is None:
        return [None]
    for key in ("command", "test_command"):
        if key in part.section:
            _placeholders(part.section[key], space, part.given["strategy"])
    if "retry" in section:
        _halved(section["retry"], given.get("retry"), space)
        _accumulates(part.section, section["retry"], given.get("retry"))
    return stage_counts(part)


@dataclass(frozen=True, slots=True)
class Count:
    """How many points and seeds a stage has, and where its strategy stands.

    ``again``: its points are some of those of the stage before; ``refit``: it trains on joined folds.
    """

    points: int
    seeds: int
    strategy: StrategySpec
    space: Space
    cursor: Cursor
    again: bool = False
    refit: bool = False


def stage_counts(part: ReadPart) -> list[Count | None]:
    """Return the counts of the stages of *part*; one where it has none."""
    counts = _own_counts(part)
    if None not in counts:
        counts += [_again(part, stage, counts[-1]) for stage in part.given["stages"][len(counts) :]]
    return counts


def _own_counts(part: ReadPart) -> list[Count | None]:
    """Return the counts of the stages that the file has, or of the only one."""
    space, strategy = part.given["space"], part.given["strategy"]
    seeds = len(part.given["seeds"])
    if "stages" not in part.section:
        if strategy is None:
            return [None]
        cursor = part.section["strategy"]
        _proposes(cursor, part, space, strategy)
        points = _points(cursor, space, strategy, part.given["given"])
        return [None if points is None else Count(points, seeds, strategy, space, cursor)]
    cursors = part.section["stages"].items() or []
    stages: tuple[StageSpec, ...] = part.given["stages"][: len(cursors)]
    if [stage.name for stage in stages] != [stage_name(cursor) for cursor in cursors]:
        return [None]
    counts: dict[str, Count | None] = {}
    for stage, cursor in zip(stages, cursors, strict=True):
        counts[stage.name] = _stage_count(part, stage, cursor, counts, seeds)
    _same_names(space, stages, cursors)
    return [*counts.values()]


def _again(part: ReadPart, stage: StageSpec, last: Count | None) -> Count | None:
    """Return the counts of the stage made by `seeds` or `refit`, after *last*."""
    cursor = part.section["seeds" if stage.refit is None else "refit"]
    points = stage.strategy.options["points"]
    if last is not None and points > last.points:
        message = "the search has fewer points than are to get more seeds"
        cursor.add(message, found=f"top: {points:,}", expected=f"at most {last.points:,}")
        return None
    if last is None:
        return None
    seeds, refit = len(stage.seeds or ()), stage.refit is not None
    return Count(points, seeds, stage.strategy, last.space, cursor, again=True, refit=refit)


def _stage_count(
    part: ReadPart, stage: StageSpec, cursor: Cursor, earlier: Mapping[str, Count | None], seeds: int
) -> Count | None:
    keys = {key.text: value for key, value in cursor.entries() or ()}
    place = keys.get("strategy") or part.section["strategy"]
    try:
        space = part.given["space"].with_fixed(stage.fixed)
    except ValueError as error:
        keys["fixed"].add(f"the rules of the search cannot be used with these: {error}")
        return None
    if stage.fixed and (wrong := what_is_wrong(space)):
        keys["fixed"].add(f"with these values {wrong}", hint="change them, or the rules of the search")
        return None
    _proposes(place, part, space, stage.strategy)
    points = _top(place, space, stage.strategy, earlier) if stage.strategy.kind == "top" else None
    if stage.strategy.kind != "top":
        points = _points(place, space, stage.strategy, () if earlier else part.given["given"])
    count = len(stage.seeds) if stage.seeds is not None else seeds
    return None if points is None else Count(points, count, stage.strategy, space, place)


def _top(
    cursor: Cursor, space: Space, strategy: StrategySpec, earlier: Mapping[str, Count | None]
) -> int | None:
    points, source = strategy.options["points"], earlier[strategy.options["stage"]]
    if source is None:
        return None
    if points > source.points:
        message = f"the stage {strategy.options['stage']!r} has fewer points than are to be taken from it"
        cursor.add(message, found=f"points: {points:,}", expected=f"at most {source.points:,}")
        return None
    size = space.size()
    if size is not None and size < points:
        message = "with what this stage holds fixed there are fewer points than are to be taken"
        cursor.add(message, found=f"points: {points:,}", expected=f"at most {size:,}")
        return None
    return int(points)


def _same_names(space: Space, stages: Sequence[StageSpec], cursors: Sequence[Cursor]) -> None:
    """Note a parameter that some stages fix and the search does not have: the points would differ in it."""
    for stage, cursor in zip(stages, cursors, strict=True):
        for name in stage.fixed:
            if name in space.names or all(name in other.fixed for other in stages):
                continue
            near = near_miss(name, space.names)
            message = f"the search has no parameter {shown(name)}" + (f"; {near}" if near else "")
            keys = {key.text: value for key, value in cursor.entries() or ()}
            hint = "give it a value under `fixed` of the search, or in every stage"
            keys["fixed"].add(message, found=shown(name), expected="a parameter of the search", hint=hint)


def factored(space: Space, points: int) -> str:
    """Return the number of points of a finite space, with its factors where there are several."""
    text = product(count for _, count in space.counts() or ())
    return f"{text} = {number(points)}" if " " in text or "^" in text else number(points)


def _times(section: Mapping[str, Cursor], given: Mapping[str, Any]) -> None:
    heartbeat, lease = value_of(given, "heartbeat"), value_of(given, "lease")
    unread = any(name in section and name not in given for name in ("heartbeat", "lease"))
    if unread or lease >= 5 * heartbeat:
        return
    key = "lease" if "lease" in section else "heartbeat"
    section[key].add(
        "the lease is shorter than 5 heartbeats, so a live worker would be taken for dead",
        found=f"lease {lease:g} s, heartbeat {heartbeat:g} s",
        expected=f"lease of {5 * heartbeat:g} s or more",
    )


def _placeholders(command: Cursor, space: Space, strategy: StrategySpec | None) -> None:
    names = space.names if strategy is None else names_of(strategy, space)
    known = dict.fromkeys((*names, *RESERVED))
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
    values = values_of(retry.oom.halve, space)
    wrong = [value for value in values if type(value) is not int or value < 1]
    if wrong:
        message = f"retry.oom.halve: {retry.oom.halve!r} cannot be halved"
        cursor.add(message, found=shown(wrong[0]), expected="a parameter whose values are integers above 0")


def _accumulates(section: Mapping[str, Cursor], cursor: Cursor, retry: Retry | None) -> None:
    """Note a command that gets the batch as an argument and not its accumulation.

    Half of a batch alone would be another training. A program that takes both from HPC_SEARCH_TRIAL may.
    """
    if retry is None or retry.oom is None or retry.oom.ladder == "plain" or "command" not in section:
        return
    node = section["command"].node
    texts = [getattr(item, "value", None) for item in node.items] if isinstance(node, ListNode) else []
    found = [match[1] for text in texts if isinstance(text, str) for match in _PLACEHOLDER.finditer(text)]
    if retry.oom.halve in found and "accumulation" not in found:
        cursor.add(
            "retry.oom: the command is never given its accumulation, so that half of the batch would change "
            "the training",
            found="a command without {accumulation}",
            expected="an argument such as --accumulate={accumulation}, or ladder: plain",
        )


def _totals(section: Mapping[str, Cursor], given: Mapping[str, Any], counts: Sequence[Count]) -> None:
    own = [count for count in counts if not count.again]
    points = sum(count.points for count in own)
    expected = value_of(given, "expect_points")
    if expected is not None and expected != points:
        only = own[0] if len(own) == 1 else None
        grid = only is not None and only.strategy.kind == "grid"
        section["expect_points"].add(
            f"the search has {number(points)} points, not {expected:,}",
            found=f"{expected:,}",
            expected=factored(only.space, points) if only is not None and grid else _sum(own, points),
            hint="change the space, or expect_points",
        )
    _limit(section, given, counts)


def _sum(counts: Sequence[Count], points: int) -> str:
    """Return the points as a sum over stages and searches: ``8 + 20 + 50 = 78``."""
    terms = [number(count.points) for count in counts]
    return f"{' + '.join(terms)} = {number(points)}" if 1 < len(terms) <= _TERMS else number(points)


def _proposes(cursor: Cursor, part: ReadPart, space: Space, strategy: StrategySpec) -> None:
    """Note why a strategy that proposes its points could not."""
    if strategy.kind in ADAPTIVE:
        from hpc_search.strategies.adaptive import refusals

        objectives = part.given.get("objectives") or ("the metric",)
        for refusal in refusals(strategy.kind, len(objectives), space):
            cursor.add(refusal.message, found=strategy.kind, hint=refusal.hint)


def _points(cursor: Cursor, space: Space, strategy: StrategySpec, given: Sequence[object]) -> int | None:
    size = space.size()
    if strategy.kind == "points":
        return len(given)
    if strategy.kind == "catalog":
        return len(strategy.options["names"])
    if strategy.kind == "grid":
        if size is None:
            _no_grid(cursor, space)
        return size
    points: int = strategy.options["points"]
    if len(given) > points:
        hint = "raise points, or use strategy: points to run only those"
        cursor.add(f"{len(given)} points are given, and they count", found=f"points: {points}", hint=hint)
        return None
    if size is not None and points > size:
        hint = "use strategy: grid for all of them"
        message = f"{points:,} points cannot be drawn without replacement from {size:,}"
        cursor.add(message, found=f"points: {points}", expected=f"at most {factored(space, size)}", hint=hint)
        return None
    return points


def _no_grid(cursor: Cursor, space: Space) -> None:
    random = "strategy: {random: {points: 200, seed: 0}}"
    if space.continuous:
        message = f"a grid needs finite dimensions; continuous: {words(map(repr, space.continuous))}"
        hint = f"give lists of values, or use {random}"
        cursor.add(message, found="grid", expected="lists, int, log_int or quantized", hint=hint)
        return
    joined = " and ".join(words(map(repr, names)) for names in space.large)
    message = f"a grid cannot list what the rules join: {joined}"
    found, expected = f"more than {MOST_ROWS:,} combinations", f"at most {MOST_ROWS:,} of each such group"
    cursor.add(message, found=found, expected=expected, hint=f"give fewer values, or use {random}")


def _limit(section: Mapping[str, Cursor], given: Mapping[str, Any], counts: Sequence[Count]) -> None:
    spec: FoldsSpec | None = given.get("folds")
    # Where only the data tell how many folds there are, `plan` counts again.
    folds = max(1, spec.count) if spec else 1
    again = max(1, spec.outer) if spec else 1
    trials = sum(count.points * (again if count.refit else folds) * count.seeds for count in counts)
    most = value_of(given, "max_trials")
    if trials <= most:
        return
    factors = {"points": counts[0].points, "folds": folds, "seeds": counts[0].seeds}
    text = " x ".join(
        f"{number(count)} {name[:-1] if count == 1 else name}" for name, count in factors.items()
    )
    if len(counts) > 1:
        points = sum(count.points for count in counts)
        text = f"{number(points)} points in {len(counts)} stages and searches"
    raised = f"; to run all of it write max_trials: {trials}" if trials <= INT_HIGH else ""
    place = section.get("max_trials", counts[0].cursor)
    place.add(
        f"the search has more than {most:,} trials",
        found=f"{text} = {number(trials)} trials",
        expected=f"at most {most:,} trials (max_trials)",
        hint=f"make the search smaller, or draw from it by strategy random{raised}",
    )
