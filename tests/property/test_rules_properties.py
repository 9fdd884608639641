"""Properties of spaces with rules: what stands in the tables is what the rules leave of all combinations."""

from __future__ import annotations

import itertools
import math
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hpc_search.space import (
    Choice,
    Dimension,
    Excluded,
    Int,
    LogInt,
    Normalise,
    Quantized,
    Rules,
    Space,
    Uniform,
    canonical,
)
from hpc_search.space.expressions import parse
from hpc_search.space.operations import ExpressionError
from hpc_search.strategies.random import Random

NAMES = ("a", "b", "c", "d")
LINKED = ("e", "f")
PATIENT = (HealthCheck.too_slow, HealthCheck.filter_too_much)
SETTINGS = settings(deadline=None, max_examples=60, suppress_health_check=PATIENT)
#: Each example tries a thousand draws.
FEW = settings(SETTINGS, max_examples=10)
#: Pieces of which texts are made that are nearly expressions.
PIECES = ("a", "(", ")", "**", "9", "not ", "[", ",", "`", "'", ".", "lambda ", " if ", "=", "\n")
FINITE = st.one_of(
    st.lists(st.sampled_from([None, 0, 1, 2, True, "x"]), min_size=1, max_size=3, unique_by=canonical).map(
        lambda values: Choice(tuple(values))
    ),
    st.integers(0, 2).map(lambda low: Int(low, low + 2)),
    st.just(LogInt(1, 3)),
    st.just(Quantized(0, 1, 0.5)),
)


