"""One attempt at one trial, from its process's start to its end record."""

from __future__ import annotations

import errno
import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hpc_search import checkpoint, durable
from hpc_search.errors import UsageError
from hpc_search.ledger import Claimed
from hpc_search.ledger.samples import append_scores
from hpc_search.records import journal as lines
from hpc_search.runners import command, messages, processes
from hpc_search.trial import Spec
from hpc_search.worker import verdict
from hpc_search.worker.context import AttemptContext
from hpc_search.worker.host import Host, Process

#: Seconds between TERM and KILL of a hung trial, and between its result and its end.
_GRACE: Final = 10.0
#: The node has no room for another process: nothing that the trial could help.
_EXHAUSTED: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
#: Why a trial stops at its first report where only that was asked for.
CHECKED: Final = "checked"
#: Pieces of 64 KiB that are read after the end.
_DRAIN: Final = 64
#: Seconds between two looks at a program's report file.
_REPORT_POLL: Final = 1.0


class Attempt:
    """Runs a claimed trial once."""

    def __init__(self, context: AttemptContext, claimed: Claimed) -> None:
        """Prepare the attempt at *claimed*."""
        self._context = context
        self._claimed = claimed
        self._search = context.plan.search
        self._process: Process | None = None
        self._inbox = messages.Inbox()
        self._message: dict[str, Any] = {}
        self._samples: tuple[list[Any], list[float]] | None = None
        self._status: int | None = None
        self._ended = False
        self._stalled = False
        self._stop_reason = ""
        self._step = 0
        self._alive_at = time.monotonic()
        self._kill_at = math.inf
        self._report_at = 0.0
        self._report_lines = self._report_size = 0
        self.host_died = False
        self.seconds = 0.0
        self._effective, self._accumulation = verdict.effective(
            claimed.trial.params, claimed.before, self._search.retry
        )

    # -- what the event loop calls
    def stop(self, reason: str) -> None:
        """Ask the trial to stop at its next step boundary."""
        self._stop_reason = self._stop_reason or reason
        process = self._process
        if process is None:
            return
        if process.channel is not None:
            with suppress(OSError):
                process.channel.sendall(messages.encode("stop", {"reason": reason}))
        elif process.pid:
            processes.kill_group(process.pid, signal.SIGTERM)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill the trial's process group."""
        if self._process is not None and self._process.pid:
            processes.kill_group(self._process.pid, number)

    def template_message(self, message: dict[str, Any]) -> None:
        """Take the trial's pid and end from its parent."""
        if self._process is None:
            return
        if message["kind"] == "spawned":
            self._process.pid = message["pid"]
            self._context.ledger.start(self._claimed, message["pid"], self._context.log.start)
            self._context.started()
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
        started, clock = time.time(), time.monotonic()
        log_start = context.log.begin()
        context.events.running = self
        try:
            self._start(host)
            if stopping():
                self.stop(stopping())
            while not self._ended:
                context.events.wait(min(tick(), self._due()))
                self._check()
            self._drain()
            context.events.settle(stopping, verdict.stop_may_come(self._status, self._message))
        except BaseException:
            self.kill()
            raise
        finally:
            context.events.running = None
            self._close()
        self.seconds = time.monotonic() - clock
        self._record(started, log_start, stopping())

    def _start(self, host: Host) -> None:
        context = self._context
        number = self._claimed.trial.number
        slots = checkpoint.Slots(
            context.layout, context.plan.run_id, number, self._claimed.attempt, context.ledger.id
        )
        slots.prepare()
        try:
            self._process = host.spawn(self._spec())
        except (OSError, UsageError) as error:
            self._not_started(error)
            return
        events = context.events
        events.watch(self._process.output, self._read_output)
        if self._process.channel is not None:
            events.watch(self._process.channel, self._read_messages)
        if self._process.popen is not None:
            context.ledger.start(self._claimed, self._process.pid, context.log.start)
            context.started()
            self._pidfd = os.pidfd_open(self._process.pid)
            events.watch(self._pidfd, self._popen_ended)

    def _not_started(self, error: OSError | UsageError) -> None:
        number = error.errno if isinstance(error, OSError) else None
        if number in durable.NO_SPACE:
            raise error
        self._ended = True
        command = self._search.trial.command
        if not command or number in _EXHAUSTED:
            # The template died between two trials, or the node has no room: not the trial's fault.
            self.host_died = True
            return
        words = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        program = getattr(error, "filename", None) or command[0]
        text = f"{os.fsdecode(program)!r} cannot be started: {words}"
        self._message = {"state": "failed", "cause": "error", "detail": text}

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
            metric=search.metric.name,
            callable=search.trial.callable,
            sampled=search.space.varied if not search.trial.command else (),
            accumulation=self._accumulation,
            device=context.device,
            threads=search.threads,
            save_interval=search.save_interval,
            keep_checkpoints=search.keep_checkpoints,
            code=str(context.layout.code) if context.plan.code_digest else "",
            directory=context.directory,
        )

    def _popen_ended(self) -> None:
        if self._process is None or self._process.popen is None:
            return
        self._context.events.forget(self._pidfd)
        os.close(self._pidfd)
        self._status = self._process.popen.wait()
        processes.kill_group(self._process.pid)
        self._ended = True

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
                self._alive_at = time.monotonic()

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
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        try:
            for message in self._inbox.feed(data):
                self._take(message)
        except messages.BrokenStreamError:
            text = "the line to the supervisor was damaged: did a process that the trial forked write to it?"
            self._message = self._message or {"state": "failed", "cause": "error", "detail": text}
            self._kill_at = 0.0

    def _take(self, message: dict[str, Any]) -> None:
        self._alive_at = time.monotonic()
        number, attempt = self._claimed.trial.number, self._claimed.attempt
        kind = message["kind"]
        if kind == "report":
            self._context.ledger.report(number, attempt, message["step"], message["metrics"])
            if self._context.to_first_report:
                self.stop(CHECKED)
        elif kind == "saved":
            self._step = max(self._step, message["step"])
            record = lines.Checkpoint(
                trial=number,
                attempt=attempt,
                step=message["step"],
                slot=message["slot"],
                bytes=message["bytes"],
                seconds=round(message["seconds"], 4),
            )
            self._context.ledger.journal.append(record)
        elif kind == "restored":
            self._step = max(self._step, message["step"])
            if message["step"]:
                note = lines.Note(
                    event="resumed", trial=number, attempt=attempt, text=f"step {message['step']}"
                )
                self._context.ledger.journal.append(note)
            for skipped in message["skipped"]:
                self._context.ledger.note("checkpoint skipped", skipped)
        elif kind == "unsaved":
            text = f"trial {number}, step {message['step']}: {message['detail']}"
            self._context.ledger.note("checkpoint not saved", text)
        elif kind == "samples":
            self._samples = (message["ids"], message["scores"])
        elif kind == "end":
            self._message = message
            self._kill_at = time.monotonic() + _GRACE

    # -- time
    def _due(self) -> float:
        now = time.monotonic()
        due = self._kill_at - now
        if not self._message and not self._stalled:
            due = min(due, self._alive_at + self._context.stall - now)
        if self._process is not None and self._process.report is not None:
            due = min(due, self._report_at - now)
        return max(0.0, due)

    def _check(self) -> None:
        now = time.monotonic()
        if now >= self._kill_at:
            self.kill()
            self._kill_at = now + _GRACE
        if now >= self._alive_at + self._context.stall and not self._message and not self._stalled:
            self._stalled = True
            self.kill(signal.SIGTERM)
            # The trial notes TERM without dying, so that only KILL ends one that hangs.
            self._kill_at = now + min(_GRACE, self._context.stall)
        if now >= self._report_at and self._process is not None and self._process.report is not None:
            self._report_at = now + _REPORT_POLL
            self._read_report(self._process.report)

    def _read_report(self, path: Path) -> None:
        size = path.stat().st_size if path.exists() else 0
        if size == self._report_size:
            return
        self._report_size = size
        found, _ = command.read_report(path)
        for line in found[self._report_lines :]:
            self._alive_at = time.monotonic()
            step, metrics = command.reported(line)
            if step is not None and metrics:
                trial = self._claimed.trial
                self._context.ledger.report(trial.number, self._claimed.attempt, step, metrics)
        self._report_lines = max(self._report_lines, len(found))

    # -- the end
    def _drain(self) -> None:
        process = self._process
        if process is None:
            return
        if process.channel is not None:
            process.channel.setblocking(False)
            with suppress(BlockingIOError, OSError):
                while data := process.channel.recv(1 << 20):
                    self._feed(data)
        with suppress(BlockingIOError, OSError):
            for _ in range(_DRAIN):
                # A process that the trial left behind may print for ever.
                self._context.log.write(os.read(process.output, 1 << 16))
        if process.report is not None:
            self._read_report(process.report)
            if self._status == 0:
                metric = self._search.metric.name
                self._message = command.ended(process.report, process.metric_file, metric)

    def _close(self) -> None:
        process = self._process
        if process is None:
            return
        self._context.events.forget(process.output)
        os.close(process.output)
        if process.channel is not None:
            self._context.events.forget(process.channel)
            process.channel.close()

    def _record(self, started: float, log_start: int, stopping: str) -> None:
        context, trial = self._context, self._claimed.trial
        seen = verdict.Observed(
            message=self._message,
            status=self._status,
            stopping=stopping or self._stop_reason,
            stalled=self._stalled,
            step=self._step,
            lost=self.host_died,
        )
        judged = verdict.judge(seen, self._claimed.before, self._search.retry, trial.params)
        done = judged.state == "done"
        end = lines.End(
            trial=trial.number,
            attempt=self._claimed.attempt,
            state=judged.state,
            cause=judged.cause,
            detail=judged.detail,
            params=trial.params,
            point=trial.point,
            fold=trial.fold,
            seed=trial.seed,
            block=trial.block,
            value=self._message.get("value") if done else None,
            metrics=self._message.get("metrics", {}) if judged.state in ("done", "pruned") else {},
            effective=self._effective,
            accumulation=self._accumulation,
            step=self._step,
            seconds=round(self.seconds, 4),
            started=round(started, 3),
            node=context.node,
            device=context.device,
            log=(log_start, context.log.size()),
            samples=self._keep_samples() if done else None,
        )
        context.ledger.finish(end)
        if judged.state in lines.FINAL and not self._search.keep_checkpoints:
            checkpoint.Slots.remove(context.layout, trial.number)

    def _keep_samples(self) -> tuple[int, int, int, str] | None:
        if self._samples is None:
            return None
        context, number = self._context, self._claimed.trial.number
        return append_scores(context.layout, context.ledger.id, number, self._claimed.attempt, *self._samples)
