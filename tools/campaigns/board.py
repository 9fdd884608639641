"""The campaign's side of the board on which disturbed processes say where they are."""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from tools.campaigns.victim import sitecustomize as victim

#: Seconds that the phases take where nobody has measured yet.
_TYPICAL: Final = {"claim": 5e-4, "finish": 2e-3, "checkpoint": 5e-3, "training": 5e-3}

#: Seconds between two looks at processes that were killed.
_SOON: Final = 0.02
#: Seconds after which a killed process hangs in the kernel.
_HANGING: Final = 20.0


class Place(NamedTuple):
    """A process of a worker's tree, and where it is or was: kind and phase as words."""

    pid: int
    born: int
    parent: int
    kind: str
    phase: str = "elsewhere"
    armed: bool = False


class Board:
    """The file that all disturbed processes map into memory."""

    def __init__(self, path: Path) -> None:
        """Make the board at *path*, with nobody on it and no timers."""
        path.write_bytes(bytes(victim.BOARD_BYTES))
        self._kept = path.with_name(f"{path.name}.kept")
        self._path = path
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), victim.BOARD_BYTES)
        for number, phase in enumerate(victim.PHASES):
            typical = _TYPICAL.get(phase, 2e-3)
            struct.pack_into("<d", self._memory, victim.DURATIONS + 8 * number, typical)

    def environment(self, seed: str, number: signal.Signals = signal.SIGKILL) -> dict[str, str]:
        """Return what a worker needs in its environment to be on the board.

        *seed* decides its timers, which send the signal *number*.
        """
        found = os.environ.get("PYTHONPATH")
        before = [found] if found else []
        paths = [str(Path(victim.__file__).parent), *before]
        return {
            "PYTHONPATH": os.pathsep.join(paths),
            "CHAOS_BOARD": str(self._path),
            "CHAOS_SEED": seed,
            "CHAOS_SIGNAL": number.name,
            "CHAOS_KEPT": str(self._kept),
        }

    def promises(self) -> tuple[dict[str, int], dict[int, int]]:
        """Return what the product said is durable: end record -> trial, and trial -> step of a checkpoint."""
        ends: dict[str, int] = {}
        steps: dict[int, int] = {}
        for line in self._kept.read_bytes().splitlines() if self._kept.exists() else ():
            promise = json.loads(line)
            trial = promise["trial"]
            if "end" in promise:
                ends[promise["end"]] = trial
            else:
                steps[trial] = max(promise["step"], steps.get(trial, 0))
        return ends, steps

    def arm(self, chances: Mapping[str, float]) -> None:
        """Set the probability of a kill on every entry into a phase; none where it is not named."""
        victim.HEADER.pack_into(self._memory, 0, *(chances.get(phase, 0.0) for phase in victim.PHASES))

    def places(self) -> Iterator[Place]:
        """Yield all processes that are on the board, dead or alive."""
        for at in range(victim.SLOTS_AT, victim.BOARD_BYTES, victim.SLOT.size):
            if self._memory[at : at + 8] != bytes(8):
                pid, born, parent, kind, phase, armed = victim.SLOT.unpack_from(self._memory, at)
                yield Place(pid, born, parent, victim.KINDS[kind], victim.PHASES[phase], bool(armed))

    def living(self) -> list[Place]:
        """Return the processes on the board that live, and the keepers between workers and templates."""
        found = {place.pid: place for place in self.places() if alive(place)}
        for place in list(found.values()):
            near = _children(place.pid) if place.kind == "worker" else [_parent(place.pid)]
            for pid in near if place.kind in ("worker", "template") else ():
                if pid not in found and _is_keeper(pid):
                    found[pid] = Place(pid, victim.start_time(pid), _parent(pid), "keeper")
        return list(found.values())

    def end(self) -> None:
        """SIGKILL all that live, stopped ones too; one that hangs in the kernel is not waited for."""
        until = time.monotonic() + _HANGING
        while (living := self.living()) and time.monotonic() < until:
            for place in living:
                send(place, signal.SIGKILL)
            time.sleep(_SOON)

    def tree(self, worker: int) -> list[Place]:
        """Return the living processes of the worker with pid *worker*: itself and all its descendants."""
        known = {place.pid: place for place in self.living()}
        found, waiting = [known[worker]] if worker in known else [], [worker]
        while waiting:
            children = _children(waiting.pop())
            waiting += children
            found += [known[pid] for pid in children if pid in known]
        return found

    def fallen(self) -> list[Place]:
        """Take the dead off the board; return those that their own timer killed.

        A trial that died together with its template is not one of them: its parent's death killed it.
        """
        dead = [place for place in self.places() if not alive(place)]
        for place in dead:
            self._clear(place.pid)
        gone = {place.pid for place in dead}
        return [
            place for place in dead if place.armed and not (place.kind == "trial" and place.parent in gone)
        ]

    def kill(self, place: Place) -> Place | None:
        """SIGKILL a process that lives; return where it died, None where it was quicker."""
        if not send(place, signal.SIGKILL):
            return None
        if place.kind == "keeper":
            return place
        at = victim.slot_at(place.pid)
        _, _, parent, kind, phase, _ = victim.SLOT.unpack_from(self._memory, at)
        self._clear(place.pid)
        return Place(place.pid, place.born, parent, victim.KINDS[kind], victim.PHASES[phase])

    def _clear(self, pid: int) -> None:
        at = victim.slot_at(pid)
        self._memory[at : at + victim.SLOT.size] = bytes(victim.SLOT.size)


def _parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(stat[stat.rindex(b")") + 2 :].split()[1])


def _is_keeper(pid: int) -> bool:
    try:
        return b"keeper.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def send(place: Place, number: signal.Signals) -> bool:
    """Send a signal to the very process of *place*, never to another one with its pid."""
    try:
        pidfd = os.pidfd_open(place.pid)
    except OSError:
        return False
    try:
        if not alive(place):
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
            return True
        return False
    finally:
        os.close(pidfd)


def _state(place: Place) -> bytes:
    """Return the letter of the process's state, X where it is gone."""
    try:
        stat = Path(f"/proc/{place.pid}/stat").read_bytes()
    except OSError:
        return b"X"
    fields = stat[stat.rindex(b")") + 2 :].split()
    return fields[0] if int(fields[19]) == place.born else b"X"


def alive(place: Place) -> bool:
    """Return whether the very process of *place* lives, and is no zombie."""
    return _state(place) not in (b"Z", b"X")


def stopped(place: Place) -> bool:
    """Return whether the process of *place* is stopped."""
    return _state(place) == b"T"


def victims_of(places: list[Place], draw: random.Random) -> Place | None:
    """Return one of *places*: the kind is drawn first, so that templates are hit as often as trials."""
    kinds = sorted({place.kind for place in places})
    if not kinds:
        return None
    kind = draw.choice(kinds)
    return draw.choice(sorted(place for place in places if place.kind == kind))
