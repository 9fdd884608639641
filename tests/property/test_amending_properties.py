"""Whatever is added, and however often: what was planned stays, and every wanted trial is there once."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hpc_search.planning import Numbering
from hpc_search.planning.amending import amendment
from hpc_search.planning.blocks import blocks_of
from hpc_search.records.plan import Plan
from hpc_search.records.search import FoldsSpec, Metric, Search, StrategySpec, TrialSpec, search_id
from hpc_search.space import Choice, Int, Space, Uniform, canonical
from hpc_search.space.dimensions import Dimension
from hpc_search.space.rules import Rules
from hpc_search.strategies import rest


def search(space: Space, strategy: StrategySpec, seeds: tuple[int, ...], folds: int) -> Search:
    return Search(
        name="x",
        trial=TrialSpec(callable="m:f"),
        metric=Metric(name="a", goal="max"),
        space=space,
        strategy=strategy,
        seeds=seeds,
        folds=FoldsSpec(kind="kfold", n=folds) if folds else None,
    )


def plan(wanted: Search) -> Plan:
    blocks = blocks_of(wanted, ())
    return Plan(
        search_id=search_id(wanted),
        run_id="run",
        created=0.0,
        search=wanted,
        blocks=blocks,
        points=sum(block.points for block in blocks),
        trials=sum(block.trials for block in blocks),
    )


@st.composite
def growing(draw: st.DrawFn) -> list[Search]:
    """Draw searches each of which only adds to the one before."""
    grid, folds = draw(st.booleans()), draw(st.sampled_from([0, 2]))
    values, high, points, seeds = [0], 1, draw(st.integers(1, 5)), [0]
    found = []
    for step in range(1, draw(st.integers(2, 5))):
        values = draw(st.permutations([*values, *range(10 * step, 10 * step + draw(st.integers(0, 2)))]))
        high += draw(st.integers(0, 1))
        points += draw(st.integers(0, 3))
        seeds = draw(st.permutations([*seeds, *range(10 * step, 10 * step + draw(st.integers(0, 1)))]))
        space = Space(
            dimensions={"x": Choice(values=tuple(values)), "y": Int(low=0, high=high)}
            if grid
            else {"x": Uniform(low=0.0, high=1.0), "y": Choice(values=(1, 2))}
        )
        strategy = StrategySpec("grid") if grid else StrategySpec("random", {"points": points, "seed": 1})
        found.append(search(space, strategy, tuple(seeds), folds))
    return found


def trials(made: Plan) -> list[tuple[Any, ...]]:
    numbering = Numbering(made)
    return [tuple(numbering(number)) for number in range(made.trials)]


def content(made: Plan) -> list[tuple[Any, ...]]:
    return sorted((canonical(one[4]), one[2] or 0, one[3]) for one in trials(made))


@settings(deadline=None)
@given(growing())
def test_numbers_never_move_and_every_wanted_trial_is_there_once(searches: list[Search]) -> None:
    now = plan(searches[0])
    for wanted in searches[1:]:
        before = trials(now)
        found = amendment(now, plan(wanted))
        now = now if found is None else found.plan
        assert trials(now)[: len(before)] == before
        assert content(now) == content(plan(wanted))
        assert now.points == plan(wanted).points
        numbering = Numbering(now)
        by_point = [number for point in range(now.points) for number in numbering.of_point(point)]
        assert sorted(by_point) == list(range(now.trials))
        assert amendment(now, plan(wanted)) is None
        assert replace(now.search) == wanted


@st.composite
def nested(draw: st.DrawFn) -> tuple[Space, Space]:
    """Draw a finite space and one with some of its values, or a few others."""
    outer = [draw(st.permutations(range(draw(st.integers(1, 4))))) for _ in range(draw(st.integers(1, 4)))]
    inner = [
        draw(st.lists(st.sampled_from([*values, *[9] * draw(st.integers(0, 1))]), min_size=1, unique=True))
        for values in outer
    ]
    linked = draw(st.booleans())
    some = [Rules(), Rules(constraints=("a + b < 4",)), Rules(when={"b": "a > 0"}, derived={"q": "a + b"})]
    rules = draw(st.sampled_from(some)) if len(outer) > 1 else Rules()

    def space(values: list[list[int]]) -> Space:
        names = "abcd"[: len(values)]
        dimensions: dict[str, Dimension] = {
            name: Choice(values=tuple(one)) for name, one in zip(names, values, strict=True)
        }
        last = tuple(values[-1])
        groups = ({names[-1]: last, "z": tuple(-one for one in last)},) if linked else ()
        if linked:
            del dimensions[names[-1]]
        return Space(dimensions=dimensions, linked=groups, rules=rules)

    return space(outer), space(inner)


@settings(deadline=None)
@given(nested())
def test_what_a_wider_space_has_more_is_what_looking_at_every_point_finds(
    spaces: tuple[Space, Space],
) -> None:
    wider, old = spaces
    wanted = list(rest.looked_at(wider, (old,)))
    found = rest.Rest((old,))

    assert found.count(wider) == len(wanted)
    assert [wider.index(found.point(wider, place)) for place in range(len(wanted))] == wanted
    numbers = range(old.size() or 0)
    assert rest.lost(wider, old) == sum(not rest.has(wider, old.point(number)) for number in numbers)
