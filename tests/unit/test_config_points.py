"""Points that come first: written by hand, from a table, from elsewhere; and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hpc_search.config import Asked, Elsewhere, dump_search, parse_search
from hpc_search.errors import ConfigError, UsageError
from hpc_search.planning.blocks import blocks_of
from hpc_search.records.search import Search
from hpc_search.strategies import make

HEAD = """\
name: x
trial: train.py:train
metric: {name: acc, goal: max}
space: {lr: {log_uniform: [1e-5, 1e-1]}, n: {int: [1, 9]}, opt: [adamw, sgd]}
linked: [{dim: [64, 128], heads: [4, 8]}]
fixed: {epochs: 3}
"""
ONE = "{lr: 1e-3, n: 2, opt: sgd, dim: 64, heads: 4}"
OTHER = "{lr: 0.1, n: 2, opt: sgd, dim: 64, heads: 4}"


def read(points: str, strategy: str = "{random: {points: 9}}", **more: Any) -> Search:
    text = f"{HEAD}points:\n{points}\nstrategy: {strategy}\n"
    return parse_search(text.encode(), str(more.pop("base", Path()) / "f.yaml"), Asked(**more))


def told(points: str, strategy: str = "{random: {points: 9}}", **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(points, strategy, **more)
    return str(caught.value)


def test_points_are_full_in_the_order_and_with_the_values_of_the_space() -> None:
    search = read("  - {n: 2.0, heads: 8, dim: 128, lr: 1e-3, opt: sgd}")
    (point,) = search.given
    assert point == {"lr": 0.001, "n": 2, "opt": "sgd", "dim": 128, "heads": 8, "epochs": 3}
    assert list(point) == list(search.space.names)
    assert type(point["n"]) is int
    assert parse_search(dump_search(search).encode(), "f.yaml") == search


def test_given_points_count_and_come_first() -> None:
    search = read(f"  - {ONE}\n  - {OTHER}")
    strategy = make(search.strategy, search.given)
    assert strategy.count(search.space) == 9
    assert [strategy.point(search.space, index)["lr"] for index in range(2)] == [0.001, 0.1]


def test_strategy_points_runs_only_the_given_ones() -> None:
    search = read(f"  - {ONE}", "points")
    assert make(search.strategy, search.given).count(search.space) == 1


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ("  - {lr: 1e-3, n: 2}", ["f.yaml:8: points[0]: lacks 'opt', 'dim' and 'heads'"]),
        (
            f"  - {ONE.replace('1e-3', '2')}",
            ["f.yaml:8: points[0].lr: lr: 2 is not in the range", "[1e-05, 0.1]"],
        ),
        (f"  - {ONE.replace('n: 2', 'n: 10')}", ["points[0].n", "not an integer between 1 and 9"]),
        (f"  - {ONE.replace('n: 2', 'n: true')}", ["points[0].n", "True is not an integer"]),
        (f"  - {ONE.replace('sgd', 'sdg')}", ["points[0].opt", "'sdg' is not one of the 2 values"]),
        (f"  - {ONE.replace('heads: 4', 'heads: 8')}", ["points[0]", "heads"]),
        (f"  - {ONE.replace('opt', 'optt')}", ["no parameter 'optt'; did you mean 'opt'?", "lacks 'opt'"]),
        (
            f"  - {ONE[:-1]}, epochs: 4}}",
            ["points[0].epochs: epochs is fixed", "expected: 3, or leave it out"],
        ),
        (f"  - {ONE}\n  - {ONE}", ["f.yaml:9: points[1]: is the point of line 8 again"]),
        ("  - 3", ["points[0]: is not a mapping"]),
        ("  - {csv: no.csv}", ["points[0].csv", "no.csv: there is no such CSV file"]),
        ("  - {run: r}", ["points of another run are read by `plan` only"]),
        ("  - {run: r, tip: 3}", ["unknown key 'tip'; did you mean 'top'?"]),
        ("  []", ["points: is empty"]),
    ],
)
def test_what_is_wrong_is_told_with_its_place(points: str, words: list[str]) -> None:
    message = told(points)
    for word in words:
        assert word in message


def test_more_given_points_than_the_budget_has_are_refused() -> None:
    assert "2 points are given, and they count" in told(f"  - {ONE}\n  - {OTHER}", "{sobol: {points: 1}}")


def test_point_of_conditions_lacks_what_is_absent_and_has_what_is_derived() -> None:
    text = """
name: x
trial: train.py:train
metric: {name: acc, goal: max}
space: {opt: [adamw, sgd], momentum: {uniform: [0, 1]}, layers: [1, 2], width: [8, 16]}
when: {momentum: "opt == 'sgd'"}
constraints: ["layers * width <= 16"]
derived: {hidden: "4 * width"}
points:
  - {opt: adamw, layers: 1, width: 16}
  - {opt: sgd, momentum: 0.9, layers: 1, width: 8, hidden: 32}
