"""One attempt at one trial, from its process's start to its end record."""

from __future__ import annotations

import errno
import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from hpc_search import checkpoint
from hpc_search.errors import DamagedError, UsageError
from hpc_search.ledger import Claimed
from hpc_search.records import journal as lines
from hpc_search.runners import command, messages, processes
from hpc_search.strategies.pruning import Schedule
from hpc_search.trial import Spec
from hpc_search.worker import verdict
from hpc_search.worker.context import AttemptContext
from hpc_search.worker.ending import Ended, end_record
from hpc_search.worker.host import Host, Process
from hpc_search.worker.intake import Intake

#: Seconds between TERM and KILL of a hung trial or one that others ended, and between its result and its end.
_GRACE: Final = 10.0
#: Seconds between TERM and KILL of a program that is paused or pruned.
_TO_SAVE: Final = 120.0
#: Why exec refuses a command for what it is.
_OF_COMMANDS: Final = frozenset(
    {
        *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ENOTDIR, errno.EISDIR),
        *(errno.E2BIG, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL),
    }
)
#: Pieces of 64 KiB that are read after the end.
_DRAIN: Final = 64
#: Seconds between two looks at a program's report file.
_REPORT_POLL: Final = 1.0


class _Begun(NamedTuple):
    """Wall-clock and monotonic time, place in the log and count of kills at the start."""

    wall: float
    clock: float
    log: int
    kills: int | None


