"""Where trials run: the template process, a fresh process a trial, or a program."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from hpc_search.runners import command, keeper, messages, processes
from hpc_search.runners.parent import request
from hpc_search.trial import Spec
from hpc_search.worker.unpacked import Code

#: Signals that say nothing of the program that they end.
_SENT: Final = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Seconds that a host has to end in, with all that its trials left behind.
_CLOSING: Final = 15.0


@dataclass(slots=True)
class Process:
    """A trial that was asked for: its pid (0 until its parent says), its socket, its output."""

    output: int
    channel: socket.socket | None = None
    pid: int = 0
    report: Path | None = None
    metric_file: Path | None = None


class Host:
    """A process that starts trials, below a keeper that ends it and them with this one."""

    def __init__(
        self, module: str, environment: Mapping[str, str], directory: str = "", log: int = subprocess.DEVNULL
    ) -> None:
        """Start *module* in *directory*; what it prints goes to *log*."""
        self.socket, theirs = socket.socketpair()
        self.inbox = messages.Inbox()
        kept = [sys.executable, "-P", "-m", module, str(theirs.fileno())]
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-S", keeper.__file__, str(theirs.fileno()), str(os.getpid()), *kept],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **environment},
                cwd=directory if directory and os.path.isdir(directory) else None,
                start_new_session=True,
            )

    def spawn(self, spec: Spec) -> Process:
        """Ask for the trial of *spec*; ``spawned`` or ``unstarted``, and ``exited``, come back.

        Raises:
            OSError: The process that starts trials is gone, or there is no room for a file of the trial's.
            UsageError: A program's arguments cannot be filled in.
        """
        raise NotImplementedError

    @property
    def killed(self) -> bool:
        """Whether it ended by a signal that others send, before `close` or in it.

        A keeper's status is its program's signal.
        """
        return abs(self._popen.returncode or 0) in _SENT

    def close(self) -> None:
        """End the process, its trials, and what they left behind."""
        self.socket.close()
        try:
            self._popen.wait(_CLOSING)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


def _output() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    return reader, writer


class TemplateHost(Host):
    """Forks trials from a template that imported the user's code once."""

    def __init__(self, log: int, threads: int, directory: str, roots: Sequence[str]) -> None:
        """Start the template; what it prints goes to *log*. Its trials will use *threads* threads.

        They import from the directories *roots* first.
        """
        # The template itself uses one: a fork would inherit a pool of threads without the threads.
        super().__init__("hpc_search.runners.template", processes.template_environment(1), directory, log)
        self._threads = threads
        self._roots = tuple(roots)

    def prepare(
        self, reference: str, packages: Mapping[str, str], python: str, *, any_packages: bool
    ) -> None:
        """Ask the template to import the user's code; it answers ``ready``, ``broken`` or ``differs``.

        *packages* and *python* are the versions of the plan; with *any_packages* others are only told.
        """
        content = {
            "callable": reference,
            "code": self._roots,
            "threads": self._threads,
            "packages": dict(packages),
            "python": python,
            "any_packages": any_packages,
        }
        with suppress(OSError):
            # Where it died already, reading its answer will say so.
            self.socket.sendall(messages.encode("prepare", content))

    def spawn(self, spec: Spec) -> Process:
        """Ask the template to fork the trial."""
        ours, theirs = socket.socketpair()
        reader, writer = _output()
        try:
            content = {"spec": msgspec.to_builtins(replace(spec, code=self._roots))}
            request(self.socket, "spawn", content, [theirs.fileno(), writer])
        finally:
            theirs.close()
            os.close(writer)
        return Process(output=reader, channel=ours)


class LauncherHost(Host):
    """Starts something by exec for each trial."""

    def __init__(self, directory: str = "") -> None:
        """Start the launcher in *directory*."""
        super().__init__("hpc_search.runners.launcher", {}, directory)

    def launch(self, spec: Spec, argv: Sequence[str], environment: Mapping[str, str], **rest: Any) -> None:
        """Ask for *argv*; *rest* are its descriptors, its directory, and whether it is a fresh trial."""
        fds = rest.pop("fds")
        content = {
            "number": spec.number,
            "argv": [os.fsencode(part) for part in argv],
            "environment": {os.fsencode(name): os.fsencode(text) for name, text in environment.items()},
            **rest,
        }
        request(self.socket, "launch", content, fds)


class FreshHost(LauncherHost):
    """Starts a new Python process a trial, where the template cannot be forked safely."""

    def __init__(self, roots: Sequence[str]) -> None:
        """Start trials that import from the directories *roots* first."""
        super().__init__()
        self._roots = tuple(roots)

    def spawn(self, spec: Spec) -> Process:
        """Ask for a process, and send it the trial."""
        ours, theirs = socket.socketpair()
        reader, writer = _output()
        argv = [sys.executable, "-P", "-m", "hpc_search.runners.template", "fresh"]
        variables = processes.template_environment(spec.threads)
        try:
            fds = [writer, theirs.fileno()]
            self.launch(spec, argv, variables, fresh=True, directory=None, fds=fds)
        finally:
            theirs.close()
            os.close(writer)
        with suppress(OSError):
            # Where it is gone already, its parent will say so.
            content = {"spec": msgspec.to_builtins(replace(spec, code=self._roots))}
            ours.sendall(messages.encode("spawn", content))
        return Process(output=reader, channel=ours)


class CommandHost(LauncherHost):
    """Starts a program a trial."""

    def __init__(self, argv: Sequence[str], report: Path, metric_file: str, code: Code) -> None:
        """Run *argv* with its placeholders filled; metrics come back in *report*.

        Where *metric_file* is given they come from this file in the trial's own directory: workers that
        run at the same time share the working directory. Files that *code* keeps are run from there.
        """
        super().__init__()
        first = argv[0] if "/" not in argv[0] else code.argument(argv[0])
        self._argv = [first, *map(code.argument, argv[1:])]
        self._variables = code.environment(os.environ)
        self._report = report
        self._metric_file = metric_file

    def spawn(self, spec: Spec) -> Process:
        """Ask for the program of the trial, in a process group of its own."""
        from hpc_search.layout import Layout

        directory = Layout(Path(spec.root)).trial_files(spec.number, spec.rung)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        command.fresh_file(self._report)
        metric_file = directory / self._metric_file if self._metric_file else None
        if metric_file is not None:
            # What an earlier attempt left is not this one's result.
            command.remove(metric_file)
        argv = command.arguments(self._argv, spec, directory)
        base = processes.thread_environment(spec.threads) | self._variables
        variables = command.environment(base, spec, self._report, directory)
        where = command.working_directory(spec)
        reader, writer = _output()
        try:
            place = None if where is None else os.fsencode(where)
            self.launch(spec, argv, variables, fresh=False, directory=place, fds=[writer])
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return Process(output=reader, report=self._report, metric_file=metric_file)
