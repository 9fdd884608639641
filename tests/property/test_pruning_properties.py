"""Early stopping over any values, orders and failures: against the published rule, and always to an end."""

from __future__ import annotations

import random
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_search.records.journal import Verdict
from hpc_search.records.search import PruningSpec
from hpc_search.strategies.pruning import Member, judge, promotions, recorded, replay, settled
from hpc_search.strategies.pruning.judging import Judgement

_RUNGS: Final = 3


def rule(kind: str, eta: int) -> PruningSpec:
    options = {"min_steps": 1, "max_steps": eta**_RUNGS, "eta": eta, "first_step": 0}
    return PruningSpec(kind=kind, options=options)


class Bracket:
    """A simulated bracket: workers that take promotions first, then new trials, in any order."""

    def __init__(self, spec: PruningSpec, goal: str, table: list[list[float]], seed: int) -> None:
        self.spec, self.goal, self.table, self.chance = spec, goal, table, random.Random(seed)
        self.values: dict[int, list[float]] = {}
        self.fate: dict[int, str] = {}
        self.started = 0
        self.verdicts: list[Verdict] = []
        self.failing: frozenset[int] = frozenset()

    @property
    def members(self) -> list[Member]:
        return [Member(n, self.fate[n], tuple(reached)) for n, reached in self.values.items()]  # type: ignore[arg-type]

    @property
    def before(self) -> int:
        begun = [n for n, fate in self.fate.items() if n not in self.values and fate == "running"]
        return len(self.table) - self.started + len(begun)

    def record(self, number: int, judged: Judgement, rung: int) -> None:
        verdict = recorded(self.spec, judged, trial=number, attempt=1, rung=rung, step=0)
        assert replay(self.spec, verdict, self.goal) == verdict.decision
        self.verdicts.append(verdict)

    def claim(self) -> int | None:
        for one in promotions(self.spec, self.goal, self.members, self.before):
            assert one.judged is not None
            self.record(one.number, one.judged, one.rung)
            return one.number
        if self.started == len(self.table):
            return None
        self.started += 1
        return self.started - 1

    def move(self, number: int) -> None:
        """Let a running trial come to its next rung, or its end."""
        reached = self.values.get(number, [])
        if len(reached) == _RUNGS:
            self.fate[number] = "failed" if number in self.failing else "done"
            return
        self.values[number] = [*reached, self.table[number][len(reached)]]
        alive = [one for one in self.members if one.fate != "failed" and one.number != number]
        others = {one.number: one.values[len(reached)] for one in alive if len(one.values) > len(reached)}
        judged = judge(self.spec, self.goal, number, self.values[number], others)
        self.record(number, judged, len(reached))
        if judged.decision == "pause":
            self.fate[number] = "paused"

    def run(self, workers: int) -> None:
        for _ in range(100 * len(self.table)):
            running = [number for number, fate in self.fate.items() if fate == "running"]
            if len(running) < workers and (number := self.claim()) is not None:
                self.fate[number] = "running"
            elif running:
                self.move(self.chance.choice(running))
            else:
                assert settled(self.members, self.before)
                return
        raise AssertionError("it does not end")


@st.composite
def brackets(draw: st.DrawFn, kind: str) -> tuple[Bracket, int]:
    count = draw(st.integers(1, 20))
    # Few different values, so that many are equal.
    value = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
    table = draw(st.lists(st.lists(value, min_size=_RUNGS, max_size=_RUNGS), min_size=count, max_size=count))
    spec = rule(kind, draw(st.integers(2, 4)))
    bracket = Bracket(spec, draw(st.sampled_from(["max", "min"])), table, draw(st.integers(0, 99)))
    bracket.failing = draw(st.frozensets(st.integers(0, count - 1), max_size=3))
    return bracket, draw(st.integers(1, 5))


def published(bracket: Bracket) -> tuple[int, int] | None:
    """Return (rung, trial) of `get_job` of Li et al. 2020: what to promote, from the top rung down."""
    sign = -1.0 if bracket.goal == "max" else 1.0
    eta: int = bracket.spec.options["eta"]
    for rung in range(_RUNGS - 1, -1, -1):
        there = sorted((sign * v[rung], n) for n, v in bracket.values.items() if len(v) > rung)
        for _, number in there[: len(there) // eta]:
            if bracket.fate[number] == "paused" and len(bracket.values[number]) == rung + 1:
                return rung, number
    return None


@settings(max_examples=60)
@given(brackets("asha"))
def test_asha_promotes_what_the_published_rule_promotes(case: tuple[Bracket, int]) -> None:
    bracket, workers = case
    bracket.failing = frozenset()
    claim: Any = bracket.claim

    def checked() -> int | None:
        found = promotions(bracket.spec, bracket.goal, bracket.members, bracket.before)
        wanted = published(bracket)
        if not settled(bracket.members, bracket.before):
            assert (None if not found else (found[0].rung, found[0].number)) == wanted
        return claim()  # type: ignore[no-any-return]

    bracket.claim = checked  # type: ignore[method-assign]
    bracket.run(workers)


@settings(max_examples=100)
@given(st.sampled_from(["asha", "successive_halving"]).flatmap(brackets))
def test_a_bracket_ends_with_a_whole_training_unless_all_failed(case: tuple[Bracket, int]) -> None:
    bracket, workers = case
    bracket.run(workers)
    fates = list(bracket.fate.values())
    assert len(fates) == len(bracket.table)
    assert "running" not in fates
    assert "done" in fates or set(fates) == {"failed"}


@settings(max_examples=60)
@given(brackets("successive_halving"))
def test_of_a_synchronous_bracket_the_best_share_reaches_each_rung(case: tuple[Bracket, int]) -> None:
    bracket, workers = case
    bracket.failing = frozenset()
    bracket.run(workers)
    count, eta = len(bracket.table), bracket.spec.options["eta"]
    sign = -1.0 if bracket.goal == "max" else 1.0
    wanted = list(range(count))
    for rung in range(_RUNGS):
        assert sorted(n for n, reached in bracket.values.items() if len(reached) > rung) == sorted(wanted)
        wanted = sorted(wanted, key=lambda n, at=rung: (sign * bracket.table[n][at], n))  # type: ignore[misc]
        wanted = wanted[: max(1, len(wanted) // eta)]


def test_asha_spends_about_its_share_at_each_rung_whatever_the_order() -> None:
    for seed in range(20):
        chance = random.Random(seed)
        table = [[chance.random() for _ in range(_RUNGS)] for _ in range(100)]
        bracket = Bracket(rule("asha", 3), "max", table, seed)
        bracket.run(workers=8)
        for rung in range(1, _RUNGS):
            there = sum(len(reached) > rung for reached in bracket.values.values())
            # Early ones go on that later ones would have beaten: a number that grows as the root.
            assert 100 // 3**rung <= there <= 100 / 3**rung + 2 * (100 / 3 ** (rung - 1)) ** 0.5, (seed, rung)
