"""Workers as processes of this machine, each in its own session: they outlive the terminal."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from hpc_search.config.profile import Profile
from hpc_search.config.slices import Slice
from hpc_search.errors import EXIT_TEMPORARY, TemporaryError, UsageError
from hpc_search.launchers import processes
from hpc_search.launchers.base import ActiveJobs, Fewer, Request, Submitted, Waited, worker
from hpc_search.launchers.fitting import Room
from hpc_search.ledger import liveness
from hpc_search.ledger.submits import Job
from hpc_search.slices.judge import devices_expected
from hpc_search.slices.look import visible
from hpc_search.slices.observe import observe

#: Restarts of one seat while no trial ends.
RESTARTS: Final = 5
_GPU: Final = re.compile(r"nvidia\d+")
#: Seconds that NVML has to name the GPUs.
_NVML_TIMEOUT: Final = 20.0


@dataclass(slots=True)
class _Seat:
    """A child of this process and how often it was started again since a trial last ended."""

    request: Request
    index: int
    process: subprocess.Popen[bytes]
    restarts: int = 0
    left: int = -1
    again_at: float = 0.0


class LocalLauncher:
    """Starts one process a worker and, in the foreground, starts those again that were killed."""

    name: Final = "local"

    def __init__(self, *, pause: Callable[[float], None] = time.sleep) -> None:
        """Wait by *pause*."""
        self._pause = pause
        self._seats: dict[str, _Seat] = {}
        self._stops: list[int] = []

    def check(self) -> None:
        """Do nothing: every machine can start processes."""

    def workers(self, profile: Profile, threads: int, pending: int, asked: int | None = None) -> int:
        """Return one a GPU, where they are packed so many a GPU, else one for every *threads* cores.

        More than these are never started on GPUs, whatever was *asked*.

        Raises:
            UsageError: A worker of *profile* needs more GPUs than there are.
        """
        found, each = devices_for(profile), together(profile)
        if len(found) < each and profile.slice.kind != "cpu" and profile.on_mismatch != "warn":
            message = f"the profile asks for {profile.gres}; GPUs visible here: {len(found) or 'none'}"
            raise UsageError(message, hint="another profile; `--set gres=` runs this one without a GPU")
        most = len(found) // each * profile.slice.pack.workers
        usable = most or cores() // max(1, threads)
        if asked is not None:
            usable = min(asked, most) if most else asked
        return max(1, min(usable, pending))

    def longest(self, profile: Profile) -> None:
        """Return that processes have no limit."""
        del profile

    def room(self, profile: Profile) -> Room:
        """Return no limit."""
        del profile
        return Room()

    def script(self, request: Request) -> str:
        """Return the command lines that would be run."""
        return "".join(shlex.join(command(request, index)) + "\n" for index in range(request.tasks))

    def submit(self, request: Request) -> Submitted:
        """Start the processes; they go on when this process ends.

        Raises:
            TemporaryError: The machine refuses more processes.
        """
        return Submitted(tuple(self._job(request, index) for index in range(request.tasks)))

    def _job(self, request: Request, index: int) -> Job:
        process = _start(request, index)
        name = seat(request, index)
        self._seats[f"{request.token} {name}"] = _Seat(request, index, process)
        return Job(
            id=str(process.pid),
            seat=name,
            host=processes.hostname(),
            boot_id=liveness.boot_id(),
            start_time=liveness.start_time(process.pid) or 0,
        )

    def find(self, token: str) -> Submitted | None:
        """Look for the processes of *token* on this machine."""
        host, boot = processes.hostname(), liveness.boot_id()
        jobs = tuple(
            Job(id=str(one.pid), seat=one.seat, host=host, boot_id=boot, start_time=one.start_time)
            for one in processes.running(frozenset([token]))
        )
        return Submitted(jobs, adopted=True) if jobs else None

    def active(self, tokens: Sequence[str]) -> dict[str, ActiveJobs] | None:
        """Count the processes of *tokens* on this machine."""
        counts = Counter(one.token for one in processes.running(frozenset(tokens)))
        return {token: ActiveJobs(running=count) for token, count in counts.items()}

    def ended(self, tokens: Sequence[str]) -> frozenset[str]:
        """Return all of them: a process that is not there has ended."""
        return frozenset(tokens)

    def cancel(self, tokens: Sequence[str]) -> int:
        """Tell the workers of *tokens* to checkpoint and end."""
        found = processes.running(frozenset(tokens))
        for one in found:
            _signal(one.pid, signal.SIGTERM)
        return len(found)

    def change(self, tokens: Sequence[str], before: Profile, after: Profile) -> list[str]:
        """Do nothing: processes have neither a throttle nor a time limit."""
        del tokens, before, after
        return []

    def reduce(self, tokens: Sequence[str], count: int) -> Fewer:
        """Tell the last *count* workers to checkpoint and end."""
        found = processes.running(frozenset(tokens))[-count:]
        for one in found:
            _signal(one.pid, signal.SIGTERM)
        return Fewer(running=len(found))

    def wait(
        self, tokens: Callable[[], Sequence[str]], tick: Callable[[], None], left: Callable[[], int]
    ) -> Waited:
        """Stay until the workers have ended; start those again that died by a signal while trials are left.

        The first SIGINT or SIGTERM tells the workers to checkpoint and end, the second kills them.
        """
        self._stops.clear()
        wanted = frozenset(tokens())
        with self._forwarding(wanted):
            # A worker that dies between the two looks is seen dead, and started again, by the next round.
            while self._revive(wanted, left) or processes.running(wanted):
                tick()
                self._pause(1.0)
        tick()
        return Waited(self._stops[0] if self._stops else 0, self._lost(wanted))

    def _revive(self, tokens: frozenset[str], left: Callable[[], int]) -> bool:
        """Start own seats of *tokens* again that were killed; return whether any is alive or will be."""
        mine = [one for one in self._seats.values() if one.request.token in tokens]
        alive = [self._lives(one, left) for one in mine]
        return any(alive)

    def _lives(self, one: _Seat, left: Callable[[], int]) -> bool:
        status = one.process.poll()
        if status is None:
            return True
        remaining = 0 if self._stops or not _was_killed(status) else left()
        return remaining > 0 and self._start_again(one, remaining)

    def _start_again(self, one: _Seat, left: int) -> bool:
        """Start *one* again when its pause is over; return False where its restarts are used up."""
        if one.left != left:
            one.restarts, one.left = 0, left
        if one.restarts >= RESTARTS:
            return False
        now = time.monotonic()
        if one.again_at == 0.0:
            one.again_at = now + one.restarts
        if now >= one.again_at:
            one.process = _start(one.request, one.index)
            one.restarts += 1
            one.again_at = 0.0
            if self._stops:
                _signal(one.process.pid, signal.SIGTERM)
        return True

    def _lost(self, tokens: frozenset[str]) -> tuple[str, ...]:
        mine = [one for one in self._seats.values() if one.request.token in tokens]
        ended = [(seat(one.request, one.index), one.process.poll()) for one in mine]
        return tuple(f"{name}: {_ended(status)}" for name, status in ended if status)

    @contextmanager
    def _forwarding(self, tokens: frozenset[str]) -> Iterator[None]:
        def forward(number: int, _frame: FrameType | None) -> None:
            self._stops.append(number)
            for one in processes.running(tokens):
                if len(self._stops) == 1:
                    _signal(one.pid, signal.SIGTERM)
                else:
                    _kill(one.pid)

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def seat(request: Request, index: int) -> str:
    """Return the seat of worker *index* of *request*."""
    return f"local:{request.first_seat + index}"


def command(request: Request, index: int) -> list[str]:
    """Return the argv of worker *index* of *request*."""
    return [*worker(sys.executable, request), "--token", request.token, "--seat", seat(request, index)]


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def gpus(environ: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """Return the CUDA devices that this process may use, instances of GPUs in MIG mode one by one.

    They are those of CUDA_VISIBLE_DEVICES, else what NVML shows, else the device files in *devices*.
    """
    named = visible(environ.get("CUDA_VISIBLE_DEVICES"))
    if named is not None:
        return list(dict.fromkeys(named))
    count = sum(1 for name in os.listdir(devices) if _GPU.fullmatch(name))
    if not count:
        return []
    shown = observe(("nvml",), environ, _NVML_TIMEOUT).devices
    # CUDA may number them otherwise than the driver does.
    return [device.uuid for device in shown] or [str(index) for index in range(count)]


def devices_for(profile: Profile) -> list[str]:
    """Return the GPUs that workers of *profile* may use here: none where it has a slice of kind cpu."""
    only_cpu = profile.slice.kind == "cpu" and profile.slice != Slice()
    return [] if only_cpu else gpus(os.environ)


def together(profile: Profile) -> int:
    """Return how many GPUs the trials of one worker of *profile* use at once, or share where it is packed."""
    return devices_expected(profile.slice) if profile.slice.kind in ("whole", "packed") else 1


def _least_used(devices: Sequence[str], count: int) -> str:
    """Return the *count* of *devices* that the fewest workers of this user have, of whatever run."""
    used = Counter(name for names in processes.devices() for name in names.split(","))
    return ",".join(sorted(devices, key=lambda name: used[name])[:count])


def _start(request: Request, index: int) -> subprocess.Popen[bytes]:
    number = request.first_seat + index
    available = devices_for(request.profile)
    values = {**os.environ, **request.environment}
    if available:
        values["CUDA_VISIBLE_DEVICES"] = _least_used(available, together(request.profile))
    log = Path(request.run, "submitit", f"local-{number}.log")
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            command(request, index),
            env=values,
            cwd=request.chdir or request.run,
            stdin=subprocess.DEVNULL,
            stdout=fd,
            stderr=fd,
            start_new_session=True,
            umask=0o077,
        )
    except OSError as error:
        message = f"cannot start worker {number}: {error}"
        raise TemporaryError(message, hint="fewer workers: `--workers N`") from error
    finally:
        os.close(fd)
    # By its environment the next worker is told which GPU is taken; the kernel shows it some time later.
    while available and process.poll() is None and not processes.shows_environment(process.pid):
        time.sleep(0.001)
    return process


def _was_killed(status: int) -> bool:
    return status < 0 or status > 128 or status == EXIT_TEMPORARY


def _ended(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _kill(pid: int) -> None:
    # A worker leads its own group; the trials die with it.
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
