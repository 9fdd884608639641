"""Memory that others took on a slice that is shared: then an out-of-memory is no fault of the trial. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_UNITS: Final = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE: Final = r"([0-9.]+) (KiB|MiB|GiB)"
#: torch's own account, 2.0 and later.
_TOTAL: Final = re.compile(rf"total capacity of {_SIZE} of which {_SIZE} is free")
_OWN: Final = re.compile(rf"this process has {_SIZE} memory in use")


@dataclass(frozen=True, slots=True)
class Share:
    """What a worker may use of a device that it shares: bytes of its share, and of the device."""

    mine: int
    total: int


def taken(share: Share | None, detail: str, free: int | None) -> str:
    """Return in words that others took of the share, "" where nothing proves it.

    *detail* is the trial's error, in which torch says what was free and its own; *free* are the bytes that
    the driver shows when the trial has ended. Where others gave back what they took before that, and torch
    did not say it, nobody can tell.
    """
    if share is None:
        return ""
    total, own = _TOTAL.search(detail), _OWN.search(detail)
    if total and own:
        whole, left, used = (_bytes(*total.groups()[:2]), _bytes(*total.groups()[2:]), _bytes(*own.groups()))
        if used < share.mine and left + used < share.mine:
            others = whole - left - used
            return _words(
                share, f"this trial had {_gib(used)}, and others {_gib(others)}, when it needed more"
            )
        return ""
    if free is not None and free < share.mine:
        return _words(share, f"only {_gib(free)} are free after the trial has ended")
    return ""


def _words(share: Share, found: str) -> str:
    return f"the GPU is shared, {_gib(share.mine)} of its {_gib(share.total)} are this worker's: {found}"


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * _UNITS[unit])


def _gib(count: int) -> str:
    return f"{count / _UNITS['GiB']:.1f} GiB"
