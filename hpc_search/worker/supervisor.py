"""The loop of a worker: claim, run, record, until no work, no time, or a stop signal."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Final

from hpc_search import checkpoint
from hpc_search.errors import EXIT_DONE, EXIT_TEMPORARY, TemporaryError
from hpc_search.layout import Layout
from hpc_search.ledger import Claimed, Ledger, is_final, library_versions, this_process
from hpc_search.ledger.fold import fold
from hpc_search.ledger.proposing import NotProposedError, Proposed
from hpc_search.locks import LockUnavailableError
from hpc_search.planning import load_instance
from hpc_search.records.plan import Plan, PlannedTrial
from hpc_search.runners import messages
from hpc_search.steering.points import Points
from hpc_search.steering.proposer import Proposer
from hpc_search.steering.referee import Referee
from hpc_search.worker.allowance import Allowance
from hpc_search.worker.asking import ask
from hpc_search.worker.attempt import Attempt
from hpc_search.worker.breaker import NODE
from hpc_search.worker.context import AttemptContext
from hpc_search.worker.departure import AGAIN, Departure
from hpc_search.worker.events import Events
from hpc_search.worker.failures import Failures, note_memory
from hpc_search.worker.hosting import Hosting
from hpc_search.worker.log import Log
from hpc_search.worker.memory import KillCounter
from hpc_search.worker.opening import Opener
from hpc_search.worker.options import EXITS, NOT_PROPOSED, WorkerOptions
from hpc_search.worker.pace import Pace
from hpc_search.worker.rungs import Rungs
from hpc_search.worker.slice import SliceCheck, visible_device
from hpc_search.worker.verdict import PAUSED, TIME_LIMIT
from hpc_search.worker.walltime import Walltime

#: Marks wait at most this long for the next claim.
_FLUSH: Final = 0.5
#: A worker that looks this share of the lease too late was stopped, or a file server stood still.
_LATE: Final = 1 / 3
#: Claims in a row that gave nothing though there was something, and seconds between the later ones.
_FRUITLESS: Final = (3, 0.25)
#: Seconds between two looks whether the others have ended everything.
_LOOK: Final = 0.25
#: Processes that start trials, dead in a row, after which a worker leaves its node.
_HOST_DEATHS: Final = 3


class Supervisor:
    """One worker."""

    def __init__(self, layout: Layout, plan: Plan, options: WorkerOptions) -> None:
        """Join the run at *layout*."""
        # Trials run, and are started, in other directories than this one.
        layout = Layout(layout.root.resolve())
        self._layout = layout
        self._plan = plan
        self._options = options
        self._slice = SliceCheck(layout, options.token, options.seat, packed=options.packed)
        self._device = options.device or visible_device()
        self._directory = load_instance(layout).origin
        self._walltime = Walltime.of_this_job(begins=bool(options.token))
        me = this_process(options.token, options.seat, self._device)
        points = Points(layout, plan)
        self._proposer = Proposer(layout, plan)

        def trial_of(number: int) -> PlannedTrial:
            override = options.override
            return override if override is not None and override.number == number else points(number)

        self._ledger = Ledger(
            *(layout, plan, trial_of, me, library_versions()),
            proposals=points.proposals,
            proposer=self._propose,
            folds=options.folds,
        )
        self._referee = Referee.of(self._ledger) if options.only is None else None
        sent = bool(options.token) and (not options.seat or me.seat.startswith("slurm:"))
        refill, packed = options.refill, options.packed
        self._departure = Departure(layout, self._ledger, refill, from_submit=sent, packed=packed)
        self._staging = self._departure.staging
        self._log = Log(layout.log(self._ledger.id), plan.search.log_bytes)
        self._events = Events()
        self._stopping = ""
        self._stop_signal = 0
        referee = self._referee
        self._rungs = Rungs(referee, self._ledger, self._events, self._tick) if referee is not None else None
        self._queue: list[Claimed] = []
        self._last_beat = -float("inf")
        self._last_flush = 0.0
        self._last_look = _clocks()
        self._attempts = self._fruitless = self._host_deaths = 0
        self._running: int | None = None
        self._kills = KillCounter.of_this_process()
        self._node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        self._pace = Pace(layout, plan, self._ledger, self._walltime)
        self._opener = Opener(layout, plan, self._ledger, self._log, self._directory, options.import_limit)
        self._opener.any_packages = options.any_packages
        self._hosting = Hosting(plan, self._opener, self._events)
        self._allowance = Allowance(layout, plan, one=options.only is not None, few=options.limit is not None)
        self._failures = Failures(self._ledger, self._node)

    @property
    def amended(self) -> bool:
        """Whether it left because the run has a newer plan, by which the next worker shall go on."""
        return self._allowance.amended

    # -- the whole life
    def run(self) -> int:
        """Work until there is nothing to do; return the exit code."""
        self._events.on_signal(self._signalled)
        self._events.on_wake(self._woke)
        try:
            self._ledger.beat()
            if "SLURMD_NODENAME" in os.environ:
                self._ledger.note(NODE, self._node)
            note_memory(self._layout, self._ledger, self._kills)
            leaving, self._device = self._slice.check(self._ledger, self._device)
            if leaving:
                return EXITS[leaving]
            self._ledger.reconcile()
            self._ledger.resume_watch()
            self._ledger.recover()
            self._drop_checkpoints()
            fold(self._layout, self._ledger.me)
            reason = self._work()
            if self._leave(reason):
                return AGAIN
        except TemporaryError as error:
            return self._give_up(str(error))
        except OSError as error:
            with suppress(OSError, TemporaryError):
                self._ledger.settle()
            where = f"{error.filename}: " if error.filename else ""
            return self._give_up(f"{where}{error.strerror or error}; `submit` again when that is put right")
        finally:
            self._hosting.close()
            self._opener.close()
            self._events.close()
            self._log.close()
        if self._stop_signal == signal.SIGINT and not self._departure.is_task:
            # Only a user does that, to a worker in the foreground; a task is told so by `submit --set`.
            return 128 + signal.SIGINT
        return EXITS.get(reason, EXIT_DONE)

    def _drop_checkpoints(self) -> None:
        """Remove what workers left that were killed between an end record and its trial's checkpoints."""
        if self._plan.search.keep_checkpoints:
            return
        plan = self._plan
        with suppress(OSError):
            for number in map(int, filter(str.isdecimal, os.listdir(self._layout.checkpoints))):
                # What a refit trained is what `test` looks at.
                kept = number < plan.trials and plan.block_at(number).refit
                if not kept and is_final(self._layout, number):
                    checkpoint.Slots.remove(self._layout, number)

    def _give_up(self, words: str) -> int:
        """Say why; whoever comes next takes over what this worker holds."""
        sys.stderr.write(f"hpc_search worker {self._ledger.id}: {words}" + "\n")
        return EXIT_TEMPORARY

    def _work(self) -> str:
        while not self._stopping:
            if self._allowance.over():
                break
            if not self._queue:
                try:
                    self._queue = self._claim()
                except NotProposedError as error:
                    self._ledger.note(NOT_PROPOSED, str(error))
                    self._give_up(str(error))
                    return NOT_PROPOSED
            if not self._queue:
                if self._takes_no_more() or not self._finds_work():
                    break
                continue
            self._fruitless = 0
            self._staging.worked()
            number = self._queue[0].trial.number
            if not self._hosting.ready(number) and (leaving := self._open_host(number)):
                return leaving
            if self._queue and self._may_start(self._queue[0]) and (leaving := self._run_one()):
                return leaving
        if self._stopping:
            return self._stopping
        return self._allowance.reason(closed=self._ledger.closed)

    def _takes_no_more(self) -> bool:
        """Return whether nothing shall be claimed, whatever there is."""
        most = 1 if self._options.only is not None else self._options.limit
        return bool(self._stopping) or (most is not None and self._attempts >= most) or self._ledger.closed

    def _finds_work(self) -> bool:
        """Return whether to claim again where nothing could be claimed."""
        found = self._ledger.recover()
        # What is found may not be had: a worker that looks again and again beats, and hears its signals.
        self._fruitless += 1
        self._events.wait(min(self._tick(), _FRUITLESS[1] if self._fruitless > _FRUITLESS[0] else 0.0))
        if found > 0 or self._departure.opens_stage(self._attempts):
            return True
        if self._options.only is not None or self._options.limit is not None:
            return False
        return self._wait_for_others() or self._wait_for_more()

    def _wait_for_more(self) -> bool:
        """Stay where paused trials may go on soon, or a stage may open; return whether it is worth it."""
        most, wait = self._pace.longest(), self._events.wait
        if self._rungs is not None and self._rungs.wait(lambda: self._stopping, most, self._attempts):
            return True
        return self._staging.comes(lambda most: wait(min(most, self._tick())), lambda: self._stopping)

    def _wait_for_others(self) -> bool:
        """Stay a moment where an owner of trials is silent and may be dead; return whether it is worth it."""
        seconds = self._ledger.pause()
        if seconds <= 0:
            return False
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            self._events.wait(min(left, self._tick(), _LOOK))
            if not self._ledger.left():
                # The owner was slow, not dead: it ended the last of them.
                return False
        return not self._stopping

    def _leave(self, reason: str) -> bool:
        """Leave; return whether the leader of packed workers shall have the task run again."""
        # The next worker of this process is there for what is left.
        done = 0 if self.amended else self._attempts
        return self._departure.leave(self._queue, reason, self._stop_signal, self._hosting.close, done=done)

    # -- signals
    def _signalled(self, number: int) -> None:
        # A person who says it again has lost patience. SLURM says TERM several times, and `submit` says INT
        # again with each smaller number of workers; a packed worker hears it from its leader as well.
        patient = self._departure.is_task or self._options.packed
        if self._stopping and number in (signal.SIGINT, signal.SIGTERM) and not patient:
            self._events.kill_running()
        if number == signal.SIGTERM and self._departure.is_task and self._walltime.over():
            # A worker that stood still through its own margin can still ask for more time.
            self._stop(TIME_LIMIT, signal.SIGUSR2)
        self._stop(f"signal {signal.Signals(number).name}", number)

    def _stop(self, reason: str, number: int = 0) -> None:
        if not self._stopping:
            # Of a run that is paused no task is run again, whatever else is heard.
            paused = self._ledger.paused
            self._stopping, self._stop_signal = (PAUSED, 0) if paused else (reason, number)
            self._events.stop_running(self._stopping)

    # -- claiming
    def _claim(self) -> list[Claimed]:
        limit, only = self._options.limit, self._options.only
        if only is not None:
            return self._ledger.claim(1, only) if not self._attempts else []
        if limit is not None and self._attempts >= limit:
            return []
        if self._walltime.left() <= 0:
            self._stop(TIME_LIMIT, signal.SIGUSR2)
            return []
        if self._rungs is not None:
            return self._rungs.claim(lambda: self._stopping)
        return self._ledger.claim(self._pace.ahead() if limit is None else 1)

    def _propose(self, point: int) -> Proposed | None:
        """Have *point* proposed; None where the worker has to stop before it is."""
        return ask(self._proposer, point, self._events, self._tick, lambda: self._stopping)

    def _may_start(self, claimed: Claimed) -> bool:
        """Return whether the next trial shall run; a job without enough time for it ends here."""
        if self._options.only is None and not self._stopping and not self._pace.time_for(claimed):
            self._stop(f"too little time is left for trial {claimed.trial.number}", signal.SIGUSR2)
        return not self._stopping

    # -- one attempt
    def _open_host(self, number: int) -> str:
        """Start what starts trial *number*; return why the worker has to leave, "" where it goes on."""
        opened = self._hosting.open(number, self._tick, lambda: self._stopping)
        if not opened.broken or self._stopping:
            return self._stopping
        leaving, words = self._failures.broken(number, opened.broken, opened.fault)
        self._ledger.give_back(self._queue, detail=words)
        self._queue = []
        return leaving

    def _run_one(self) -> str:
        """Run the next trial; return why the worker has to leave, "" where it goes on."""
        host = self._hosting.host
        if host is None:
            return ""
        claimed = self._queue.pop(0)
        self._attempts += 1
        self._allowance.begin()
        attempt = Attempt(self._context(), claimed)
        self._running = claimed.trial.number
        attempt.run(host, self._tick, lambda: self._stopping)
        self._running = None
        self._pace.ended(attempt.seconds)
        if attempt.unkillable:
            words = f"trial {claimed.trial.number} survived SIGKILL; the slice that it holds is lost"
            self._failures.node_failed(words)
            return "slice lost"
        self._host_deaths = self._host_deaths + 1 if attempt.host_died else 0
        if attempt.host_died:
            self._hosting.close()
        if self._host_deaths >= _HOST_DEATHS and not self._stopping:
            words = f"the process that starts trials died {self._host_deaths} times in a row on {self._node}"
            self._failures.node_failed(words)
            return "node failed"
        return self._failures.after(attempt.end) if attempt.end is not None else ""

    def _context(self) -> AttemptContext:
        return AttemptContext(
            layout=self._layout,
            plan=self._plan,
            ledger=self._ledger,
            log=self._log,
            events=self._events,
            device=self._device,
            directory=self._directory,
            node=self._node,
            stall=self._pace.stall(),
            kills=self._kills,
            limit=self._walltime.usable,
            whole=self._pace.whole,
            survival=self._options.survival,
            started=self._started,
            foreign=self._slice.foreign,
            mended=self._opener.mended,
            to_first_report=self._options.to_first_report,
            testing=self._options.testing,
            referee=self._referee,
        )

    def _started(self) -> None:
        """Show the trial that started, and the ones that ended, in the index: not more often than needed."""
        now = time.monotonic()
        if now - self._last_flush > _FLUSH:
            with suppress(LockUnavailableError):
                # The marks wait on; only a claim needs the lock.
                self._ledger.flush()
            self._last_flush = now

    def _lose(self, numbers: list[int]) -> None:
        """Let go of trials that others have taken over."""
        self._queue = [claimed for claimed in self._queue if claimed.trial.number not in numbers]
        if self._running in numbers:
            self._events.stop_running(messages.SUPERSEDED)

    def _woke(self) -> None:
        """Read the own records again after a pause, before anything that waited is written.

        A job that was suspended for longer than the lease, or a machine that slept, may find its trials
        with others.
        """
        before, self._last_look = self._last_look, _clocks()
        search = self._plan.search
        gap = sum(self._last_look) - sum(before)
        if gap > search.heartbeat + search.lease * _LATE:
            self._ledger.note("late", f"{gap:.1f} s between two looks at what happened")
            self._last_beat = time.monotonic()
            self._lose(self._ledger.beat())

    def _tick(self) -> float:
        """Do what is due; return the seconds until the next time."""
        now = time.monotonic()
        interval = self._plan.search.heartbeat
        if now - self._last_beat >= interval:
            self._last_beat = now
            self._lose(self._ledger.beat())
        if self._ledger.waiting and now - self._last_flush > _FLUSH:
            # A long trial does not keep the ones before it out of the index.
            self._started()
        if self._ledger.paused:
            self._stop(PAUSED)
        left = self._walltime.left()
        if left <= 0:
            self._stop(TIME_LIMIT, signal.SIGUSR2)
            left = self._walltime.left_to_kill()
            if left <= 0:
                self._events.kill_running()
                left = interval
        soon = _FLUSH if self._ledger.waiting else interval
        return max(0.01, min(interval - (now - self._last_beat), left, soon))


def _clocks() -> tuple[float, float]:
    """Return the monotonic clock, and the time that this machine slept through."""
    now = time.monotonic()
    return now, max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - now)
