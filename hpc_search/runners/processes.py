"""What a process of ours does to itself: its end with its parent, its signals, its threads."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
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


def death_with(parent: int) -> Callable[[], None]:
    """Return what a new process calls to be killed with *parent*; it lasts through exec."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    arguments = (_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)

    def set_death_signal() -> None:
        prctl(*arguments)
        if os.getppid() != parent:
            os._exit(1)

    return set_death_signal


def trial_signals() -> None:
    """Note stop signals without dying; children made later get the default back.

    A handler that does nothing is reset by exec, SIG_IGN would be inherited: DataLoader workers and
    programs started by the trial must die by SIGTERM as anywhere else.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in STOP_SIGNALS:
        signal.signal(number, _noted)
    os.register_at_fork(after_in_child=default_signals)


def _noted(*_: object) -> None:
    return


def default_signals() -> None:
    """Give the stop signals their default meaning."""
    for number in (*STOP_SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def thread_environment(threads: int) -> dict[str, str]:
    """Return the variables that set the number of threads before a library is loaded."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))


def template_environment(base: Mapping[str, str], threads: int) -> dict[str, str]:
    """Return the environment of a template or a fresh trial process."""
    return {
        **base,
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
    """Set the number of threads of the libraries that are loaded; the environment gave them one."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
    if threads != 1 and "numpy" in sys.modules:
        with suppress(ImportError):
            import threadpoolctl  # type: ignore[import-untyped]

            threadpoolctl.threadpool_limits(threads)


def prefer_as_oom_victim() -> None:
    """Let the kernel kill a trial before its supervisor when memory runs out."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")


def kill_group(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal the process group of *pid*, where it still exists."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
