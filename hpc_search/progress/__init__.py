"""A live view of a run in a terminal; plain lines where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TextIO

from hpc_search.space import amount
from hpc_search.status.text import plain, pruned_words, time_left

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from hpc_search.records.plan import Plan
    from hpc_search.status import Status

#: Without a terminal a line is printed at most this often.
LINE_SECONDS: Final = 10.0


class Progress:
    """Shows the trials done, running and failed, the rate, the time left and the best so far.

    Use as a context manager and call `update` with every new status. In a terminal it is one bar that
    is redrawn; else a plain line at most every LINE_SECONDS seconds, and one at the end.
    """

    def __init__(
        self,
        plan: Plan | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write to *stream* (stderr where None), under the name of *plan*; *clock* is monotonic."""
        self._name = plan.search.name if plan is not None else ""
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._live: Live | None = None
        self._last = -LINE_SECONDS
        self._printed = ""
        self._newest: Status | None = None

    def __enter__(self) -> Self:
        if self._stream.isatty():
            self._live = _live(self._stream)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._newest is not None:
            self._print(line(self._newest))

    def update(self, status: Status) -> None:
        """Show *status*."""
        self._newest = status
        if self._live is not None:
            self._live.update(_picture(self._name, status), refresh=True)
        elif self._last + LINE_SECONDS <= self._clock():
            self._last = self._clock()
            self._print(line(status))

    def _print(self, text: str) -> None:
        if text != self._printed:
            self._printed = text
            print(text, file=self._stream, flush=True)


def parts(status: Status) -> tuple[str, str, str]:
    """Return counts, rate with time left, and the best so far, in words ("" where not known)."""
    counts = f"{status.done} done, {status.running} running, {status.failed} failed"
    if status.pruned:
        counts += f", {pruned_words(status.pruned, status.left_out)}"
    speed = []
    if status.rate_per_min is not None:
        speed.append(f"{amount(status.rate_per_min)}/min")
    if status.eta_seconds is not None:
        speed.append(f"{time_left(status.eta_seconds)} left")
    best = f"best trial's {plain(status.metric)} {status.best.value:.5g}" if status.best is not None else ""
    return counts, ", ".join(speed), best


def line(status: Status) -> str:
    """Return *status* as one line of text."""
    head = f"{status.finished}/{status.trials} trials"
    return " | ".join(part for part in (head, *parts(status)) if part)


def _live(stream: TextIO) -> Live:
    # rich costs 0.1 s of import: only a terminal needs it.
    from rich.console import Console
    from rich.live import Live

    return Live(console=Console(file=stream), auto_refresh=False)


def _picture(name: str, status: Status) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    counts, *rest = parts(status)
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        Text(plain(name)),
        ProgressBar(total=status.trials, completed=status.finished, width=30),
        Text(f"{status.finished}/{status.trials} trials: {counts}"),
    )
    return Group(bar, Text(" | ".join(part for part in rest if part)))
