"""Running SLURM's own commands: a reduced environment, a deadline, and no exception."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Final

from hpc_search.site import environment

#: Seconds that a question may take: a dead controller is reported after 9, a busy one needs up to a minute.
ASK_TIMEOUT_S: Final = 60.0


def ask(argv: Sequence[str], timeout: float = ASK_TIMEOUT_S) -> str | None:
    """Return the output of a SLURM command, None where it is missing, fails or takes *timeout* seconds."""
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
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