def conditions(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    name = st.sampled_from(names)
    simple = st.one_of(
        st.builds("{} == {}".format, name, st.sampled_from(["1", "2", "null", "0.5", "'x'", "true"])),
        st.builds("{} != {}".format, name, name),
        st.builds("{} in [1, 2, null]".format, name),
        st.builds("{0} == 1 or {0} == {1}".format, name, name),
    )
    return st.one_of(simple, st.builds("({}) and not ({})".format, simple, simple))


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    names = NAMES[: draw(st.integers(1, 4))]
    dimensions: dict[str, Dimension] = {name: draw(FINITE) for name in names}
    linked: tuple[dict[str, tuple[Any, ...]], ...] = ()
    if draw(st.booleans()):
        row = st.tuples(st.integers(0, 2), st.sampled_from([None, 1, 2]))
        rows = draw(st.lists(row, min_size=1, max_size=3, unique=True))
        linked = (dict(zip(LINKED, zip(*rows, strict=True), strict=True)),)
        names += LINKED
    condition = conditions((*names, "fixed", "derived"))
    some = st.sampled_from(names)
    normalise = st.builds(Normalise, condition, st.sampled_from([None, 1, 2]), st.booleans())
    rules = Rules(
        when=draw(st.dictionaries(some, condition, max_size=3)),
        normalise={n: (rule,) for n, rule in draw(st.dictionaries(some, normalise, max_size=2)).items()},
        constraints=tuple(draw(st.lists(condition, max_size=2))),
        derived={"derived": draw(some)},
    )
    try:
        return Space(dimensions, linked, {"fixed": 1}, rules)
    except ValueError:
        # They went round in a circle.
        assume(False)
        raise


def brute_force(space: Space) -> dict[bytes, dict[str, Any]]:
    """Return by canonical form what the rules leave of all combinations."""
    columns: list[list[dict[str, Any]]] = [
        [{name: dimension.value(digit)} for digit in range(dimension.count())]  # type: ignore[union-attr]
        for name, dimension in space.dimensions.items()
    ]
    rows = [(group, zip(*group.values(), strict=True)) for group in space.linked]
    columns += [[dict(zip(group, row, strict=True)) for row in several] for group, several in rows]
    found: dict[bytes, dict[str, Any]] = {}
    for parts in itertools.product(*columns):
        raw = {name: value for part in parts for name, value in part.items()}
        point = space.settled(raw)
        if not isinstance(point, Excluded):
            found.setdefault(canonical(point), point)
    return found


@SETTINGS
@given(spaces())
def test_the_grid_is_exactly_what_the_rules_leave_of_all_combinations(space: Space) -> None:
    expected = brute_force(space)
    size = space.size()
    assert size == len(expected)
    assert sorted(canonical(space.point(index)) for index in range(size or 0)) == sorted(expected)


@SETTINGS
@given(spaces())
def test_every_number_comes_back_from_its_point_and_points_resolve_to_themselves(space: Space) -> None:
    for index in range(space.size() or 0):
        point = space.point(index)
        assert space.index(point) == index
        assert canonical(space.resolve(point)) == canonical(point)


@SETTINGS
@given(spaces())
def test_every_raw_combination_has_the_number_of_the_point_that_it_becomes(space: Space) -> None:
    for us in itertools.product((0.1, 0.5, 0.9), repeat=len(space.free)):
        raw = space.at(us)
        point = space.settled(raw)
        if isinstance(point, Excluded):
            assert isinstance(space.resolve(raw), Excluded)
        else:
            assert canonical(space.point(space.index(raw))) == canonical(point)


@SETTINGS
@given(spaces(), st.integers(0, 99))
def test_random_draws_every_point_once(space: Space, seed: int) -> None:
    size = space.size() or 0
    assume(size > 0)
    strategy = Random(size, seed)
    drawn = sorted(canonical(strategy.point(space, index)) for index in range(size))
    assert drawn == sorted(canonical(space.point(index)) for index in range(size))


@SETTINGS
@given(spaces())
def test_an_audit_counts_every_raw_combination_once(space: Space) -> None:
    for component, tally in space.audit().components:
        excluded = sum(count.number for count in tally.excluded.values())
        points = len(component.table or ())
        assert excluded + tally.absent + tally.merged.number + points == component.raw


@FEW
@given(spaces(), conditions((*NAMES[:1], "u")), st.integers(0, 9))
def test_random_with_a_continuous_dimension_never_repeats_and_stays_inside(
    space: Space, constraint: str, seed: int
) -> None:
    rules = space.rules
    assert isinstance(rules, Rules)
    wider = Space(
        {**space.dimensions, "u": Uniform(0, 1)},
        space.linked,
        space.fixed,
        Rules(rules.when, (*rules.constraints, constraint), rules.derived, rules.normalise),
    )
    assume(wider.audit().allowed > 100)
    strategy = Random(8, seed)
    drawn = [strategy.point(wider, index) for index in range(8)]
    assert len(set(map(canonical, drawn))) == 8
    assert all(canonical(wider.resolve(point)) == canonical(point) for point in drawn)


# -- expressions
NUMBERS = st.one_of(st.integers(-9, 9), st.sampled_from([0.5, -2.25, 3.0]))
LEAVES = st.one_of(st.sampled_from(NAMES), NUMBERS.map(repr))
ARITHMETIC = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner),
        st.builds("({} ** {})".format, inner, st.integers(0, 3)),
        st.builds("(-{})".format, inner),
    ),
    max_leaves=6,
)
TESTS = st.one_of(
    st.builds("{} {} {}".format, ARITHMETIC, st.sampled_from(["<", "<=", "==", "!=", ">", ">="]), ARITHMETIC),
    st.builds("{} <= {} < {}".format, ARITHMETIC, ARITHMETIC, ARITHMETIC),
    st.builds("{} in [{}, {}]".format, ARITHMETIC, ARITHMETIC, ARITHMETIC),
)
EXPRESSIONS = st.one_of(
    ARITHMETIC,
    TESTS,
    st.builds("({} if {} else {})".format, ARITHMETIC, TESTS, ARITHMETIC),
    st.builds("({} and {}) or not {}".format, TESTS, TESTS, TESTS),
)


@SETTINGS
@given(EXPRESSIONS, st.fixed_dictionaries(dict.fromkeys(NAMES, NUMBERS)))
def test_an_expression_has_the_value_that_python_gives_it(text: str, values: dict[str, Any]) -> None:
    try:
        expected = eval(text, {"__builtins__": {}}, dict(values))
    except (ZeroDivisionError, OverflowError):
        expected = math.nan
    try:
        found = parse(text).evaluate(values)
    except ValueError:
        # Whatever is constant is computed when it is read, even where Python would not get there.
        assert isinstance(expected, float) or "0" in text
        return
    assert found == expected
    assert type(found) is type(expected)


@given(st.text(max_size=40) | st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_is_an_expression_or_refused_in_words(text: str) -> None:
    with suppress(ExpressionError):
        expression = parse(text)
        expression.evaluate(dict.fromkeys(expression.names, 2))
