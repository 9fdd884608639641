"""Errors that a user meets, one class for each different action of the caller.

    HpcSearchError            exit code
    ├── UsageError            2   the command line, a path or a state that the user has to change
    │   ├── ConfigError       2   a search or profile file; every problem at once
    │   └── RefusedError      2   SLURM refused for good; its own words are shown
    ├── SearchFailedError     1   the search ended with failures the user must see
    ├── DamagedError          4   a file of a run does not verify
    └── TemporaryError        75  try again: a lock, a full disk, an unreachable controller

A message says what, where, what was found, what was expected, and the next command.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_DAMAGED: Final = 4
#: EX_TEMPFAIL of sysexits.h: the same command may succeed later.
EXIT_TEMPORARY: Final = 75
#: errno values of a disk, file server or node in trouble: the same command may succeed later. What a person
#: has to put right (a wrong path, missing rights, a read-only mount) is not among them.
PASSING: Final = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EINTR, errno.EAGAIN, errno.EBUSY,
        errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOLCK, errno.EDEADLK, errno.ETIMEDOUT,
        errno.EREMOTEIO, errno.ECOMM, errno.ENOTCONN, errno.ESHUTDOWN, errno.ECONNREFUSED,
        errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH,
    }
)  # fmt: skip


class HpcSearchError(Exception):
    """Base of every error that the command line shows without a traceback."""

    exit_code: int = EXIT_USAGE

    def __init__(self, message: str, *, hint: str = "", key: str = "") -> None:
        """Keep *message* and, in *hint*, the next command or change; *key* of the search file is meant."""
        super().__init__(message, hint)
        self.message = message
        self.hint = hint
        self.key = key

    def __str__(self) -> str:
        text = f"{self.key}: {self.message}" if self.key else self.message
        return f"{text}\n  next: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.key))


def _rebuild(kind: type[HpcSearchError], message: str, hint: str, key: str = "") -> HpcSearchError:
    error = kind.__new__(kind)
    HpcSearchError.__init__(error, message, hint=hint, key=key)
    return error


@contextmanager
def about(key: str) -> Iterator[None]:
    """Say of errors that do not know better that *key* of the search file is meant."""
    try:
        yield
    except HpcSearchError as error:
        error.key = error.key or key
        raise


class UsageError(HpcSearchError):
    """The user asked for something that cannot be done as asked."""


class RefusedError(UsageError):
    """SLURM refused a submission for good."""


class SearchFailedError(HpcSearchError):
    """The search ended, with failures that the user must see."""

    exit_code = EXIT_FAILED


class DamagedError(HpcSearchError):
    """A file does not verify; what it alone held is lost."""

    exit_code = EXIT_DAMAGED


class TemporaryError(HpcSearchError):
    """Something outside is busy or full; the same command may succeed later."""

    exit_code = EXIT_TEMPORARY


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a configuration file: where, what was found, what is allowed."""

    file: str
    line: int
    path: str
    message: str
    found: str = ""
    expected: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        text = f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"
        if self.found:
            text += f"\n    found:    {self.found}"
        if self.expected:
            text += f"\n    expected: {self.expected}"
        if self.hint:
            text += f"\n    hint:     {self.hint}"
        return text


class ConfigError(UsageError):
    """A configuration file has problems; all of them are in ``problems``."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep the *problems*, in the order of the file."""
        self.problems = problems
        count = len(problems)
        head = "1 problem" if count == 1 else f"{count} problems"
        super().__init__("\n".join([f"{head} in the configuration:", *map(str, problems)]))

    def __reduce__(self) -> tuple[object, ...]:
        return (ConfigError, (self.problems,))
