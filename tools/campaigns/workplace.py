"""One directory with a run, the process that forks operations on it, and copies of its earlier states."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tools.campaigns.tracing import Strace

_PROGRAM: Final = Path(__file__).with_name("forks.py")
_ROOT: Final = _PROGRAM.parents[2]
#: Seconds after which an operation hangs.
TIMEOUT: Final = 100.0
#: What a state is made from: the operations that lead to it.
STATES: Final[dict[str, tuple[str, ...]]] = {
    "empty": ("write",),
    "planned": ("write", "plan"),
    "dead": ("write", "plan", "die"),
    "unindexed": ("write", "plan", "work1", "die", "drop-index"),
    "gone": ("write", "plan", "work1", "work1", "archive", "work1", "work1", "die"),
    "half": ("write", "plan", "work1", "work1", "collect", "work1"),
}


@dataclass(slots=True)
class Played:
    """What became of an operation: exit code (minus a signal, None: it hung), facts, words, trace."""

    code: int | None
    facts: dict[str, list[Any]] = field(default_factory=dict)
    words: str = ""
    trace: str = ""


class Workplace:
    """Plays operations on one run, one after another, each in a fresh fork of a warm process."""

    def __init__(self, root: Path, package: Path | None = None, claiming: str = "lock") -> None:
        """Work in *root*; *package* holds the hpc_search under test, the project's own where None."""
        self.root = root
        self.site = root / "site"
        self.run = self.site / "run"
        self._nonce = f"{os.getpid()} {root}"
        self.site.mkdir(parents=True)
        path = [str(package)] if package is not None else [str(_ROOT)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        environment |= {
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "JE_ARROW_MALLOC_CONF": "background_thread:false",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "HPC_SEARCH_CLAIMING": claiming,
        }
        self._server = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM)],
            env=environment,
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        hello = self._answer()
        self.package = Path(hello["package"])
        if hello["threads"] != 1:
            raise AssertionError("the process that forks has threads: its forks may hang")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.communicate()

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer

    # -- states
    def state(self, name: str) -> None:
        """Put the run into the state *name*."""
        made = self.state_of(name)
        self._clear()
        if any(made.iterdir()):
            shutil.copytree(made, self.run, symlinks=True)

    def state_of(self, name: str) -> Path:
        """Return the copy of a run in the state *name*; made by its operations once. The run is lost."""
        made = self.root / f"state-{name}"
        if not made.exists():
            self._clear()
            for number, operation in enumerate(STATES[name]):
                played = self.play(operation, seed=f"{name} {number}")
                if played.code != 0:
                    raise AssertionError(f"{operation} for the state {name}: {played.words}")
            if self.run.exists():
                self.run.rename(made)
            else:
                made.mkdir()
        return made

    def _clear(self) -> None:
        for path in (self.run, *self.site.glob(".t-*")):
            with suppress(FileNotFoundError):
                shutil.rmtree(path)

    # -- operations
    def play(self, operation: str, seed: str = "", **more: Any) -> Played:
        """Do *operation* undisturbed."""
        pid = self.start(operation, seed or operation, **more)
        return self._played(operation, self._wait(pid))

    def traced(self, operation: str, options: Sequence[str] = (), *, threads: bool = False) -> Played:
        """Do *operation* under strace with *options*."""
        pid, tracer = self.begin(operation, options, threads=threads)
        return self.finish(operation, pid, tracer)

    def begin(
        self, operation: str, options: Sequence[str] = (), *, threads: bool = False
    ) -> tuple[int, Strace]:
        """Start *operation* under strace with *options*; return its pid and the tracer."""
        pid = self.start(operation, operation, hold=True)
        tracer = Strace(pid, self.root / "strace", options, threads=threads)
        os.kill(pid, signal.SIGCONT)
        return pid, tracer

    def finish(self, operation: str, pid: int, tracer: Strace | None, *, ended: int | None = None) -> Played:
        """Wait for what `begin` or `start` started; *ended* is its exit code where that is known."""
        played = self._played(operation, self._wait(pid) if ended is None else ended)
        if tracer is not None:
            played.trace = tracer.end()
        return played

    def ended_within(self, pid: int, seconds: float) -> int | None:
        """Return the exit code of *pid*, None where it did not end within *seconds*."""
        code: int | None = self._ask(wait=pid, timeout=seconds)["code"]
        return code

    def facts(self, operation: str) -> dict[str, list[Any]]:
        """Return what *operation* said so far: each fact's name and its values in order."""
        found: dict[str, list[Any]] = {}
        path = self.root / f"{operation}.out"
        for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
            if line.startswith("{"):
                with suppress(ValueError):
                    for name, value in json.loads(line).items():
                        found.setdefault(name, []).append(value)
        return found

    def start(self, operation: str, seed: str, **more: Any) -> int:
        """Start *operation*; return its pid."""
        seed = f"{self._nonce} {seed}"
        words = str(self.root / operation)
        request = {"operation": operation, "run": str(self.run), "words": words, "seed": seed, **more}
        pid: int = self._ask(**request)["pid"]
        return pid

    def _wait(self, pid: int, timeout: float = TIMEOUT) -> int | None:
        code: int | None = self._ask(wait=pid, timeout=timeout)["code"]
        if code is None:
            os.killpg(pid, signal.SIGKILL)
            self._ask(wait=pid, timeout=10)
        return code

    def _played(self, operation: str, code: int | None) -> Played:
        words = (self.root / f"{operation}.err").read_text(errors="replace")
        return Played(code, self.facts(operation), words)

    def let_leftovers_age(self) -> None:
        """Make what stands under temporary names two days old: nobody goes on with it."""
        then = time.time() - 2 * 86400
        for path in self.site.rglob("*"):
            if ".t-" in str(path.relative_to(self.site)):
                os.utime(path, (then, then), follow_symlinks=False)

    def leftovers(self) -> list[str]:
        """Return the temporary names in the run and beside it, without their random parts."""
        found = (path.relative_to(self.site) for path in self.site.rglob(".t-*"))
        return sorted(str(path.parent / ".t-") for path in found if ".t-" not in str(path.parent))


def wait_for_stop(tracer: Strace, pid: int, timeout: float = TIMEOUT) -> bool:
    """Wait until the traced process is stopped by an injected signal; False where it ended before."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if "--- stopped by SIGSTOP ---" in tracer.text().partition("--- SIGCONT")[2]:
            return True
        if not Path(f"/proc/{pid}").exists() or _is_zombie(pid):
            return False
        time.sleep(0.005)
    return False


def _is_zombie(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
