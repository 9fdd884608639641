"""Wall-clock times of workers as text, in UTC. They are for people; nothing compares them."""

from __future__ import annotations

from collections.abc import Iterable
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


def iso_seconds(times: Iterable[float]) -> list[str]:
    """Return *times* as ISO 8601 in UTC to the second, "" for 0: quick for many times close together."""
    minutes: dict[int, str] = {}
    texts = []
    for time in times:
        minute, second = divmod(int(time) if _LOW <= time <= _HIGH else 0, 60)
        prefix = minutes.get(minute)
        if prefix is None:
            prefix = minutes[minute] = datetime.fromtimestamp(minute * 60, UTC).isoformat()[:16]
        texts.append(prefix + _SECONDS[second] if time else "")
    return texts
