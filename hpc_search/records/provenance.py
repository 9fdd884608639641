"""Where the code of a run came from: repositories, packages, versions, and snapshots taken later."""

from __future__ import annotations

import sys
from typing import Final, Literal

import msgspec

from hpc_search.records.search import Struct

PROVENANCE: Final = "hpc_search.provenance"
SNAPSHOT: Final = "hpc_search.snapshot"
VERSION: Final = 1


class Repository(Struct, frozen=True, kw_only=True):
    """A git work tree that sources came from; ``holds`` are the first names of what was taken from it.

    ``branch`` is "" for a detached head, ``remote`` has no user and no password. ``dropped`` counts the
    lines of its diff that looked like keys or tokens; ``note`` says what git could not tell.
    """

    holds: tuple[str, ...]
    commit: str = ""
    branch: str = ""
    remote: str = ""
    dirty: bool = False
    untracked: tuple[str, ...] = ()
    dropped: int = 0
    note: str = ""


class Provenance(Struct, frozen=True, kw_only=True):
    """provenance.json: what was there when the run was planned.

    ``packages`` are the installed distributions that the trial's code imports. ``diff`` is the name of the
    file with the changes that no commit has, "" without one.
    """

    format: str = PROVENANCE
    version: int = VERSION
    created: float
    python: str
    platform: str
    hpc_search: str
    #: Commit of hpc_search itself where it runs from a work tree.
    hpc_search_commit: str = ""
    packages: dict[str, str] = msgspec.field(default_factory=dict)
    digest: str = ""
    files: int = 0
    bytes: int = 0
    left_out: tuple[str, ...] = ()
    repositories: tuple[Repository, ...] = ()
    diff: str = ""


class SnapshotRecord(Struct, frozen=True, kw_only=True):
    """ledger/snapshots/NNNN.json: which code workers that start from now on run; the newest one counts.

    ``packages`` "any" lets installed packages differ from those of the plan. ``created`` is for people only.
    """

    format: str = SNAPSHOT
    version: int = VERSION
    number: int
    digest: str
    #: Name of the archive in RUN.
    code: str
    created: float
    packages: Literal["same", "any"] = "same"
    repositories: tuple[Repository, ...] = ()
    diff: str = ""


def library_versions() -> dict[str, str]:
    """Return the versions that a result depends on, of the modules loaded now."""
    versions = {"python": sys.version.split()[0]}
    for name in ("hpc_search", "torch", "numpy"):
        module = sys.modules.get(name)
        version = getattr(module, "__version__", None)
        if version is not None:
            versions[name] = str(version)
    return versions
