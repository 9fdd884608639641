"""Stands for the text workloads in plans that are only planned, or run for a second."""

from __future__ import annotations

import math
from typing import Any


def _score(trial: Any, shift: float) -> dict[str, float]:
    total = 0.0
    for name in sorted(trial.params):
        value = trial.params[name]
        number = len(value) if isinstance(value, str) else value
        total += math.sin(number * 1000 + shift)
    return {"val_f1": total}


def criteria(trial: Any) -> dict[str, float]:
    """Return a score."""
    return _score(trial, 0.0)


def evidence(trial: Any) -> dict[str, float]:
    """Return a score."""
    return _score(trial, 1.0)


def share(trial: Any) -> dict[str, float]:
    """Return a score."""
    return _score(trial, 2.0)


def joint(trial: Any) -> dict[str, float]:
    """Return a score."""
    return _score(trial, 3.0)
