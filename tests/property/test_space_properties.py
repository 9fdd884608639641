"""Properties of any space: numbers and points are one thing in two forms; equal values are one."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hpc_search.space import Choice, Dimension, Int, LogInt, LogUniform, Space, Uniform, canonical, duplicates

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
DISTINCT = st.lists(VALUES, min_size=1, max_size=4, unique_by=canonical).map(tuple)


@st.composite
def integers(draw: st.DrawFn, kind: type[Int | LogInt], least: int) -> Int | LogInt:
    low = draw(st.integers(least, 2**70))
    return kind(low, low + draw(st.integers(0, 2**70)))


@st.composite
def linked(draw: st.DrawFn, names: list[str]) -> dict[str, tuple[Any, ...]]:
    rows = draw(
        st.lists(
            st.lists(VALUES, min_size=len(names), max_size=len(names)),
            min_size=1,
            max_size=4,
            unique_by=canonical,
        )
    )
    return dict(zip(names, zip(*rows, strict=True), strict=True))


FINITE = DISTINCT.map(Choice) | integers(Int, -(2**70)) | integers(LogInt, 1)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    dimensions: dict[str, Dimension] = draw(
        st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), FINITE, max_size=4)
    )
    groups = [draw(linked(names)) for names in draw(st.sampled_from([[], [["e", "f"]], [["e"], ["f", "g"]]]))]
    fixed = draw(st.dictionaries(st.sampled_from(["x", "y"]), VALUES, max_size=2))
    return Space(dimensions, tuple(groups), fixed)


@given(spaces(), st.data())
def test_numbers_and_points_are_a_bijection(space: Space, data: st.DataObject) -> None:
    size = space.size()
    assert size is not None
    one, other = (data.draw(st.integers(0, size - 1)) for _ in range(2))
    assert space.index(space.point(one)) == one
    assert (canonical(space.point(one)) == canonical(space.point(other))) == (one == other)


@given(spaces(), st.data())
def test_point_read_back_from_json_has_the_same_number(space: Space, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, (space.size() or 1) - 1))
    assert space.index(json.loads(json.dumps(space.point(number)))) == number


@given(spaces())
def test_space_read_back_from_json_has_the_same_points(space: Space) -> None:
    again = msgspec.json.decode(msgspec.json.encode(space), type=Space)
    assert again.size() == space.size()
    assert again.names == space.names
    assert canonical(again.point(0)) == canonical(space.point(0))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_last_dimension_runs_fastest(counts: list[int]) -> None:
    space = Space({f"d{i}": Int(0, count - 1) for i, count in enumerate(counts)})
    expected = list(itertools.product(*map(range, counts)))
    assert [tuple(space.point(i).values()) for i in range(space.size() or 0)] == expected


@given(VALUES)
def test_canonical_form_is_json_that_reads_back_to_itself(value: object) -> None:
    assert canonical(json.loads(canonical(value))) == canonical(value)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**60), 2**60))
def test_numbers_are_canonically_equal_where_they_are_equal(one: float, other: int) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)
    assert (canonical(float(other)) == canonical(other)) == (float(other) == other)


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=4), st.randoms())
def test_order_of_keys_does_not_matter(mapping: dict[str, Any], rng: Any) -> None:
    items = list(mapping.items())
    rng.shuffle(items)
    assert canonical(dict(items)) == canonical(mapping)


@given(st.lists(VALUES, max_size=8))
def test_duplicates_are_exactly_the_equal_values(values: list[object]) -> None:
    forms = [canonical(value) for value in values]
    expected = [(forms.index(form), i) for i, form in enumerate(forms) if forms.index(form) != i]
    assert duplicates(values) == expected


@given(
    st.sampled_from([Uniform, LogUniform]),
    st.floats(1e-300, 1e300),
    st.floats(1e-300, 1e300),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5),
)
def test_quantiles_ascend_inside_the_range(
    kind: type[Uniform | LogUniform], one: float, other: float, shares: list[float]
) -> None:
    if one == other:
        return
    dimension = kind(min(one, other), max(one, other))
    values = [dimension.quantile(share) for share in sorted(shares)]
    assert all(dimension.low <= value <= dimension.high for value in values)
    assert values == sorted(values)


@given(
    st.integers(1, 2**40),
    st.integers(0, 2**40),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5),
)
def test_integer_quantiles_ascend_inside_the_range(low: int, width: int, shares: list[float]) -> None:
    dimension = LogInt(low, low + width)
    values = [dimension.quantile(share) for share in sorted(shares)]
    assert all(low <= value <= low + width for value in values)
    assert values == sorted(values)
