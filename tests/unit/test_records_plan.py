"""plan.json: read back equal, refused when changed, and the identity of a search."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hpc_search.errors import DamagedError
from hpc_search.records.plan import Block, Plan, encode_plan, parse_plan
from hpc_search.records.search import (
    Budget,
    FoldsSpec,
    Metric,
    OomRetry,
    Retry,
    Search,
    StrategySpec,
    TrialSpec,
    canonical_json,
    search_id,
)
from hpc_search.space import Choice, LogUniform, Space

SPACE = Space(
    {"a": Choice((1, "x", None, {"k": [1]})), "lr": LogUniform(1e-5, 1e-2)}, ({"b": (1, 2)},), {"e": 3}
)
SEARCH = Search(
    name="example",
    trial=TrialSpec(callable="train.py:train"),
    metric=Metric(name="acc", goal="max"),
    space=SPACE,
    strategy=StrategySpec("random", {"points": 5, "seed": 1}),
    seeds=(0, 1),
    folds=FoldsSpec(kind="stratified", n=5),
    retry=Retry(error=1, oom=OomRetry()),
)


def plan(**more: Any) -> Plan:
    block = Block(
        first=0,
        first_point=0,
        points=5,
        folds=(0, 1, 2, 3, 4),
        seeds=(0, 1),
        space=SPACE,
        strategy=SEARCH.strategy,
    )
    fields: dict[str, Any] = {
        "search_id": "ab",
        "run_id": "ab-cd",
        "created": 1.0,
        "search": SEARCH,
        "blocks": (block,),
        "points": 5,
        "trials": 50,
    }
    return Plan(**fields | more)


def test_a_plan_is_read_back_equal() -> None:
    assert parse_plan(encode_plan(plan()), "plan.json") == plan()


def test_a_block_counts_its_trials() -> None:
    assert plan().blocks[0].trials == 50
    assert msgspec.structs.replace(plan().blocks[0], folds=()).trials == 10


@pytest.mark.parametrize("place", [0, 10, 100, -2, -34])
def test_a_changed_byte_is_refused_and_the_file_named(place: int) -> None:
    data = bytearray(encode_plan(plan()))
    data[place] ^= 1
    with pytest.raises(DamagedError, match=r"RUN/plan\.json"):
        parse_plan(bytes(data), "RUN/plan.json")


@pytest.mark.parametrize("keep", [0, 1, 20, 200])
def test_a_plan_cut_short_is_refused(keep: int) -> None:
    with pytest.raises(DamagedError):
        parse_plan(encode_plan(plan())[:keep], "plan.json")


def test_a_plan_of_a_later_version_says_which_it_is() -> None:
    with pytest.raises(DamagedError, match=r"version 99.*reads version 1"):
        parse_plan(encode_plan(plan(version=99)), "plan.json")


def test_the_identity_of_a_search_is_its_content() -> None:
    assert search_id(SEARCH) == search_id(msgspec.json.decode(msgspec.json.encode(SEARCH), type=Search))
    assert search_id(SEARCH) != search_id(msgspec.structs.replace(SEARCH, seeds=(0,)))
    assert len(search_id(SEARCH)) == 12


def test_a_search_has_the_id_that_it_had_before_there_were_objectives_stages_and_budgets() -> None:
    # As of commit 2e6186b. Trials have their random numbers from it.
    assert search_id(SEARCH) == "7b30b9399d21"
    assert search_id(msgspec.structs.replace(SEARCH, budget=Budget(hours=1.0))) != "7b30b9399d21"
    assert search_id(msgspec.structs.replace(SEARCH, stop_on_error=True)) != "7b30b9399d21"


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"a": 1, "b": {"d": 1, "c": 2}}) == canonical_json({"b": {"c": 2, "d": 1}, "a": 1})
