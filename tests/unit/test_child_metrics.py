"""What a trial may return, and what is said where it is something else."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from hpc_search.runners.child import ended, is_out_of_memory, load, printable, read_metrics, seed_generators
from hpc_search.trial import trial_seed


@pytest.mark.parametrize(
    "returned", [0.5, np.float64(0.5), {"acc": 0.5}, {"acc": np.float32(0.5)}, {"acc": np.array(0.5)}]
)
def test_a_number_or_a_mapping_of_numbers_is_a_result(returned: object) -> None:
    assert read_metrics(returned, "acc") == ({"acc": 0.5}, "")


def test_a_whole_number_is_a_result() -> None:
    assert read_metrics(3, "acc") == ({"acc": 3.0}, "")
    assert read_metrics({"acc": 3, "n": 10**20}, "acc") == ({"acc": 3.0, "n": 1e20}, "")


def test_nan_is_passed_on_for_the_caller_to_judge() -> None:
    metrics, problem = read_metrics({"acc": math.nan}, "acc")
    assert problem == ""
    assert math.isnan(metrics["acc"])


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "returned nothing"),
        (True, "returned a bool"),
        ([0.5], "returned a list"),
        ("0.5", "returned a str"),
        ({}, "no metric at all"),
        ({"accuracy": 0.5}, "it returned 'accuracy'"),
        ({"acc": "0.5"}, "acc = '0.5', which is not a number"),
        ({"acc": None}, "acc = None"),
        ({"acc": 0.5, "n": 10**400}, "n = 1000"),
        ({"acc": np.ones(2)}, "acc = array"),
        ({"acc": 1 + 2j}, "acc = (1+2j)"),
    ],
)
def test_anything_else_is_named(returned: object, words: str) -> None:
    metrics, problem = read_metrics(returned, "acc")
    assert metrics == {} or "acc" not in metrics
    assert words in problem
    assert len(problem) < 400


def test_all_objectives_are_returned_and_the_first_one_selects() -> None:
    end = ended({"acc": 0.5, "latency": 3, "odd": math.inf}, ("acc", "latency"), "the trial returned")

    assert end == {"state": "done", "metrics": {"acc": 0.5, "latency": 3.0}, "value": 0.5}


@pytest.mark.parametrize(
    ("returned", "cause", "words"),
    [
        ({"acc": 0.5}, "error", "did not return the metric 'latency'; it returned 'acc'"),
        ({"loss": 0.5}, "error", "did not return the metrics 'acc' and 'latency'; it returned 'loss'"),
        (0.5, "error", "returned a float; expected a dict with the metrics 'acc' and 'latency'"),
        ({"acc": 0.5, "latency": math.nan}, "nonfinite", "the trial returned latency = nan"),
    ],
)
def test_an_objective_that_is_missing_or_not_finite_fails_the_trial(
    returned: object, cause: str, words: str
) -> None:
    end = ended(returned, ("acc", "latency"), "the trial returned")

    assert (end["state"], end["cause"]) == ("failed", cause)
    assert words in end["detail"]


def test_names_and_messages_are_always_utf_8() -> None:
    assert printable("a\udcffb") == "a\\udcffb"
    assert printable("é") == "é"
    metrics, _ = read_metrics({"acc": 1, "\ud800": 2}, "acc")
    assert list(metrics) == ["acc", "\\ud800"]


def test_generators_are_seeded_alike_in_every_process() -> None:
    drawn: list[Any] = []
    for _ in range(2):
        seed_generators(trial_seed("5ea4c4", 3, 0))
        drawn.append((random.random(), np.random.random()))  # noqa: NPY002 - the generator that users use
    assert drawn[0] == drawn[1]


def test_every_trial_and_seed_has_its_own_stream_and_no_version_may_change_it() -> None:
    assert trial_seed("5ea4c4", 3, 0) == 6523876226807303447
    assert len({trial_seed("a", number, seed) for number in range(20) for seed in range(5)}) == 100


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_function_is_loaded_by_module_or_by_file() -> None:
    assert load("os.path:join", ()) is load("os/path.py:join", ())
