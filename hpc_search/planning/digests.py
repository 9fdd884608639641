"""RUN/digests.json: the digest of every file that `plan` made and nobody changes, and a copy of plan.json.

So a changed byte of any of them is found, and a damaged plan.json can be put back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.records import checked
from hpc_search.records.search import Struct

FORMAT: Final = "hpc_search.digests"
VERSION: Final = 1


class Digests(Struct, kw_only=True):
    """``files`` is RUN-relative path -> blake2b-128; ``plan`` is the text of plan.json."""

    format: str = FORMAT
    version: int = VERSION
    files: dict[str, str]
    plan: str


def digest(data: bytes) -> str:
    """Return the digest of a file's bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def encode_digests(files: Mapping[str, bytes], plan: bytes) -> bytes:
    """Return digests.json for *files* (RUN-relative path -> content) and the bytes of plan.json."""
    content = {name: digest(data) for name, data in sorted(files.items())}
    return checked.encode(Digests(files=content, plan=plan.decode()))


def read_digests(layout: Layout) -> Digests | None:
    """Return digests.json, None where it is not there.

    Raises:
        DamagedError: It does not verify.
    """
    try:
        data = layout.digests.read_bytes()
    except FileNotFoundError:
        return None
    return checked.decode(data, Digests, str(layout.digests))


def damaged_splits(layout: Layout, *, tested: bool = False) -> str:
    """Return which manifest of the folds is not the one planned, "" where all are or nobody can tell.

    Those of the test sides are not even read, but where they are *tested*.
    """
    try:
        digests = read_digests(layout)
    except DamagedError:
        return ""
    folder = f"{layout.splits.name}/"
    for name, planned in digests.files.items() if digests is not None else ():
        path = layout.root / name
        if not name.startswith(folder) or (path.name == "test.csv" and not tested):
            continue
        if not (path.is_file() and digest(path.read_bytes()) == planned):
            found = "is not what was planned" if path.is_file() else "is missing"
            return f"{path} {found}; `hpc-search fsck {layout} --repair` makes it again"
    return ""
