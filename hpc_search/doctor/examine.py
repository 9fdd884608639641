"""The examination of a directory: who is asked what, in which order. Nothing is judged here."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from shutil import which
from types import FrameType
from typing import Final

import msgspec

import hpc_search
from hpc_search.doctor import locking, names, place, probes
from hpc_search.doctor.crew import Client, Crew, SilentError, gather
from hpc_search.doctor.measured import (
    MOUNTS,
    NODES,
    PROCESSES,
    Clock,
    Delays,
    Hdf5,
    Locking,
    Measured,
    Partner,
    Place,
    Quota,
    Race,
    Replaced,
    Room,
    RunLock,
    Synced,
    errno_name,
)
from hpc_search.durable import NO_SPACE
from hpc_search.errors import UsageError
from hpc_search.layout import Layout

#: Partners that race on this machine, and on either side with a second mount.
_RACERS: Final = 4
_CLOCK_S: Final = 0.1
_HELLO_S: Final = 3.0
_QUOTA_S: Final = 3.0
_RUN_LOCK_S: Final = 2.0
_HDF5_S: Final = 10.0
#: Seconds that SLURM gets to start two tasks.
_SRUN_S: Final = 60
#: Ranks of the partners that work alone.
_KEEPER: Final = 0
_LIBRARY: Final = 99


_Found = Race | Replaced | Locking | Delays


class _Wish(msgspec.Struct, frozen=True):
    path: Path
    second: Path | None
    srun: bool


def examine(path: Path, *, second: Path | None = None, srun: bool = False) -> Measured:
    """Measure what the ledger needs in directory *path*, in seconds; nothing is left behind.

    Args:
        path: The directory.
        second: The same directory as another client of the file system on this machine shows it.
        srun: Whether to run two tasks on two nodes.

    Raises:
        UsageError: *second* does not show the same directory, or *path* is not UTF-8.
    """
    _refuse_unnamable(path)
    with ended_by_signals():
        crew, temporary = Crew(), ""
        keeper = crew.hire(path, _KEEPER)
        try:
            made = keeper.ask(place.Made, "make", name=str(path))
            temporary = made.temporary
            found = _measured(crew, keeper, made, _Wish(path, second, srun))
        except SilentError:
            return Measured(place=Place(path=str(path), real="", kind="silent"))
        finally:
            crew.end()
            removed = not temporary or _removed(keeper, Path(temporary))
    return found if removed else msgspec.structs.replace(found, left=temporary)


def _refuse_unnamable(path: Path) -> None:
    if place.shown(path) != str(path):
        message = f"{place.shown(path)} is not UTF-8: records and reports cannot name it"
        raise UsageError(message, hint="rename it, or give another directory")


def _measured(crew: Crew, keeper: Client, made: place.Made, wish: _Wish) -> Measured:
    examination = _Examination(crew, keeper, made, wish)
    if made.temporary:
        examination.alone()
    if examination.has_room:
        examination.among()
    return examination.measured


def _removed(keeper: Client, temporary: Path) -> bool:
    """Return whether the keeper removed what it made; where it had to be killed, let another one do it."""
    if keeper.channel.process.status != 0:
        crew = Crew()
        keeper = crew.hire(temporary, _KEEPER, remove=True)
        crew.end()
    return keeper.channel.process.status == 0


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that it cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Examination:
    """What was measured so far, and with whom."""

    def __init__(self, crew: Crew, keeper: Client, made: place.Made, wish: _Wish) -> None:
        self._crew = crew
        self._keeper = keeper
        self._wish = wish
        self._temporary = Path(made.temporary)
        self.measured = Measured(place=made.place)

    def _add(self, **found: object) -> None:
        self.measured = msgspec.structs.replace(self.measured, **found)

    def _untried(self, what: str, why: str) -> None:
        self._add(untried={**self.measured.untried, what: why})

    def _refused(self, what: str, error: OSError) -> None:
        self._untried(what, error.strerror or str(error))
        if error.errno in NO_SPACE:
            self._add(no_room={**self.measured.no_room, what: errno_name(error.errno)})

    @property
    def has_room(self) -> bool:
        """Whether anything can be written."""
        room = self.measured.room
        return room is not None and not (room.write_error or room.file_error)

    # -- what one process measures
    def alone(self) -> None:
        """Measure what needs one process."""
        self._one("room", Room)
        if not self.has_room:
            self._untried("calls", "nothing can be written to try them")
            return
        self._keep_names()
        self._one("sync", Synced, field="synced")
        self._one("clock", Clock, seconds=_CLOCK_S)

    def _keep_names(self) -> None:
        with suppress(SilentError):
            number = self._keeper.ask(int, "keep")
            self._add(place=msgspec.structs.replace(self.measured.place, sync_errno=number))

    def _one(self, op: str, kind: type, *, field: str = "", seconds: float = 0.0) -> None:
        try:
            self._add(**{field or op: self._keeper.ask(kind, op, seconds=seconds)})
        except SilentError:
            self._untried(field or op, "no answer in time")
        except OSError as error:
            self._refused(field or op, error)

    # -- what several measure
    def among(self) -> None:
        """Measure what needs several processes; the slow start of others is waited for meanwhile."""
        library = self._crew.hire(self._temporary, _LIBRARY)
        asked, started = (library.send("hdf5"), library.send("quota", seconds=_QUOTA_S)), time.monotonic()
        tasks = self._start_tasks()
        self._scope(PROCESSES, self._local)
        self._mounts()
        if tasks:
            self._nodes(tasks)
        left = max(0, started + _HDF5_S - time.monotonic())
        self._gather("hdf5", Hdf5, library, asked[0], left)
        self._gather("quota", Quota, library, asked[1], _QUOTA_S)
        self._run_lock()

    def _gather(self, field: str, kind: type, client: Client, number: int, seconds: float) -> None:
        found = gather(kind, [(client, number)], seconds)[0]
        if isinstance(found, SilentError):
            self._untried(field, "no answer in time")
        elif isinstance(found, OSError):
            self._refused(field, found)
        else:
            self._add(**{field: found})

    def _local(self) -> list[Client]:
        return [self._crew.hire(self._temporary, rank) for rank in range(1, _RACERS + 1)]

    def _mounts(self) -> None:
        if self._wish.second is None:
            self._untried(MOUNTS, "give --second-mount DIR")
            return
        there = self._wish.second / self._temporary.name

        def hire() -> list[Client]:
            # The sides take turns: the first and the last are on different ones.
            places = [self._temporary, there] * (_RACERS // 2)
            return [self._crew.hire(at, rank) for rank, at in enumerate(places, 1)]

        team = hire()
        try:
            team[-1].ask(Partner, "hello", seconds=_HELLO_S)
        except SilentError:
            self._untried(MOUNTS, f"no answer from {self._wish.second} in time")
            return
        except OSError:
            message = f"{self._wish.second} does not show what is made in {self._wish.path}"
            raise UsageError(
                message, hint="--second-mount is the same directory by a second mount of the file system"
            ) from None
        finally:
            self._crew.dismiss(team)
        self._scope(MOUNTS, hire)

    # -- tasks of SLURM
    def _start_tasks(self) -> list[Client]:
        if not self._wish.srun:
            self._untried(NODES, "give --srun")
        elif which("srun") is None:
            self._untried(NODES, "there is no srun on this machine")
        else:
            return self._crew.start(_srun(self._temporary), 2, _environment())
        return []

    def _nodes(self, tasks: list[Client]) -> None:
        asked = [(task, task.send("hello", seconds=_HELLO_S)) for task in tasks]
        found = gather(Partner, asked, _SRUN_S)
        here = [one for one in found if isinstance(one, Partner)]
        self._add(nodes=tuple(one.node for one in here))
        if len(here) == len(tasks) and len({one.node for one in here}) < len(here):
            self._untried(NODES, f"both tasks ran on {here[0].node}")
        elif len(here) == len(tasks):
            self._scope(NODES, lambda: tasks)
        elif any(isinstance(one, OSError) for one in found):
            self._add(hidden=True)
            self._untried(NODES, f"a node does not see {self._wish.path}")
        else:
            words = self._crew.words(tasks[0])
            self._untried(NODES, f"srun did not start two tasks in {_SRUN_S} s{words and ': '}{words}")

    # -- one scope
    def _scope(self, scope: str, hire: Callable[[], list[Client]]) -> None:
        """Measure everything between the partners that *hire* gives; silent ones are replaced."""
        team = hire()
        try:
            for measure in _measures(scope):
                if team[0].channel.silent and scope == NODES:
                    return
                self._keep(measure(team))
                if any(client.channel.silent for client in team):
                    self._crew.dismiss(team)
                    team = team if scope == NODES else hire()
        finally:
            self._crew.dismiss(team)

    def _keep(self, found: _Found) -> None:
        fields: dict[type, str] = {Race: "races", Replaced: "replaced", Locking: "locking", Delays: "delays"}
        field = fields[type(found)]
        self._add(**{field: (*getattr(self.measured, field), found)})

    # -- a run
    def _run_lock(self) -> None:
        if not self.measured.place.is_run:
            return
        lock = str(Layout(self._wish.path).claims_lock)
        client = self._crew.hire(self._temporary, _RACERS)
        self._gather(
            "run_lock", RunLock, client, client.send("run_lock", name=lock, seconds=_RUN_LOCK_S), _RUN_LOCK_S
        )


def _measures(scope: str) -> list[Callable[[Sequence[Client]], _Found]]:
    """Return the measurements of a scope; locks last, because they hang first."""
    races = [partial(probes.race, kind=kind, scope=scope) for kind in names.KINDS]
    late = [partial(_delays, scope=scope)] if scope != PROCESSES else []
    locks = [partial(probes.locking, kind=kind, scope=scope) for kind in locking.KINDS]
    return [*races, partial(probes.replaced, scope=scope), *late, *locks]


def _delays(team: Sequence[Client], scope: str) -> Delays:
    return probes.delays(team[0], team[-1], scope)


def _srun(temporary: Path) -> list[str]:
    options = ["--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--time=5", f"--immediate={_SRUN_S}"]
    quiet = ["--quiet", "--kill-on-bad-exit=1", "--mpi=none", "--export=ALL"]
    name = f"--job-name=doctor-{secrets.token_hex(4)}"
    return [
        "srun", *options, *quiet, name,
        sys.executable, "-m", "hpc_search.doctor.partner", os.fspath(temporary),
    ]  # fmt: skip


def _environment() -> dict[str, str]:
    root = str(Path(hpc_search.__file__).parents[1])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path}
