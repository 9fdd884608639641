"""The functions that searches are compared on, each with its space as a search file has it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from hpc_search.config import load_search
from hpc_search.space import Choice, Int, LogInt, LogUniform, Space, Uniform

Params = dict[str, Any]
_NEVER: Final[Mapping[str, Callable[[Params], bool]]] = {}
_SEARCH: Final = """\
name: bench
trial: bench_trial.py:nothing
metric: {{name: loss, goal: min}}
space:
{space}
{more}
strategy: {{{kind}: {{points: {points}, seed: {seed}}}}}
"""


class Problem:
    """A function to make small; ``active`` says in Python what `when` says in the file."""

    def __init__(
        self,
        value: Callable[[Params], float],
        space: str,
        *,
        least: float = 0.0,
        when: str = "",
        active: Mapping[str, Callable[[Params], bool]] = _NEVER,
    ) -> None:
        self.value = value
        self.least = least
        self.active = active
        self._lines = "\n".join(f"  {line.strip()}" for line in space.strip().splitlines())
        self._more = f"when: {{{when}}}" if when else ""

    def search(self, kind: str, points: int, seed: int) -> str:
        """Return a search file."""
        return _SEARCH.format(space=self._lines, more=self._more, kind=kind, points=points, seed=seed)

    @cached_property
    def space(self) -> Space:
        """The space as our reader has it."""
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "search.yaml"
            path.write_text(self.search("random", 1, 0))
            return load_search(path).space

    def suggest(self, trial: Any) -> Params:
        """Return what Optuna's *trial* suggests, by its public calls."""
        found: Params = {}
        for name, dimension in self.space.dimensions.items():
            if name in self.active and not self.active[name](found):
                continue
            match dimension:
                case LogUniform(low=low, high=high):
                    found[name] = trial.suggest_float(name, low, high, log=True)
                case Uniform(low=low, high=high):
                    found[name] = trial.suggest_float(name, low, high)
                case Int(low=low, high=high, step=step):
                    found[name] = trial.suggest_int(name, low, high, step=step)
                case LogInt(low=low, high=high):
                    found[name] = trial.suggest_int(name, low, high, log=True)
                case Choice(values=values):
                    found[name] = trial.suggest_categorical(name, list(values))
        return found


def branin(params: Params) -> float:
    x, y = params["x"], params["y"]
    curve = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return float(curve**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


_WEIGHTS: Final = (1.0, 1.2, 3.0, 3.2)
_SCALES: Final = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
_CENTRES: Final = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def hartmann6(params: Params) -> float:
    x = [params[f"x{place}"] for place in range(6)]
    return -sum(
        weight * math.exp(-sum(a * (b - c) ** 2 for a, b, c in zip(scales, x, centres, strict=True)))
        for weight, scales, centres in zip(_WEIGHTS, _SCALES, _CENTRES, strict=True)
    )


def rosenbrock(params: Params) -> float:
    x = [params[f"x{place}"] for place in range(5)]
    return sum(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in pairwise(x))


def ackley(params: Params) -> float:
    """Return Ackley's function of where each parameter lies, its least value off the centre."""
    x = (
        params["x"] - 1.3,
        params["steps"] - 3,
        2 * (math.log10(params["rate"]) + 3),
        math.log2(params["tokens"]) - 4,
    )
    near = math.sqrt(sum(one**2 for one in x) / len(x))
    waves = sum(math.cos(2 * math.pi * one) for one in x) / len(x)
    return -20 * math.exp(-0.2 * near) - math.exp(waves) + 20 + math.e


def training(params: Params) -> float:
    """Return a loss as of a network: a best learning rate that depends on optimizer and depth."""
    rate = math.log10(params["rate"]) + (3.0 if params["optimizer"] == "adamw" else 1.5)
    depth = params["layers"] - 5
    decay = math.log10(params["decay"]) + 4
    worse = {"adamw": 0.0, "sgd": 0.15, "lion": 0.3}[params["optimizer"]]
    return (
        (rate + 0.1 * depth) ** 2 + 0.05 * depth**2 + 0.1 * decay**2 + (params["dropout"] - 0.2) ** 2 + worse
    )


def network(params: Params) -> float:
    """Return a loss as of a network whose optimizer, and each of whose layers, has parameters of its own."""
    rate = math.log10(params["rate"])
    if params["optimizer"] == "sgd":
        loss = (rate + 1) ** 2 + 4 * (params["momentum"] - 0.9) ** 2
    else:
        loss = 0.2 + (rate + 3) ** 2 + (params["beta"] - 0.95) ** 2
    widths = [params[f"width_{layer}"] for layer in range(1, params["layers"] + 1)]
    best = [64, 128, 32]
    loss += sum(0.1 * math.log2(width / one) ** 2 for width, one in zip(widths, best, strict=False))
    return loss + 0.3 * (3 - len(widths))


PROBLEMS: Final[dict[str, Problem]] = {
    "branin": Problem(
        branin,
        """
        x: {uniform: [-5, 10]}
        y: {uniform: [0, 15]}
        """,
        least=0.39788735772973816,
    ),
    "hartmann6": Problem(
        hartmann6,
        "\n".join(f"x{place}: {{uniform: [0, 1]}}" for place in range(6)),
        least=-3.322368011415515,
    ),
    "rosenbrock": Problem(rosenbrock, "\n".join(f"x{place}: {{uniform: [-3, 3]}}" for place in range(5))),
    "ackley": Problem(
        ackley,
        """
        x: {uniform: [-5, 5]}
        steps: {int: [-10, 10]}
        rate: {log_uniform: [1.0e-6, 1]}
        tokens: {log_int: [1, 1000]}
        """,
    ),
    "training": Problem(
        training,
        """
        rate: {log_uniform: [1.0e-5, 1]}
        layers: {int: [1, 12]}
        optimizer: [adamw, sgd, lion]
        decay: {log_uniform: [1.0e-6, 1.0e-2]}
        dropout: {uniform: [0, 0.5]}
        """,
    ),
    "network": Problem(
        network,
        """
        optimizer: [adamw, sgd]
        rate: {log_uniform: [1.0e-5, 1]}
        momentum: {uniform: [0, 1]}
        beta: {uniform: [0.8, 1]}
        layers: {int: [1, 3]}
        width_1: [16, 32, 64, 128, 256]
        width_2: [16, 32, 64, 128, 256]
        width_3: [16, 32, 64, 128, 256]
        """,
        when="momentum: \"optimizer == 'sgd'\", beta: \"optimizer == 'adamw'\", "
        'width_2: "layers >= 2", width_3: "layers >= 3"',
        active={
            "momentum": lambda params: params["optimizer"] == "sgd",
            "beta": lambda params: params["optimizer"] == "adamw",
            "width_2": lambda params: params["layers"] >= 2,
            "width_3": lambda params: params["layers"] >= 3,
        },
    ),
}
