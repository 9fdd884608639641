"""Real data for tests, at HPC_SEARCH_DATA or beside the checkout; tests skip where they are absent."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def real_file(name: str) -> Path:
    """Return the path of the data file *name*; the test skips where there is none."""
    path = Path(os.environ.get("HPC_SEARCH_DATA", _BESIDE)) / name
    if not path.is_file():
        pytest.skip(f"real data: no {name} at HPC_SEARCH_DATA, nor in ../shared/data")
    return path


def members(name: str, wanted: Sequence[str]) -> Mapping[str, bytes]:
    """Return the content of the *wanted* members of the data file *name*, a tar file."""
    found: dict[str, bytes] = {}
    with tarfile.open(real_file(name)) as archive:
        for member in archive:
            if member.name in wanted and (file := archive.extractfile(member)) is not None:
                found[member.name] = file.read()
            if len(found) == len(wanted):
                break
    return found