class Attempt:
    """Runs a claimed trial once."""

    def __init__(self, context: AttemptContext, claimed: Claimed) -> None:
        """Prepare the attempt at *claimed*."""
        self._context = context
        self._claimed = claimed
        self._search = context.plan.search
        self._block = context.plan.block_at(claimed.trial.number)
        self._part = context.plan.part(self._block)
        self._process: Process | None = None
        self._intake = Intake(context, claimed, self.stop, self._answer)
        self._status: int | None = None
        self._ended = False
        self._stalled = False
        self._stop_reason = ""
        self._kill_at = self._killed_at = self._stopped_at = math.inf
        self._report_at = 0.0
        #: Whether the process that forks trials is gone; whether the trial did not die by SIGKILL.
        self.host_died = self.unkillable = False
        #: The end record, once there is one.
        self.end: lines.End | None = None
        self.seconds = 0.0
        params, before, retry = claimed.trial.params, claimed.before, self._search.retry
        self._rung = verdict.rung(before, retry)
        self._effective, self._accumulation = verdict.effective(params, before, retry)

    # -- what the event loop calls
    def stop(self, reason: str) -> None:
        """Ask the trial to stop at its next step boundary."""
        self._stop_reason = self._stop_reason or reason
        now = time.monotonic()
        self._stopped_at = min(self._stopped_at, now)
        if reason == messages.SUPERSEDED:
            # Nothing of it is wanted: one that does not come to a step, or ignores TERM, is not waited for.
            self._kill_at = min(self._kill_at, now + _GRACE)
        process = self._process
        if process is None:
            return
        if process.channel is not None:
            with suppress(OSError):
                process.channel.sendall(messages.encode("stop", {"reason": reason}))
        elif process.pid:
            processes.kill_group(process.pid, signal.SIGTERM)

    def _answer(self, verdict: lines.Verdict) -> None:
        """Tell the trial what becomes of it; a program only hears SIGTERM, and has some time to save."""
        process = self._process
        if process is not None and process.channel is not None:
            decision = "continue" if verdict.decision == "promote" else verdict.decision
            with suppress(OSError):
                process.channel.sendall(messages.encode("verdict", {"decision": decision}))
        elif verdict.decision in ("pause", "prune"):
            self._kill_at = min(self._kill_at, time.monotonic() + _TO_SAVE)
            self.kill(signal.SIGTERM)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill the trial's process group."""
        if self._process is not None and not self._process.pid:
            # Who was asked to start it does not answer, and ends with all that it started.
            self.host_died = self._ended = True
        elif self._process is not None:
            processes.kill_group(self._process.pid, number)
            if number == signal.SIGKILL:
                self._killed_at = min(self._killed_at, time.monotonic())

    def template_message(self, message: dict[str, Any]) -> None:
        """Take the trial's pid and end from its parent."""
        if self._process is None:
            return
        if message["kind"] == "spawned":
            self._process.pid = message["pid"]
            self._intake.alive_at = time.monotonic()
            self._context.ledger.start(self._claimed, message["pid"], self._context.log.start)
            self._context.started()
            if self._stop_reason and self._process.channel is None:
                # It came before there was a program to tell.
                self.kill(signal.SIGTERM)
        elif message["kind"] == "unstarted":
            self._not_started(OSError(message["errno"], message["words"], message["filename"]))
        elif message["kind"] == "exited" and message["pid"] == self._process.pid:
            self._status = message["status"]
            self._ended = True

    def template_died(self) -> None:
        """The trial ended with the template."""
        self.host_died = True
        self._ended = True
        self.kill()

    # -- the life of the attempt
    def run(self, host: Host, tick: Callable[[], float], stopping: Callable[[], str]) -> None:
        """Run it and write its end record."""
        context = self._context
        begun = _Begun(time.time(), time.monotonic(), context.log.begin(), context.kills.read())
        context.events.running = self
        try:
            self._start(host)
            if stopping():
                self.stop(stopping())
            while not self._ended:
                context.events.wait(min(tick(), self._due()))
                self._check()
            self._drain()
            context.events.settle(stopping, verdict.stop_may_come(self._status, self._intake.message))
        except BaseException:
            self.kill()
            raise
        finally:
            context.events.running = None
            self._close()
        self.seconds = time.monotonic() - begun.clock
        self._record(begun, stopping())

    def _start(self, host: Host) -> None:
        context = self._context
        number = self._claimed.trial.number
        slots = checkpoint.Slots(
            context.layout, context.plan.run_id, number, self._claimed.attempt, context.ledger.id
        )
        slots.prepare()
        try:
            self._process = host.spawn(self._spec())
        except (BrokenPipeError, ConnectionError):
            # Whoever starts the trials died between two of them.
            self.template_died()
            return
        except (UsageError, DamagedError) as error:
            self._not_started(error)
            return
        # While it starts, the end of the trial before it becomes durable.
        context.ledger.settle()
        events = context.events
        events.watch(self._process.output, self._read_output)
        if self._process.channel is not None:
            events.watch(self._process.channel, self._read_messages)

    def _not_started(self, error: OSError | UsageError | DamagedError) -> None:
        self._ended = True
        command = self._part.trial.command
        if not command or (isinstance(error, OSError) and error.errno not in _OF_COMMANDS):
            # The node or its file system: nothing that the trial could help.
            self.host_died = True
            return
        words = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        program = getattr(error, "filename", None) or command[0]
        text = f"{os.fsdecode(program)!r} cannot be started: {words}"
        self._intake.message = {"state": "failed", "cause": "error", "detail": text}

    def _spec(self) -> Spec:
        context, trial, search = self._context, self._claimed.trial, self._search
        return Spec(
            root=str(context.layout.root),
            run_id=context.plan.run_id,
            search_id=context.plan.search_id,
            worker=context.ledger.id,
            number=trial.number,
            point=trial.point,
            fold=trial.fold,
            seed=trial.seed,
            params={**trial.params, **self._effective},
            attempt=self._claimed.attempt,
            metric=self._part.metric.name,
            others=tuple(one.name for one in self._part.objectives[1:]),
            callable=self._part.trial.callable,
            sampled=self._sampled(),
            implied=self._block.space.implied,
            accumulation=self._accumulation,
            rung=self._rung,
            device=context.device,
            threads=search.threads,
            save_interval=search.save_interval,
            save_in_background=search.save_in_background,
            keep_checkpoints=search.keep_checkpoints,
            directory=context.directory,
            refit=self._block.refit,
            testing=context.testing,
            schedule=self._schedule(),
        )

    def _sampled(self) -> tuple[str, ...]:
        """Return the parameters that the trial has to read: what only tests need not know them."""
        if self._part.trial.command or self._context.testing:
            return ()
        return self._block.space.required(self._claimed.trial.params)

    def _schedule(self) -> Schedule:
        """Return after which reports the trial waits for a verdict: none where it is not compared."""
        referee = self._context.referee
        if referee is None or self._block.refit:
            return Schedule()
        return referee.schedule(self._claimed.trial.number)

    # -- what the trial says
    def _read_output(self) -> None:
        if self._process is None:
            return
        with suppress(BlockingIOError):
            data = os.read(self._process.output, 1 << 16)
            if not data:
                self._context.events.forget(self._process.output)
                return
            self._context.log.write(data)
            if self._process.channel is None:
                self._intake.alive_at = time.monotonic()

    def _read_messages(self) -> None:
        channel = self._process.channel if self._process is not None else None
        if channel is None:
            return
        try:
            data = channel.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self._context.events.forget(channel)
            return
        leaving = self._intake.leaving
        self._intake.feed(data)
        if self._intake.damaged:
            self._kill_at = 0.0
        elif self._intake.leaving and not leaving:
            self._kill_at = time.monotonic() + _GRACE

    # -- time
    @property
    def _unstarted(self) -> bool:
        """Whether it was asked for, and nobody has said that it runs."""
        return self._process is not None and not self._process.pid

    @property
    def _silence(self) -> float:
        """How many seconds it may say nothing: starting a process takes its time, whatever a trial may."""
        stall = self._context.stall
        return max(stall, _GRACE) if self._unstarted else stall

    def _due(self) -> float:
        now = time.monotonic()
        due = min(self._kill_at, self._killed_at + self._context.survival) - now
        if self._unstarted:
            due = min(due, self._stopped_at + _GRACE - now)
        if not self._intake.message and not self._stalled:
            due = min(due, self._intake.alive_at + self._silence - now)
        if self._process is not None and self._process.report is not None:
            due = min(due, self._report_at - now)
        return max(0.0, due)

    def _check(self) -> None:
        now, stall = time.monotonic(), self._silence
        if now >= self._killed_at + self._context.survival and not self._ended:
            # It sleeps where no signal reaches it: in a driver, or on a dead mount. Its slice is lost.
            self.unkillable = self._ended = True
        if now >= self._kill_at or (self._unstarted and now >= self._stopped_at + _GRACE):
            self.kill()
            self._kill_at = now + _GRACE
        if now >= self._intake.alive_at + stall and not self._intake.message and not self._stalled:
            self._stalled = not self._unstarted
            self.kill(signal.SIGTERM)
            # The trial notes TERM without dying, so that only KILL ends one that hangs.
            self._kill_at = now + min(_GRACE, stall)
        if now >= self._report_at and self._process is not None and self._process.report is not None:
            self._report_at = now + _REPORT_POLL
            self._intake.read_report(self._process.report)

    # -- the end
    def _drain(self) -> None:
        process = self._process
        if process is None:
            return
        if process.channel is not None:
            process.channel.setblocking(False)
            with suppress(BlockingIOError, OSError):
                while data := process.channel.recv(1 << 20):
                    self._intake.feed(data)
        with suppress(BlockingIOError, OSError):
            for _ in range(_DRAIN):
                # A process that the trial left behind may print for ever.
                if not (data := os.read(process.output, 1 << 16)):
                    break
                self._context.log.write(data)
        if process.report is not None:
            self._intake.read_report(process.report, running=False)
            told = self._intake.verdict
            if told is not None and told.decision in ("pause", "prune"):
                # Whatever it made of the signal.
                self._intake.message = command.told(process.report, told.decision)
            elif self._status == 0:
                wanted = [one.name for one in self._context.plan.objectives_of(self._block)]
                self._intake.message = command.ended(
                    process.report, process.metric_file, wanted, needed=not self._block.refit
                )

    def _close(self) -> None:
        process = self._process
        if process is None:
            return
        self._context.events.forget(process.output)
        os.close(process.output)
        if process.channel is not None:
            self._context.events.forget(process.channel)
            process.channel.close()

    def _record(self, begun: _Begun, stopping: str) -> None:
        context = self._context
        ended = Ended(
            status=self._status,
            stopping=stopping or self._stop_reason,
            stalled=self._stalled,
            lost=self.host_died,
            unkillable=self.unkillable,
            kills=begun.kills,
            started=begun.wall,
            seconds=self.seconds,
            log_start=begun.log,
            effective=self._effective,
            accumulation=self._accumulation,
        )
        self.end = end_record(context, self._claimed, self._intake, ended)
        context.ledger.finish_soon(self.end, self._drop_checkpoints)
        if self.end.state != "done":
            # What follows from a failure is told to others.
            context.ledger.settle()

    def _drop_checkpoints(self) -> None:
        state = self.end.state if self.end is not None else ""
        # What a refit trained is what `test` looks at.
        kept = self._search.keep_checkpoints or (bool(self._block.refit) and state == "done")
        if state in lines.FINAL and not kept:
            checkpoint.Slots.remove(self._context.layout, self._claimed.trial.number)
