"""Where trials run: the template process, a fresh process a trial, or a program."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from hpc_search.runners import command, messages, processes, template
from hpc_search.trial import Spec


@dataclass(slots=True)
class Process:
    """A started trial: its pid (0 until the template says), its socket, its output, its pidfd."""

    output: int
    channel: socket.socket | None = None
    pid: int = 0
    popen: subprocess.Popen[bytes] | None = None
    report: Path | None = None
    metric_file: Path | None = None


class Host(Protocol):
    """Starts trials."""

    def spawn(self, spec: Spec) -> Process:
        """Start the trial of *spec*."""

    def close(self) -> None:
        """End what is left of the host."""


def _pair() -> tuple[socket.socket, socket.socket, int, int]:
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    return ours, theirs, reader, writer


class TemplateHost:
    """Forks trials from a template that imported the user's code once."""

    def __init__(self, log: int, threads: int, directory: str) -> None:
        """Start the template; what it prints goes to *log*."""
        ours, theirs = socket.socketpair()
        arguments = [sys.executable, "-P", "-m", "hpc_search.runners.template"]
        self._popen = subprocess.Popen(
            [*arguments, str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[theirs.fileno()],
            env=processes.template_environment(os.environ, min(1, threads)),
            cwd=directory if directory and os.path.isdir(directory) else None,
            start_new_session=True,
        )
        theirs.close()
        self.socket = ours
        self.inbox = messages.Inbox()

    @property
    def pid(self) -> int:
        """Pid of the template."""
        return self._popen.pid

    def prepare(self, reference: str, code: str) -> None:
        """Ask the template to import the user's code; it answers ``ready`` or ``broken``."""
        with suppress(OSError):
            # Where it died already, reading its answer will say so.
            self.socket.sendall(messages.encode("prepare", {"callable": reference, "code": code}))

    def spawn(self, spec: Spec) -> Process:
        """Ask the template to fork the trial."""
        ours, theirs, reader, writer = _pair()
        try:
            template.send_spawn(self.socket, msgspec.to_builtins(spec), theirs.fileno(), writer)
        finally:
            theirs.close()
            os.close(writer)
        return Process(output=reader, channel=ours)

    def close(self) -> None:
        """End the template and, with it, its trials."""
        self.socket.close()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(0.5)
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()


class FreshHost:
    """Starts a new Python process a trial, where the template cannot be forked safely."""

    def spawn(self, spec: Spec) -> Process:
        """Start a process and send it the trial."""
        ours, theirs, reader, writer = _pair()
        fds = [theirs.fileno(), writer]
        arguments = [sys.executable, "-P", "-m", "hpc_search.runners.template", "fresh"]
        popen = subprocess.Popen(
            [*arguments, *map(str, fds), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            pass_fds=fds,
            env=processes.template_environment(os.environ, spec.threads),
            process_group=0,
        )
        theirs.close()
        os.close(writer)
        ours.sendall(messages.encode("spawn", {"spec": msgspec.to_builtins(spec)}))
        return Process(output=reader, channel=ours, pid=popen.pid, popen=popen)

    def close(self) -> None:
        """Nothing is left between trials."""


class CommandHost:
    """Starts a program a trial."""

    def __init__(self, argv: Sequence[str], report: Path, metric_file: str = "") -> None:
        """Run *argv* with its placeholders filled; metrics come back in *report*.

        Where *metric_file* is given they come from this file in the trial's own directory: workers that
        run at the same time share the working directory.
        """
        self._argv = argv
        self._report = report
        self._metric_file = metric_file

    def spawn(self, spec: Spec) -> Process:
        """Start the program of the trial in a process group of its own.

        Raises:
            OSError: The program is not found or cannot be run.
        """
        from hpc_search.layout import Layout

        directory = Layout(Path(spec.root)).trial_files(spec.number)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._report.write_bytes(b"")
        metric_file = directory / self._metric_file if self._metric_file else None
        if metric_file is not None:
            # What an earlier attempt left is not this one's result.
            metric_file.unlink(missing_ok=True)
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        base: Mapping[str, str] = {**os.environ, **processes.thread_environment(spec.threads)}
        try:
            popen = subprocess.Popen(
                command.arguments(self._argv, spec, directory),
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env=command.environment(base, spec, self._report, directory),
                cwd=command.working_directory(spec),
                process_group=0,
                # One thread here, so that code between fork and exec is safe.
                preexec_fn=processes.death_with(os.getpid()),  # noqa: PLW1509
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return Process(
            output=reader, pid=popen.pid, popen=popen, report=self._report, metric_file=metric_file
        )

    def close(self) -> None:
        """Nothing is left between trials."""
