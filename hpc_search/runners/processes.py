"""What a process of ours does to itself: its end with its parent, its signals, its threads."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Any, Final

from hpc_search.runners.keeper import death_with

#: Stop signals: the supervisor decides on them, its trials only note them.
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent dies; at once where *parent* is dead already."""
    death_with(parent)()


def trial_signals() -> None:
    """Note stop signals without dying; children made later get the default back.

    A handler that does nothing is reset by exec, SIG_IGN would be inherited. Forked children get TERM back,
    which Pool and Process end them with; USR1 and USR2, which SLURM sends to whole steps, they note too.
    """
    for number in (*STOP_SIGNALS, signal.SIGINT):
        signal.signal(number, _noted)
    os.register_at_fork(after_in_child=_forked_signals)
    _steady_loaders()


def _noted(*_: object) -> None:
    return


def _forked_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _steady_loaders() -> None:
    """Let DataLoader workers live through a TERM to the whole step, so that the trial reaches its next step.

    torch gives them a handler of its own that dies of it. They end by a message, and with the trial's group.
    """
    handling: Any = sys.modules.get("torch.utils.data._utils.signal_handling")
    install = getattr(handling, "_set_worker_signal_handlers", None)
    if install is None:
        return

    def install_and_note() -> None:
        install()
        signal.signal(signal.SIGTERM, _noted)

    handling._set_worker_signal_handlers = install_and_note  # noqa: SLF001 - there is no public way


def thread_environment(threads: int) -> dict[str, str]:
    """Return the variables that set the number of threads before a library is loaded."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))


def template_environment(threads: int) -> dict[str, str]:
    """Return what a template or a fresh trial process has in its environment beside the worker's."""
    return {
        **thread_environment(threads),
        # Sets would iterate differently in two templates.
        "PYTHONHASHSEED": "0",
        # torch.cuda.is_available() must not initialise CUDA before a fork.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        "PYTHONUNBUFFERED": "1",
        # pyarrow's allocator (pandas and scikit-learn load it) starts a thread, and threads do not fork.
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
    }


def set_threads(threads: int) -> None:
    """Set the number of threads of the libraries that are loaded, and of those that will be."""
    for name, value in thread_environment(threads).items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
    if threads != 1 and "numpy" in sys.modules:
        with suppress(ImportError):
            import threadpoolctl

            threadpoolctl.threadpool_limits(threads)


def prefer_as_oom_victim() -> None:
    """Let the kernel kill a trial before its supervisor when memory runs out."""
    with suppress(OSError):
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"500")
        finally:
            os.close(fd)


def kill_group(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal the process group of *pid*, and *pid* itself in whatever group, where they still exist."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
    with suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) != pid:
            os.kill(pid, number)
