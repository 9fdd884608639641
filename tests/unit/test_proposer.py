"""What a proposer sees of a run, and that its proposals follow again from the ledger alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hpc_search.errors import HpcSearchError
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.proposals import Proposals
from hpc_search.records.plan import Block, Plan
from hpc_search.records.proposals import Entry, family_of
from hpc_search.records.search import Metric, StrategySpec
from hpc_search.records.stages import Opened
from hpc_search.space import Space, Uniform
from hpc_search.steering.proposer import Proposer, replay
from hpc_search.strategies.adaptive import Model
from hpc_search.strategies.history import History, Observation
from tests.run_builder import RunBuilder

SPACE = Space(dimensions={"x": Uniform(0.0, 1.0), "y": Uniform(0.0, 1.0)})
EVOLUTION = StrategySpec("evolution", {"points": 8, "seed": 0, "population": 2})


class Run(RunBuilder):
    """8 points x 2 folds x 2 seeds that evolution proposes; trials are ended by hand."""

    def __init__(self, root: Path, **changes: Any) -> None:
        super().__init__(root, points=8, folds=2)
        block = msgspec.structs.replace(
            self.plan.blocks[0], **{"space": SPACE, "strategy": EVOLUTION, "seeds": (0, 1), **changes}
        )
        self.change(blocks=(block,), trials=block.trials)

    def change(self, **changes: Any) -> None:
        self.plan: Plan = msgspec.structs.replace(self.plan, **changes)

    def propose(self, *points: int) -> None:
        """Propose *points* as a worker does that has the trial of each."""
        self.write()
        proposer, log = Proposer(self.layout, self.plan), Proposals(self.layout)
        for point in points:
            found = proposer(point)
            entry = Entry(
                point=point,
                params=found.params,
                family=family_of(self.plan.blocks[0]),
                history=found.history,
                seen=found.seen,
            )
            assert log.publish(entry) is not None

    def finish(self, point: int, fold: int, seed: int, value: float | None, **more: Any) -> None:
        number = (fold * 8 + point) * 2 + seed
        log = Proposals(self.layout)
        log.read()
        entry = log.of(point)
        params = entry.params if entry else {"x": 0.5, "y": 0.5}
        self.end(number, value, params=params, **more)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[History]:
    """Return the histories that strategies were asked with."""
    found: list[History] = []
    real = Model.propose

    def propose(
        self: Model, space: Space, history: History, index: int, goals: tuple[str, ...]
    ) -> dict[str, Any]:
        found.append(history)
        return real(self, space, history, index, goals)

    monkeypatch.setattr(Model, "propose", propose)
    return found


def known(run: Run, seen: list[History], point: int = 7) -> dict[int, Observation]:
    run.write()
    Proposer(run.layout, run.plan)(point)
    return {one.point: one for one in seen[-1].observations}


def test_a_point_is_what_its_first_fold_is_the_mean_over_its_seeds(run: Run, seen: list[History]) -> None:
    run.propose(0, 1, 2, 3, 4)
    run.finish(0, 0, 0, 0.2)
    run.finish(0, 0, 1, 0.4)
    # Later folds come after the last proposal; what they say would depend on when it is asked.
    run.finish(0, 1, 0, 99.0)
    run.finish(1, 0, 0, 0.7)
    run.finish(2, 0, 0, None, state="failed", cause="error")
    run.finish(2, 0, 1, 0.5)
    run.finish(3, 0, 0, None, state="failed", cause="error")
    run.finish(3, 0, 1, None, state="failed", cause="oom")
    found = known(run, seen)
    assert [found[point].fate for point in range(5)] == ["done", "running", "done", "failed", "running"]
    assert found[0].values == pytest.approx((0.3,))
    assert found[2].values == (0.5,)
    assert found[3].values == ()


def test_a_pruned_seed_prunes_its_point_which_has_the_curve_of_the_first(
    run: Run, seen: list[History]
) -> None:
    run.propose(0, 1)
    run.finish(0, 0, 0, None, state="pruned", reports=3)
    run.finish(0, 0, 1, 0.9)
    found = known(run, seen)
    assert found[0] == Observation(0, found[0].params, "pruned", curve=((0, 0.0), (1, 0.1), (2, 0.2)))


def test_all_objectives_are_seen_in_their_order(run: Run, seen: list[History]) -> None:
    objectives = (Metric(name="acc", goal="max"), Metric(name="time", goal="min"))
    nsga2 = StrategySpec("nsga2", {"points": 8, "seed": 0, "population": 2})
    block = msgspec.structs.replace(run.plan.blocks[0], strategy=nsga2)
    search = msgspec.structs.replace(run.plan.search, metric=objectives[0], objectives=objectives)
    run.change(search=search, blocks=(block,))
    run.propose(0)
    for seed in (0, 1):
        run.finish(0, 0, seed, 0.5, metrics={"time": 4 + seed, "acc": 0.5, "other": 1})
    assert known(run, seen)[0].values == (0.5, 4.5)


def test_given_points_are_seen_before_anybody_has_begun_them(tmp_path: Path, seen: list[History]) -> None:
    given = ({"x": 0.25, "y": 0.75}, {"x": 0.5, "y": 0.5})
    run = Run(tmp_path / "run", given=given)
    run.propose(2)
    run.finish(1, 0, 0, 0.1)
    run.finish(1, 0, 1, 0.1)
    found = known(run, seen)
    assert [(found[point].params, found[point].fate) for point in (0, 1)] == [
        (given[0], "running"),
        (given[1], "done"),
    ]
    assert found[2].fate == "running"


def test_points_of_another_stage_are_not_seen_and_those_of_an_amendment_are(
    run: Run, seen: list[History]
) -> None:
    first = run.plan.blocks[0]

    def after(block: Block, **changes: Any) -> Block:
        begins = {"first": block.first + block.trials, "first_point": block.first_point + block.points}
        return msgspec.structs.replace(first, **begins, **changes)

    more = StrategySpec("evolution", {"points": 16, "seed": 0, "population": 2})
    amended = after(first, strategy=more, start=8, digest="b")
    other = after(amended, stage_name="fine", digest="c")
    run.change(blocks=(first, amended, other), points=24, trials=3 * first.trials)
    run.propose(0, 1, 8)
    assert sorted(known(run, seen, 9)) == [0, 1, 8]
    assert known(run, seen, 16) == {}


def test_a_stage_proposes_in_the_space_that_it_was_opened_with(run: Run) -> None:
    first = run.plan.blocks[0]
    later = msgspec.structs.replace(
        first, first=first.trials, first_point=8, stage_name="fine", needs=0, digest="b"
    )
    run.change(blocks=(first, later), points=16, trials=2 * first.trials)
    run.write()
    narrow = Space(dimensions={"x": Uniform(0.4, 0.5), "y": Uniform(0.4, 0.5)})
    proposer = Proposer(run.layout, run.plan)
    Gates(run.layout, run.plan).publish(Opened(block=1, space=narrow))
    found = proposer(8).params
    assert narrow.resolve(found) == found


def test_what_is_seen_does_not_depend_on_who_wrote_it_in_which_order(tmp_path: Path) -> None:
    digests = []
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        run = Run(tmp_path / f"run-{order[0]}")
        run.propose(0, 1, 2, 3)
        for place, point in enumerate(order):
            for seed in (1, 0):
                run.finish(point, 0, seed, point / 10, worker=1 + place % 2)
        run.write()
        found = Proposer(run.layout, run.plan)(5)
        assert found.seen == "0-3"
        digests.append((found.history, found.params))
    assert digests[0] == digests[1]


def test_every_proposal_is_made_again_from_the_ledger(run: Run) -> None:
    for point in range(8):
        run.propose(point)
        if point % 3 == 2:
            run.finish(point, 0, 0, None, state="failed", cause="error")
            run.finish(point, 0, 1, None, state="failed", cause="error")
        elif point != 4:
            run.finish(point, 0, 0, point / 10)
            run.finish(point, 0, 1, point / 20)
    # What runs while others are proposed ends some time.
    run.finish(4, 0, 0, 1.0)
    run.finish(4, 0, 1, 1.0)
    run.write()
    found = replay(run.layout, run.plan)
    assert [one.entry.point for one in found] == list(range(8))
    assert all(one.equal for one in found)
    assert found[7].entry.seen == "0-1,3,6;failed 2,5;running 4"


def test_a_proposal_that_does_not_follow_is_found(run: Run) -> None:
    run.propose(0, 1)
    log = Proposals(run.layout)
    log.read()
    wrong = Entry(point=2, params={"x": 0.5, "y": 0.5}, family=log.all[0].family, seen=";running 0-1")
    assert log.publish(wrong) is not None
    run.write()
    assert [one.equal for one in replay(run.layout, run.plan)] == [True, True, False]


def test_a_history_that_is_gone_is_named(run: Run) -> None:
    log = Proposals(run.layout)
    assert log.publish(Entry(point=2, params={"x": 0.5, "y": 0.5}, family="/", seen=";running 0-1"))
    run.write()
    with pytest.raises(HpcSearchError, match="point 0, of which entry 0 knew, has no proposal"):
        replay(run.layout, run.plan)


def test_an_end_without_an_objective_is_named(run: Run) -> None:
    run.propose(0)
    run.finish(0, 0, 0, None)
    run.finish(0, 0, 1, 0.5)
    run.write()
    with pytest.raises(HpcSearchError, match="an end record of trial 0, 1 has no value for val_acc"):
        Proposer(run.layout, run.plan)(1)