strategy: {random: {points: 5}}
"""
    assert parse_search(text.encode(), "f.yaml").given == (
        {"opt": "adamw", "layers": 1, "width": 16, "hidden": 64},
        {"opt": "sgd", "momentum": 0.9, "layers": 1, "width": 8, "hidden": 32},
    )
    for found, words in {
        "layers: 1, width: 8, hidden: 32": "layers: 2, width: 16",
        "momentum: 0.9, ": "",
        "hidden: 32": "hidden: 33",
    }.items():
        with pytest.raises(ConfigError, match=r"points\[1\]"):
            parse_search(text.replace(found, words).encode(), "f.yaml")
    with pytest.raises(ConfigError, match="not a point of the space: lacks 'momentum'"):
        parse_search(text.replace("momentum: 0.9, ", "").encode(), "f.yaml")


def table(base: Path, text: str) -> dict[str, Any]:
    (base / "p.csv").write_text(text)
    return {"points": "  - {csv: p.csv}", "base": base}


def test_table_has_a_point_a_row(tmp_path: Path) -> None:
    rows = "lr,n,opt,dim,heads,epochs\n1e-3,2,sgd,64,4,\n\n0.01,3,adamw,128,8,3\n"
    given = read(**table(tmp_path, rows)).given
    assert [(point["lr"], point["n"], point["opt"], point["epochs"]) for point in given] == [
        (0.001, 2, "sgd", 3),
        (0.01, 3, "adamw", 3),
    ]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("lr,n,opt,dim,heads\n5,2,sgd,64,4\n", ["p.csv:2: lr: lr: 5 is not in the range"]),
        ("lr,n,opt,dim,heads\n1e-3,2,sgd,64,4\n1e-3,2,sgd,,4\n", ["p.csv:3: lacks 'dim'"]),
        (
            "lr,n\n1e-3\n",
            ["p.csv:2: the row has another number of cells", "found:    1 cells", "expected: 2"],
        ),
        ("lr,lr\n1,2\n", ["p.csv:1: the header has no name for each column"]),
        ("lr\n", ["not a table of points", "found:    0 rows"]),
        ("lr,n,opt,dim,heads\n[1,2,sgd,64,4\n", ["p.csv:2:"]),
    ],
)
def test_what_is_wrong_in_a_table_is_told_with_its_line(tmp_path: Path, rows: str, words: list[str]) -> None:
    message = told(**table(tmp_path, rows))
    for word in words:
        assert word in message


RANKED = [
    ("trial 4", {"lr": 0.001, "n": 2, "opt": "sgd", "dim": 64, "heads": 4, "epochs": 99, "other": 1}),
    ("trial 1", {"lr": 5.0, "n": 2, "opt": "sgd", "dim": 64, "heads": 4}),
    ("trial 3", {"lr": 0.001, "n": 3, "opt": "sgd", "dim": 64, "heads": 4}),
    ("trial 2", {"lr": 0.001, "n": 4, "opt": "sgd", "dim": 64, "heads": 4}),
]


def ranked(
    kind: str, place: str, options: Mapping[str, Any], base: Path
) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    del base
    if place == "broken":
        raise UsageError("it is broken", hint="mend it")
    assert (kind, dict(options)) in [("run", {}), ("optuna", {"study": "s"})]
    yield from ((name, params, ("other",)) for name, params in RANKED)


def test_best_points_of_another_search_come_in_its_order_without_those_that_are_none_here() -> None:
    elsewhere = Elsewhere(ranked)
    given = read("  - {optuna: o.db, study: s, top: 2}", elsewhere=elsewhere).given
    # What this search fixes is its own affair, and what only the other one has and fixes is the other's.
    assert [(point["n"], point["epochs"]) for point in given] == [(2, 3), (3, 3)]
    assert elsewhere.notes == [
        "points of optuna o.db, left out: trial 1: lr: 5.0 is not in the range log_uniform [1e-05, 0.1]"
    ]


def test_fewer_points_than_asked_for_are_told() -> None:
    elsewhere = Elsewhere(ranked)
    assert len(read("  - {run: r}", elsewhere=elsewhere).given) == 3
    assert elsewhere.notes[-1] == "points of run r: 3 of the 10 asked for"


def test_points_that_are_given_already_count_among_the_best() -> None:
    given = read(f"  - {ONE}\n  - {{run: r, top: 2}}", elsewhere=Elsewhere(ranked)).given
    assert [point["n"] for point in given] == [2, 3]


def test_search_that_cannot_be_read_is_a_problem_of_its_line() -> None:
    message = told("  - {run: broken}", elsewhere=Elsewhere(ranked))
    assert "f.yaml:8: points[0].run: it is broken" in message
    assert "mend it" in message


STAGED = """\
name: x
trial: train.py:train
metric: {name: acc, goal: max}
space: {width: [8, 16], depth: [1, 2, 3]}
derived: {units: "width * depth * epochs"}
constraints: ["units <= 400"]
fixed: {epochs: 10}
points: [{width: 8, depth: 1}, {width: 16, depth: 2}]
stages:
  - {name: coarse, strategy: {random: {points: 4}}, fixed: {epochs: 3}}
  - {name: fine, strategy: {random: {points: 4}}}
"""


def test_given_points_run_in_the_first_stage_as_it_fixes_and_derives() -> None:
    first, second = blocks_of(parse_search(STAGED.encode(), "f.yaml"), ())
    assert first.given == (
        {"width": 8, "depth": 1, "epochs": 3, "units": 24},
        {"width": 16, "depth": 2, "epochs": 3, "units": 96},
    )
    assert (first.points, second.given) == (4, ())


def test_given_point_that_the_first_stage_excludes_is_refused() -> None:
    text = STAGED.replace("{points: 4}}, fixed: {epochs: 3}", "{points: 3}}, fixed: {epochs: 20}")
    with pytest.raises(UsageError, match=r"points\[1\] is no point .* by constraints\[0\]: units 640"):
        blocks_of(parse_search(text.encode(), "f.yaml"), ())
