"""What `plan --skip-stage` and `--only` leave of a search file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import structs

from hpc_search.config.problems import near_miss, shown, words
from hpc_search.errors import UsageError
from hpc_search.records.search import Narrow, Part, Search, StageSpec, StrategySpec


def chosen(search: Search, skip: Sequence[str], only: Sequence[str]) -> Search:
    """Return *search* without the stages *skip*, and of several searches with those of *only*.

    A stage that narrows from one that is left out goes by the one before that, or by its whole space. The
    number of points that the file expects is that of the whole file: it does not hold any more.

    Raises:
        UsageError: A name is not in the file, or nothing would be left.
    """
    if not skip and not only:
        return search
    _known("--only", only, [part.name for part in search.searches], "search")
    names = [stage.name for part in search.parts for stage in part.stages if stage.name]
    _known("--skip-stage", skip, names, "stage")
    kept = [part for part in search.parts if not only or part.name in only]
    parts = [_without(part, skip) for part in kept]
    if not search.searches:
        (part,) = parts
        return structs.replace(search, stages=part.stages, expect_points=None)
    first = parts[0]
    return structs.replace(
        search,
        searches=tuple(parts),
        trial=first.trial,
        metric=first.metric,
        objectives=first.objectives,
        strategy=first.strategy,
        expect_points=None,
    )


def _known(option: str, names: Iterable[str], known: Sequence[str], what: str) -> None:
    for name in names:
        if name not in known:
            near = near_miss(name, known)
            message = f"{option}: the file has no {what} {shown(name)}" + (f"; {near}" if near else "")
            there = words(dict.fromkeys(known), "and") if known else "none"
            raise UsageError(message, hint=f"it has: {there}")


def _without(part: Part, skip: Sequence[str]) -> Part:
    left: list[StageSpec] = []
    #: Name of a stage that is left out -> the one before it that is not.
    before: dict[str, str | None] = {}
    for stage in part.stages:
        if stage.name in skip:
            before[stage.name] = left[-1].name if left else None
        else:
            left.append(_goes_by(stage, before))
    if part.stages and not left:
        head = f"searches.{part.name}: " if part.name else ""
        raise UsageError(f"{head}--skip-stage leaves no stage", hint="leave one of them in")
    # The only stage of a search that has none of its own has no name.
    return structs.replace(part, stages=tuple(left) if any(stage.name for stage in left) else ())


def _goes_by(stage: StageSpec, before: dict[str, str | None]) -> StageSpec:
    narrow, strategy = stage.narrow, stage.strategy
    if narrow is not None and narrow.stage in before:
        name = before[narrow.stage]
        narrow = Narrow(stage=name, top=narrow.top) if name is not None else None
    if strategy.kind == "top" and strategy.options["stage"] in before:
        name = before[strategy.options["stage"]]
        if name is None:
            message = f"--skip-stage {strategy.options['stage']}: stage {stage.name} takes its points from it"
            raise UsageError(message, hint=f"skip {stage.name} too: --skip-stage {stage.name}")
        strategy = StrategySpec("top", {**strategy.options, "stage": name})
    return structs.replace(stage, narrow=narrow, strategy=strategy)
