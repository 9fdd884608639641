"""One answer of squeue for everybody who watches a run: at most two questions a minute in all.

RUN/cache/queue.json holds the newest answer. Whoever wants to ask first creates the next of the names
RUN/cache/asked.N, exclusively; the times of the two newest say whether a question is due. All ages are
differences of two times of the file server. Where the cache cannot be written the limit is one of this
process.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.site import queue
from hpc_search.site.queue import Job

#: Seconds that must lie between two questions, and between a question and the one after the next.
PAUSE_S: Final = 30.0
_WINDOW_S: Final = 60.0
#: Seconds before a submission that the last answer does not know is asked for.
_NEW_S: Final = 1.0
#: Seconds that one look may wait for SLURM.
DEADLINE_S: Final = 2.0
#: Seconds between two looks for an answer that another one waits for.
_GLANCE_S: Final = 0.05
_PREFIX: Final = "asked."

Fetch = Callable[[Sequence[str], str, float], tuple[Job, ...] | None]


class Queue(msgspec.Struct, frozen=True):
    """What SLURM last said of the tasks of a run.

    ``age``: seconds since that answer, None where there never was one. ``answers``: whether the newest
    question was answered. ``unasked``: submissions made since, which the answer cannot know.
    """

    jobs: tuple[Job, ...] = ()
    age: float | None = None
    answers: bool = True
    unasked: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether what is not in it does not exist: a fresh answer to the newest question."""
        return self.answers and self.age is not None and self.age <= 3 * PAUSE_S


class _Kept(msgspec.Struct, frozen=True):
    """The content of queue.json; ``answered`` is the file server's time of the last answer, 0 for none."""

    tokens: tuple[str, ...] = ()
    jobs: tuple[Job, ...] = ()
    answered: float = 0.0
    answers: bool = True


class Desk:
    """Asks for one run, again and again; keep it as long as the run is watched."""

    def __init__(
        self, layout: Layout, fetch: Fetch = queue.fetch, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Ask by *fetch*; *clock* is monotonic."""
        self._layout = layout
        self._fetch = fetch
        self._clock = clock
        self._kept = _Kept()
        self._asked: list[float] = []

    def look(self, tokens: Sequence[str], deadline: float = DEADLINE_S) -> Queue | None:
        """Return what SLURM says of *tokens*, at most `PAUSE_S` old where it answers; None without any."""
        if not tokens:
            return None
        now = file_server_now(self._layout)
        if now is None:
            return self._alone(tokens, deadline)
        kept = self._read()
        if self._take(now, new=not set(tokens) <= set(kept.tokens)):
            kept = self._ask(kept, tokens, now, deadline)
            with suppress(OSError):
                durable.replace(self._layout.queue, msgspec.json.encode(kept), sync=False)
        elif kept == _Kept():
            kept = self._first_answer(deadline)
        return _queue(kept, tokens, now)

    def _first_answer(self, deadline: float) -> _Kept:
        """Wait for the answer to the first question of all, which another one asks now."""
        until = self._clock() + deadline
        while (kept := self._read()) == _Kept() and self._clock() < until:
            time.sleep(_GLANCE_S)
        return kept

    def _ask(self, kept: _Kept, tokens: Sequence[str], now: float, deadline: float) -> _Kept:
        jobs = self._fetch(tokens, _owner(self._layout), deadline)
        if jobs is None:
            return msgspec.structs.replace(kept, answers=False)
        return _Kept(tuple(tokens), jobs, now, answers=True)

    def _read(self) -> _Kept:
        try:
            return msgspec.json.decode(durable.read_bytes(self._layout.queue), type=_Kept)
        except (OSError, msgspec.DecodeError):
            return _Kept()

    def _take(self, now: float, *, new: bool) -> bool:
        """Return whether this process shall ask now; *new*: for something the last answer cannot know."""
        asked = _asked(self._layout.cache)
        if not _due([now - at for _, at in asked], new=new):
            return False
        number = asked[0][0] + 1 if asked else 1
        try:
            name = self._layout.cache / f"{_PREFIX}{number}"
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError:
            return False
        for old, _ in asked[1:]:
            with suppress(OSError):
                (self._layout.cache / f"{_PREFIX}{old}").unlink()
        return True

    def _alone(self, tokens: Sequence[str], deadline: float) -> Queue:
        now = self._clock()
        if _due([now - at for at in self._asked], new=not set(tokens) <= set(self._kept.tokens)):
            self._asked = [now, *self._asked[:1]]
            self._kept = self._ask(self._kept, tokens, now, deadline)
        return _queue(self._kept, tokens, now)


def _due(ages: Sequence[float], *, new: bool) -> bool:
    """Return whether one may ask, *ages* seconds after the last questions, newest first."""
    if len(ages) > 1 and ages[1] < _WINDOW_S:
        return False
    return not ages or ages[0] >= (_NEW_S if new else PAUSE_S)


def _asked(cache: Path) -> list[tuple[int, float]]:
    """Return (number, file server's time) of the questions, newest first."""
    found = []
    with suppress(OSError):
        for name in os.listdir(cache):
            number = name.removeprefix(_PREFIX)
            if name != number and number.isdecimal():
                with suppress(OSError):
                    found.append((int(number), os.stat(cache / name).st_mtime))
    return sorted(found, reverse=True)


def _queue(kept: _Kept, tokens: Sequence[str], now: float) -> Queue:
    wanted = set(tokens)
    jobs = tuple(job for job in kept.jobs if job.token in wanted)
    age = max(0.0, now - kept.answered) if kept.answered or kept.tokens else None
    unasked = tuple(token for token in tokens if token not in set(kept.tokens))
    return Queue(jobs, age, kept.answers, unasked)


def _owner(layout: Layout) -> str:
    uid = os.stat(layout.root).st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def file_server_now(layout: Layout) -> float | None:
    """Return the file server's time; None where this user may not, or cannot, write into RUN/cache."""
    with suppress(OSError):
        if os.stat(layout.root).st_uid == os.geteuid():
            layout.cache.mkdir(mode=0o700, exist_ok=True)
            return durable.now(layout.cache)
    return None
