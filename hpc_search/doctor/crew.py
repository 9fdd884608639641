"""Partners as `doctor` sees them: started, asked with a deadline, dismissed. No wait is without an end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, TypeVar

import msgspec

from hpc_search.doctor.protocol import Answer, Request, Scene

T = TypeVar("T")
#: Seconds within which every answer must come, beyond those that the operation itself may take, and the
#: rest of it after each part that was done: a slow file system is not a dead one.
PATIENCE_S: Final = 5.0
#: Seconds that a partner gets to end by itself.
_FAREWELL_S: Final = 3.0
#: Seconds that the keeper gets to remove some hundred files.
_REMOVAL_S: Final = 20.0
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SilentError(Exception):
    """A partner did not answer in time, or is gone."""


class _Process:
    """A child: forked, or started by srun."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended = False
        #: Its exit status as of `waitpid`; None where that is not known.
        self.status: int | None = None

    def end(self, seconds: float) -> None:
        """Wait until it ended by itself, else kill it; one that cannot be killed is left behind."""
        for kill in (False, True):
            if kill and not self.ended:
                with suppress(OSError):
                    os.kill(self.pid, signal.SIGKILL)
            until = time.monotonic() + (1.0 if kill else seconds)
            while not self._reaped() and time.monotonic() < until:
                time.sleep(0.005)

    def _reaped(self) -> bool:
        if not self.ended:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid == self.pid:
                    self.ended, self.status = True, status
            except ChildProcessError:
                self.ended = True
        return self.ended


class Channel:
    """The pipes to one program, behind which one or several partners listen."""

    def __init__(self, process: _Process, requests: int, answers: int) -> None:
        self.process = process
        self.requests = requests
        self.answers = answers
        self.silent = False
        self.sent = 0
        self._kept = b""
        self._waiting: dict[tuple[int, int], Answer] = {}
        #: When each partner last said that it goes on.
        self._went_on: dict[int, float] = {}

    def send(self, request: Request) -> None:
        """Send *request*; where nobody listens the answer will be missing."""
        self.sent = request.id
        if not self.silent:
            with suppress(OSError):
                os.write(self.requests, msgspec.json.encode(request) + b"\n")

    def receive(self, number: int, partner: int, until: float) -> Answer:
        """Return the answer of *partner* to request *number*.

        Raises:
            SilentError: It did not come until *until*, on the monotonic clock, nor soon after a part of it.
        """
        while (number, partner) not in self._waiting:
            last = self._went_on.get(partner, -PATIENCE_S)
            if self.silent or not self._read(max(until, last + PATIENCE_S)):
                self.silent = True
                raise SilentError
        return self._waiting.pop((number, partner))

    def _read(self, until: float) -> bool:
        poll = select.poll()
        poll.register(self.answers, select.POLLIN)
        if not poll.poll(max(0, until - time.monotonic()) * 1000):
            return False
        data = os.read(self.answers, 1 << 16)
        *lines, self._kept = (self._kept + data).split(b"\n")
        for line in lines:
            # Programs that start a task may print lines of their own.
            with suppress(msgspec.MsgspecError):
                self._take(msgspec.json.decode(line, type=Answer))
        return bool(data)

    def _take(self, answer: Answer) -> None:
        if answer.going_on:
            self._went_on[answer.by] = time.monotonic()
        else:
            self._waiting[answer.id, answer.by] = answer

    def close(self) -> None:
        """End the requests: every partner ends when it has read the last one."""
        for fd in (self.requests, self.answers):
            with suppress(OSError):
                os.close(fd)


class Client:
    """One partner."""

    def __init__(self, channel: Channel, rank: int) -> None:
        self.channel = channel
        self.rank = rank

    def ask(self, answer: type[T], op: str, *, seconds: float = 0.0, **fields: str | int) -> T:
        """Return what came of *op*.

        Raises:
            OSError: What came of it is this.
            SilentError: No answer in time.
        """
        return result(together([self], answer, op, seconds=seconds, **fields)[0])

    def send(self, op: str, *, seconds: float = 0.0, **fields: str | int) -> int:
        """Send a request; return its number, for `gather`."""
        number = self.channel.sent + 1
        wanted = {"id": number, "to": self.rank, "op": op, "seconds": seconds, **fields}
        self.channel.send(msgspec.convert(wanted, Request))
        return number


def together(
    clients: Sequence[Client], answer: type[T], op: str, *, seconds: float = 0.0, **fields: str | int
) -> list[T | OSError | SilentError]:
    """Ask all *clients* at once; return an answer each, or what came instead."""
    return gather(
        answer, [(client, client.send(op, seconds=seconds, **fields)) for client in clients], seconds
    )


