"""File systems that a campaign may break: a small tmpfs, and ext4 on an image. Both need root."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def possible() -> bool:
    """Return whether this process can mount: root, with the tools, where the kernel allows it."""
    return (
        os.geteuid() == 0
        and all(map(shutil.which, ("mount", "umount", "mkfs.ext4", "unshare")))
        and _allowed()
    )


def _allowed() -> bool:
    tried = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True)
    return tried.returncode == 0 and Path("/dev/loop-control").exists()


@contextmanager
def mounted(at: Path, *arguments: str) -> Iterator[Path]:
    """Mount at *at* by the arguments of mount(8), for the time of the block."""
    at.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *arguments, str(at)], check=True, capture_output=True)
    try:
        yield at
    finally:
        unmount(at)


def unmount(at: Path, seconds: float = 20.0) -> None:
    """Unmount *at*; the last process that uses it may still be ending."""
    end = time.monotonic() + seconds
    while subprocess.run(["umount", str(at)], check=False, capture_output=True).returncode != 0:
        if time.monotonic() > end:
            subprocess.run(["umount", "--lazy", str(at)], check=False, capture_output=True)
            return
        time.sleep(0.05)


def make_image(path: Path, mebibytes: int) -> None:
    """Make an ext4 file system of *mebibytes* in the file *path*."""
    with suppress(FileNotFoundError):
        path.unlink()
    with path.open("wb") as file:
        file.truncate(mebibytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-N", "8192", str(path)], check=True, capture_output=True)
