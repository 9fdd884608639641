"""When a checkpoint is due: pure, so that every reason stands in one place."""

from __future__ import annotations

from collections.abc import Container
from typing import Final, Literal

#: ``stop``: the worker has to stop; ``rung``: the trial is judged here; ``time``: the interval is over.
Why = Literal["stop", "rung", "time"]
#: Seconds after the first save that failed; they double with each further one, up to the interval.
_RETRY: Final = 10.0


def why_due(
    step: int,
    elapsed: float,
    interval: float,
    *,
    stop: str = "",
    rungs: Container[int] = (),
    failures: int = 0,
) -> Why | None:
    """Return why the state after *step* has to be saved, None where it has not.

    *elapsed* and *interval* are seconds, since the last save or try and between saves; *failures* is the
    number of tries in a row that failed.
    """
    if stop:
        return "stop"
    if step in rungs:
        return "rung"
    wait = min(interval, _RETRY * 2 ** (failures - 1)) if failures else interval
    return "time" if elapsed >= wait else None
