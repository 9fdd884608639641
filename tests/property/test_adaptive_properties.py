"""From parameters to the coordinates of models and back, whatever the ranges."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hpc_search.space import (
    Choice,
    Dimension,
    Int,
    LogInt,
    LogUniform,
    Normal,
    Prior,
    Quantized,
    Space,
    Uniform,
    canonical,
)
from hpc_search.strategies.adaptive.axes import Category, Number, axes_of, place_of, point_at

models = pytest.importorskip("hpc_search.strategies.adaptive.models")
FLOATS = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))


@st.composite
def ranges(draw: st.DrawFn) -> Dimension:
    kind = draw(st.sampled_from(["uniform", "log", "prior", "normal", "int", "log_int", "stepped", "choice"]))
    low, high = sorted(draw(st.tuples(FLOATS, FLOATS)))
    assume(high - low > 1e-3)
    whole = draw(st.integers(1, 50))
    match kind:
        case "uniform":
            return Uniform(low, high)
        case "log":
            return LogUniform(abs(low) + 1e-6, abs(low) + high - low)
        case "prior":
            return Uniform(low, high, prior=Prior((low + high) / 2, (high - low) / 3))
        case "normal":
            return Normal(low, high - low)
        case "int":
            step = draw(st.integers(1, 7))
            return Int(int(low), int(low) + step * whole, step)
        case "log_int":
            return LogInt(whole, whole + draw(st.integers(1, 10**9)))
        case "stepped":
            return Quantized(0.0, round(0.05 * whole, 10), 0.05)
    values: list[Any] = draw(
        st.lists(st.one_of(st.integers(), st.text(), st.none(), st.booleans()), min_size=2)
    )
    return Choice(tuple(values))


SHARES = st.floats(0.0, 1.0, exclude_max=True)


@given(dimension=ranges(), share=SHARES)
def test_a_value_becomes_a_coordinate_of_its_distribution_and_itself_again(
    dimension: Dimension, share: float
) -> None:
    space = Space(dimensions={"a": dimension})
    assume(space.free)
    axes = axes_of(space)
    value = dimension.quantile(share)
    place = place_of(space, axes, {"a": value})
    distribution = models.distributions_of(axes)["a"]
    assert distribution._contains(distribution.to_internal_repr(place["a"]))
    back = point_at(space, axes, place)
    assert back is not None
    if isinstance(axes[0], Number) and axes[0].dimension is not None and not axes[0].step:
        # A share is known to a float's precision, and so is its value.
        assert back["a"] == pytest.approx(value, rel=1e-9, abs=1e-9)
    else:
        assert canonical(back["a"]) == canonical(value)


@given(dimension=ranges(), unit=SHARES)
def test_every_place_between_the_ends_is_a_value_and_keeps_its_place(
    dimension: Dimension, unit: float
) -> None:
    space = Space(dimensions={"a": dimension})
    assume(space.free)
    (axis,) = axes_of(space)
    assume(isinstance(axis, Number))
    assert isinstance(axis, Number)
    coordinate = axis.at(unit)
    assert axis.low <= coordinate <= axis.high
    point = point_at(space, (axis,), {"a": coordinate})
    assert point is not None
    assert space.resolve(point) == point
    again = axis.at(axis.unit(coordinate))
    assert again == (coordinate if axis.step else pytest.approx(coordinate, rel=1e-9, abs=1e-9))


@given(dimension=ranges(), seed=st.integers(0, 2**32 - 1))
def test_what_optuna_answers_is_a_value_of_the_dimension(dimension: Dimension, seed: int) -> None:
    space = Space(dimensions={"a": dimension, "b": Uniform(0.0, 1.0)})
    axes = axes_of(space)
    place = models.ask(models.quietly(models.tpe, seed), models.distributions_of(axes), [], 0, ("min",))
    point = point_at(space, axes, place)
    assert point is not None
    assert space.resolve(point) == point


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.sampled_from("xyz")), min_size=2, max_size=6),
    row=st.integers(0, 5),
)
def test_a_linked_group_is_one_category_over_its_rows(rows: list[tuple[int, str]], row: int) -> None:
    assume(row < len(rows))
    group = {"n": tuple(one for one, _ in rows), "s": tuple(two for _, two in rows)}
    space = Space(dimensions={}, linked=(group,))
    (axis,) = axes_of(space)
    assert isinstance(axis, Category)
    params = {"n": rows[row][0], "s": rows[row][1]}
    place = place_of(space, (axis,), params)
    # Of equal rows the first counts.
    assert place == {axis.name: rows.index(rows[row])}
    assert point_at(space, (axis,), place) == params
