"""The template: imports the user's code once, then forks one process a trial.

It is started by exec with no lock open, never touches CUDA, and stays single-threaded; it is parent
and reaper of the trials. ``python -m hpc_search.runners.template FD PARENT`` talks over socket FD.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from hpc_search.planning.packages import differences
from hpc_search.records.provenance import library_versions
from hpc_search.runners import child, messages, processes
from hpc_search.runners.keeper import death_with
from hpc_search.runners.parent import Parent
from hpc_search.trial import Spec

#: Seconds that a forked canary has to answer in.
_CANARY: Final = 30.0
#: Side of the matrices that it multiplies: large enough for all libraries to use their threads.
_SQUARE: Final = 512
#: NVML counts its users; torch adds one at each question.
_NVML_USES: Final = 64
#: What the device files of GPUs begin with.
_GPU: Final = "/dev/nvidia"
#: A first save loads h5py: 0.15 s that every trial would pay.
_SAVES: Final = re.compile(r"\.(?:save|restore)\(")
_TORCH: Final = re.compile(r"^\s*(?:import|from)\s+torch\b", re.MULTILINE)


def main(arguments: list[str]) -> None:
    """Serve until the supervisor closes the socket."""
    processes.die_with_parent(int(arguments[1]))
    Template(socket.socket(fileno=int(arguments[0]))).serve()
    # Nothing that the user's code registered may hold up the end.
    os._exit(0)


class Template(Parent):
    """The loop of the template process."""

    _die_with_me: Callable[[], None] | None = None

    def take(self, message: dict[str, Any], fds: list[int]) -> None:
        """Import the user's code, or fork a trial; *fds* are its channel and its output."""
        if message["kind"] == "prepare":
            self._prepare(message)
        elif message["kind"] == "spawn":
            self._spawn(msgspec.convert(message["spec"], Spec), *fds)

    def _prepare(self, message: dict[str, Any]) -> None:
        """Import the user's code, warm what a fork would otherwise pay each time, and check the result."""
        found = differences(message["packages"], message["python"])
        if found.refused and not message["any_packages"]:
            self.send("differs", detail="; ".join(found.refused), told=found.told)
            return
        try:
            _load(message["callable"], message["code"])
        except BaseException as error:  # noqa: BLE001 - the border around the user's imports
            self.send("broken", detail=child.printable(child.trace(error)))
            return
        _release_nvml()
        # A collection in a trial would write to, and so copy, every page that it shares with the template.
        gc.collect()
        gc.freeze()
        self.keep_children()
        doubt = fork_doubt() or canary(message["threads"])
        self.send("ready", doubt=doubt, versions=library_versions(), told=found.refused + found.told)

    def _spawn(self, spec: Spec, channel: int, log: int) -> None:
        # What is made before the fork is made once, not in every child.
        self._die_with_me = self._die_with_me or death_with(os.getpid())
        pid = os.fork()
        if pid == 0:
            self._die_with_me()
            self.leave()
            os.setpgid(0, 0)
            child.run(spec, socket.socket(fileno=channel), log)
        with suppress(OSError):
            os.setpgid(pid, pid)
        os.close(channel)
        os.close(log)
        self.started(pid, spec.number)


def _load(reference: str, roots: Sequence[str]) -> None:
    """Import the user's code, and what its trials would otherwise import after their seeds are set."""
    child.load(reference, roots)
    sources = list(_sources(roots))
    if "torch" in sys.modules or any(map(_TORCH.search, sources)):
        _warm_torch()
    if any(map(_SAVES.search, sources)):
        import h5py  # noqa: F401


def _sources(roots: Sequence[str]) -> Iterator[str]:
    """Yield the sources that trials may run: what was imported from *roots*, and the modules beside it.

    A package may have modules that no trial imports: what they need is not loaded for them.
    """
    paths = {str(getattr(module, "__file__", None)) for module in list(sys.modules.values())}
    paths = {path for path in paths if path.startswith(tuple(f"{root}{os.sep}" for root in roots))}
    for root in roots:
        with suppress(OSError):
            paths.update(entry.path for entry in os.scandir(root) if entry.is_file())
    for path in sorted(path for path in paths if path.endswith(".py")):
        with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            yield file.read()


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
    if _gpu_open():
        return "importing the code opened a GPU"
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "importing the code initialised CUDA"
    return ""


def _gpu_open() -> bool:
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if os.readlink(fd).startswith(_GPU):
                return True
    return False


def _release_nvml() -> None:
    """Close what ``torch.cuda.is_available()`` opened to count the GPUs; pynvml's users keep theirs."""
    cuda: Any = sys.modules.get("torch.cuda")
    if cuda is None or cuda.is_initialized() or "pynvml" in sys.modules or not _gpu_open():
        return
    with suppress(OSError, AttributeError):
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        for _ in range(_NVML_USES):
            if nvml.nvmlShutdown() != 0:
                return


def canary(threads: int, seconds: float = _CANARY) -> str:
    """Fork once and use what a trial may use; return why forks cannot be trusted, "" where it answered."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _exercise(max(2, threads))
            os.write(writer, b"x")
        finally:
            os._exit(0)
    os.close(writer)
    # The end of the process can be read, too.
    select.select([reader], [], [], seconds)
    os.set_blocking(reader, False)
    answered = None
    with suppress(BlockingIOError):
        answered = os.read(reader, 1)
    os.close(reader)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if answered is None:
        return f"a forked process did not answer within {seconds:g} s"
    return "" if answered else "a forked process died"


def _exercise(threads: int) -> None:
    """Use *threads* threads: a pool of them that was inherited by the fork hangs for ever."""
    processes.set_threads(threads)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.ones((_SQUARE, _SQUARE)) @ numpy.ones((_SQUARE, _SQUARE))
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        if torch.cuda._is_in_bad_fork():  # noqa: SLF001 - what torch itself asks before it refuses CUDA
            raise RuntimeError
        torch.ones(_SQUARE, _SQUARE) @ torch.ones(_SQUARE, _SQUARE)
        torch.ones(_SQUARE * _SQUARE).exp().sum()


def run_fresh(arguments: list[str]) -> None:
    """Run one trial in this process, started by exec: where forking cannot be trusted."""
    channel, log, parent = map(int, arguments[:3])
    processes.die_with_parent(parent)
    sock = socket.socket(fileno=channel)
    for fd in (channel, log):
        os.set_inheritable(fd, False)
    inbox = messages.Inbox()
    while data := sock.recv(1 << 20):
        for message in inbox.feed(data):
            child.run(_loaded(msgspec.convert(message["spec"], Spec)), sock, log)


def _loaded(spec: Spec) -> Spec:
    with suppress(BaseException):
        # Import before the seeds are set, as the template does; an error shows when it is repeated.
        _load(spec.callable, spec.code)
    return spec


if __name__ == "__main__":
    if sys.argv[1] == "fresh":
        run_fresh(sys.argv[2:])
    else:
        main(sys.argv[1:])
