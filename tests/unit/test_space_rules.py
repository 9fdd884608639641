"""Spaces with rules: what is absent, normalised, derived and excluded; exact counts; one number a point."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from hpc_search.space import (
    Choice,
    Dimension,
    Excluded,
    Int,
    LogInt,
    Normal,
    Normalise,
    Rules,
    Space,
    Uniform,
    canonical,
    components,
    point_hash,
    walk,
)
from hpc_search.strategies.random import Random

UNLESS = Normalise("n_head % n_kv_heads == 0", None, unless=True)
HEADS = Space(
    {"n_head": Choice((4, 6, 8)), "n_kv_heads": Choice((None, 1, 2, 3, 4))},
    rules=Rules(normalise={"n_kv_heads": (UNLESS,)}, derived={"dim": "64 * n_head"}),
)
OPTIMIZER = Space(
    {"optimizer": Choice(("adamw", "sgd")), "momentum": Choice((0.0, 0.9)), "layers": Int(1, 4)},
    ({"dim_model": (64, 128), "n_head": (4, 8)},),
    {"epochs": 10},
    Rules(
        when={"momentum": "optimizer == 'sgd'"},
        constraints=("layers * dim_model <= 256",),
        derived={"ffn": "4 * dim_model"},
    ),
)


def points(space: Space) -> list[dict[str, Any]]:
    return [space.point(index) for index in range(space.size() or 0)]


def draws(space: Space, count: int) -> list[dict[str, Any]]:
    strategy = Random(count)
    return [strategy.point(space, index) for index in range(count)]


def tree(kinds: int, inside: int) -> Space:
    """Return sub-spaces, each with *inside* parameters of its own with 5 values."""
    dimensions: dict[str, Dimension] = {"model": Choice(tuple(range(kinds)))}
    names = [f"model.{kind}.{place}" for kind in range(kinds) for place in range(inside)]
    dimensions |= dict.fromkeys(names, Int(1, 5))
    return Space(dimensions, rules=Rules(when={name: f"model == {name.split('.')[1]}" for name in names}))


# -- what a point is
def test_heads_that_do_not_divide_become_null_and_count_once() -> None:
    pairs = [(point["n_head"], point["n_kv_heads"]) for point in points(HEADS)]
    assert pairs == [(h, k) for h in (4, 6, 8) for k in (None, 1, 2, 3, 4) if k is None or h % k == 0]
    assert HEADS.raw_size == 15
    assert points(HEADS)[0] == {"n_head": 4, "n_kv_heads": None, "dim": 256}


def test_an_inactive_parameter_is_absent_and_a_constraint_leaves_out() -> None:
    found = points(OPTIMIZER)
    assert OPTIMIZER.size() == len(found) == (1 + 2) * (4 + 2)
    assert all(("momentum" in point) == (point["optimizer"] == "sgd") for point in found)
    assert all(point["layers"] * point["dim_model"] <= 256 for point in found)
    derived = {(point["ffn"], point["dim_model"], point["n_head"]) for point in found}
    assert derived == {(256, 64, 4), (512, 128, 8)}
    assert tuple(found[-1]) == OPTIMIZER.names


def test_what_no_rule_joins_is_counted_apart() -> None:
    assert OPTIMIZER.counts() == [(("optimizer", "momentum"), 3), (("layers", "dim_model", "n_head"), 6)]


def test_counting_is_exact_where_nothing_could_be_listed() -> None:
    dimensions: dict[str, Dimension] = {f"d{place}": Int(1, 100) for place in range(8)}
    space = Space(dimensions, rules=Rules(constraints=("d0 < d1",), derived={"sum": "d0 + d1 + d2 + d3"}))
    assert space.size() == 99 * 100 // 2 * 10**12
    last = (space.size() or 0) - 1
    assert space.index(space.point(last)) == last


def test_sub_spaces_are_alternatives_and_not_a_product() -> None:
    space = tree(9, 5)
    assert space.size() == 9 * 5**5
    assert (space.raw_size or 0) > 10**30
    assert all(len(space.point(index)) == 6 for index in range(0, 9 * 5**5, 997))
    assert all(space.index(space.point(index)) == index for index in range(0, 9 * 5**5, 2999))


def test_a_child_of_an_absent_parent_is_absent() -> None:
    rules = Rules(when={"b": "a == 1", "c": "b != 3", "d": "c == null"})
    dimensions: dict[str, Dimension] = {"a": Int(1, 2), "b": Int(1, 2)}
    space = Space(dimensions | {"c": Choice((None, 1)), "d": Choice((5, 6))}, rules=rules)
    assert [set(point) for point in points(space) if point["a"] == 2] == [{"a"}]
    assert {"a": 1, "b": 1, "c": 1} in points(space)
    assert {"a": 1, "b": 2, "c": None, "d": 6} in points(space)


def test_rules_stand_in_any_order() -> None:
    rules = Rules(when={"a": "b == 1", "b": "c > 1"}, constraints=("a != 2 or c == 3",))
    space = Space({name: Int(1, 3) for name in "abc"}, rules=rules)
    expected = [{"c": 1}, *({"b": b, "c": c} for c in (2, 3) for b in (2, 3))]
    expected += [{"a": a, "b": 1, "c": c} for c in (2, 3) for a in (1, 2, 3) if a != 2 or c == 3]
    assert sorted(map(canonical, points(space))) == sorted(map(canonical, expected))


def test_a_member_of_a_linked_group_can_be_absent_and_equal_rows_count_once() -> None:
    linked = ({"size": ("s", "s", "m"), "drop": (0.1, 0.2, 0.3)},)
    space = Space({"plain": Choice((True, False))}, linked, rules=Rules(when={"drop": "not plain"}))
    assert space.size() == 2 + 3
    assert {"plain": True, "size": "s"} in points(space)


def test_rules_are_applied_until_none_applies_so_that_a_point_stays_as_it_is() -> None:
    rules = (Normalise("x == 2", 3), Normalise("x == 1", 2))
    space = Space({"x": Choice((1, 2, 3, 4))}, rules=Rules(normalise={"x": rules}))
    assert points(space) == [{"x": 3}, {"x": 4}]
    assert [space.index({"x": x}) for x in (1, 2, 3, 4)] == [0, 0, 0, 1]


def test_a_rule_that_undoes_a_value_bound_before_undoes_it_for_one_combination_only() -> None:
    rules = Rules(when={"e": "b == 1", "c": "f in [1, null]"}, normalise={"b": (Normalise("c == 1", None),)})
    linked = ({"e": (0,), "f": (None,)},)
    space = Space({"b": Int(1, 2), "c": Int(1, 3)}, linked, rules=rules)
    assert [point for point in points(space) if "e" in point] == [
        {"b": 1, "c": 2, "e": 0, "f": None},
        {"b": 1, "c": 3, "e": 0, "f": None},
    ]


def test_true_is_not_one_and_lists_are_values() -> None:
    values = (1, True, [1], [True], "1", None)
    joined = Space({"x": Choice(values)}, rules=Rules(normalise={"x": (Normalise("x == '1'", None),)}))
    assert joined.size() == len(values) - 1


# -- in and out
@pytest.mark.parametrize(
    "given",
    [
        {"optimizer": "adamw", "layers": 2.0, "dim_model": 64, "n_head": 4},
        {"optimizer": "adamw", "layers": 2, "dim_model": 64, "n_head": 4, "epochs": 10, "ffn": 256},
        {"optimizer": "adamw", "momentum": 0.9, "layers": 2, "dim_model": 64.0, "n_head": 4},
    ],
)
def test_equivalent_forms_are_one_point(given: dict[str, Any]) -> None:
    point = {"optimizer": "adamw", "layers": 2, "dim_model": 64, "n_head": 4, "epochs": 10, "ffn": 256}
    resolved = OPTIMIZER.resolve(given)
    assert isinstance(resolved, dict)
    assert canonical(resolved) == canonical(point)
    assert canonical(OPTIMIZER.point(OPTIMIZER.index(given))) == canonical(point)


def test_what_is_excluded_says_by_which_constraint() -> None:
    given = {"optimizer": "adamw", "layers": 4, "dim_model": 128, "n_head": 8}
    found = OPTIMIZER.resolve(given)
    assert found == Excluded("constraints[0]", {"layers": 4, "dim_model": 128})
    assert isinstance(found, Excluded)
    assert found.text == "layers 4, dim_model 128"
    with pytest.raises(ValueError, match=r"excluded by constraints\[0\] \(layers 4, dim_model 128\)"):
        OPTIMIZER.index(given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "sgd"}, "lacks 'momentum'"),
        ({"optimizer": "adam"}, "optimizer: 'adam' is not one of"),
        ({"momentun": 1}, "the space has no 'momentun'"),
        ({"ffn": 255}, "ffn: 255 is not the derived value 256"),
        ({"epochs": 11}, "epochs: 11 is not the fixed value"),
        ({"n_head": 8}, "dim_model, n_head"),
    ],
)
def test_what_is_no_combination_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    point = {"optimizer": "adamw", "layers": 2, "dim_model": 64, "n_head": 4}
    with pytest.raises(ValueError, match=message):
        OPTIMIZER.resolve(point | change)


def test_null_that_a_rule_makes_is_a_value_and_one_that_it_does_not_make_is_none() -> None:
    rules = Rules(normalise={"kv": (Normalise("kv == 3 and h == 4", None),)})
    narrow = Space({"h": Choice((4, 8)), "kv": Choice((2, 3))}, rules=rules)
    assert narrow.index({"h": 4, "kv": None}) == narrow.index({"h": 4, "kv": 3})
    with pytest.raises(ValueError, match="no point has"):
        narrow.index({"h": 8, "kv": None})


def test_free_parameters_are_what_a_sampler_chooses() -> None:
    assert list(OPTIMIZER.free) == ["optimizer", "momentum", "layers", "dim_model + n_head"]
    raw = OPTIMIZER.at([0.9, 0.6, 0.3, 0.6])
    assert raw == {"optimizer": "sgd", "momentum": 0.9, "layers": 2, "dim_model": 128, "n_head": 8}
    assert OPTIMIZER.raw(OPTIMIZER.chosen(raw)) == raw
    resolved = OPTIMIZER.resolve(OPTIMIZER.at([0.1, 0.6, 0.3, 0.6]))
    assert isinstance(resolved, dict)
    assert "momentum" not in OPTIMIZER.chosen(resolved)


def test_a_parameter_that_gets_one_value_leaves_the_dimensions_and_its_rules() -> None:
    fixed = OPTIMIZER.with_fixed({"optimizer": "sgd", "n_head": 4, "epochs": 3})
    assert fixed.size() == 2 * (4 + 2)
    given = {"epochs": 3, "optimizer": "sgd", "n_head": 4}
    assert fixed.point(0) == {"momentum": 0.0, "layers": 1, "dim_model": 64, **given, "ffn": 256}
    assert OPTIMIZER.with_fixed({"momentum": 0.5}).point(0)["momentum"] == 0.5
    assert OPTIMIZER.with_fixed({"ffn": 7}).point(0)["ffn"] == 7
    assert OPTIMIZER.with_fixed({"layers": 5}).size() == 0
    assert OPTIMIZER.with_fixed({}) is OPTIMIZER


def test_what_counts_as_read_is_what_a_value_comes_from_and_what_decides_that_one_is_there() -> None:
    assert OPTIMIZER.implied == {"momentum": ("optimizer",), "ffn": ("dim_model",)}
    assert OPTIMIZER.required(OPTIMIZER.point(0)) == ("optimizer", "layers", "dim_model", "n_head")
    rules = Rules(when={"b": "a == 1", "c": "d == 2"}, derived={"d": "b + 0"})
    nested = Space({name: Int(1, 2) for name in "abc"}, rules=rules)
    assert nested.implied == {"b": ("a",), "d": ("a", "b"), "c": ("a", "b")}


def test_a_space_with_rules_survives_json_and_one_without_has_none_in_it() -> None:
    for space in (HEADS, OPTIMIZER):
        again = msgspec.json.decode(msgspec.json.encode(space), type=Space)
        assert again == space
        assert points(again) == points(space)
    assert "rules" not in msgspec.json.decode(msgspec.json.encode(Space({"a": Int(1, 2)}, rules=Rules())))


# -- what has no table
def test_more_combinations_than_a_table_may_have_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (walk, components):
        monkeypatch.setattr(module, "MOST_ROWS", 10_000)
    space = Space({"a": Int(1, 101), "b": Int(1, 100), "c": Int(1, 3)}, rules=Rules(constraints=("a != b",)))
    assert space.size() is None
    assert space.large == (("a", "b"),)
    with pytest.raises(ValueError, match="too many combinations"):
        space.point(0)
    drawn = draws(space, 200)
    assert len(set(map(canonical, drawn))) == 200
    assert all(point["a"] != point["b"] for point in drawn)
    exact = Space({"a": Int(1, 100), "b": Int(1, 100)}, rules=Rules(constraints=("a != b",)))
    assert exact.size() == 10_000 - 100


def test_a_condition_on_a_finite_parent_is_decided_before_a_continuous_child_is_drawn() -> None:
    space = Space(
        {"optimizer": Choice(("adamw", "sgd")), "momentum": Uniform(0, 1), "noise": Normal(0, 1)},
        rules=Rules(when={"momentum": "optimizer == 'sgd'"}, constraints=("momentum < 0.5",)),
    )
    drawn = draws(space, 100)
    assert all(("momentum" in point) == (point["optimizer"] == "sgd") for point in drawn)
    assert all(point.get("momentum", 0) < 0.5 for point in drawn)
    assert 20 < sum("momentum" in point for point in drawn) < 60
    audit = space.audit()
    assert 600 < audit.allowed < 900
    assert audit.draws == 1000


def test_points_without_a_continuous_parameter_are_not_drawn_again() -> None:
    space = Space(
        {"optimizer": Choice(("adamw", "sgd")), "momentum": Uniform(0, 1)},
        rules=Rules(when={"momentum": "optimizer == 'sgd'"}),
    )
    drawn = draws(space, 50)
    assert [point["optimizer"] for point in drawn].count("adamw") == 1
    assert len(set(map(canonical, drawn))) == 50


def test_weights_hold_among_what_the_rules_allow() -> None:
    space = Space(
        {"a": Choice((1, 2), (9, 1)), "b": Int(1, 2000), "c": LogInt(1, 50)},
        rules=Rules(constraints=("a * b != 7",)),
    )
    drawn = draws(space, 400)
    assert 330 < [point["a"] for point in drawn].count(1) < 390
    assert len(set(map(canonical, drawn))) == 400


@pytest.mark.parametrize("rate", [Uniform(0, 1), Int(1, 100)])
def test_a_sub_space_with_more_combinations_is_not_drawn_more_often(rate: Dimension) -> None:
    """One of 100 combinations beside one of 2: a third of the points each, as long as there are any."""
    dimensions: dict[str, Dimension] = {
        "model": Choice(("large", "small", "linear")),
        "layers": Int(1, 100),
        "depth": Int(1, 2),
        "rate": rate,
    }
    rules = Rules(when={"layers": "model == 'large'", "depth": "model == 'small'"})
    drawn = [point["model"] for point in draws(Space(dimensions, rules=rules), 210)]
    assert all(50 < drawn.count(model) < 90 for model in ("large", "small", "linear"))


def test_all_of_a_small_space_with_weights_are_drawn_once_each() -> None:
    space = Space({"a": Choice((1, 2), (1000, 1)), "b": Int(1, 20)}, rules=Rules(constraints=("a + b < 20",)))
    size = space.size() or 0
    drawn = draws(space, size)
    assert sorted(map(canonical, drawn)) == sorted(map(canonical, points(space)))


# -- pinned
def test_points_with_rules_are_pinned() -> None:
    assert [point_hash(HEADS.point(index)) for index in (0, 5, 11)] == PINNED_HEADS
    assert [point_hash(point) for point in draws(OPTIMIZER, 4)] == PINNED_RANDOM


PINNED_HEADS = ["93233a2d73844a05", "877f85a4f5ba2e6a", "9f214ecab6b27797"]
PINNED_RANDOM = ["c78b774ef0c6e202", "6a40bbd8defe5958", "abd9f7948dcc3951", "fada0a4cc9828725"]


def test_tables_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "from tests.unit.test_space_rules import OPTIMIZER, HEADS, tree\n"
        "from hpc_search.space import point_hash\n"
        "spaces = (OPTIMIZER, HEADS, tree(4, 3))\n"
        "print([point_hash(s.point(i)) for s in spaces for i in range(s.size())], OPTIMIZER.implied)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(found) == 1


# -- what is wrong
@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (Rules(when={"x": "a == 1"}), r"when\.x: unknown parameter 'x'"),
        (Rules(when={"a": "beta == 1"}), r"when\.a: unknown parameter 'beta'"),
        (Rules(when={"a": "b == 1", "b": "a == 1"}), "round in a circle: 'a' needs 'b' needs 'a'"),
        (Rules(derived={"d": "e", "e": "d"}), "round in a circle"),
        (Rules(derived={"d": "d + 1"}), "'d' depends on itself"),
        (Rules(derived={"a": "b"}), "more than one part of the space: a"),
        (Rules(when={"f": "a == 1"}), "'f' is fixed"),
        (Rules(when={"d": "a == 1"}, derived={"d": "a"}), "'d' is derived"),
        (Rules(constraints=("h > 1",)), "'h' is a group, not a parameter; it has h.x"),
        (Rules(normalise={"a": (Normalise("a >", 1),)}), "is no expression"),
    ],
)
def test_a_rule_that_cannot_be_used_is_a_value_error(rules: Rules, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Space({"a": Int(1, 2), "b": Int(1, 2), "h.x": Int(1, 2)}, (), {"f": 1}, rules)


def test_an_audit_counts_every_raw_combination_once() -> None:
    for space in (HEADS, OPTIMIZER, tree(3, 2)):
        for component, tally in space.audit().components:
            excluded = sum(count.number for count in tally.excluded.values())
            assert excluded + tally.absent + tally.merged.number + len(component.table or ()) == component.raw
