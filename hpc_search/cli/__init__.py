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
from hpc_search.cli import cancel, collect, doctor, fsck, plan, rerun, show, status, submit, work
from hpc_search.durable import NO_SPACE
from hpc_search.errors import EXIT_TEMPORARY, EXIT_USAGE, PASSING, HpcSearchError

_VERBS = (plan, submit, status, collect, show, rerun, cancel, doctor, fsck, work)
#: Allocations between two looks for garbage: reading an index makes 50,000 objects that all stay.
_GARBAGE: Final = 200_000
_EPILOG = """\
examples:
  hpc-search plan search.yaml                  check everything, make runs/<name>
  hpc-search submit NAME                       start workers: SLURM where there is sbatch, else here
  hpc-search status NAME                       what is done, what runs, what fails and why
  hpc-search collect NAME                      results and the best hyperparameters
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
    if sys.stdout is None:
        # Started with its output closed (`>&-`).
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open until the process ends
    given = parser().parse_args(arguments)
    if given.root:
        os.environ["HPC_SEARCH_ROOT"] = given.root
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
    except OSError as error:
        return _system_error(error, getattr(given, "run_dir", ""))
    return code


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