def gather(
    answer: type[T], asked: Iterable[tuple[Client, int]], seconds: float
) -> list[T | OSError | SilentError]:
    """Return the answers to requests that were sent, each within *seconds* and some patience."""
    until, found = time.monotonic() + seconds + PATIENCE_S, list[T | OSError | SilentError]()
    for client, number in asked:
        try:
            got = client.channel.receive(number, client.rank, until)
        except SilentError as error:
            found.append(error)
        else:
            found.append(_value(got, answer))
    return found


def _value(got: Answer, answer: type[T]) -> T | OSError:
    if got.errno or got.what:
        return OSError(got.errno, got.what)
    return msgspec.json.decode(got.value, type=answer)


def result(found: T | OSError | SilentError) -> T:
    """Return an answer; raise what came instead."""
    if isinstance(found, OSError | SilentError):
        raise found
    return found


class Crew:
    """All partners of one examination; the first, the keeper, removes what it made when all others ended."""

    def __init__(self) -> None:
        self._channels: list[Channel] = []
        self._words: dict[int, IO[bytes]] = {}

    def hire(self, directory: Path, rank: int, *, remove: bool = False) -> Client:
        """Fork a partner that works in *directory*, and with *remove* removes it when it is dismissed."""
        requests, answers = os.pipe(), os.pipe()
        # A signal that came before it is ignored would let the child end as its parent does.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
        try:
            pid = os.fork()
            if not pid:
                made = directory if remove else None
                _become_partner(Scene(rank, directory, made=made), requests[0], answers[1], before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(requests[0])
        os.close(answers[1])
        return Client(self._added(Channel(_Process(pid), requests[1], answers[0])), rank)

    def _added(self, channel: Channel) -> Channel:
        self._channels.append(channel)
        return channel

    def start(self, argv: Sequence[str], count: int, environment: dict[str, str]) -> list[Client]:
        """Start a program that runs *count* partners, ranks from 0, which share its input and output."""
        words = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the program
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            env=environment,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        fds = os.dup(process.stdin.fileno()), os.dup(process.stdout.fileno())
        process.stdin.close()
        process.stdout.close()
        # It is reaped like a forked one.
        process.returncode = 0
        self._words[process.pid] = words
        channel = self._added(Channel(_Process(process.pid), *fds))
        return [Client(channel, rank) for rank in range(count)]

    def words(self, client: Client) -> str:
        """Return the last line that the program of *client* wrote to its error output."""
        words = self._words.get(client.channel.process.pid)
        if words is None:
            return ""
        words.seek(0)
        lines = words.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def dismiss(self, clients: Sequence[Client], seconds: float = _FAREWELL_S) -> None:
        """End the programs of *clients*; one that goes on after *seconds* is killed."""
        self._end(
            [one for one in self._channels if any(client.channel is one for client in clients)], seconds
        )

    def _end(self, channels: Sequence[Channel], seconds: float) -> None:
        for channel in channels:
            channel.close()
        until = time.monotonic() + seconds
        for channel in channels:
            channel.process.end(0 if channel.silent else max(0, until - time.monotonic()))
            self._channels.remove(channel)
            if (words := self._words.pop(channel.process.pid, None)) is not None:
                words.close()

    def end(self) -> None:
        """Dismiss everybody, the keeper last: the others may still make names in what it removes."""
        self._end(self._channels[1:], _FAREWELL_S)
        self._end(self._channels[:1], _REMOVAL_S)


def _become_partner(
    scene: Scene, requests: int, answers: int, signals: Iterable[int | signal.Signals]
) -> None:
    """Serve in a forked child, in which *signals* are blocked from then on; never return."""
    # Imported late: the partner's code needs this package, not the other way round.
    from hpc_search.doctor import partner

    code = 1
    try:
        for number in _IGNORED:
            # The end of the requests ends it: what was made must be removed first.
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        requests, answers = _above_standard(requests), _above_standard(answers)
        _close_others(requests, answers)
        with os.fdopen(requests, "rb") as lines:
            code = int(not partner.serve(scene, lines, answers))
    finally:
        os._exit(code)


def _above_standard(fd: int) -> int:
    """Return a descriptor above 2 for *fd*, which is lower where the standard ones were closed."""
    while fd < 3:
        fd = os.dup(fd)
    return fd


def _close_others(*kept: int) -> None:
    # An inherited pipe end of another partner would hide the end of its requests; and whoever reads
    # the output of `doctor` shall not wait for a partner that cannot be killed.
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nothing, fd)
    low = 3
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))
