"""The launcher: starts a program, or a fresh Python process, a trial; parent and reaper of it.

``python -m hpc_search.runners.launcher FD PARENT`` talks over socket FD. It imports no code of the user's.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

from hpc_search.runners import processes
from hpc_search.runners.keeper import death_with
from hpc_search.runners.parent import Parent


class Launcher(Parent):
    """The loop of the launcher process."""

    _popen: subprocess.Popen[bytes] | None = None

    def take(self, message: dict[str, Any], fds: list[int]) -> None:
        """Start what the supervisor asks for; *fds* are the output and, where it has one, the channel."""
        argv: list[bytes] = message["argv"]
        if message["fresh"]:
            argv = [*argv, *(str(number).encode() for number in (fds[1], fds[0], os.getpid()))]
        try:
            self._popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=fds[0],
                stderr=fds[0],
                pass_fds=fds if message["fresh"] else (),
                env={**os.environb, **message["environment"]},
                cwd=message["directory"],
                process_group=0,
                # One thread here, so that code between fork and exec is safe.
                preexec_fn=_begin(os.getpid()),  # noqa: PLW1509
            )
        except OSError as error:
            name = os.fsdecode(error.filename or argv[0])
            self.send("unstarted", errno=error.errno, words=error.strerror or str(error), filename=name)
        else:
            self.started(self._popen.pid, message["number"])
            # Its end is reaped with those of all other children.
            self._popen.returncode = 0
        finally:
            for fd in fds:
                os.close(fd)


def _begin(parent: int) -> Any:
    die_with_parent = death_with(parent)

    def begin() -> None:
        die_with_parent()
        processes.prefer_as_oom_victim()

    return begin


def main(arguments: list[str]) -> None:
    """Serve until the supervisor closes the socket."""
    processes.die_with_parent(int(arguments[1]))
    Launcher(socket.socket(fileno=int(arguments[0]))).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
