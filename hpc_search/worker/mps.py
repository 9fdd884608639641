"""An own MPS daemon for the workers of one task. Source: NVIDIA MPS, "Tools and Interface Reference"."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from hpc_search.config.slices import Slice
from hpc_search.runners.keeper import death_with
from hpc_search.slices.observed import Observed

CONTROL: Final = "nvidia-cuda-mps-control"
#: A socket's path has at most 107 bytes; the daemon appends up to 24 to the directory's.
_LONGEST: Final = 107 - 24
#: Seconds for the daemon to make its socket, and to end.
_STARTS: Final = 10.0
_ENDS: Final = 10.0
_POLL: Final = 0.05
_PREFIX: Final = "hpcs-mps-"
#: Seconds after which a directory that nobody holds was left: its maker has locked it by then.
_LEFT: Final = 60.0


def why_not(wanted: Slice, seen: Observed, environ: Mapping[str, str]) -> str:
    """Return why the workers get no daemon of their own, "" where they get one."""
    if wanted.pack.mps == "never":
        return "the profile says `mps: never`"
    if wanted.kind in ("cpu", "mps") or environ.get("CUDA_MPS_PIPE_DIRECTORY"):
        return "there is no GPU" if wanted.kind == "cpu" else "the site's own daemon is there"
    if shutil.which(CONTROL, path=environ.get("PATH")) is None:
        return f"{CONTROL} is not on PATH"
    if seen.compute_mode not in ("", "default"):
        return f"the compute mode of the GPU is {seen.compute_mode} instead of default"
    return ""


class Daemon:
    """A running daemon; it dies with this process. Its files go when it is closed, else with the next one."""

    def __init__(self, environ: Mapping[str, str], deadline: float = _STARTS) -> None:
        """Start it for the devices of *environ*.

        Raises:
            OSError: It cannot be started, or makes no socket in *deadline* seconds.
        """
        self._directory = _private_directory(environ)
        #: Held while the directory is used: what a killed leader left is found by the lock that it lost.
        self._held = _locked(self._directory)
        names = {"CUDA_MPS_PIPE_DIRECTORY": "p", "CUDA_MPS_LOG_DIRECTORY": "l"}
        self.variables = {name: str(self._directory / part) for name, part in names.items()}
        self._environ = {**environ, **self.variables}
        for path in self.variables.values():
            os.mkdir(path, 0o700)
        try:
            self._process = subprocess.Popen(
                [CONTROL, "-f"],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=_bound(),  # noqa: PLW1509 - one thread here
            )
        except OSError:
            self._remove()
            raise
        try:
            self._wait(deadline)
        except OSError:
            self.close()
            raise

    def _wait(self, deadline: float) -> None:
        control = Path(self.variables["CUDA_MPS_PIPE_DIRECTORY"], "control")
        until = time.monotonic() + deadline
        while not control.exists():
            if self._process.poll() is not None or time.monotonic() >= until:
                raise OSError(f"{CONTROL} made no socket {control} in {deadline:g} s")
            time.sleep(_POLL)

    def close(self) -> None:
        """End it: by its own command, else by signals."""
        if self._process.poll() is None:
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    [CONTROL],
                    input=b"quit\n",
                    env=self._environ,
                    capture_output=True,
                    timeout=_ENDS,
                    check=False,
                )
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDS / 2)
        for end in (self._process.terminate, self._process.kill):
            if self._process.poll() is None:
                end()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_ENDS / 2)
        self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def _private_directory(environ: Mapping[str, str]) -> Path:
    for base in (environ.get("SLURM_TMPDIR"), environ.get("TMPDIR"), "/tmp"):  # noqa: S108 - mkdtemp below it
        if base and os.path.isdir(base):
            _sweep(Path(base))
            with suppress(OSError):
                found = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
                if len(os.fsencode(found / "p")) <= _LONGEST:
                    return found
                found.rmdir()
    raise OSError("no directory for the sockets of MPS: neither SLURM_TMPDIR nor TMPDIR nor /tmp is usable")


def _sweep(base: Path) -> None:
    """Remove what killed leaders of this user left in *base*."""
    for path in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            found = os.lstat(path)
            if found.st_uid == os.getuid() and time.time() - found.st_mtime > _LEFT:
                fd = _locked(path)
                if fd >= 0:
                    shutil.rmtree(path, ignore_errors=True)
                    os.close(fd)


def _locked(path: Path) -> int:
    """Return a descriptor of the directory at *path* with its lock, -1 where it cannot be had."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return -1
    return fd


def _bound() -> Callable[[], None]:
    return death_with(os.getpid())
