"""A worker that kills itself at a given moment: ``python -m tests.faults.killed_at MOMENT COUNT RUN``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from hpc_search.cli import main
from hpc_search.ledger import Ledger
from hpc_search.ledger.gates import Gates
from hpc_search.records.journal import End
from hpc_search.steering import stages
from hpc_search.steering.referee import Referee
from hpc_search.worker.attempt import Attempt


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_trial(attempt: Attempt) -> None:
    attempt.kill()


class Moment:
    """Counts calls of one method, or function of a module; at the last one acts *before* or after it."""

    def __init__(
        self, of: object, name: str, *, before: bool, when: Callable[..., bool] = lambda *_: True
    ) -> None:
        self.of, self.name, self.before, self.when = of, name, before, when

    def arm(self, count: int, act: Callable[..., None]) -> None:
        """Do *act* at call number *count*."""
        original, left = getattr(self.of, self.name), [count]

        def armed(this: Any, *arguments: Any, **named: Any) -> Any:
            result = None if self.before else original(this, *arguments, **named)
            if self.when(result, *arguments):
                left[0] -= 1
                if left[0] == 0:
                    act(this)
            return original(this, *arguments, **named) if self.before else result

        setattr(self.of, self.name, armed)


def _paused(_: object, end: End, *_then: object) -> bool:
    return end.state == "paused"


def _some(result: object, *_: object) -> bool:
    return bool(result)


def _dropped(_: object, ends: list[End]) -> bool:
    return bool(ends)


MOMENTS: Final = {
    "reported, not judged": Moment(Referee, "judge", before=True),
    "judged, not told": Moment(Attempt, "_answer", before=True),
    "told": Moment(Attempt, "_answer", before=False),
    "saved, not paused": Moment(Ledger, "finish_soon", before=True, when=_paused),
    "paused, not marked": Moment(Ledger, "finish_soon", before=False, when=_paused),
    "promotion recorded, not owned": Moment(Ledger, "promote", before=True),
    "promoted, not started": Moment(Ledger, "promote", before=False, when=_some),
    "ended, not sealed": Moment(stages, "seal_results", before=True),
    "sealed, not derived": Moment(stages, "seal_results", before=False),
    "derived, not published": Moment(Gates, "publish", before=True),
    "published": Moment(Gates, "publish", before=False),
    "race decided, not ended": Moment(Referee, "_finish", before=True, when=_dropped),
    "race ended, not marked": Moment(Referee, "_finish", before=False, when=_dropped),
    "owned to be ended": Moment(Ledger, "end_paused", before=False, when=_some),
}

if __name__ == "__main__":
    moment, count, run = sys.argv[1:]
    if moment.startswith("trial: "):
        MOMENTS[moment.removeprefix("trial: ")].arm(int(count), _kill_trial)
    else:
        MOMENTS[moment].arm(int(count), _die)
    sys.exit(main(["work", run]))
