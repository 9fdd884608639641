"""What git is asked: never changes a work tree, runs none of its programs, and may fail or be missing."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from pathlib import Path
from typing import Final

#: Seconds for all that is asked of one work tree; a huge one may not answer.
LIMIT: Final = 5.0
#: Bytes that are read of an answer.
_MOST: Final = 16 << 20
#: Programs that a repository's configuration would have git run.
_QUIET: Final = ("-c", "core.fsmonitor=false", "-c", "core.quotepath=false", "-c", "color.ui=false")
_CREDENTIALS: Final = re.compile(r"^([a-z+]+://)[^/@]*@|^(?!git@)[^/@]+@(?=[^/]+:)")


def ask(folder: Path, *arguments: str, seconds: float = LIMIT, most: int = _MOST) -> bytes | None:
    """Return what git prints in *folder*, its first *most* bytes; None where it fails or takes too long."""
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("GIT_")},
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    until = time.monotonic() + max(seconds, 0.1)
    try:
        with subprocess.Popen(
            ["git", *_QUIET, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                answer = _read(process, until, most)
                # More than was asked for is nothing to wait for.
                failed = len(answer) < most and process.wait(max(until - time.monotonic(), 0.1))
            finally:
                process.kill()
    except (OSError, subprocess.SubprocessError):
        return None
    return None if failed else answer


def _read(process: subprocess.Popen[bytes], until: float, most: int) -> bytes:
    """Return the first *most* bytes of what a process prints.

    Raises:
        TimeoutError: It goes on after *until*.
    """
    assert process.stdout is not None
    fd, size = process.stdout.fileno(), 0
    pieces: list[bytes] = []
    while size < most:
        if not select.select([fd], [], [], max(0.0, until - time.monotonic()))[0]:
            raise TimeoutError
        piece = os.read(fd, min(1 << 20, most - size))
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def text(folder: Path, *arguments: str, seconds: float = LIMIT) -> str:
    """Return one line that git prints, "" where it fails."""
    return (ask(folder, *arguments, seconds=seconds) or b"").decode(errors="replace").strip()


def top(folder: Path) -> Path | None:
    """Return the work tree of *folder*, None where it is in none; without asking git."""
    real = folder.resolve()
    return next((one for one in (real, *real.parents) if (one / ".git").exists()), None)


def ignored(folder: Path) -> tuple[set[str], str]:
    """Return what git ignores below *folder*, directories ending in /, and why it cannot tell."""
    if top(folder) is None:
        return set(), ""
    listed = ask(folder, "ls-files", "-z", "-o", "-i", "--exclude-standard", "--directory")
    if listed is None:
        return set(), f"git does not answer for {folder.name}/, so .gitignore was not honoured there"
    names = {os.fsdecode(name) for name in listed.split(b"\0") if name}
    # All of it is ignored, and yet it is imported.
    return (set() if "./" in names else names), ""


def without_credentials(url: str) -> str:
    """Return the address of a remote without user, password and token; a path here says nothing elsewhere."""
    if url.startswith(("/", "~", ".", "file:")):
        return "a directory of this machine"
    return _CREDENTIALS.sub(r"\1", url).partition("?")[0]
