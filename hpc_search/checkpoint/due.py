"""When a checkpoint is due: pure, so that every reason stands in one place."""

from __future__ import annotations

from typing import Final, Literal

#: ``stop``: the worker has to stop, or the trial waits at a rung; ``time``: the interval is over.
Why = Literal["stop", "time"]
#: Seconds after the first save that failed; they double with each further one, up to the interval.
_RETRY: Final = 10.0


def why_due(elapsed: float, interval: float, *, stop: str = "", failures: int = 0) -> Why | None:
    """Return why the state has to be saved, None where it has not.

    *elapsed* and *interval* are seconds, since the last save or try and between saves; *failures* is the
    number of tries in a row that failed.
    """
    if stop:
        return "stop"
    wait = min(interval, _RETRY * 2 ** (failures - 1)) if failures else interval
    return "time" if elapsed >= wait else None
