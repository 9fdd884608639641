"""Running SLURM's own commands: a reduced environment, a deadline, and no exception."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Final, NamedTuple

from hpc_search.site import environment

#: Seconds that a question may take: a dead controller is reported after 9, a busy one needs up to a minute.
ASK_TIMEOUT_S: Final = 60.0


class Reply(NamedTuple):
    """What a command printed, and its exit status; None where it is missing or took too long."""

    status: int | None
    out: str = ""
    err: str = ""


def reply(argv: Sequence[str], timeout: float = ASK_TIMEOUT_S) -> Reply:
    """Return what a SLURM command said; no exception."""
    try:
        done = subprocess.run(
            list(argv),
            env=environment.client(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        # Bytes in spite of text=True: it was cut short before it was decoded.
        said: object = error.stderr or b""
        return Reply(None, err=said.decode(errors="replace") if isinstance(said, bytes) else str(said))
    except OSError as error:
        return Reply(None, err=f"{argv[0]}: {error.strerror}")
    return Reply(done.returncode, done.stdout, done.stderr)


def ask(argv: Sequence[str], timeout: float = ASK_TIMEOUT_S) -> str | None:
    """Return the output of a SLURM command, None where it is missing, fails or takes *timeout* seconds."""
    said = reply(argv, timeout)
    return said.out if said.status == 0 else None
