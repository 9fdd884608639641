"""The command line: one file a verb, no logic."""

from __future__ import annotations

import argparse
import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from hpc_search import __version__
from hpc_search.cli import (
    cancel,
    collect,
    doctor,
    fsck,
    importing,
    pause,
    plan,
    refit,
    rerun,
    resume,
    retry,
    show,
    skip,
    status,
    submit,
    test,
    work,
)
from hpc_search.durable import NO_SPACE
from hpc_search.errors import EXIT_TEMPORARY, EXIT_USAGE, PASSING, HpcSearchError

_VERBS = (
    plan,
    submit,
    status,
    collect,
    refit,
    test,
    show,
    rerun,
    pause,
    resume,
    retry,
    skip,
    cancel,
    doctor,
    fsck,
    work,
    importing,
)
#: Allocations between two looks for garbage: reading an index makes 50,000 objects that all stay.
_GARBAGE: Final = 200_000
_ROOT: Final = "HPC_SEARCH_ROOT"
_EPILOG = """\
examples:
  hpc-search plan search.yaml                  check everything, make runs/<name>
  hpc-search submit NAME                       start workers: SLURM where there is sbatch, else here
  hpc-search status NAME                       what is done, what runs, what fails and why
  hpc-search collect NAME                      results and the best hyperparameters
  hpc-search refit NAME, test NAME             train the best again, look at the test side once
  hpc-search pause NAME, resume NAME           stop for a while, go on
  hpc-search retry NAME --cause oom            let failed trials run again
  hpc-search doctor DIR                        whether runs can live in a directory

exit codes: 0 done; 1 the search ended with failures; 2 wrong usage or configuration; 4 a damaged file;
  75 temporary, try again; 130 interrupted
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="hpc-search",
        description="Hyperparameter search and cross-validation on SLURM job arrays, without a server.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"hpc_search {__version__}")
    top.add_argument(
        "--root", metavar="DIR", help="where runs are found by name (default: runs; HPC_SEARCH_ROOT)"
    )
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    for module in _VERBS:
        module.add(verbs)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit code. A user's mistake gives a message, never a traceback."""
    _open_standard()
    texts = sys.argv[1:] if arguments is None else arguments
    if refused := _unnamable([*texts, os.environ.get(_ROOT, "")]):
        return refused
    given = parser().parse_args(arguments)
    if given.root:
        os.environ[_ROOT] = given.root
    os.umask(0o077)
    gc.set_threshold(_GARBAGE)
    try:
        code: int = given.run(given)
        sys.stdout.flush()
    except HpcSearchError as error:
        print(f"hpc-search: error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except UnicodeEncodeError as error:
        return _not_writable(error)
    except OSError as error:
        return _system_error(error, getattr(given, "run_dir", ""))
    return code


def _open_standard() -> None:
    """Open /dev/null for what the caller closed (`<&-`, `2>&-`): else the next file opened would be it."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number is taken: this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115 - open until the process ends
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _unnamable(texts: Sequence[str]) -> int:
    """Refuse arguments that no record can hold, before anything is made."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return _not_writable(error)
    return 0


def _not_writable(error: UnicodeEncodeError) -> int:
    """Say which text can be written neither into a record nor, with the locale as it is, to the output."""
    shown = error.object.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")[:200]
    problem, hint = "is not UTF-8: no record could name it", "rename it, or give another path"
    if "surrogate" not in error.reason:
        problem = f"cannot be printed as {error.encoding}"
        hint = "PYTHONUTF8=1 before the same command, or a locale with UTF-8"
    print(f"hpc-search: error: {shown} {problem}\n  next: {hint}", file=sys.stderr)
    return EXIT_USAGE


def _system_error(error: OSError, run: str) -> int:
    """Print what the system refused; what may pass by itself is temporary."""
    temporary = error.errno in PASSING
    where = f"{error.filename or run}: " if error.filename or run else ""
    print(f"hpc-search: error: {where}{error.strerror or error}", file=sys.stderr)
    hint = "the same command again later: the file system did not do what was asked" if temporary else ""
    if error.errno in NO_SPACE:
        hint = "free space or inodes, or raise the quota, then repeat the command"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "it has to be writable for you on this machine"
    if hint:
        print(f"  next: {hint}", file=sys.stderr)
    return EXIT_TEMPORARY if temporary else EXIT_USAGE
