"""Checking, repairing and adopting a run."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from hpc_search.errors import UsageError
from hpc_search.search.runs import locate

if TYPE_CHECKING:
    from hpc_search.fsck import Report
    from hpc_search.layout import Layout


def check(text: str, *, repair: bool = False) -> Report:
    """Verify every file of the run at *text* and, where asked, repair what can be repaired.

    Raises:
        UsageError: There is no run; or it shall be repaired and a worker may be live.
        TemporaryError: Another command is at work on the run.
    """
    from hpc_search import fsck

    layout = _existing(text)
    return fsck.repair_run(layout, _absent) if repair else fsck.check_run(layout)


def adopt(text: str) -> str:
    """Make a copied or moved run one that can be run where it is; return what to know.

    Raises:
        UsageError: There is no run, or the one it was copied from is at work.
    """
    from hpc_search import fsck

    return fsck.adopt(_existing(text), _absent)


def _existing(text: str) -> Layout:
    layout = locate(text)
    if not layout.root.is_dir():
        raise UsageError(f"there is no run {text!r}", hint="give its directory, or its name under runs/")
    return layout


def _absent(token: str) -> bool:
    """Return whether SLURM, healthy, does not know *token*; never where there is no SLURM."""
    if shutil.which("squeue") is None:
        return False
    from hpc_search.launchers.slurm import SlurmLauncher

    active = SlurmLauncher().active([token])
    return active is not None and token not in active
