"""The search space: counts, numbers of points, canonical form."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys

import msgspec
import pytest

from hpc_search.space import (
    Choice,
    Dimension,
    Int,
    LogInt,
    LogUniform,
    Space,
    Uniform,
    canonical,
    duplicates,
    point_hash,
)

SMALL = Space(
    {"lr": Choice((1e-4, 1e-3)), "layers": Int(1, 3)},
    ({"dim": (64, 128), "heads": (4, 8)},),
    {"epochs": 10},
)


def test_points_are_numbered_as_itertools_product_orders_them() -> None:
    rows = itertools.product((1e-4, 1e-3), (1, 2, 3), ((64, 4), (128, 8)))
    expected = [
        {"lr": lr, "layers": layers, "dim": dim, "heads": heads, "epochs": 10}
        for lr, layers, (dim, heads) in rows
    ]
    assert [SMALL.point(i) for i in range(12)] == expected
    assert SMALL.size() == 12


def test_parameters_come_in_the_order_of_names() -> None:
    assert SMALL.names == ("lr", "layers", "dim", "heads", "epochs")
    assert tuple(SMALL.point(5)) == SMALL.names


def test_index_is_the_inverse_of_point() -> None:
    assert [SMALL.index(SMALL.point(i)) for i in range(12)] == list(range(12))


def test_size_is_exact_beyond_floats() -> None:
    dimensions: dict[str, Dimension] = {f"d{i}": Int(1, 1000) for i in range(6)}
    space = Space(dimensions | {"last": Int(1, 3)})
    assert space.size() == 3 * 10**18
    assert space.index(space.point(3 * 10**18 - 1)) == 3 * 10**18 - 1


def test_dna_grid_has_54675_points() -> None:
    dimensions: dict[str, Dimension] = {f"a{i}": Choice((1, 2, 3, 4, 5)) for i in range(2)}
    space = Space(dimensions | {f"b{i}": Choice((1, 2, 3)) for i in range(7)})
    assert space.size() == 54_675


def test_space_with_a_continuous_dimension_has_no_size() -> None:
    space = Space({"lr": LogUniform(1e-5, 1e-2), "n": Int(1, 4)})
    assert space.size() is None
    assert space.size({"lr"}) == 4
    assert space.continuous == ("lr",)
    with pytest.raises(ValueError, match="lr is continuous"):
        space.point(0)
    with pytest.raises(ValueError, match="lr is continuous"):
        space.index({"lr": 1e-3, "n": 1})


def test_only_parameters_with_different_values_vary() -> None:
    dimensions: dict[str, Dimension] = {
        "one": Choice((1, 1.0)),
        "two": Choice((1, True)),
        "same": Int(3, 3),
        "lr": Uniform(0, 1),
    }
    space = Space(dimensions, ({"dim": (1, 2), "heads": (4, 4)},), {"epochs": 1})
    assert space.varied == ("two", "lr", "dim")


def test_given_dimensions_take_no_digit() -> None:
    space = Space({"a": Choice((1, 2)), "lr": Uniform(0, 1), "b": Choice((3, 4))})
    assert space.draw(2, {"lr": 0.25}) == {"a": 2, "lr": 0.25, "b": 3}
    with pytest.raises(ValueError, match="nix"):
        space.draw(0, {"lr": 0.5, "nix": 1})


@pytest.mark.parametrize("index", [-1, 12, 10**30])
def test_number_outside_the_space_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError, match=r"outside 0\.\.11"):
        SMALL.point(index)


def test_space_of_fixed_values_has_one_point() -> None:
    space = Space({}, (), {"epochs": 3})
    assert space.size() == 1
    assert space.point(0) == {"epochs": 3}
    with pytest.raises(IndexError):
        space.point(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.5}, "lr: 0.5 is not one of the 2 values"),
        ({"layers": 4}, "layers: 4 is not an integer between 1 and 3"),
        ({"layers": True}, "layers: True is not an integer"),
        ({"layers": 1.5}, "layers: 1.5 is not an integer"),
        ({"dim": 64, "heads": 8}, "dim, heads: "),
        ({"epochs": 11}, "epochs: 11 is not the fixed value 10"),
        ({"nix": 1}, "the space has no 'nix'"),
    ],
)
def test_what_is_not_a_point_has_no_number(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SMALL.index(SMALL.point(0) | change)


def test_absent_parameter_is_not_a_null_one() -> None:
    space = Space({"clip": Choice((None, 1.0))})
    assert space.index({"clip": None}) == 0
    with pytest.raises(ValueError, match="lacks 'clip'"):
        space.index({})


def test_equal_numbers_have_one_index() -> None:
    space = Space({"x": Choice((1, 0.0001)), "n": Int(1, 4)})
    assert space.index({"x": 1.0, "n": 2.0}) == space.index({"x": 1, "n": 2})


def test_point_does_not_share_lists_with_the_space() -> None:
    space = Space({"widths": Choice(([1, 2], [3]))}, (), {"nested": {"a": [1]}})
    point = space.point(0)
    point["widths"].append(9)
    point["nested"]["a"].append(9)
    assert space.point(0) == {"widths": [1, 2], "nested": {"a": [1]}}


def test_space_survives_json() -> None:
    space = Space(
        {
            "a": Choice((1, None, "x", [1, {"y": 2.5}], True)),
            "b": Uniform(0, 1),
            "c": LogUniform(1e-5, 1),
            "d": Int(-3, 3),
            "e": LogInt(1, 9),
        },
        ({"f": (1, 2), "g": ("p", "q")},),
        {"h": {"i": None}},
    )
    assert space.names == ("a", "b", "c", "d", "e", "f", "g", "h")
    data = msgspec.json.encode(space)
    assert msgspec.json.decode(data, type=Space) == space
    assert set(msgspec.json.decode(data)) == {"dimensions", "linked", "fixed"}


def test_integer_ends_of_a_float_range_become_floats() -> None:
    assert msgspec.json.encode(Uniform(0, 1)) == msgspec.json.encode(Uniform(0.0, 1.0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Choice(()),
        lambda: Choice((math.nan,)),
        lambda: Choice(([math.inf],)),
        lambda: Uniform(1.0, 1.0),
        lambda: Uniform(0.0, math.inf),
        lambda: LogUniform(0.0, 1.0),
        lambda: LogUniform(-1.0, 1.0),
        lambda: Int(2, 1),
        lambda: LogInt(0, 5),
        lambda: Space({}, ({},)),
        lambda: Space({}, ({"a": ()},)),
        lambda: Space({}, ({"a": (1, 2), "b": (1,)},)),
        lambda: Space({"a": Int(1, 2)}, ({"a": (1,)},)),
        lambda: Space({"a": Int(1, 2)}, (), {"a": 1}),
        lambda: Space({}, ({"a": (1,)}, {"a": (2,)})),
        lambda: Space({}, (), {"a": math.nan}),
    ],
)
def test_impossible_part_of_a_space_is_a_value_error(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"\w"):
        make()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (0.0, -0.0),
        (1e-4, 0.0001),
        ({"a": 1, "b": [2, 3.0]}, {"b": (2.0, 3), "a": 1.0}),
        (2**53, float(2**53)),
    ],
)
def test_equal_values_have_one_canonical_form(one: object, other: object) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (0, False),
        (0, None),
        (1, "1"),
        ("true", True),
        (None, "null"),
        ({"a": None}, {}),
        ([1, 2], [2, 1]),
        ([], {}),
        (2**53, 2**53 + 1),
        (2**70, 2**70 + 1),
        ("a", "\u00e4"),
        ([[1], 2], [[1, 2]]),
    ],
)
def test_different_values_have_different_canonical_forms(one: object, other: object) -> None:
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {1: 2}, {None: 1}, b"x", {1, 2}, object()])
def test_value_that_yaml_cannot_hold_has_no_canonical_form(value: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        canonical({"x": [value]})


def test_canonical_form_and_hash_are_pinned() -> None:
    point = {"lr": 1e-4, "b": [True, None, "\u00e4"], "n": 3.0, "big": 2**64}
    assert canonical(point) == b'{"b":[true,null,"\\u00e4"],"big":18446744073709551616,"lr":0.0001,"n":3}'
    assert point_hash(point) == "b484e84f20888c8f"


def test_hash_does_not_depend_on_the_hash_seed() -> None:
    code = "from hpc_search.space import point_hash; print(point_hash({'b': 1, 'a': {'d': 2, 'c': None}}))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(found) == 1


def test_duplicates_are_pairs_of_first_and_later_position() -> None:
    assert duplicates([1, 2, 1.0, True, "1", 2, 1]) == [(0, 2), (1, 5), (0, 6)]
    assert duplicates([[1, 2.0], {"a": 1}, [1.0, 2], {"a": 1.0}, None]) == [(0, 2), (1, 3)]
    assert duplicates([]) == []


def test_quantiles_stay_inside_the_range() -> None:
    almost = 1 - 2**-53
    for dimension in (
        Uniform(-1e308, 1e308),
        LogUniform(5e-324, 1e308),
        Uniform(1.0, math.nextafter(1.0, 2)),
    ):
        assert dimension.low == dimension.quantile(0.0)
        assert dimension.low <= dimension.quantile(almost) <= dimension.high
    for low, high in ((1, 1), (1, 7), (3, 2**40), (1, 10**400), (10**20, 10**20 + 1)):
        assert LogInt(low, high).quantile(0.0) == low
        assert LogInt(low, high).quantile(almost) <= high


def test_log_quantiles_are_pinned() -> None:
    assert LogUniform(1e-5, 1e-2).quantile(0.5) == pytest.approx(math.sqrt(1e-7), rel=1e-12)
    assert [LogUniform(1e-5, 1e-2).quantile(u / 8).hex() for u in range(1, 8)] == [
        "0x1.8dd9b9a1bbd80p-16",
        "0x1.d7b9e14a91d47p-15",
        "0x1.17a8e301c4437p-13",
        "0x1.4b96be9c2da2cp-12",
        "0x1.892918d61a787p-11",
        "0x1.d22a4fa316fadp-10",
        "0x1.145ceee91f40bp-8",
    ]
    assert [LogInt(1, 1000).quantile(u / 8) for u in range(8)] == [1, 2, 5, 13, 31, 75, 177, 422]


def test_log_int_below_and_above_the_fast_path_agree_with_the_exact_sum() -> None:
    for high in (7, 10**6, 2**33):
        drawn = [LogInt(1, high).quantile(u / 997) for u in range(997)]
        exact = [int(math.exp(u / 997 * math.log(high + 1)) * (1 + 1e-13)) for u in range(997)]
        assert sum(abs(a - b) > 1e-9 * b for a, b in zip(drawn, exact, strict=True)) <= 2
