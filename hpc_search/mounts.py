"""What is known of a mount before anything is tried on it: whether its locks and caches can be trusted."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, Literal, NamedTuple

#: How trials are claimed in a run.
Claiming = Literal["lock", "exclusive"]
#: One machine, one cache: a lock excludes, and what was written under it is seen under it.
_LOCAL: Final = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}
)
#: Shared, with coherent caches and cluster-wide locks (Lustre: only with the option `flock`).
_COHERENT: Final = frozenset({"gpfs", "ceph"})
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
#: Overrides what the kind of mount says, for `plan`: lock or exclusive.
VARIABLE: Final = "HPC_SEARCH_CLAIMING"


class Mount(NamedTuple):
    """Type, options and place of a mount; "" where /proc does not say."""

    fstype: str
    options: tuple[str, ...]
    point: str
    source: str = ""


def mount_of(path: Path, table: str | None = None) -> Mount:
    """Return the mount that *path*, or its nearest existing parent, lies on; *table* is a mountinfo."""
    place = Path(os.path.realpath(path))
    if table is None:
        try:
            table = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        except OSError:
            table = ""
    found = Mount("", (), "")
    for mount in map(_parse, table.splitlines()):
        # A later line covers an earlier one at the same place.
        inside = place.is_relative_to(mount.point) if mount.point else False
        if inside and len(mount.point) >= len(found.point):
            found = mount
    return found


def _parse(line: str) -> Mount:
    before, _, after = line.partition(" - ")
    fields, rest = before.split(), after.split()
    if len(fields) < 6 or len(rest) < 2:
        return Mount("", (), "")
    options = {*fields[5].split(","), *(rest[2].split(",") if len(rest) > 2 else ())}
    return Mount(rest[0], tuple(sorted(options)), _unescaped(fields[4]), _unescaped(rest[1]))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def trusted(fstype: str, options: tuple[str, ...]) -> bool:
    """Return whether locks on such a mount exclude on all nodes and refresh what they protect.

    Not so on NFS (locks can be node-local, and were seen not to exclude across clients), BeeGFS
    (node-local unless the site changed it), FUSE and GlusterFS (exclude, yet caches are not refreshed),
    Lustre without `flock`, and whatever is not known.
    """
    return fstype in _LOCAL or fstype in _COHERENT or (fstype == "lustre" and "flock" in options)


def claiming(path: Path) -> Claiming:
    """Return how trials of a run at *path* shall be claimed, by the kind of its mount alone.

    The environment variable HPC_SEARCH_CLAIMING (lock or exclusive) outranks the mount.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted in ("lock", "exclusive"):
        return "lock" if wanted == "lock" else "exclusive"
    mount = mount_of(path)
    return "lock" if trusted(mount.fstype, mount.options) else "exclusive"
