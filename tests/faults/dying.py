"""A process that is killed before one of its calls that change what is on disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any


def killed_before(call: int, calls: Sequence[str], action: Callable[[], object]) -> bool:
    """Do *action* in a process that is killed at its *call*-th of *calls*, of os; return whether it was."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
        return os.WIFSIGNALED(status)
    left = iter(range(call))

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    code = 1
    try:
        for name in calls:
            setattr(os, name, counted(getattr(os, name)))
        action()
        code = 0
    finally:
        os._exit(code)
