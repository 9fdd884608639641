"""Several workers that share what one task gets: a leader starts them, and acts for all when they ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final

from hpc_search.config.profile import Profile
from hpc_search.errors import EXIT_DONE, EXIT_TEMPORARY, TemporaryError
from hpc_search.layout import Layout
from hpc_search.ledger import finals, mismatches
from hpc_search.ledger.liveness import this_process
from hpc_search.runners.keeper import death_with
from hpc_search.slices import limits
from hpc_search.slices.observe import observe
from hpc_search.slices.observed import Observed
from hpc_search.worker import departure, mps
from hpc_search.worker.slice import profile_of, run_elsewhere

#: Restarts of one worker while no trial ends, and seconds before each further one.
RESTARTS: Final = 5
_PAUSE: Final = 1.0
_LOOK: Final = 0.2
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(slots=True)
class _Member:
    """One of the workers; started again where it was killed."""

    index: int
    process: subprocess.Popen[bytes] | None = None
    at: float = 0.0
    restarts: int = 0
    finals: int = -1
    status: int | None = None


def leads(layout: Layout, token: str) -> Profile | None:
    """Return the profile of a task that several workers share, None for a task of one worker."""
    profile = profile_of(layout, token) if token else None
    return profile if profile is not None and profile.slice.pack.workers > 1 else None


class Leader:
    """The leader of one task."""

    def __init__(
        self,
        layout: Layout,
        profile: Profile,
        token: str,
        seat: str,
        refill: departure.Refill,
        folds: Sequence[int] = (),
    ) -> None:
        """Lead the workers of the task with *seat*, "" for the one that SLURM gives; *refill* at the end.

        With *folds* they claim trials of these alone.
        """
        self._refill = refill
        self._folds = ["--folds", *map(str, folds)] if folds else []
        self._layout = Layout(layout.root.resolve())
        self._profile = profile
        self._token = token
        self._me = this_process(token, seat)
        self._is_task = not seat and "SLURM_JOB_ID" in os.environ
        self._members: list[_Member] = []
        self._signals: list[int] = []

    def run(self) -> int:
        """Start the workers, stay until all have ended, and have the task run again where one asks for it."""
        begun = finals(self._layout)
        for number in _SIGNALS:
            signal.signal(number, self._forward)
        daemon, environ = self._prepare()
        try:
            self._lead(environ)
        finally:
            if daemon is not None:
                daemon.close()
        return self._leave(worked=finals(self._layout) > begun)

    def _prepare(self) -> tuple[mps.Daemon | None, dict[str, str]]:
        """Return the daemon of MPS where there is one, and the environment of the workers."""
        wanted = self._profile.slice
        seen = observe(("nvml",) if wanted.kind != "cpu" and "nvml" in wanted.expect.checks else ())
        reason = mps.why_not(wanted, seen, os.environ)
        daemon = None
        if not reason:
            try:
                daemon = mps.Daemon(os.environ)
            except OSError as error:
                reason = str(error)
        if daemon is None and wanted.pack.mps == "always":
            message = f"the profile wants an MPS daemon (`mps: always`), and there is none: {reason}"
            raise TemporaryError(message, hint="`slice.pack.mps: auto` in the profile, or another node")
        environ = {**os.environ, **limits.variables(wanted, seen, own_daemon=daemon is not None)}
        if daemon is not None:
            environ |= {**daemon.variables, **_by_uuid(seen)}
        how = "with an MPS daemon of their own" if daemon is not None else f"without an MPS daemon: {reason}"
        _say(f"{wanted.pack.workers} workers share {wanted.request.gres or 'this machine'}, {how}")
        return daemon, environ

    def _lead(self, environ: dict[str, str]) -> None:
        begun = time.monotonic()
        pack = self._profile.slice.pack
        self._members = [_Member(index, at=begun + index * pack.stagger) for index in range(pack.workers)]
        while any(one.status is None for one in self._members):
            for one in self._members:
                if one.status is None:
                    self._look_after(one, environ)
            time.sleep(_LOOK)

    def _look_after(self, one: _Member, environ: dict[str, str]) -> None:
        """Start *one* when it is time, and note its end; one that was killed is started again."""
        if one.process is None:
            if self._signals or self._moves():
                one.status = EXIT_DONE
            elif time.monotonic() >= one.at:
                one.process = self._start(one.index, environ)
            return
        status = one.process.poll()
        if status is None:
            return
        if _was_killed(status) and not self._signals and self._may_restart(one):
            one.process, one.at = None, time.monotonic() + _PAUSE * one.restarts
            _say(f"worker {one.index} of this task ended with {_words(status)} and is started again")
            return
        one.status = status
        if status == departure.MOVE:
            # All have the same slice.
            self._tell(signal.SIGTERM)

    def _may_restart(self, one: _Member) -> bool:
        ended = finals(self._layout)
        if ended != one.finals:
            one.restarts, one.finals = 0, ended
        one.restarts += 1
        return one.restarts <= RESTARTS

    def _start(self, index: int, environ: dict[str, str]) -> subprocess.Popen[bytes]:
        package = [sys.executable, "-P", "-m", "hpc_search", "work", str(self._layout.root)]
        return subprocess.Popen(
            [*package, *self._folds, "--token", self._token, "--packed", f"{self._me.seat}.{index}"],
            env=environ,
            stdin=subprocess.DEVNULL,
            preexec_fn=death_with(os.getpid()),  # noqa: PLW1509 - one thread here
        )

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        # With cgroups SLURM signals the leader alone, otherwise every process of the step.
        self._signals.append(number)
        self._tell(number)

    def _tell(self, number: int) -> None:
        for one in self._members:
            if one.process is not None and one.process.poll() is None:
                one.process.send_signal(number)

    def _moves(self) -> bool:
        return any(one.status == departure.MOVE for one in self._members)

    def _leave(self, *, worked: bool) -> int:
        statuses = [one.status or EXIT_DONE for one in self._members]
        if self._moves():
            nodes, _ = mismatches.nodes_of_task(self._layout, self._token, self._me.seat)
            if run_elsewhere(nodes, self._profile.exclude) is None:
                _say("SLURM does not run this task again; `submit` again starts the workers that are missing")
            return EXIT_TEMPORARY
        again = departure.AGAIN in statuses
        if again and departure.requeue():
            return _worst(statuses)
        if not again and self._is_task and signal.SIGTERM in self._signals:
            departure.sleep_until_killed()
        if self._is_task and worked and set(self._signals) <= set(departure.WARNINGS):
            # Sends nothing where nothing is left that nobody has; how many each worker did is not counted.
            self._refill(1, refused=again)
        return _worst(statuses)


def _worst(statuses: Sequence[int]) -> int:
    """Return the exit code of the task from those of its workers."""
    own = {departure.AGAIN: EXIT_DONE, departure.GIVEN_UP: EXIT_TEMPORARY}
    codes = [own.get(status, status) if status >= 0 else EXIT_TEMPORARY for status in statuses]
    return max(codes, default=EXIT_DONE)


def _by_uuid(seen: Observed) -> dict[str, str]:
    """Return CUDA_VISIBLE_DEVICES for clients: a daemon numbers its devices anew, UUIDs stay the same."""
    names = [device.uuid for device in seen.devices if device.uuid]
    return {"CUDA_VISIBLE_DEVICES": ",".join(names)} if names else {}


def _was_killed(status: int) -> bool:
    return status < 0 or status > 128 or status == EXIT_TEMPORARY


def _words(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _say(text: str) -> None:
    sys.stderr.write(f"hpc_search: {text}" + "\n")
    sys.stderr.flush()
