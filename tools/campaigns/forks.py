"""The process that forks operations, warm, one child each; a program of its own.

`PYTHONPATH` decides which hpc_search is under test. It reads one JSON request a line, and answers with one.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import importlib
import json
import os
import secrets
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Final

# Behind the one directory of PYTHONPATH: the tools of this project, and not its hpc_search.
sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

from hpc_search import cli, planning
from hpc_search.errors import EXIT_TEMPORARY, HpcSearchError
from tools.campaigns import operations, recoveries

_OPERATIONS: Final = {**operations.OPERATIONS, **recoveries.OPERATIONS}
#: The child's exit status where it would have shown a traceback.
TRACEBACK: Final = 70
_ALLOW_ANY_TRACER: Final = (0x59616D61, 0xFFFFFFFF)
_LATE: Final = (
    "filelock", "h5py", "pandas", "pyarrow.parquet", "hpc_search.collect", "hpc_search.launchers.local",
    "hpc_search.launchers.submission", "hpc_search.search", "hpc_search.worker",
)  # fmt: skip


def _border(action: operations.Action) -> int:
    """Return the exit code of *action*, as the worker's and the command line's own borders decide it."""
    try:
        return action() or 0
    except HpcSearchError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except OSError as error:
        # As Supervisor.run does.
        sys.stderr.write(f"error: {error.filename or ''}: {error.strerror or error}\n")
        return EXIT_TEMPORARY
    except BaseException:  # noqa: BLE001 - whatever it is, it is a finding
        traceback.print_exc()
        return TRACEBACK


def _names_from(seed: str) -> Callable[[int], str]:
    """Return token_hex, the same at every run of one operation: `strace -P` needs to know paths."""
    drawn = 0

    def token_hex(count: int = 32) -> str:
        nonlocal drawn
        drawn += 1
        return hashlib.blake2b(f"{seed} {drawn}".encode(), digest_size=count).hexdigest()

    return token_hex


def _child(request: dict[str, Any]) -> int:
    ctypes.CDLL(None).prctl(*_ALLOW_ANY_TRACER, 0, 0, 0)
    run = Path(request["run"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        fd = os.open(f"{request['words']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(run.parent)
    os.environ[operations.ARGUMENT] = request.get("argument", "")
    secrets.token_hex = _names_from(request["seed"])  # type: ignore[assignment]
    if request.get("locks_lie"):
        fcntl.flock = lambda _fd, _operation: None
    prepared: list[operations.Action] = []

    def prepare() -> int:
        prepared.append(_OPERATIONS[request["operation"]](run))
        return 0

    code = _border(prepare)
    if request.get("hold"):
        os.kill(os.getpid(), signal.SIGSTOP)
    code = code or _border(prepared[0])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _fork(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = TRACEBACK
    try:
        os.setpgid(0, 0)
        code = _child(request)
    finally:
        os._exit(code)


def _wait(pid: int, timeout: float) -> int | None:
    """Return the exit code of *pid*, minus the signal where it was killed; None after *timeout* seconds."""
    fd = os.pidfd_open(pid)
    try:
        if not select.select([fd], [], [], timeout)[0]:
            return None
    finally:
        os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _serve_one(request: dict[str, Any]) -> dict[str, Any]:
    if "wait" in request:
        return {"code": _wait(request["wait"], request["timeout"])}
    pid = _fork(request)
    if request.get("hold"):
        os.waitpid(pid, os.WUNTRACED)
    return {"pid": pid}


def serve() -> None:
    """Answer requests: ``{operation, run, words, seed, hold, locks_lie, argument}`` forks, others wait.

    With ``hold`` the child has prepared the operation and stopped itself, so that a tracer can attach.
    """
    warm()
    operations.say(
        package=str(Path(planning.__file__).parents[1]), threads=len(os.listdir("/proc/self/task"))
    )
    for line in sys.stdin:
        operations.say(**_serve_one(json.loads(line)))


def warm() -> None:
    """Import what operations import late, so that the calls of imports are not among theirs."""
    for name in _LATE:
        importlib.import_module(name)
    # `plan` looks for the versions of libraries all over sys.path: 26,000 calls that are not about RUN.
    metadata.version = functools.cache(metadata.version)
    cli.parser().format_help()
    with tempfile.TemporaryDirectory() as directory:
        operations.write(Path(directory))
        planning.draft(Path(directory, "search.yaml"))


if __name__ == "__main__":
    serve()
