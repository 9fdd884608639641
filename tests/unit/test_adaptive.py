"""Strategies from models: good points of the space, no two equal, a function of the history alone."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from hpc_search.config import parse_search
from hpc_search.errors import ConfigError, UsageError
from hpc_search.space import Choice, Int, Space, Uniform, canonical
from hpc_search.strategies.history import Fate, History, Observation
from hpc_search.strategies.random import Random
from tests.adaptive_spaces import PLAIN, SPACES, Params, bowl, branin, searched, spread, strategy

FATES: tuple[Fate, ...] = ("done", "done", "failed", "pruned")
KINDS = ("tpe", "cmaes", "evolution", "nsga2")
#: Options with which a model is asked early.
EARLY: dict[str, dict[str, int]] = {
    "tpe": {"startup": 4},
    "cmaes": {"population": 4},
    "gp": {"startup": 4},
    "evolution": {"population": 4},
    "nsga2": {"population": 4},
}


def early(kind: str, points: int = 200, seed: int = 0) -> Any:
    return strategy(kind, points, seed, **EARLY[kind])


def history(points: list[Params], loss: Callable[[Params], float] = spread) -> History:
    return History(tuple(Observation(i, p, "done", (loss(p),)) for i, p in enumerate(points)))


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_proposal_is_a_new_full_point_of_the_space(kind: str, name: str) -> None:
    space = SPACES[name]
    seen = searched(early(kind), space, spread, 24)
    for one in seen:
        assert space.resolve(one.params) == one.params
    assert len({canonical(one.params) for one in seen}) == 24


@pytest.mark.torch
@pytest.mark.parametrize("name", ["linked", "conditional"])
def test_a_gaussian_process_proposes_new_full_points_too(name: str) -> None:
    space = SPACES[name]
    seen = searched(early("gp"), space, spread, 6)
    assert all(space.resolve(one.params) == one.params for one in seen)
    assert len({canonical(one.params) for one in seen}) == 6


@pytest.mark.torch
def test_a_gaussian_process_is_fitted_by_one_thread_and_changes_nobody_elses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch
    from optuna.samplers import GPSampler

    original, threads = GPSampler.sample_relative, []

    def watched(*arguments: Any) -> Any:
        threads.append(torch.get_num_threads())
        return original(*arguments)

    monkeypatch.setattr(GPSampler, "sample_relative", watched)
    known = history([{"x": 0.1, "y": 0.3}, {"x": 0.7, "y": 0.2}])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        strategy("gp", 9, startup=2).propose(PLAIN, known, 2, ("min",))
        assert (threads, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_proposal_depends_on_nothing_but_its_arguments(kind: str) -> None:
    space = SPACES["conditional"]
    used = early(kind)
    seen = searched(used, space, spread, 30)
    shuffled = list(seen)
    random.Random(1).shuffle(shuffled)
    known = History(tuple(seen))
    fresh = early(kind).propose(space, known, 30, ("min",))
    # After another history and another number, from another order, by whoever has worked on it.
    used.propose(space, History(tuple(seen[:12])), 50, ("min",))
    assert used.propose(space, known, 30, ("min",)) == fresh
    assert early(kind).propose(space, History(tuple(shuffled)), 30, ("min",)) == fresh
    assert used.propose(space, known, 31, ("min",)) != fresh
    assert early(kind, seed=1).propose(space, known, 30, ("min",)) != fresh


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_keeps_what_it_knows_proposes_as_one_that_has_just_started(kind: str) -> None:
    space = SPACES["ruled"]
    kept, points = early(kind), random.Random(0)
    seen: list[Observation] = []
    for index in range(40):
        known = History(tuple(seen))
        params = kept.propose(space, known, index, ("min",))
        assert early(kind).propose(space, known, index, ("min",)) == params
        seen.append(Observation(index, params, "running"))
        # What runs ends in any order, and not all of it well.
        place = points.randrange(len(seen))
        fate: Fate = points.choice(FATES)
        values = (spread(seen[place].params),) if fate == "done" else ()
        curve = ((1, 0.5),) if fate == "pruned" else ()
        if seen[place].fate == "running":
            seen[place] = Observation(place, seen[place].params, fate, values, curve)


def test_no_hash_seed_changes_a_proposal() -> None:
    code = (
        "import json; from tests.adaptive_spaces import *; "
        "print(json.dumps([[one.params for one in searched(strategy(kind, 50), SPACES['nested'], spread, 16)]"
        " for kind in ('tpe', 'cmaes', 'evolution')]))"
    )
    found = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        )
        found.append(json.loads(done.stdout))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", KINDS)
def test_all_points_of_a_finite_space_are_proposed_once_when_all_are_asked_for(kind: str) -> None:
    space = Space(dimensions={"a": Int(1, 4), "b": Choice(("x", "y", "z"))})
    seen = searched(early(kind, points=12), space, spread, 12)
    assert len({canonical(one.params) for one in seen}) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_points_are_those_of_random(kind: str) -> None:
    space = SPACES["plain"]
    drawn = Random(50, 7)
    seen = searched(strategy(kind, 50, 7), space, spread, 10 if kind != "cmaes" else 1)
    assert [one.params for one in seen] == [drawn.point(space, index) for index in range(len(seen))]


@pytest.mark.parametrize("kind", ["tpe", "evolution"])
def test_random_points_go_on_while_too_few_have_ended(kind: str) -> None:
    running = [Observation(i, Random(50).point(PLAIN, i), "running") for i in range(30)]
    found = strategy(kind, 50).propose(PLAIN, History(tuple(running)), 30, ("min",))
    assert found == Random(50).point(PLAIN, 30)


@pytest.mark.parametrize("loss", [bowl, branin])
@pytest.mark.parametrize("kind", ["tpe", "cmaes", "evolution"])
def test_a_model_finds_far_better_points_than_chance(kind: str, loss: Callable[[Params], float]) -> None:
    points, seeds = 200 if kind == "evolution" else 80, range(5)
    ours, chance = [], []
    for seed in seeds:
        ours.append(min(one.values[0] for one in searched(strategy(kind, points, seed), PLAIN, loss, points)))
        chance.append(min(loss(Random(points, seed).point(PLAIN, index)) for index in range(points)))
    assert statistics.median(ours) < 0.5 * statistics.median(chance)


@pytest.mark.torch
def test_a_gaussian_process_finds_far_better_points_than_chance() -> None:
    ours = min(one.values[0] for one in searched(strategy("gp", 16, startup=5), PLAIN, bowl, 16))
    chance = statistics.median(
        min(bowl(Random(16, seed).point(PLAIN, index)) for index in range(16)) for seed in range(9)
    )
    assert ours < 0.2 * chance


@pytest.mark.parametrize("kind", ["tpe", "evolution", "cmaes"])
def test_where_points_fail_few_more_are_proposed(kind: str) -> None:
    """A region that only crashes is left, though nothing is known of its values."""
    seen: list[Observation] = []
    chosen = strategy(kind, 120, 3)
    for index in range(120):
        params = chosen.propose(PLAIN, History(tuple(seen)), index, ("min",))
        broken = params["x"] > 2.5
        seen.append(
            Observation(index, params, "failed" if broken else "done", () if broken else (1.0 + params["y"],))
        )
    late = [one for one in seen if one.point >= 60]
    assert sum(one.fate == "failed" for one in late) <= 6


def test_a_pruned_point_counts_by_what_it_reported() -> None:
    """Those that were stopped far from the goal are left, those stopped near it are not."""
    seen = []
    for index in range(60):
        params = Random(200).point(PLAIN, index)
        seen.append(Observation(index, params, "pruned", curve=((1, params["x"]), (2, params["x"]))))
    found = [
        strategy("tpe", 200).propose(PLAIN, History(tuple(seen)), 60 + k, ("min",))["x"] for k in range(9)
    ]
    assert statistics.median(found) < -2.5


def test_workers_that_ask_at_once_get_points_apart() -> None:
    """TPE sees what runs: without that, the same region would be proposed to everybody."""
    start = history([Random(200).point(PLAIN, index) for index in range(30)], bowl)
    chosen = strategy("tpe", 200)

    def asked(tell: bool) -> list[Params]:
        seen, found = list(start.observations), []
        for index in range(30, 60):
            found.append(chosen.propose(PLAIN, History(tuple(seen)), index, ("min",)))
            if tell:
                seen.append(Observation(index, found[-1], "running"))
        return found

    def width(points: list[Params]) -> float:
        return statistics.pstdev([float(point["x"]) for point in points])

    assert width(asked(tell=True)) > 1.5 * width(asked(tell=False))


def test_a_late_point_of_cmaes_holds_nobody_up_and_is_exact_once_it_has_ended() -> None:
    chosen = strategy("cmaes", 200, population=6)
    seen = searched(chosen, PLAIN, bowl, 61)
    late = list(seen)
    late[2] = Observation(2, seen[2].params, "running")
    whole, without = History(tuple(seen)), History(tuple(late))
    # Nine generations of the points after it: the search has come near, not stayed at its start.
    near = [chosen.propose(PLAIN, without, index, ("min",)) for index in range(61, 70)]
    assert statistics.median(map(bowl, near)) < 2.0
    assert strategy("cmaes", 200, population=6).propose(PLAIN, whole, 61, ("min",)) == chosen.propose(
        PLAIN, whole, 61, ("min",)
    )


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_several_goals_spread_over_what_cannot_be_had_together(kind: str) -> None:
    space = Space(dimensions={"x": Uniform(0.0, 1.0), "y": Uniform(0.0, 1.0)})
    seen: list[Observation] = []
    chosen = strategy(kind, 150, 1)
    for index in range(150):
        params = chosen.propose(space, History(tuple(seen)), index, ("max", "min"))
        x, y = params["x"], params["y"]
        seen.append(Observation(index, params, "done", (x - y, x * x + y)))
    late = seen[75:]
    # Every front point has y = 0; x may be anything.
    assert statistics.median(one.params["y"] for one in late) < 0.15
    assert min(one.params["x"] for one in late) < 0.3
    assert max(one.params["x"] for one in late) > 0.8


@pytest.mark.parametrize("kind", ["cmaes", "gp", "evolution"])
def test_several_goals_are_refused_where_a_method_has_one(kind: str) -> None:
    with pytest.raises(UsageError, match=f"{kind} has one objective; the search has 2") as refused:
        strategy(kind, 50).propose(PLAIN, History(), 0, ("min", "max"))
    assert "tpe or nsga2" in refused.value.hint


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [("tpe", "optuna", "optuna"), ("cmaes", "cmaes", "optuna"), ("gp", "torch", "torch")],
)
def test_a_missing_library_is_named_with_its_extra(
    kind: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == module else real(name, *more)
    )
    for asked in (
        lambda: strategy(kind, 50).count(PLAIN),  # type: ignore[attr-defined]
        lambda: strategy(kind, 50).propose(PLAIN, History(), 0, ("min",)),
    ):
        with pytest.raises(UsageError, match=f"strategy {kind} needs the Python package {module}") as refused:
            asked()
        assert refused.value.hint == f"pip install 'hpc_search[{extra}]'"


def test_cmaes_needs_a_number() -> None:
    space = Space(dimensions={"a": Choice((1, 2, 3))})
    with pytest.raises(UsageError, match="cmaes moves numbers"):
        strategy("cmaes", 2).count(space)  # type: ignore[attr-defined]


def test_evolution_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("optuna", "cmaes", "torch"):
        monkeypatch.setitem(sys.modules, module, None)
    assert len(searched(strategy("evolution", 60), PLAIN, bowl, 40)) == 40


def plan(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse_search(
            f"name: a\ntrial: train.py:train\nspace: {{x: {{uniform: [0, 1]}}, k: [1, 2]}}\n{text}".encode(),
            "s.yaml",
        )
    return str(refused.value)


def test_plan_refuses_what_could_not_be_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    several = "objectives: [{name: acc, goal: max}, {name: time, goal: min}]\n"
    said = plan(several + "strategy: {cmaes: {points: 9}}\n")
    assert "s.yaml:5: strategy: strategy cmaes has one objective; the search has 2" in said
    one = "metric: {name: acc, goal: max}\n"
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    said = plan(one + "strategy: {tpe: {points: 9}}\n")
    assert "needs the Python package optuna, which is not installed here" in said
    assert "hint:     pip install 'hpc_search[optuna]'" in said
