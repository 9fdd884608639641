"""Checks between the data, the folds, and how a point is searched, chosen and trained again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hpc_search.config.parts import ReadPart, stage_name, values_of
from hpc_search.config.problems import near_miss, shown, words
from hpc_search.config.reader import Cursor
from hpc_search.config.selection import ADDED_BY, SEEDS
from hpc_search.records.search import ADAPTIVE, Choice, DataSpec, FoldsSpec, RefitSpec, StageSpec
from hpc_search.space import Space

#: Columns that kinds of folds are made by.
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "stratified": ("label",),
    "grouped": ("group",),
    "stratified_grouped": ("label", "group"),
    "leave_one_group_out": ("group",),
    "time": ("time",),
}
_WHY_NESTED: Final = "under nested folds an outer fold would see, through the others, what it is tested on"

Section = Mapping[str, Cursor]


# -- the file
def together(section: Section, given: Mapping[str, Any]) -> None:
    """Note what the folds need and the data have not."""
    folds: FoldsSpec | None = given.get("folds")
    if folds is None:
        return
    data: DataSpec | None = given.get("data")
    if data is None and "data" not in section:
        expected = "data: {index: data.csv, id: sample, label: y}"
        section["folds"].add("folds need the samples that they split", expected=expected)
    if data is None:
        return
    for column in _NEEDED.get(folds.kind, ()):
        if not getattr(data, column):
            message = f"{folds.kind} folds need the column {column!r}"
            section["data"].add(message, expected=f"data: {{..., {column}: NAME}}")
    known = [*(name for name in ("label", "group", "time") if getattr(data, name)), *data.columns]
    for name in folds.apart:
        if name not in known:
            near = near_miss(name, known)
            message = f"the data have no column {shown(name)}" + (f"; {near}" if near else "")
            expected = f"a column that the data name: data: {{..., columns: [{name}]}}"
            section["folds"].add(message, found=f"apart: {shown(name)}", expected=expected)


# -- each search
def selection(section: Section, given: Mapping[str, Any], part: ReadPart) -> None:
    """Note what of *part* does not fit the folds, or its own parameters."""
    folds: FoldsSpec | None = given.get("folds")
    known = folds is not None or "folds" not in section
    _names(part)
    if (choice := part.given.get("choose")) is not None:
        _simpler(part, choice)
    if known and part.given.get("racing") is not None:
        _racing(part, folds)
    if folds is not None and folds.outer:
        _nested(part)
    refits = [stage.refit for stage in part.given["stages"] if stage.refit is not None]
    if folds is not None and refits:
        _refit(part.section["refit"], refits[-1], folds)
    if folds is not None and part.given.get("test") is not None and _test_side(folds) is False:
        key = "test" if "test" in part.section else "test_command"
        expected = "folds with a test side: test_share: 0.2, or nested ones"
        part.section[key].add(f"{folds.kind} folds leave nothing to test on", expected=expected)


def _names(part: ReadPart) -> None:
    """Note a stage of the user that has the name of one that `seeds` or `refit` adds."""
    stages: tuple[StageSpec, ...] = part.given["stages"]
    names = [stage.name for stage in stages]
    cursors = part.section["stages"].items() or [] if "stages" in part.section else []
    for cursor in cursors:
        name = stage_name(cursor)
        if name in ADDED_BY and names.count(name) > 1:
            message = f"the stage {name!r} is also one that the key `{ADDED_BY[name]}` adds"
            cursor.add(message, found=name, hint="give it another name")


def _simpler(part: ReadPart, choice: Choice) -> None:
    space: Space | None = part.given["space"]
    if len(part.given.get("objectives") or ()) > 1:
        message = "one standard error is that of one metric; there are several objectives"
        part.section["choose"].add(message, hint="leave `choose` out: the points that none beats are told")
    if space is None:
        return
    for name in choice.simpler:
        own = name.removeprefix("-")
        if own not in space.names:
            near = near_miss(own, space.names)
            message = f"the search has no parameter {shown(own)}" + (f"; {near}" if near else "")
            expected = words(list(map(repr, space.names))[:30], "or") if space.names else "a parameter"
            part.section["choose"].add(message, found=shown(name), expected=expected)
        elif wrong := [one for one in values_of(own, space) if not isinstance(one, int | float | None)]:
            message = f"nothing says which value of {shown(own)} is simpler"
            part.section["choose"].add(message, found=shown(wrong[0]), expected="a parameter with numbers")


def _racing(part: ReadPart, folds: FoldsSpec | None) -> None:
    cursor, spec = part.section["racing"], part.given["racing"]
    if folds is None:
        message = "racing leaves out folds of points that lose; there are none"
        cursor.add(message, expected="folds: {stratified: 5}", hint="use `pruning`, or remove racing")
    elif folds.count and folds.count <= spec.folds:
        message = f"every point has {spec.folds} folds at least, so that none would be left out"
        cursor.add(message, found=f"{folds.count} folds", expected=f"more than {spec.folds} folds")
    if len(part.given.get("objectives") or ()) > 1:
        message = "racing compares points by one metric; there are several objectives"
        cursor.add(message, hint="remove racing, or all objectives but one")


def _nested(part: ReadPart) -> None:
    """Note whatever decides by the results of several outer folds before they are tested."""
    if part.given.get("racing") is not None:
        part.section["racing"].add(_WHY_NESTED, found="racing", hint="remove racing")
    strategy, pruning = part.given["strategy"], part.given.get("pruning")
    stages: tuple[StageSpec, ...] = part.given["stages"]
    if not stages and strategy is not None:
        stages = (StageSpec(name="", strategy=strategy, pruning=pruning),)
    for stage in (one for one in stages if one.refit is None):
        keys = _keys_of(part, stage)
        if stage.strategy.kind in ADAPTIVE:
            hint = "use a strategy whose points are fixed before: grid, random, sobol, halton"
            keys["strategy"].add(_WHY_NESTED, found=f"strategy: {stage.strategy.kind}", hint=hint)
        if stage.pruning is not None:
            keys["pruning"].add(_WHY_NESTED, found=f"pruning: {stage.pruning.kind}", hint="remove pruning")
        if stage.narrow is not None or stage.strategy.kind == "top":
            place = keys["narrow" if stage.narrow is not None else "strategy"]
            place.add(_WHY_NESTED, found="the best points of an earlier stage", hint="search in one stage")


def _keys_of(part: ReadPart, stage: StageSpec) -> dict[str, Cursor]:
    """Return the keys of *stage*, and those of its search that it does not give."""
    cursors = part.section["stages"].items() or [] if "stages" in part.section else []
    own = next((cursor for cursor in cursors if stage_name(cursor) == stage.name), None)
    if stage.name and own is None:
        return {"strategy": part.section[SEEDS]}
    entries = own.entries() if own is not None else None
    return {**part.section, **{key.text: value for key, value in entries or ()}}


def _refit(cursor: Cursor, refit: RefitSpec, folds: FoldsSpec) -> None:
    if refit.on == "everything" and _shared_test(folds):
        cursor.add(
            "the folds share a test side: trained on everything, nothing is left to test on",
            found="on: everything",
            expected="on: train+val",
            hint="after `test RUN` use `refit RUN --on everything`",
        )


def _shared_test(folds: FoldsSpec) -> bool:
    return not folds.outer and (folds.test_share > 0 or (folds.shares is not None and folds.shares[2] > 0))


def _test_side(folds: FoldsSpec) -> bool | None:
    """Return whether the folds have a test side, None where only the data tell."""
    if folds.outer or _shared_test(folds):
        return True
    return None if folds.kind in ("file", "splitter") else False
