"""Spaces of every kind, a loss over each, and searches that a strategy does on them by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from hpc_search.records.search import StrategySpec
from hpc_search.space import (
    Choice,
    Int,
    LogInt,
    LogUniform,
    Normal,
    Prior,
    Quantized,
    Rules,
    Space,
    Uniform,
)
from hpc_search.strategies import make
from hpc_search.strategies.base import Adaptive
from hpc_search.strategies.history import History, Observation

Params = dict[str, Any]

PLAIN: Final = Space(dimensions={"x": Uniform(-5.0, 10.0), "y": Uniform(0.0, 15.0)})
SPACES: Final = {
    "plain": Space(
        dimensions={"rate": LogUniform(1e-5, 1.0), "layers": Int(1, 8), "kind": Choice(("a", "b", None))},
        fixed={"epochs": 10},
    ),
    "linked": Space(
        dimensions={"x": Uniform(0.0, 1.0)},
        linked=({"width": (64, 128, 256), "heads": (4, 8, 8)}, {"p": (1,), "q": (2,)}),
    ),
    "conditional": Space(
        dimensions={
            "optimizer": Choice(("adamw", "sgd")),
            "momentum": Uniform(0.0, 1.0),
            "nesterov": Choice((True, False)),
            "rate": LogUniform(1e-4, 1.0),
        },
        rules=Rules(when={"momentum": "optimizer == 'sgd'", "nesterov": "momentum > 0.5"}),
    ),
    "stepped": Space(
        dimensions={
            "warmup": Quantized(0.0, 0.2, 0.05),
            "width": Int(16, 256, 16),
            "tokens": LogInt(1, 10**9),
        }
    ),
    "nested": Space(
        dimensions={
            "model": Choice(("cnn", "mlp")),
            "model.cnn.kernel": Choice((3, 5)),
            "model.mlp.width": Int(8, 64),
            "head.layers": Int(1, 4),
            "head.noise": Normal(0.0, 1.0),
        },
        rules=Rules(when={"model.cnn.kernel": "model == 'cnn'", "model.mlp.width": "model == 'mlp'"}),
    ),
    "ruled": Space(
        dimensions={
            "layers": Int(1, 8),
            "width": Choice((32, 64, 128)),
            "dropout": Uniform(0.0, 0.5, prior=Prior(0.1, 0.1)),
        },
        rules=Rules(constraints=("layers * width <= 256",), derived={"ffn": "4 * width"}),
    ),
}


def strategy(kind: str, points: int, seed: int = 0, **options: int) -> Adaptive:
    found = make(StrategySpec(kind, {"points": points, "seed": seed, **options}))
    assert isinstance(found, Adaptive)
    return found


def searched(
    chosen: Adaptive,
    space: Space,
    loss: Callable[[Params], float],
    points: int,
    goals: tuple[str, ...] = ("min",),
) -> list[Observation]:
    """Return what one worker finds."""
    seen: list[Observation] = []
    for index in range(points):
        params = chosen.propose(space, History(tuple(seen)), index, goals)
        value = loss(params)
        seen.append(Observation(index, params, "done", (value,) * len(goals)))
    return seen


def spread(params: Params) -> float:
    """Return a loss that is a function of whatever parameters there are."""
    total = 0.0
    for place, (_, value) in enumerate(sorted(params.items())):
        number = len(str(value)) if isinstance(value, str | bool | None) else math.log1p(abs(value))
        total += (number - 1 - 0.1 * place) ** 2
    return total


def branin(params: Params) -> float:
    x, y = params["x"], params["y"]
    curve = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return float(curve**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.397887)


def bowl(params: Params) -> float:
    return float((params["x"] - 2.0) ** 2 + (params["y"] - 3.0) ** 2)
