"""Which point is chosen."""

from __future__ import annotations

import subprocess
import sys

from hpc_search.stats import FoldSizes, Goal, PointScore, Row, choose, rank_points, size_ratio
from hpc_search.stats.selection import select
from hpc_search.stats.study import make_study

WIDTHS = {0: {"width": 512}, 1: {"width": 128}, 2: {"width": 64}, 3: {"width": 8}}


def scores(goal: Goal = "max") -> list[PointScore]:
    """The best is 0; 1 and 2 are within its standard error of 0.1, 3 is not."""
    sign = 1 if goal == "max" else -1
    middles = [0.90, 0.85, 0.81, 0.5]
    deviations = [-0.2, -0.1, -0.05, 0.05, 0.3]
    rows = [
        Row(fold * 4 + point, point, fold, 0, "done", "", sign * (middle + deviation))
        for point, middle in enumerate(middles)
        for fold, deviation in enumerate(deviations)
    ]
    return rank_points(rows, goal, lambda _: 5)


def test_without_an_order_of_simplicity_the_best_point_is_chosen() -> None:
    found = choose(scores(), "max")

    assert found is not None
    assert (found.point, found.within) == (0, (0,))


def test_the_simplest_point_within_one_standard_error_is_chosen() -> None:
    for goal in ("max", "min"):
        found = choose(scores(goal), goal, simpler=["width"], params=WIDTHS)

        assert found is not None
        assert found.point in {1, 2}
        assert found.best == 0
        assert set(found.within) <= {0, 1, 2}
        assert found.point == found.within[-1]


def test_a_wider_error_lets_simpler_points_in() -> None:
    narrow = choose(scores(), "max", simpler=["width"], params=WIDTHS)
    wide = choose(scores(), "max", simpler=["width"], params=WIDTHS, ratio=5.0)

    assert narrow is not None
    assert wide is not None
    assert wide.point == 3
    assert len(wide.within) > len(narrow.within)


def test_a_minus_means_that_the_higher_value_is_simpler() -> None:
    found = choose(scores(), "max", simpler=["-width"], params=WIDTHS)

    assert found is not None
    assert found.point == 0


def test_values_that_are_no_numbers_are_as_simple_as_their_place_in_the_list() -> None:
    params = {0: {"optimizer": "adamw"}, 1: {"optimizer": "sgd"}, 2: {"optimizer": "lion"}, 3: {}}

    found = choose(
        scores(),
        "max",
        simpler=["optimizer"],
        params=params,
        orders={"optimizer": ["sgd", "adamw", "lion"]},
        ratio=0.1,
    )

    assert found is not None
    assert found.point == 1


def test_equally_simple_points_are_chosen_by_score() -> None:
    found = choose(scores(), "max", simpler=["depth"], params={point: {"depth": 2} for point in range(4)})

    assert found is not None
    assert found.point == 0


def test_one_value_a_point_has_no_error_so_the_best_is_chosen() -> None:
    ranked = rank_points([Row(p, p, None, 0, "done", "", float(-p)) for p in range(3)], "max", lambda _: 1)

    found = choose(ranked, "max", simpler=["width"], params={0: {"width": 9}, 1: {"width": 1}, 2: {}})

    assert found is not None
    assert found.point == 0
    assert found.error is None


def test_nothing_complete_is_no_choice() -> None:
    assert choose(rank_points([Row(0, 0, 0, 0, "pruned")], "max", lambda _: 5), "max") is None


def test_sizes_of_sides_give_the_ratio_of_the_correction() -> None:
    assert size_ratio([FoldSizes(80, 20)] * 5) == 0.25
    assert size_ratio([]) == 0.0


def test_a_point_chosen_for_simplicity_is_corrected_as_such() -> None:
    ranked = scores()
    study = make_study(ranked, "max")
    chosen = choose(ranked, "max", simpler=["width"], params=WIDTHS)

    assert study is not None
    assert chosen is not None
    found, best = select(study, chosen), select(study)
    assert found is not None
    assert best is not None
    assert found.point == chosen.point
    assert found.optimism <= best.optimism + 1e-9
    assert found.low < found.mean < found.high


def test_choosing_imports_neither_numpy_nor_scipy() -> None:
    code = "import sys, hpc_search.stats; sys.exit(any(name in sys.modules for name in ('numpy', 'scipy')))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
