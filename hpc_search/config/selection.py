"""Reads how a point is chosen and tried again: `choose`, `racing`, `seeds: {first, top, more}`, `refit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from hpc_search.config.nodes import Mapping as MappingNode
from hpc_search.config.nodes import Scalar
from hpc_search.config.nodes import Sequence as ListNode
from hpc_search.config.reader import Cursor, each, fields
from hpc_search.records.search import Choice, Part, RacingSpec, RefitSpec, Search, StageSpec, StrategySpec

#: Names of the stages that follow those of a search file.
SEEDS: Final = "seeds"
REFIT: Final = "refit"
EVERYTHING: Final = "everything"
#: The key that adds each of them.
ADDED_BY: Final = {SEEDS: "seeds", REFIT: "refit", EVERYTHING: "refit"}
#: Seeds that one list can have.
MOST_SEEDS: Final = 1000

_SEEDS: Final = "seeds such as [0, 1], or {first: [0], top: 3, more: [1, 2, 3, 4]}"
_CHOOSE: Final = "best, or {one_standard_error: [width, -learning_rate]} with the simpler values first"
_RACING: Final = "true, or {error: 0.05, folds: 2}"
_REFIT: Final = "a refit such as {seeds: [0, 1, 2], on: train+val}"
_ON: Final = ("train+val", "train", "everything")


class Seeds(NamedTuple):
    """The seeds of all points, and those that the best ``top`` points get in addition."""

    first: tuple[int, ...]
    top: int = 0
    more: tuple[int, ...] = ()


# -- seeds
def read_seeds(cursor: Cursor) -> Seeds | None:
    """Return seeds from a list or from ``{first: [0], top: 3, more: [1, 2]}``."""
    if not isinstance(cursor.node, MappingNode):
        first = seed_list(cursor)
        return None if first is None else Seeds(first)
    section = cursor.keys(("first", "top", "more"), what=_SEEDS)
    if section is None:
        return None
    before = len(cursor.book)
    for key in ("first", "top", "more"):
        if key not in section:
            cursor.add(f"the key {key!r} is missing", expected="{first: [0], top: 3, more: [1, 2, 3, 4]}")
    given = fields(section, {"first": seed_list, "top": lambda c: c.integer(1), "more": seed_list})
    both = [seed for seed in given.get("more", ()) if seed in given.get("first", ())]
    if both:
        message = "has seeds that all points run with already"
        section["more"].add(message, found=", ".join(map(str, both)), hint="leave them out")
    return Seeds(**given) if len(cursor.book) == before else None


def seed_list(cursor: Cursor) -> tuple[int, ...] | None:
    """Return a list of seeds, none of them twice."""
    if isinstance(cursor.node, Scalar) and isinstance(cursor.node.value, int):
        cursor.add(
            "is not a list", expected="a list of seeds", hint=f"write [{cursor.node.text}] for one seed"
        )
        return None
    items = cursor.items("a list of seeds, integers of 0 or more")
    if items is None:
        return None
    if len(items) > MOST_SEEDS:
        cursor.add(f"has more than {MOST_SEEDS:,} seeds")
        return None
    first: dict[int, int] = {}
    for place, item in enumerate(items):
        seed = item.integer(0)
        if seed is not None and first.setdefault(seed, place) != place:
            item.add(f"the seed {seed} is also at position {first[seed]}", hint="remove one of them")
    return tuple(first)


# -- choose and racing
def read_choice(cursor: Cursor) -> Choice | None:
    """Return the rule from ``best`` or ``{one_standard_error: [width, -learning_rate]}``."""
    if isinstance(cursor.node, Scalar):
        if cursor.node.value == "one_standard_error":
            cursor.add("does not say what is simpler", expected=_CHOOSE)
            return None
        return None if cursor.one_of(("best", "one_standard_error")) is None else Choice()
    section = cursor.keys(("one_standard_error",), what=_CHOOSE)
    if section is None:
        return None
    if not section:
        cursor.add("has no rule in it", expected=_CHOOSE)
        return None
    items = section["one_standard_error"].items("a list of parameters, the most important one first") or []
    names = tuple(each(items, lambda item: item.text("the name of a parameter")))
    for place, name in enumerate(names):
        if name.removeprefix("-") in [other.removeprefix("-") for other in names[:place]]:
            items[place].add("is there twice", hint="remove one of them")
    return Choice(rule="one_standard_error", simpler=names) if names else None


def read_racing(cursor: Cursor) -> RacingSpec | None:
    """Return racing from ``true`` or ``{error: 0.05, folds: 2}``; None from ``false``."""
    if isinstance(cursor.node, Scalar):
        return RacingSpec() if _switch(cursor, _RACING) else None
    section = cursor.keys(("error", "folds"), what=_RACING)
    if section is None:
        return None
    return RacingSpec(**fields(section, {"error": _error, "folds": lambda c: c.integer(2, 100_000)}))


def _switch(cursor: Cursor, expected: str) -> bool:
    if isinstance(cursor.node, Scalar) and isinstance(cursor.node.value, bool):
        return cursor.node.value
    cursor.add("is not known", expected=expected)
    return False


def _error(cursor: Cursor) -> float | None:
    error = cursor.number("a probability above 0 and below 0.5")
    if error is not None and not 0 < error < 0.5:
        cursor.add("is out of range", expected="a probability above 0 and below 0.5")
        return None
    return error


# -- refit
def read_refits(cursor: Cursor) -> tuple[RefitSpec, ...] | None:
    """Return the refits: ``true``, ``{seeds: 3, on: train+val}``, or a list of one and one on everything."""
    if isinstance(cursor.node, ListNode):
        items = cursor.items(_REFIT) or []
        found = tuple(each(items, _refit))
        if len(items) > 2 or (len(found) == 2 and not _follows(*found)):
            cursor.add("has more than one refit", expected="one, and after it one with on: everything")
            return None
        return found or None
    if isinstance(cursor.node, Scalar):
        return (RefitSpec(),) if _switch(cursor, f"true, or {_REFIT}") else None
    refit = _refit(cursor)
    return None if refit is None else (refit,)


def _follows(one: RefitSpec, other: RefitSpec) -> bool:
    return one.on != "everything" and other.on == "everything"


def _refit(cursor: Cursor) -> RefitSpec | None:
    section = cursor.keys(("seeds", "on"), what=_REFIT)
    if section is None:
        return None
    return RefitSpec(**fields(section, {"seeds": _refit_seeds, "on": lambda c: c.one_of(_ON)}))


def _refit_seeds(cursor: Cursor) -> tuple[int, ...] | None:
    """Return a list of seeds, or the first ones where their number is given."""
    if isinstance(cursor.node, Scalar) and type(cursor.node.value) is int:
        count = cursor.integer(1, MOST_SEEDS)
        return None if count is None else tuple(range(count))
    return seed_list(cursor)


# -- as stages
def all_stages(
    stages: Sequence[StageSpec], first: StageSpec, seeds: Seeds, refits: Sequence[RefitSpec]
) -> tuple[StageSpec, ...]:
    """Return *stages* and what follows them; *first* is the only stage of a search that has none."""
    found = [*(stages or [first])]
    if seeds.top:
        found.append(seeds_stage(found[-1], seeds.top, seeds.more))
    last = found[-1]
    found += [refit_stage(last, refit, again=place > 0) for place, refit in enumerate(refits)]
    return tuple(found) if len(found) > 1 or stages else ()


def seeds_stage(last: StageSpec, top: int, more: tuple[int, ...]) -> StageSpec:
    """Return the stage that gives the best *top* points of the stage *last* further seeds."""
    strategy = StrategySpec("top", {"points": top, "stage": last.name})
    return StageSpec(name=SEEDS, strategy=strategy, fixed=last.fixed, seeds=more)


def refit_stage(last: StageSpec, refit: RefitSpec, *, again: bool) -> StageSpec:
    """Return the stage that trains the point chosen from the stage *last* again; *again*: once more."""
    strategy = StrategySpec("top", {"points": 1, "stage": last.name})
    name = EVERYTHING if again else REFIT
    return StageSpec(name=name, strategy=strategy, fixed=last.fixed, seeds=refit.seeds, refit=refit)


def taken_apart(search: Search | Part) -> tuple[tuple[StageSpec, ...], Seeds, tuple[RefitSpec, ...]]:
    """Return what `all_stages` made the stages of *search* from."""
    stages, seeds = [stage for stage in search.stages if stage.refit is None], Seeds(search.seeds)
    if len(stages) > 1 and _is_seeds(stages[-1], stages[-2], search.seeds):
        last = stages.pop()
        seeds = Seeds(search.seeds, last.strategy.options["points"], last.seeds or ())
    refits = tuple(stage.refit for stage in search.stages if stage.refit is not None)
    return tuple(stage for stage in stages if stage.name), seeds, refits


def _is_seeds(stage: StageSpec, last: StageSpec, first: tuple[int, ...]) -> bool:
    top = stage.strategy.options.get("points", 0)
    more = stage.seeds or ()
    return bool(more) and stage == seeds_stage(last, top, more) and not set(first) & set(more)


# -- written again
def dump_selection(search: Search | Part) -> dict[str, Any]:
    """Return the keys that are read here and differ from their defaults; `seeds` always."""
    _, seeds, refits = taken_apart(search)
    keys: dict[str, Any] = {"seeds": seeds._asdict() if seeds.top else seeds.first}
    if search.choose.rule != "best":
        keys["choose"] = {search.choose.rule: search.choose.simpler}
    if search.racing is not None:
        keys["racing"] = {"error": search.racing.error, "folds": search.racing.folds}
    if refits:
        several = [{"seeds": refit.seeds, "on": refit.on} for refit in refits]
        keys["refit"] = several if len(several) > 1 else several[0]
    test = search.test
    if test is not None:
        keys |= {"test": test.callable} if test.callable else {"test_command": test.command}
    return keys
