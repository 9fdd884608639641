"""Whether another worker is dead, by evidence or by its lease on our own monotonic clock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from typing import Final

from hpc_search.layout import Layout
from hpc_search.ledger import gone, history, liveness
from hpc_search.ledger.liveness import Identity, Watch
from hpc_search.records import journal as lines

#: Event of the note with what a worker saw of the owners that it watched.
WATCH: Final = "watch"
#: Heartbeats after which an owner whose own did not change is silent, and seconds to wait for that at most.
_UNSURE: Final = (1.5, 3.0)
#: Heartbeats in which every live worker notices that locks are no longer used.
_NOTICE: Final = 2.0


class Deaths:
    """Judges the owners of trials for one worker."""

    def __init__(
        self,
        layout: Layout,
        me: Identity,
        lease: float,
        heartbeat: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Judge for *me*; an owner is dead after *lease* seconds without a new *heartbeat*."""
        self._layout = layout
        self._me = me
        self._heartbeat = heartbeat
        self.watch = Watch(lease, clock)
        self._departed: frozenset[str] = frozenset()
        self._owners: set[str] = set()

    def look(self) -> None:
        """Read what submissions found gone; begin a round of `dead`."""
        self._departed = gone.reported(self._layout)
        self._owners.clear()

    def dead(self, worker: str) -> bool:
        """Take one sample of *worker*, which owns a trial; return whether it is dead."""
        opening, exited = liveness.opening_of(self._layout, worker)
        if exited or worker in self._departed or self._gone(worker, opening):
            self.watch.forget(worker)
            return True
        beat = liveness.read_beat(self._layout, worker)
        if self.watch.sample(worker, beat):
            return True
        self._owners.add(worker)
        return False

    def _gone(self, worker: str, opening: lines.Open | None) -> bool:
        if opening is None:
            # Folded, then it is gone; else its first line cannot be seen yet and the lease decides.
            return bool(history.archived_segments(self._layout, worker))
        return liveness.certainly_gone(opening, self._me)

    def abandoned(self, worker: str, claim: tuple[int, int], trials: Collection[int]) -> bool:
        """Return whether a heartbeat that is certainly newer than *claim* lists none of *trials*."""
        beat = liveness.read_beat(self._layout, worker)
        listed = beat is None or any(trial in trials for trial, _ in beat.held)
        return self.watch.abandoned(worker, claim, beat, listed=listed)

    def sample(self) -> None:
        """Look at the heartbeats of the owners of the last round."""
        for worker in self._owners:
            self.watch.sample(worker, liveness.read_beat(self._layout, worker))

    def pause(self) -> float:
        """Return the seconds after which it is worth to look again at owners that may be dead; 0: none is.

        A worker without work stays for an owner that is silent, until its lease ends; it does not stay for
        one that beats, nor long to find that out.
        """
        waits = [seconds for seconds in map(self._wait_for, self._owners) if seconds > 0]
        return max(0.02, min(waits)) if waits else 0.0

    def _wait_for(self, worker: str) -> float:
        """Return the seconds to wait for *worker*: for what is left of its lease, or to find out; 0: none."""
        silence = self.watch.silence(worker)
        if silence is None:
            return 0.0
        if silence >= _UNSURE[0] * self._heartbeat:
            return min(self.watch.interval, self._heartbeat / 2)
        left = min(_UNSURE[0] * self._heartbeat, _UNSURE[1]) - silence
        unsure = left > 0 and not self.watch.moved(worker) and not self._on_this_host(worker)
        return min(left, self._heartbeat / 2) if unsure else 0.0

    def _on_this_host(self, worker: str) -> bool:
        """Return whether *worker* runs here, where its process was just seen, and is not suspended."""
        opening, _ = liveness.opening_of(self._layout, worker)
        here = self._me.host, self._me.boot_id
        if opening is None or (opening.host, opening.boot_id) != here:
            return False
        return not liveness.is_suspended(opening.pid)

    def notice(self, me: str) -> float:
        """Return for how many seconds a live worker other than *me* may still claim by the index."""
        for worker in history.live_workers(self._layout):
            opening, exited = liveness.opening_of(self._layout, worker)
            if worker == me or exited or opening is None or liveness.certainly_gone(opening, self._me):
                continue
            beat = liveness.read_beat(self._layout, worker)
            if beat is None or beat.claiming == "lock":
                return _NOTICE * self._heartbeat
        return 0.0

    def resume(self, me: str) -> None:
        """Go on, as worker *me*, with the watch that an earlier one on this seat left in its journal."""
        if not self._me.token:
            return
        for worker in history.live_workers(self._layout):
            opening, exited = liveness.opening_of(self._layout, worker)
            if not exited or opening is None or worker == me:
                continue
            if (opening.token, opening.seat) == (self._me.token, self._me.seat):
                for note in history.records(self._layout, worker, frozenset({b"note"})):
                    if isinstance(note, lines.Note) and note.event == WATCH:
                        for owner, (counter, stood) in json.loads(note.text).items():
                            self.watch.go_on(owner, counter, stood)

    def watched(self) -> dict[str, tuple[int, float]]:
        """Return owner -> (counter, seconds that it stood still), to go on with by the next on the seat."""
        found = ((worker, self.watch.stood(worker)) for worker in sorted(self._owners))
        return {worker: stood for worker, stood in found if stood is not None}
