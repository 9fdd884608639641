"""What git is asked: never changes a work tree, runs none of its programs, and may fail or be missing."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

#: Seconds for all that is asked of one work tree; a huge one may not answer.
LIMIT: Final = 10.0
#: Programs that a repository's configuration would have git run.
_QUIET: Final = ("-c", "core.fsmonitor=false", "-c", "core.quotepath=false", "-c", "color.ui=false")
_CREDENTIALS: Final = re.compile(r"^([a-z+]+://)[^/@]*@")


def ask(folder: Path, *arguments: str, seconds: float = LIMIT) -> bytes | None:
    """Return what git prints in *folder*; None where it fails or takes too long."""
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("GIT_")},
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            ["git", *_QUIET, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=max(seconds, 0.1),
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return None if done.returncode else done.stdout


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
    """Return the address of a remote without the user and password that it may hold."""
    return _CREDENTIALS.sub(r"\1", url)
