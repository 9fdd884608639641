"""Scripts and logs in RUN/submitit: few files, whatever the number of submissions."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from hpc_search import durable
from hpc_search.launchers.base import Launcher, Request
from hpc_search.layout import Layout

#: What is kept of one task's log, and of all of them together, in bytes; the end is what matters.
_KEPT_LOG: Final = 16 << 10
_KEPT_ALL: Final = 1 << 20
_ENDED: Final = "ended.log"


def keep_script(layout: Layout, token: str, launcher: Launcher, request: Request) -> None:
    """Write what was sent to RUN/submitit, to be read by people."""
    data = launcher.script(request).encode()
    durable.replace(layout.submitit / f"{token}.sh", data)


def fold(layout: Layout, gone: Collection[str]) -> None:
    """Move the ends of the logs of the tokens *gone* to ``ended.log``, and remove their files."""
    names = sorted(os.listdir(layout.submitit))
    files = [layout.submitit / name for name in names if _token(name) in gone]
    if not files:
        return
    ended = layout.submitit / _ENDED
    parts = [_tail(ended, _KEPT_ALL), *map(_excerpt, files)]
    durable.replace(ended, b"".join(parts)[-_KEPT_ALL:], sync=False)
    for path in files:
        path.unlink(missing_ok=True)


def _token(name: str) -> str:
    """Return the token of a file name TOKEN.sh or TOKEN_TASK.log, "" for another."""
    if name.endswith(".sh"):
        return name.removesuffix(".sh")
    return name.rpartition("_")[0] if name.endswith(".log") else ""


def _excerpt(path: Path) -> bytes:
    text = b"" if path.suffix == ".sh" else _tail(path, _KEPT_LOG)
    return b"==> %s\n%s\n" % (os.fsencode(path.name), text.rstrip(b"\n")) if text.strip() else b""


def _tail(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - count))
            return file.read(count)
    except FileNotFoundError:
        return b""
