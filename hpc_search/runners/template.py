"""The template: imports the user's code once, then forks one process a trial.

It is started by exec with no lock open, never touches CUDA, and stays single-threaded; it is parent
and reaper of the trials. ``python -m hpc_search.runners.template FD PARENT`` talks over socket FD.
"""

from __future__ import annotations

import array
import gc
import os
import re
import selectors
import signal
import socket
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from hpc_search.runners import child, messages, processes
from hpc_search.trial import Spec

#: Seconds that a forked canary has to answer in.
_CANARY: Final = 10.0
_TORCH: Final = re.compile(r"^\s*(?:import|from)\s+torch\b", re.MULTILINE)


def main(arguments: list[str]) -> None:
    """Serve until the supervisor closes the socket."""
    sock = socket.socket(fileno=int(arguments[0]))
    processes.die_with_parent(int(arguments[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in processes.STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    Template(sock).serve()


class Template:
    """The loop of the template process."""

    def __init__(self, sock: socket.socket) -> None:
        """Talk to the supervisor over *sock*."""
        self._socket = sock
        self._inbox = messages.Inbox()
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ, 0)
        self._fds: list[int] = []

    def serve(self) -> None:
        """Answer requests and report ended trials until the supervisor is gone."""
        while True:
            for key, _ in self._selector.select():
                if key.data == 0:
                    if not self._receive():
                        return
                else:
                    self._reap(key.fd, key.data)

    def _send(self, kind: str, **content: Any) -> None:
        with suppress(OSError):
            self._socket.sendall(messages.encode(kind, content))

    def _receive(self) -> bool:
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, 1 << 20, 2)
        except OSError:
            return False
        if not data:
            return False
        self._fds.extend(fds)
        for message in self._inbox.feed(data):
            if message["kind"] == "prepare":
                self._prepare(message)
            elif message["kind"] == "spawn":
                self._spawn(msgspec.convert(message["spec"], Spec))
        return True

    def _prepare(self, message: dict[str, Any]) -> None:
        """Import the user's code, warm what a fork would otherwise pay each time, and check the result."""
        try:
            child.load(message["callable"], message["code"])
            if "torch" in sys.modules or _mentions_torch(message["code"]):
                _warm_torch()
        except BaseException as error:  # noqa: BLE001 - the border around the user's imports
            self._send("broken", detail=child.printable(child.trace(error)))
            return
        # A collection in a trial would write to, and so copy, every page that it shares with the template.
        gc.collect()
        gc.freeze()
        self._send("ready", doubt=fork_doubt() or _canary(), versions=_versions())

    def _spawn(self, spec: Spec) -> None:
        channel, log = self._fds.pop(0), self._fds.pop(0)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._selector.close()
            self._socket.close()
            os.setpgid(0, 0)
            processes.die_with_parent(parent)
            child.run(spec, socket.socket(fileno=channel), log)
        with suppress(OSError):
            os.setpgid(pid, pid)
        os.close(channel)
        os.close(log)
        self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
        self._send("spawned", pid=pid, number=spec.number)

    def _reap(self, pidfd: int, pid: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        # Whatever the trial left behind in its group ends with it.
        processes.kill_group(pid)
        self._send("exited", pid=pid, status=os.waitstatus_to_exitcode(status))


def _versions() -> dict[str, str]:
    from hpc_search.ledger import library_versions

    return library_versions()


def _mentions_torch(code: str) -> bool:
    """Return whether a source in code.zip imports torch: then it is loaded once, here, and seeded."""
    if not code:
        return False
    with zipfile.ZipFile(code) as archive:
        names = [name for name in archive.namelist() if name.endswith(".py")]
        return any(_TORCH.search(archive.read(name).decode(errors="replace")) for name in names)


def _warm_torch() -> None:
    """Import what torch loads lazily; a step on one thread where no CUDA context could come of it."""
    import torch
    import torch._dynamo

    torch.set_num_threads(1)
    if torch.version.cuda is None:
        layer = torch.nn.Linear(2, 2)
        optimizer = torch.optim.AdamW(layer.parameters())
        layer(torch.zeros(1, 2)).sum().backward()
        optimizer.step()


def fork_doubt() -> str:
    """Return why this process must not fork, "" where it may."""
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"importing the code started {threads - 1} threads"
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if os.readlink(fd).startswith("/dev/nvidia"):
                return "importing the code opened a GPU"
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "importing the code initialised CUDA"
    return ""


def _canary() -> str:
    """Fork once; return why the fork cannot be trusted, "" where it answered."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, b"x")
        os._exit(0)
    os.close(writer)
    pidfd = os.pidfd_open(pid)
    ready = selectors.DefaultSelector()
    ready.register(pidfd, selectors.EVENT_READ)
    answered = bool(ready.select(_CANARY))
    if not answered:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(pidfd)
    alive = os.read(reader, 1) == b"x"
    os.close(reader)
    ready.close()
    return "" if answered and alive and status == 0 else "a forked process did not answer"


def send_spawn(sock: socket.socket, spec: dict[str, Any], channel: int, log: int) -> None:
    """Ask the template on *sock* for a trial that talks over *channel* and prints to *log*."""
    frame = messages.encode("spawn", {"spec": spec})
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [channel, log]))]
    sent = sock.sendmsg([frame], rights)
    if sent < len(frame):
        sock.sendall(frame[sent:])


def run_fresh(arguments: list[str]) -> None:
    """Run one trial in this process, started by exec: where forking cannot be trusted."""
    channel, log, parent = map(int, arguments[:3])
    processes.die_with_parent(parent)
    sock = socket.socket(fileno=channel)
    inbox = messages.Inbox()
    while True:
        for message in inbox.feed(sock.recv(1 << 20)):
            spec = msgspec.convert(message["spec"], Spec)
            child.run(_loaded(spec), sock, log)


def _loaded(spec: Spec) -> Spec:
    with suppress(BaseException):
        # Import before the seeds are set, as the template does; an error shows when it is repeated.
        child.load(spec.callable, spec.code)
    return spec


if __name__ == "__main__":
    if sys.argv[1] == "fresh":
        run_fresh(sys.argv[2:])
    else:
        main(sys.argv[1:])
