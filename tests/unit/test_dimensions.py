"""Dimensions with steps, weights and priors: values, numbers, and quantiles that no machine may change."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import msgspec
import pytest

from hpc_search.space import (
    Choice,
    Dimension,
    Int,
    LogInt,
    LogUniform,
    Normal,
    Prior,
    Quantized,
    Uniform,
)
from hpc_search.space import normal as bell

SHARES = [u / 64 for u in range(64)]


def test_steps_are_exact_in_decimal() -> None:
    warmup = Quantized(0, 0.2, 0.05)
    assert [warmup.value(digit) for digit in range(warmup.count())] == [0.0, 0.05, 0.1, 0.15, 0.2]
    assert [warmup.digit(warmup.value(digit)) for digit in range(5)] == [0, 1, 2, 3, 4]
    assert warmup.digit(0) == 0
    for wrong in (0.151, -0.05, 0.25, True, "0.1", math.nan):
        with pytest.raises(ValueError, match="in steps of"):
            warmup.digit(wrong)


def test_integers_have_steps() -> None:
    width = Int(16, 256, 16)
    assert (width.count(), width.value(15), width.digit(32.0)) == (16, 256, 1)
    with pytest.raises(ValueError, match="multiple of 16"):
        width.digit(40)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Quantized(0, 1, 0.3), "does not divide"),
        (lambda: Quantized(0, 1, 0), "above 0"),
        (lambda: Int(1, 10, 4), "does not divide"),
        (lambda: Int(1, 10, 0), "at least 1"),
        (lambda: Normal(0, 0), "above 0"),
        (lambda: Normal(math.inf, 1), "finite"),
        (lambda: Choice((1, 2), (1,)), "2 values have 1 weights"),
        (lambda: Choice((1, 2), (1, 0)), "above 0"),
        (lambda: Choice((1, 2), (1, -1)), "above 0"),
        (lambda: Uniform(0, 1, Prior(2, 1)), "outside the range"),
        (lambda: LogUniform(1, 10, Prior(2, 0.5)), "factor above 1"),
        (lambda: LogInt(1, 10, Prior(11, 2)), "outside the range"),
        (lambda: Prior(0, 0), "above 0"),
    ],
)
def test_an_impossible_dimension_is_a_value_error(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


def test_the_normal_distribution_is_that_of_the_textbook() -> None:
    exact = statistics.NormalDist()
    for share in (1e-15, 1e-6, 0.01, 0.07, 0.3, 0.5, 0.6, 0.93, 0.999999):
        assert bell.quantile(share) == pytest.approx(exact.inv_cdf(share), rel=1e-12, abs=1e-15)
    for value in (-9.0, -3.0, -0.1, 0.0, 1.5, 6.0):
        assert bell.share(value) == pytest.approx(math.erfc(-value / math.sqrt(2)) / 2, rel=1e-9)


def test_normal_quantiles_are_pinned() -> None:
    drawn = [Normal(0, 1).quantile(u).hex() for u in (0.0, 0.01, 0.3, 0.5, 0.999)]
    assert drawn == PINNED_NORMAL
    prior = LogUniform(1e-5, 1e-2, Prior(1e-3, 3)).quantile(0.25)
    assert (prior.hex(), Uniform(0, 0.5, Prior(0.1, 0.1)).quantile(0.75).hex()) == PINNED_PRIORS


PINNED_NORMAL = [
    "-0x1.095b059d67c4cp+3",
    "-0x1.29c5c4630ff0ep+1",
    "-0x1.0c7e39582c5fap-1",
    "0x0.0p+0",
    "0x1.8b8cbb7204470p+1",
]
PINNED_PRIORS = ("0x1.ec08ed482cd45p-12", "0x1.71b30d49b1305p-3")


@pytest.mark.parametrize(
    "dimension",
    [
        Uniform(0, 0.5, Prior(0.1, 0.1)),
        LogUniform(1e-5, 1e-2, Prior(1e-3, 3)),
        Quantized(0, 1, 0.125, Prior(0.25, 0.2)),
        Int(1, 9, 2, Prior(3, 1)),
        LogInt(1, 1000, Prior(10, 2)),
    ],
)
def test_a_prior_draws_around_its_middle_inside_the_range(
    dimension: Uniform | LogUniform | Quantized | Int | LogInt,
) -> None:
    drawn = [dimension.quantile(u) for u in SHARES]
    assert drawn == sorted(drawn)
    assert dimension.low <= drawn[0]
    assert drawn[-1] <= dimension.high
    prior = dimension.prior
    assert prior is not None
    logarithmic = isinstance(dimension, LogUniform | LogInt)
    low, high = (
        (prior.at / prior.sd, prior.at * prior.sd)
        if logarithmic
        else (prior.at - prior.sd, prior.at + prior.sd)
    )
    assert sum(low <= value <= high for value in drawn) > 0.6 * len(drawn)


def test_weights_are_shares_of_the_draws() -> None:
    optimizer = Choice(("adamw", "sgd"), (3, 1))
    assert [optimizer.quantile(u) for u in SHARES].count("adamw") == 48
    assert [Choice(("x", "y")).quantile(u) for u in SHARES].count("x") == 32


@pytest.mark.parametrize("dimension", [Int(5, 20, 5), Quantized(0, 1, 0.25), Choice((1, 2, 3))])
def test_every_value_without_a_mass_has_an_equal_share(dimension: Int | Quantized | Choice) -> None:
    count = dimension.count()
    drawn = [dimension.quantile((k + 0.5) / (8 * count)) for k in range(8 * count)]
    assert [drawn.count(dimension.value(digit)) for digit in range(count)] == [8] * count


def test_what_is_not_given_leaves_no_trace_in_the_text_of_a_plan() -> None:
    assert msgspec.json.decode(msgspec.json.encode(Int(1, 2))) == {"type": "int", "low": 1, "high": 2}
    assert msgspec.json.decode(msgspec.json.encode(Choice((1,)))) == {"type": "choice", "values": [1]}


def test_all_kinds_survive_json() -> None:
    kinds: list[Dimension] = [
        Quantized(0, 1, 0.5, Prior(0, 1)),
        Normal(0, 1),
        Int(0, 4, 2),
        Choice((1, 2), (1, 2)),
        LogUniform(1, 2, Prior(1, 2)),
    ]
    assert msgspec.json.decode(msgspec.json.encode(kinds), type=list[Dimension]) == kinds


def test_quantiles_of_a_normal_ascend() -> None:
    drawn = [Normal(1, 2).quantile(u / 1000) for u in range(1000)]
    assert all(low < high for low, high in pairwise(drawn))
