"""The one small array that `doctor --cluster` sends, by the same code as `submit`."""

from __future__ import annotations

import os
import pwd
import secrets
import sys
from pathlib import Path
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.config.profile import Profile
from hpc_search.doctor import place
from hpc_search.doctor.cluster import follow, outcome
from hpc_search.doctor.cluster.found import ROLES, Tried
from hpc_search.doctor.cluster.task import NONCE
from hpc_search.doctor.examine import ended_by_signals
from hpc_search.doctor.protocol import Scene
from hpc_search.errors import HpcSearchError, RefusedError
from hpc_search.launchers.base import Request
from hpc_search.launchers.script import signal_delay
from hpc_search.launchers.slurm import SlurmLauncher
from hpc_search.site import environment
from hpc_search.site.client import ask
from hpc_search.site.config import Config
from hpc_search.site.reasons import explain

_PACKAGE: Final = Path(__file__).resolve().parents[1]
#: Where it has not run by then SLURM drops it: a killed doctor leaves nothing that starts later.
_DEADLINE: Final = "now+360"
_MINUTES: Final = 1
#: Seconds after which what a killed doctor left is removed: its array is over by then.
_LEFT_S: Final = 600.0
_KILL_WAIT_S: Final = 30
#: Lines of the tasks' logs that are shown where nothing else is known.
_LOG_LINES: Final = 2


def run(directory: str, profile: Profile, config: Config, *, signals: bool) -> Tried:
    """Send the array, follow it and remove it again, whatever happens."""
    token = f"hpc_search-doctor-{secrets.token_hex(4)}"
    temporary = Path(directory) / f"{durable.TEMPORARY}doctor-{secrets.token_hex(6)}"
    request = _request(temporary, token, profile, signals=signals)
    with ended_by_signals():
        try:
            temporary.mkdir(mode=0o700)
            durable.remove_left(temporary, "doctor", _LEFT_S)
            (temporary / "submitit").mkdir(mode=0o700)
            (temporary / NONCE).write_text(request.environment["HPC_SEARCH_DOCTOR"])
            return _sent(request, temporary, config, signals=signals)
        finally:
            (temporary / NONCE).unlink(missing_ok=True)
            ask(["scancel", f"--name={token}", f"--user={pwd.getpwuid(os.getuid()).pw_name}"])
            place.remove(Scene(0, temporary, made=temporary))


def _request(temporary: Path, token: str, profile: Profile, *, signals: bool) -> Request:
    small = msgspec.structs.replace(
        profile,
        time=_MINUTES,
        time_min=0,
        throttle=0,
        requeue=True,
        extra={**profile.extra, "deadline": _DEADLINE},
    )
    names = tuple(profile.environment)
    python = profile.python or sys.executable
    words = [] if signals else ["--no-signals"]
    values = environment.with_package(environment.written(os.environ, names), _PACKAGE)
    return Request(
        run=str(temporary),
        token=token,
        tasks=len(ROLES),
        profile=small,
        chdir=str(temporary.parent),
        comment="hpc_search doctor",
        environment={**values, "HPC_SEARCH_DOCTOR": secrets.token_hex(8)},
        forward=environment.forwarded(os.environ, names),
        command=(python, "-P", "-m", "hpc_search.doctor.cluster.task", str(temporary), *words),
    )


def _sent(request: Request, temporary: Path, config: Config, *, signals: bool) -> Tried:
    launcher = SlurmLauncher()
    try:
        jobs = launcher.submit(request).jobs
    except HpcSearchError as error:
        how = "refused" if isinstance(error, RefusedError) else "not sent"
        return Tried(outcome=how, words=_one_line(error), token=request.token, signals=signals)  # type: ignore[arg-type]
    task = f"{jobs[0].id}_{ROLES.index('cancel')}"

    def queue() -> follow.Queue | None:
        active = launcher.active([request.token])
        if active is None:
            return None
        found = active.get(request.token)
        reasons = next(iter(found.reasons), "") if found else ""
        return follow.Queue(found.live + found.ending if found else 0, reasons)

    def cancel() -> None:
        ask(["scancel", task])

    calls = follow.Calls(queue, cancel)
    kill_wait = config.number("KillWait") or _KILL_WAIT_S
    wait = config.requeue_wait_s or 0
    followed = follow.follow(temporary, calls, signals=signals, kill_wait=kill_wait, requeue_wait=wait)
    words = _words(followed, request, temporary, jobs[0].id)
    return Tried(
        outcome=followed.outcome,
        words=words,
        token=request.token,
        wait=None if followed.wait is None else round(followed.wait, 1),
        signals=signals,
        look=followed.records.look(),
        timing=follow.timing(followed, asked=signal_delay(request)),
    )


def _one_line(error: HpcSearchError) -> str:
    words = " ".join(error.message.split())
    return f"{words}; {error.hint}" if error.hint else words


def _words(followed: follow.Followed, request: Request, temporary: Path, job: str) -> str:
    if followed.outcome == "not started":
        why = explain(followed.words)
        meaning = f" ({why.meaning}): {why.step}" if why.meaning else ""
        said = f"{followed.words or 'SLURM gives no reason'}{meaning}"
        return f"did not start in {follow.START_S:.0f} s: {said}"
    if followed.outcome == "ran":
        return ""
    texts = [path.read_text(errors="replace") for path in temporary.glob("submitit/*.log")]
    logs = list(dict.fromkeys(line for text in texts for line in text.splitlines() if line.strip()))
    end = _end(job)
    meaning, advice = outcome.failure(
        "\n".join([*logs, end]), python=request.command[0], directory=str(temporary.parent)
    )
    said = " ".join(logs[-_LOG_LINES:]) or end
    return f"{meaning}: {advice}" + (f". SLURM said: {said}" if said else "")


def _end(job: str) -> str:
    """Return state, reason and exit code of the tasks, as far as SLURM still knows them."""
    shown = ask(["scontrol", "-o", "show", "job", job])
    if shown is None:
        return " ".join((ask(["sacct", "-X", "-n", "-P", "-j", job, "-o", "State,ExitCode"]) or "").split())
    words = (word for word in shown.split() if word.startswith(("JobState=", "Reason=", "ExitCode=")))
    return " ".join(dict.fromkeys(words))
