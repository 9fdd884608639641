"""Wall-clock times of workers as text, in UTC. They are for people; nothing compares them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

#: 0001-01-01 and 9999-12-31: outside, a clock was not set and the number says nothing.
_LOW: Final = -62_135_596_800.0
_HIGH: Final = 253_402_300_799.0
_SECONDS: Final = tuple(f":{second:02}Z" for second in range(60))


def iso_time(seconds: float) -> str:
    """Return *seconds* since 1970 as ISO 8601 in UTC with milliseconds, "-" where it is no time."""
    if not _LOW <= seconds <= _HIGH:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def iso_seconds(times: Sequence[float]) -> list[str]:
    """Return *times* as ISO 8601 in UTC to the second, "" for 0: quick for many times close together."""
    whole = not times or (min(times) >= _LOW and max(times) <= _HIGH)
    seconds = (
        list(map(int, times)) if whole else [int(time) if _LOW <= time <= _HIGH else 0 for time in times]
    )
    texts: dict[int, str] = {}
    minutes: dict[int, str] = {}
    for time in set(seconds):
        minute, second = divmod(time, 60)
        if minute not in minutes:
            minutes[minute] = datetime.fromtimestamp(minute * 60, UTC).isoformat()[:16]
        texts[time] = minutes[minute] + _SECONDS[second]
    if all(times):
        return list(map(texts.__getitem__, seconds))
    return [texts[second] if time else "" for time, second in zip(times, seconds, strict=True)]
