"""The loop of a worker: claim, run, record, until no work, no time, or a stop signal."""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from hpc_search import checkpoint, durable
from hpc_search.errors import EXIT_DONE, EXIT_FAILED, EXIT_TEMPORARY, TemporaryError
from hpc_search.layout import Layout
from hpc_search.ledger import Claimed, Ledger, library_versions, read_entry, this_process
from hpc_search.ledger.fold import fold
from hpc_search.locks import LockUnavailableError
from hpc_search.planning import Numbering, load_instance
from hpc_search.planning.code import problem as code_problem
from hpc_search.records.journal import headline
from hpc_search.records.plan import Plan, PlannedTrial
from hpc_search.runners import messages
from hpc_search.worker.attempt import Attempt
from hpc_search.worker.context import AttemptContext
from hpc_search.worker.events import Events
from hpc_search.worker.host import CommandHost, FreshHost, Host, TemplateHost
from hpc_search.worker.log import Log
from hpc_search.worker.walltime import Walltime, requeue_this_job

#: Trials are claimed one at a time until this many durations are known.
_KNOWN_ENDS: Final = 3
#: Seconds of work that a worker claims ahead.
_AHEAD: Final = 10.0
#: Trials that it claims ahead at most: each heartbeat looks at every one.
_MOST_AHEAD: Final = 256
#: Marks wait at most this long for the next claim.
_FLUSH: Final = 0.5
#: Seconds between two looks at how many workers there are.
_CENSUS: Final = 10.0
#: A task asks SLURM to run it again at most this often.
_REQUEUES: Final = 50
#: Silence after which a trial is hung: this, or this many medians.
_STALL: Final = (1800.0, 5.0)
_BROKEN: Final = "the trial's code cannot be imported"
_BROKEN_HINT: Final = (
    "  next: install what is missing on this machine and `submit` again; or correct the code and plan it\n"
    "  into another directory (`plan CONFIG --run DIR`): this run keeps the code that it was planned with"
)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker is told: its submission, its seat, its device, and how many trials to run at most.

    ``only`` runs one trial and no other, with the parameters of ``override`` where that is given.
    """

    token: str = ""
    seat: str = ""
    device: str = ""
    limit: int | None = None
    only: int | None = None
    override: PlannedTrial | None = None
    #: Stop the trial at its first report (``plan --check``).
    to_first_report: bool = False


class Supervisor:
    """One worker."""

    def __init__(self, layout: Layout, plan: Plan, options: WorkerOptions) -> None:
        """Join the run at *layout*."""
        self._layout = layout
        self._plan = plan
        self._options = options
        self._device = options.device or visible_device()
        instance = load_instance(layout)
        self._directory = instance.origin
        self._walltime = Walltime.of_this_job(begins=bool(options.token))
        me = this_process(options.token, options.seat, self._device)
        numbering = Numbering(plan)

        def trial_of(number: int) -> PlannedTrial:
            override = options.override
            return override if override is not None and override.number == number else numbering(number)

        self._ledger = Ledger(layout, plan, trial_of, me, library_versions())
        self._log = Log(layout.log(self._ledger.id), plan.search.log_bytes)
        self._events = Events()
        self._stopping = ""
        self._stop_signal = 0
        self._queue: list[Claimed] = []
        self._durations: list[float] = []
        self._census = (0.0, 1)
        self._last_beat = -float("inf")
        self._last_flush = 0.0
        self._attempts = 0
        self._running: int | None = None
        self._host: Host | None = None

    # -- the whole life
    def run(self) -> int:
        """Work until there is nothing to do; return the exit code."""
        self._events.on_signal(self._signalled)
        try:
            self._ledger.beat()
            self._ledger.reconcile()
            self._ledger.recover()
            self._drop_checkpoints()
            fold(self._layout, self._ledger.me)
            reason = self._work()
            self._leave(reason)
        except TemporaryError as error:
            return self._give_up(str(error))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return self._give_up(f"{where}{error.strerror or error}; `submit` again when that is put right")
        finally:
            if self._host is not None:
                self._host.close()
            self._events.close()
            self._log.close()
        if self._stop_signal == signal.SIGINT:
            # Only a user does that, to a worker in the foreground.
            return 128 + signal.SIGINT
        return EXIT_FAILED if reason == "broken" else EXIT_DONE

    def _drop_checkpoints(self) -> None:
        """Remove what workers left that were killed between an end record and its trial's checkpoints."""
        if self._plan.search.keep_checkpoints:
            return
        with suppress(OSError):
            for name in os.listdir(self._layout.checkpoints):
                entry = read_entry(self._layout, int(name)) if name.isdecimal() else None
                if entry is not None and entry.final:
                    checkpoint.Slots.remove(self._layout, int(name))

    def _give_up(self, words: str) -> int:
        """Say why; whoever comes next takes over what this worker holds."""
        sys.stderr.write(f"hpc_search worker {self._ledger.id}: {words}" + "\n")
        return EXIT_TEMPORARY

    def _work(self) -> str:
        while not self._stopping:
            if not self._queue:
                self._queue = self._claim()
            if not self._queue:
                if self._ledger.recover() == 0:
                    break
                continue
            if self._host is None and not self._open_host():
                return self._reason("broken")
            if self._queue and not self._reason(""):
                self._run_one(self._queue.pop(0))
        if self._stopping:
            return self._stopping
        return "stopped" if self._layout.stop.exists() else "no work left"

    def _leave(self, reason: str) -> None:
        self._ledger.give_back(self._queue)
        self._queue = []
        self._ledger.flush()
        trials, finals = self._ledger.counts()
        if not self._stopping and finals < trials and not self._ledger.anything_open():
            # Nothing is left and yet not all have ended: the index has lost an end record.
            self._ledger.reconcile()
        self._ledger.exit(reason)
        if not self._is_task:
            return
        if self._stop_signal == signal.SIGTERM:
            # An exit 0 within the grace would mean COMPLETED and no requeue on older SLURM.
            self._sleep_until_killed()
        if self._stop_signal in (signal.SIGUSR1, signal.SIGUSR2):
            self._requeue(finals < trials)

    @property
    def _is_task(self) -> bool:
        """Whether this is a task of an array of ours; a local worker inside of a job has a seat."""
        return bool(self._options.token) and not self._options.seat and "SLURM_JOB_ID" in os.environ

    def _sleep_until_killed(self) -> None:
        if self._host is not None:
            self._host.close()
            self._host = None
        while True:
            time.sleep(3600)

    def _requeue(self, work_left: bool) -> None:
        restarts = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        if work_left and restarts < _REQUEUES and not self._layout.stop.exists():
            requeue_this_job()

    # -- signals
    def _signalled(self, number: int) -> None:
        # SLURM says TERM several times; a person who says it again has lost patience.
        again = (signal.SIGINT,) if self._is_task else (signal.SIGINT, signal.SIGTERM)
        if self._stopping and number in again:
            self._events.kill_running()
        self._stop(f"signal {signal.Signals(number).name}", number)

    def _stop(self, reason: str, number: int = 0) -> None:
        if not self._stopping:
            self._stopping = reason
            self._stop_signal = number
            self._events.stop_running(reason)

    # -- claiming
    def _claim(self) -> list[Claimed]:
        limit, only = self._options.limit, self._options.only
        if only is not None:
            return self._ledger.claim(1, only) if not self._attempts else []
        if limit is not None and self._attempts >= limit:
            return []
        if self._walltime.left() <= 0:
            self._stop("the time limit is near", signal.SIGUSR2)
            return []
        ahead = self._ahead() if limit is None else 1
        return self._ledger.claim(ahead)

    def _ahead(self) -> int:
        """Return how many trials to claim: 10 s of work, never more than half of a fair share."""
        if len(self._durations) < _KNOWN_ENDS:
            return 1
        now = time.monotonic()
        if now - self._census[0] > _CENSUS:
            with suppress(OSError):
                self._census = (now, max(1, len(os.listdir(self._layout.workers))))
        pending = self._ledger.pending_estimate()
        median = max(statistics.median(self._durations[-51:]), 1e-4)
        return int(max(1, min(_AHEAD / median, pending / (2 * self._census[1]), _MOST_AHEAD)))

    def _reason(self, otherwise: str) -> str:
        return self._stopping or otherwise

    # -- the host
    def _open_host(self) -> bool:
        search = self._plan.search
        if search.trial.command:
            report = self._layout.report_file(self._ledger.id)
            self._host = CommandHost(search.trial.command, report, search.trial.metric_file)
            return True
        damaged = self._plan.code_digest and code_problem(self._layout.code, self._plan.code_digest)
        if damaged:
            self._broken(damaged)
            return False
        # One that dies once may have been killed with another step of the job.
        answer = self._open_template() or (None if self._stopping else self._open_template())
        if not isinstance(self._host, TemplateHost) or answer is None:
            if not self._reason(""):
                self._broken("the process that imports the trial's code died")
            return False
        if answer["kind"] == "broken":
            self._broken(str(answer["detail"]))
            return False
        self._ledger.note("environment", json.dumps(answer["versions"]))
        if answer["doubt"]:
            self._ledger.note("fork refused", answer["doubt"])
            sys.stderr.write(f"hpc_search: a fresh process a trial, because {answer['doubt']}" + "\n")
            self._host.close()
            self._host = FreshHost()
        else:
            self._events.watch_template(self._host.socket, self._host.inbox)
        return True

    def _open_template(self) -> dict[str, Any] | None:
        """Start the template; return its answer, None where it died before it could give one."""
        search = self._plan.search
        code = str(self._layout.code) if self._plan.code_digest else ""
        host = TemplateHost(self._log.fd, search.threads, self._directory)
        self._host = host
        host.prepare(search.trial.callable, code)
        answer = self._events.first_message(host.socket, host.inbox, self._tick, lambda: self._stopping)
        if answer is None:
            host.close()
            self._host = None
        return answer

    def _broken(self, detail: str) -> None:
        """Stop the whole search: every other trial would fail in the same way."""
        last = headline(detail)
        text = f"{_BROKEN}: {last}\n{_BROKEN_HINT}\n{detail if last != detail else ''}"
        self._ledger.note("broken", text)
        sys.stderr.write(f"hpc_search: {text.rstrip()}" + "\n")
        self._ledger.give_back(self._queue, detail=f"{_BROKEN}: {last}")
        self._queue = []
        durable.publish(self._layout.stop, text.encode())

    # -- one attempt
    def _run_one(self, claimed: Claimed) -> None:
        self._attempts += 1
        context = AttemptContext(
            layout=self._layout,
            plan=self._plan,
            ledger=self._ledger,
            log=self._log,
            events=self._events,
            device=self._device,
            directory=self._directory,
            node=socket.gethostname(),
            stall=self._stall(),
            started=self._started,
            to_first_report=self._options.to_first_report,
        )
        attempt = Attempt(context, claimed)
        if self._host is None:
            return
        self._running = claimed.trial.number
        attempt.run(self._host, self._tick, lambda: self._stopping)
        self._running = None
        self._durations.append(attempt.seconds)
        if attempt.host_died:
            self._host.close()
            self._host = None

    def _started(self) -> None:
        """Show the trial that started, and the ones that ended, in the index: not more often than needed."""
        now = time.monotonic()
        if now - self._last_flush > _FLUSH:
            with suppress(LockUnavailableError):
                # The marks wait on; only a claim needs the lock.
                self._ledger.flush()
            self._last_flush = now

    def _stall(self) -> float:
        asked = self._plan.search.stall
        if asked:
            return asked
        median = statistics.median(self._durations) if self._durations else 0.0
        return max(_STALL[0], _STALL[1] * median)

    def _lose(self, numbers: list[int]) -> None:
        """Let go of trials that others have taken over."""
        self._queue = [claimed for claimed in self._queue if claimed.trial.number not in numbers]
        if self._running in numbers:
            self._events.stop_running(messages.SUPERSEDED)

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
        left = self._walltime.left()
        if left <= 0:
            self._stop("the time limit is near", signal.SIGUSR2)
            left = interval
        soon = _FLUSH if self._ledger.waiting else interval
        return max(0.01, min(interval - (now - self._last_beat), left, soon))


def visible_device() -> str:
    """Return "cuda" where a GPU is visible to this process, else "cpu"."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1", "NoDevFiles"):
        return "cpu"
    with suppress(OSError):
        if any(name[6:].isdigit() for name in os.listdir("/dev") if name.startswith("nvidia")):
            return "cuda"
    return "cpu"
