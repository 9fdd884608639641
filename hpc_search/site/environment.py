"""What the tasks see of the submitter's environment: an allow list, never all of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: Variables whose values the script may show.
BASICS: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ"),
    *("LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "CONDA_EXE"),
)
_OWN: Final = "HPC_SEARCH_"
#: Of one worker or trial, not of a run: a submit from inside a job must not hand them on.
_PRIVATE: Final = frozenset(
    {
        *("HPC_SEARCH_TRIAL", "HPC_SEARCH_REPORT", "HPC_SEARCH_SEAT", "HPC_SEARCH_TOKEN"),
        "HPC_SEARCH_MEMORY_FRACTION",
    }
)
#: A name like this is never written into a script, whoever asked for it.
_SECRET: Final = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|PRIVATE", re.IGNORECASE)
#: What SLURM's own commands need besides the basics. SBATCH_* and SQUEUE_* would override our options.
_CLIENT: Final = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_CLUSTERS", "KRB5CCNAME")


def written(environ: Mapping[str, str], names: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the variables of *environ* whose values go into the script, *names* added to the basics."""
    own = (name for name in sorted(environ) if name.startswith(_OWN))
    wanted = dict.fromkeys((*BASICS, *own, *names))
    return {
        name: environ[name]
        for name in wanted
        if name in environ and name not in _PRIVATE and not _SECRET.search(name)
    }


def with_package(values: Mapping[str, str], package: Path) -> dict[str, str]:
    """Return *values* with the parent of *package* on PYTHONPATH, unless it is installed."""
    parent = package.parent
    if parent.name in ("site-packages", "dist-packages"):
        return dict(values)
    path = [entry for entry in values.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return {**values, "PYTHONPATH": os.pathsep.join(dict.fromkeys((*path, str(parent))))}


def forwarded(environ: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of *names* that are set and whose values must not be written."""
    return tuple(name for name in names if name in environ and _SECRET.search(name))


def client(environ: Mapping[str, str], forward: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the environment of a SLURM command: basics, what SLURM needs, and *forward*."""
    allowed = (*BASICS, *_CLIENT, *forward)
    return {name: environ[name] for name in allowed if name in environ}
