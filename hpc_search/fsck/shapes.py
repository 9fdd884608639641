"""What every name of a run is: a regular file, a directory, or something that does not belong there.

Only looked at with lstat: what is no regular file is never opened.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hpc_search import durable
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding, note

#: Seconds by the file server's clock after which nobody finishes a temporary file any more.
_OLD: Final = 3600.0
#: Directories whose content is for people, made again, or the trial's own.
_FOREIGN: Final = re.compile(
    r"((submitit|cache)(?!/\.t-)|reruns|refit|quarantine)(/|$)|checkpoints/\d+/files(/|$)"
)
_FILE: Final = re.compile(
    r"plan\.(\d{3,}\.)?json|search\.(\d{3,}\.)?yaml|digests\.\d{3,}\.json|instance\.json|digests\.json|code\.([0-9a-f]{8}\.)?(zip|diff)|provenance\.json|profile\.yaml|doctor\.json"
    r"|audit\.log|audit/fold_\d{2,}\.log|report\.html|results/(?:[\w-]+/)?[^/]*\.[^/]*"
    r"|vault/(opening|result|again|refused)\.\d{3,}(\.\d{2,})?\.json"
    r"|splits/splits\.json|splits/fold_\d+/(train|val|test)\.csv"
    r"|ledger/(claims\.bin|[a-z]+\.lock|began|stop|paused|skipped|mode\.exclusive)"
    r"|ledger/seals/\d+\.jsonl|ledger/submits/\d+\.(intent|jobs)\.json|ledger/archive/\d+"
    r"|ledger/(stages|stopped|snapshots|retries)/\d+\.json"
    r"|ledger/proposals/(\d{7}|packed\.\d{7}-\d{7}\.jsonl)"
    r"|ledger/open/sealed\.\d{8}-\d{8}"
    r"|workers/[0-9a-f]{16}/(journal\.\d+\.jsonl|heartbeat|log\.txt|reserve|report\.jsonl)"
    r"|samples/[0-9a-f]{16}\.\d+\.bin|checkpoints/\d{6,}/a\d+-[0-9a-f]{16}\.[01]\.h5"
    r"|cache/reconciled|quarantine/known\.jsonl"
)
#: Links or small files; `superblock` judges them.
_NAME: Final = re.compile(r"ledger/open/\d{6}/(size|[cp]\d+\.\d+|d\d+)")
_FOLDER: Final = re.compile(
    r"ledger(/(seals|retries|submits|archive|stages|stopped|snapshots|proposals|open(/\d{6})?))?"
    r"|workers(/[0-9a-f]{16})?|samples"
    r"|checkpoints(/\d{6,})?|splits(/fold_\d+)?|vault|audit|results(/[\w-]+)?|submitit|cache|reruns|refit|quarantine"
)
_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


@dataclass(slots=True)
class Tree:
    """RUN-relative path -> stat of what is below a run, links not followed: directories, and the rest.

    A directory that stands where a file belongs is not looked into, one with a temporary name is no other.
    """

    folders: dict[str, os.stat_result] = field(default_factory=dict)
    files: dict[str, os.stat_result] = field(default_factory=dict)


def walk(disk: Disk) -> Tree:
    """Return everything below the run."""
    root = disk.layout.root
    found = Tree()
    pending = [root]
    while pending:
        for path in disk.listed(pending.pop()):
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                disk.failed(path, error)
                continue
            name = disk.name(path)
            if not stat.S_ISDIR(status.st_mode) or path.name.startswith(durable.TEMPORARY):
                found.files[name] = status
                continue
            found.folders[name] = status
            if not (_FILE.fullmatch(name) or _NAME.fullmatch(name)):
                pending.append(path)
    return found


def foreign(path: str) -> bool:
    """Return whether *path* is below a directory that fsck does not judge."""
    return _FOREIGN.match(path) is not None


def misfits(disk: Disk, tree: Tree) -> list[Case]:
    """Return a case for everything that stands where something else belongs; its content is not looked at."""
    wrong = [(name, status, "a file") for name, status in tree.folders.items() if _FILE.fullmatch(name)]
    for name, status in tree.files.items():
        if _FILE.fullmatch(name) and not stat.S_ISREG(status.st_mode):
            wrong.append((name, status, "a file"))
        elif _FOLDER.fullmatch(name) and not os.path.isdir(disk.layout.root / name):
            wrong.append((name, status, "a directory"))
    return [
        Case(
            Finding(path=name, what=f"it is {_kind(disk.layout.root / name, status)}, expected {expected}"),
            "quarantine",
        )
        for name, status, expected in sorted(wrong, key=lambda one: one[0])
    ]


def _kind(path: Path, status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        try:
            return f"a symbolic link to {os.readlink(path)}"
        except OSError:
            return "a symbolic link"
    return next((words for is_kind, words in _KINDS if is_kind(status.st_mode)), "something else")


def check_names(tree: Tree) -> Iterator[Case]:
    """Yield leftovers of interrupted writes, and names that no run has."""
    now = _now(tree.files)
    for path, status in tree.files.items():
        if foreign(path):
            continue
        if durable.TEMPORARY in path:
            age = now - status.st_mtime
            what = f"a write that was interrupted left it {age / 3600:.1f} h ago"
            if age > _OLD:
                yield Case(Finding(path=path, what=what), "remove")
            else:
                yield note(path, f"{what}: it may still be at work")
        elif _FOLDER.fullmatch(path):
            yield note(path, "it is a symbolic link to a directory, which holds these files of the run")
        elif _FILE.fullmatch(path) is None and _NAME.fullmatch(path) is None:
            yield note(path, "is no file of a run; it is left alone")


def _now(found: Mapping[str, os.stat_result]) -> float:
    """Return the file server's time, or a little before: that of the newest file."""
    return max((status.st_mtime for status in found.values()), default=0.0)
