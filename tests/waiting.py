"""Waiting for a condition of another process: the only place where tests sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")
_FIRST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 0.25


def wait_until(
    condition: Callable[[], T],
    timeout: float = 30,
    on_timeout: Callable[[], object] | None = None,
) -> T:
    """Call *condition* until it returns something true, and return that.

    Args:
        condition: Called at least once, and once more after the time is up.
        timeout: Seconds; a guard against a hang, never a claim about speed.
        on_timeout: Gives more to show when it does not happen, such as the log of a process.

    Raises:
        AssertionError: It did not happen; with the last value of *condition* and *on_timeout*'s.
    """
    end = time.monotonic() + timeout
    pause = _FIRST_PAUSE_S
    while True:
        late = time.monotonic() >= end
        value = condition()
        if value:
            return value
        if late:
            message = f"not within {timeout:g} s: {_name(condition)}; last value: {value!r}"
            raise AssertionError(message if on_timeout is None else f"{message}\n{on_timeout()}")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)


def _name(condition: Callable[[], object]) -> str:
    code = getattr(condition, "__code__", None)
    name = getattr(condition, "__qualname__", repr(condition))
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name
