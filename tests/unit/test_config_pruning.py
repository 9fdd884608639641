"""`pruning` of a search file: what is understood, filled in, written back and refused."""

from __future__ import annotations

import pytest

from hpc_search.config import dump_search, parse_search
from hpc_search.errors import ConfigError
from hpc_search.records.search import PruningSpec

HEAD = "name: x\ntrial: t.py:train\nmetric: {name: acc, goal: max}\nspace: {a: [1, 2]}\nstrategy: grid\n"
STAGES = {"inherits": "", "without": ", pruning: null", "own": ", pruning: {asha: {max_steps: 9}}"}


def read(text: str) -> PruningSpec | None:
    return parse_search(f"{HEAD}pruning: {text}\n".encode(), "s.yaml").pruning


def told(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


def test_every_default_is_filled_in() -> None:
    rungs = {"min_steps": 1, "max_steps": 27, "eta": 3, "first_step": 0}
    assert read("{asha: {max_steps: 27}}") == PruningSpec(kind="asha", options=rungs)
    steps = {"startup": 5, "warmup": 0, "interval": 1, "first_step": 0}
    assert read("median") == read("{median: {}}") == PruningSpec(kind="median", options=steps)
    assert read("{percentile: {}}") == PruningSpec(kind="percentile", options={"keep": 25.0, **steps})
    assert read("null") is None


def test_patient_wraps_a_rule() -> None:
    found = read("{patient: {patience: 2, rule: {hyperband: {max_steps: 9, eta: 2}}}}")
    rungs = {"min_steps": 1, "max_steps": 9, "eta": 2, "first_step": 0}
    inner = PruningSpec(kind="hyperband", options=rungs)
    assert found == PruningSpec(kind="patient", options={"patience": 2}, inner=inner)


@pytest.mark.parametrize(
    "text",
    [
        "{asha: {min_steps: 2, max_steps: 20, eta: 4, first_step: 1}}",
        "{successive_halving: {max_steps: 20}}",
        "{percentile: {keep: 12.5, startup: 3, warmup: 2, interval: 5}}",
        "{patient: {patience: 2, rule: {median: {}}}}",
    ],
)
def test_what_is_written_back_reads_equal(text: str) -> None:
    search = parse_search(f"{HEAD}pruning: {text}\n".encode(), "s.yaml")
    assert search.pruning is not None
    assert parse_search(dump_search(search).encode(), "search.yaml") == search


def test_a_stage_has_the_rule_of_its_search_or_its_own_or_none() -> None:
    stages = "".join(f"  - {{name: {name}{rule}}}\n" for name, rule in STAGES.items())
    search = parse_search(f"{HEAD}pruning: median\nstages:\n{stages}".encode(), "s.yaml")
    kinds = [stage.pruning and stage.pruning.kind for stage in search.stages]
    assert kinds == ["median", None, "asha"]
    assert parse_search(dump_search(search).encode(), "search.yaml") == search


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{asha: {max_steps: 9, eta: 1}}", "of each rung all would go on"),
        ("{asha: {max_steps: 9, eta: 0}}", "out of range"),
        ("{asha: {min_steps: 9, max_steps: 3}}", "min_steps is 9, so that no rung comes before the end"),
        ("{asha: {min_steps: 9}}", "asha needs max_steps"),
        ("{asha: {max_step: 9}}", "did you mean 'max_steps'?"),
        ("{hyperbnd: {max_steps: 9}}", "did you mean 'hyperband'?"),
        ("{asha: {max_steps: 9}, median: {}}", "is not one rule"),
        ("[median]", "is not a mapping"),
        ("{percentile: {keep: 100}}", "above 0 and below 100"),
        ("{median: {interval: 0}}", "between 1 and"),
        ("{patient: {patience: 2}}", "patient needs rule"),
        ("{patient: {rule: median}}", "patient needs patience"),
        ("{patient: {patience: 2, rule: {patient: {patience: 1, rule: median}}}}", "not for itself"),
        ("{patient: {patience: 2, rule: {successive_halving: {max_steps: 9}}}}", "waits for all trials"),
    ],
)
def test_a_wrong_rule_is_refused_in_words(text: str, words: str) -> None:
    assert words in told(text)


def test_all_problems_of_a_rule_are_told_at_once() -> None:
    text = told("{patient: {patience: 0, rule: {asha: {eta: 1, last: 2}}}}")
    wanted = ("all would go on", "unknown key 'last'", "needs max_steps", "patience: is out of range")
    assert all(words in text for words in wanted)
