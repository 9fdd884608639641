"""Who a worker is, and whether another one is certainly gone. No clock of another machine is used."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records import journal as codec

#: A heartbeat must be unchanged over at least this many own samples spread over the lease.
_SAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class Identity:
    """A process and the seat it sits on. A seat is token, array task and pack index, never a job id."""

    host: str
    boot_id: str
    pid: int
    start_time: int
    token: str = ""
    seat: str = ""
    restart: int = 0
    cluster: str = ""
    job_id: str = ""
    device: str = "cpu"
    #: What two machines with one hostname do not share; "" where that is not known.
    machine: str = ""


def machine_id() -> str:
    """Return a digest of this machine's own id, "" where it has none that other programs may use."""
    for path in ("/sys/class/dmi/id/product_uuid", "/etc/machine-id"):
        with suppress(OSError):
            known = Path(path).read_bytes().strip()
            if known:
                return hashlib.blake2b(known, digest_size=8, person=b"hpc_search").hexdigest()
    return ""


def boot_id() -> str:
    """Return what must be equal for two pids to be comparable: this boot and this pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def start_time(pid: int) -> int | None:
    """Return the start time of *pid* in clock ticks since boot, None where there is no such process."""
    fields = _stat(pid)
    return None if not fields or fields[0] == b"Z" else int(fields[19])


def is_suspended(pid: int) -> bool:
    """Return whether process *pid* is stopped, as SLURM suspends a job."""
    fields = _stat(pid)
    return bool(fields) and fields[0] in (b"T", b"t")


def _stat(pid: int) -> list[bytes]:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return []
    return stat[stat.rindex(b")") + 2 :].split()


def this_process(token: str = "", seat: str = "", device: str = "cpu") -> Identity:
    """Return the identity of the calling process; SLURM's variables give job, task and restart count."""
    env = os.environ
    if not seat and "SLURM_JOB_ID" in env:
        task = env.get("SLURM_ARRAY_TASK_ID", "0")
        seat = f"slurm:{task}:{env.get('SLURM_PROCID', '0')}"
    pid = os.getpid()
    return Identity(
        host=socket.gethostname(),
        boot_id=boot_id(),
        pid=pid,
        start_time=start_time(pid) or 0,
        token=token,
        seat=seat,
        restart=int(env.get("SLURM_RESTART_COUNT") or 0),
        cluster=env.get("SLURM_CLUSTER_NAME", ""),
        job_id=env.get("SLURM_JOB_ID", ""),
        device=device,
        machine=machine_id(),
    )


def _boot(boot: str) -> str:
    return boot.partition("/")[0]


def certainly_gone(opening: codec.Open, me: Identity) -> bool:
    """Return whether the process of *opening* cannot be alive.

    True where it ran on this boot of this host and its pid is gone or reused, where the machine was booted
    again since, or where *me* sits on the same seat with a higher restart count. Two machines may share a
    hostname: of those only the lease can tell.
    """
    if opening.host == me.host and opening.boot_id == me.boot_id and me.boot_id:
        return start_time(opening.pid) != opening.start_time
    same_machine = opening.host == me.host and bool(me.machine) and opening.machine == me.machine
    if same_machine and _boot(opening.boot_id) and _boot(opening.boot_id) != _boot(me.boot_id):
        # It was started again since.
        return True
    same_seat = bool(me.token) and (opening.token, opening.seat) == (me.token, me.seat)
    return same_seat and me.restart > opening.restart


class Beat(msgspec.Struct, frozen=True):
    """The content of a heartbeat: a counter and the (trial, attempt) pairs that the worker holds."""

    worker: str
    counter: int
    held: tuple[tuple[int, int], ...] = ()
    #: How it claims: "lock" or "exclusive".
    claiming: str = "lock"
    format: str = "hpc_search.heartbeat"
    version: int = 1


def encode_beat(beat: Beat) -> bytes:
    """Return the bytes of a heartbeat file."""
    return msgspec.json.encode(beat)


def read_beat(layout: Layout, worker: str) -> Beat | None:
    """Return the heartbeat of *worker*, None where there is none that can be read."""
    try:
        return msgspec.json.decode(durable.read_bytes(layout.heartbeat(worker)), type=Beat)
    except (OSError, msgspec.DecodeError):
        return None


def opening_of(layout: Layout, worker: str) -> tuple[codec.Open | None, bool]:
    """Return the newest opening record of *worker* and whether its journal says that it exited."""
    opening: codec.Open | None = None
    exited = False
    for first, last in history.edges(layout, worker):
        record = codec.parse_line(first)
        if isinstance(record, codec.Open):
            opening = record
        exited = exited or isinstance(codec.parse_line(last), codec.Exit)
    return opening, exited


@dataclass(slots=True)
class _Seen:
    counter: int
    since: float
    samples: int = 1
    last: float = 0.0
    #: Whether it was ever seen to change.
    moved: bool = False


@dataclass(slots=True)
class Watch:
    """Samples heartbeats; a worker whose counter stayed the same over the lease is dead.

    A gap in the samples restarts the watch, so that a stalled file server does not make everybody look
    dead at once.
    """

    lease: float
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _unlisted: dict[tuple[str, tuple[int, int]], int] = field(default_factory=dict)

    @property
    def interval(self) -> float:
        """Seconds between two samples that both count."""
        return self.lease / (2 * _SAMPLES)

    def sample(self, worker: str, beat: Beat | None) -> bool:
        """Take one sample of *worker*; return whether it is dead by its lease."""
        now = self.clock()
        counter = beat.counter if beat is not None else -1
        seen = self._seen.get(worker)
        gap = self.lease / 2
        if seen is None or seen.counter != counter or now - seen.last > gap:
            moved = seen is not None and (seen.moved or seen.counter != counter)
            self._seen[worker] = _Seen(counter, now, 1, now, moved)
            return False
        if now - seen.last >= self.interval:
            seen.samples += 1
            seen.last = now
        return seen.samples >= _SAMPLES and now - seen.since >= self.lease

    def silence(self, worker: str) -> float | None:
        """Return the seconds for which *worker* did not change, None where it was never sampled."""
        seen = self._seen.get(worker)
        return None if seen is None else self.clock() - seen.since

    def moved(self, worker: str) -> bool:
        """Return whether *worker* was seen to change."""
        seen = self._seen.get(worker)
        return seen is not None and seen.moved

    def stood(self, worker: str) -> tuple[int, float] | None:
        """Return (counter, seconds without a change) of *worker*, None where nothing is known."""
        seen = self._seen.get(worker)
        return None if seen is None else (seen.counter, round(seen.last - seen.since, 3))

    def go_on(self, worker: str, counter: int, stood: float) -> None:
        """Take up the watch of an earlier worker on this seat, which saw *counter* for *stood* seconds."""
        now = self.clock()
        samples = max(1, min(_SAMPLES, int(stood / self.interval) if self.interval else 1))
        self._seen[worker] = _Seen(counter, now - stood, samples, now)

    def abandoned(self, worker: str, claim: tuple[int, int], beat: Beat | None, *, listed: bool) -> bool:
        """Return whether a heartbeat that is certainly newer than *claim* does not list it.

        The heartbeat seen together with the claim may be older than it; the next one is not.
        """
        key = worker, claim
        if beat is None or listed:
            self._unlisted.pop(key, None)
            return False
        return beat.counter > self._unlisted.setdefault(key, beat.counter)

    def forget(self, worker: str) -> None:
        """Drop what was seen of *worker*."""
        self._seen.pop(worker, None)
