"""One task of doctor's array: looks around, then notes the signals it gets, until it is killed.

python -m hpc_search.doctor.cluster.task DIRECTORY; its array index says its role (`found.ROLES`). Each
line of its record is written and closed at once, so that another client of the file system sees it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.config.slices import CHECKS
from hpc_search.doctor.cluster.found import ROLES, Event, Look
from hpc_search.site import environment
from hpc_search.slices.observe import observe

NONCE: Final = "nonce"
#: Seconds that a command may take, between two signs of life before and after TERM, and of a task in all.
_COMMAND_S: Final = 20.0
_OBSERVE_S: Final = 25.0
_BEAT_S: Final = 1.0
_LAST_BEATS_S: Final = 0.1
_LIFE_S: Final = 300.0
_WATCHED: Final = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGCONT, signal.SIGINT)
_SHOWN: Final = (
    *("SLURM_JOB_PARTITION", "SLURM_JOB_ACCOUNT", "SLURM_JOB_QOS", "SLURM_CPUS_PER_TASK"),
    *("SLURM_MEM_PER_NODE", "CUDA_VISIBLE_DEVICES", "SLURM_GPUS_ON_NODE", "SLURM_JOB_GPUS"),
    *("SLURM_STEP_GPUS", "SLURM_SHARDS_ON_NODE", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "TMPDIR"),
)


class Task:
    """The task in *directory*, as *environ* says."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        """Know the role, and how long ago the interpreter started."""
        self._directory = directory
        self._environ = environ
        index = int(environ.get("SLURM_ARRAY_TASK_ID") or 0)
        self._role = ROLES[index] if index < len(ROLES) else ROLES[0]
        self._restarts = int(environ.get("SLURM_RESTART_COUNT") or 0)
        self._name = f"{environ.get('SLURM_ARRAY_JOB_ID', '')}_{index}"
        self._record = directory / f"{self._role}-{self._restarts}.jsonl"
        self._age = _age()
        self._began = time.monotonic() - self._age

    def run(self, *, signals: bool) -> None:
        """Do what the role is; without *signals* the time limit is not waited for."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        first = self._role == "limit"
        self._note("start")
        if first:
            self._note("look", look=self._look())
        if self._role == "requeue" and not self._restarts:
            done = _called(["scontrol", "requeue", self._name], self._environ)
            self._note("requeue", words=done)
        if self._role == "cancel" or (first and signals) or (self._role == "requeue" and not self._restarts):
            self._listen()

    def _note(self, what: str, *, words: str = "", look: Look | None = None) -> None:
        event = Event(what=what, at=round(time.monotonic() - self._began, 3), words=words, look=look)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(self._record, flags, 0o600)
        try:
            durable.write_all(fd, msgspec.json.encode(event) + b"\n")
        finally:
            os.close(fd)

    def _listen(self) -> None:
        """Note signals and signs of life until killed, or until doctor has removed the directory."""
        pause, until = _BEAT_S, time.monotonic() + _LIFE_S
        while time.monotonic() < until and (self._directory / NONCE).exists():
            found = signal.sigtimedwait(_WATCHED, pause)
            self._note("alive" if found is None else signal.Signals(found.si_signo).name)
            if found is not None and found.si_signo == signal.SIGTERM:
                if self._role == "requeue":
                    return
                pause = _LAST_BEATS_S

    def _look(self) -> Look:
        environ = self._environ
        began = time.monotonic()
        code = _code([sys.executable, "-P", "-m", "hpc_search", "work", "--help"])
        taken = time.monotonic() - began
        umask = os.umask(0o077)
        return Look(
            node=environ.get("SLURMD_NODENAME") or socket.gethostname(),
            age=round(self._age, 3),
            worker=round(taken, 3),
            worker_code=code,
            same=_same(self._directory / NONCE, environ.get("HPC_SEARCH_DOCTOR", "")),
            writable=_writable(self._directory),
            umask=umask,
            cores=len(os.sched_getaffinity(0)),
            scontrol=_called(["scontrol", "show", "job", self._name], environ),
            sbatch=_called(_sbatch(environ), environ),
            times=all(environ.get(f"SLURM_JOB_{end}_TIME", "").isdecimal() for end in ("START", "END")),
            restarts=self._restarts,
            visible=_gpus(),
            seen=observe(CHECKS, environ, _OBSERVE_S) if environ.get("CUDA_VISIBLE_DEVICES") else None,
            environment={name: environ[name] for name in _SHOWN if name in environ},
        )


def _age() -> float:
    """Return the seconds since this process was executed, by the kernel's own clock."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def _same(path: Path, nonce: str) -> bool:
    try:
        return path.read_text() == nonce
    except OSError:
        return False


def _writable(directory: Path) -> str:
    """Return why nothing can be written, "" where it can."""
    try:
        (directory / f"written-{os.getpid()}").touch(mode=0o600, exist_ok=False)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _sbatch(environ: Mapping[str, str]) -> list[str]:
    """Return the argv that asks for a job like this one without sending it."""
    options = {
        "partition": environ.get("SLURM_JOB_PARTITION", ""),
        "account": environ.get("SLURM_JOB_ACCOUNT", ""),
        "qos": environ.get("SLURM_JOB_QOS", ""),
    }
    given = [f"--{name}={value}" for name, value in options.items() if value]
    return ["sbatch", "--test-only", "--time=1", "--ntasks=1", *given, "--wrap=true"]


def _called(argv: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return why *argv* failed, "" where it did its work."""
    try:
        done = subprocess.run(
            list(argv),
            env=environment.client(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_S,
            check=False,
        )
    except FileNotFoundError:
        return f"{argv[0]} is not on PATH"
    except OSError as error:
        return f"{argv[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{argv[0]} did not answer in {_COMMAND_S:.0f} s"
    words = " ".join(done.stderr.split())
    return "" if done.returncode == 0 else words[:300] or f"{argv[0]}: exit status {done.returncode}"


def _code(argv: Sequence[str]) -> int | None:
    try:
        done = subprocess.run(list(argv), capture_output=True, timeout=2 * _COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.returncode


def _gpus() -> tuple[str, ...]:
    """Return the lines of ``nvidia-smi -L``; none where there is no such command, or no GPU."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines()) if done.returncode == 0 else ()


def main() -> None:
    """Run the task in the directory that the command line names first."""
    Task(Path(sys.argv[1]), os.environ).run(signals="--no-signals" not in sys.argv)


if __name__ == "__main__":
    main()
