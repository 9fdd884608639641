"""What a plan notes of where its code came from: git's words, installed packages, this machine's Python."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

import hpc_search
from hpc_search.planning import git, ignoring
from hpc_search.planning.archive import Snapshot
from hpc_search.planning.packages import packages
from hpc_search.records.provenance import Provenance, Repository

#: A larger diff is cut here.
DIFF_BYTES: Final = 1 << 20
#: More of it is not read.
_READ_BYTES: Final = 4 * DIFF_BYTES
#: A longer line of a diff is no source.
_LINE_BYTES: Final = 4096
#: Files that git does not track, named at most.
_UNTRACKED: Final = 200
_SECRET_LINE: Final = re.compile(
    rb"AKIA[0-9A-Z]{12}|ASIA[0-9A-Z]{12}|\bgh[pousr]_[A-Za-z0-9]{16}|github_pat_[A-Za-z0-9]|\bglpat-[\w-]{12}"
    rb"|\bhf_[A-Za-z0-9]{16}|\bsk-[A-Za-z0-9_-]{16}|\bxox[abprs]-[\w-]{10}|\bAIza[\w-]{30}|\beyJ[\w-]{16,}\.[\w-]{10}"
    rb"|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^/\s@]+@"
    rb"|(?:passw(?:or)?d|passwd|token|secret|credential|api_?key|access_?key)s?(?:[_-]\w*)?[\"']?\s*(?:=(?!=)|:)\s*"
    rb"(?:[\"'][^\"']+[\"']|[^\s\"'(){}\[\],;]{8,}\s*$)",
    re.IGNORECASE,
)
_KEY_BEGINS: Final = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY")
_KEY_ENDS: Final = re.compile(rb"-----END [A-Z ]*PRIVATE KEY")
_SECTION: Final = re.compile(rb'diff --git "?a/(.*?)"? "?b/')


class Gathered(NamedTuple):
    """provenance.json and the bytes of code.diff, b"" without one."""

    provenance: Provenance
    diff: bytes


def gather(
    snapshot: Snapshot, roots: Sequence[Path], imported: Iterable[str], *, diff: bool, name: str
) -> Gathered:
    """Return where the sources in *roots* come from; *name* is that of the diff, which *diff* asks for.

    Nothing here fails: what git or an installation cannot tell is left empty, with a note.
    """
    found, changes = repositories(snapshot, roots) if diff else ((), b"")
    own = Path(hpc_search.__file__).parent.parent
    provenance = Provenance(
        created=round(time.time(), 3),
        python=platform.python_version(),
        platform=platform.platform(),
        hpc_search=hpc_search.__version__,
        hpc_search_commit=git.text(own, "rev-parse", "HEAD") if (own / ".git").exists() else "",
        packages=packages(imported),
        digest=snapshot.digest,
        files=len(snapshot.files),
        bytes=sum(snapshot.files.values()),
        left_out=tuple(map(printable, snapshot.left_out)),
        repositories=found,
        diff=name if changes else "",
    )
    return Gathered(provenance, changes)


def printable(text: str) -> str:
    """Return *text* without what has no place in UTF-8."""
    return text.encode(errors="backslashreplace").decode()


# -- git
def repositories(snapshot: Snapshot, roots: Sequence[Path]) -> tuple[tuple[Repository, ...], bytes]:
    """Return the work trees that *roots* are in, and what no commit has of them, as one diff."""
    tops: dict[Path, list[Path]] = {}
    for root in roots:
        top = git.top(root)
        if top is not None:
            tops.setdefault(top, []).append(root)
    found, diffs = [], []
    for top, below in tops.items():
        repository, diff = _repository(top, tuple(_holds(snapshot, roots, below)))
        found.append(repository)
        if diff:
            head = f"# {', '.join(repository.holds)}: changes since {repository.commit or 'the beginning'}\n"
            diffs.append(head.encode() + diff)
    return tuple(found), b"\n".join(diffs)


def _holds(snapshot: Snapshot, roots: Sequence[Path], below: Sequence[Path]) -> Iterator[str]:
    """Yield the first names of what was taken from the roots *below*, in the order of the archive."""
    places = dict(zip(roots, snapshot.manifest.roots, strict=False))
    seen: set[str] = set()
    for name in snapshot.files:
        # The longest root that a name is below is its own.
        own = max((place for place in places.values() if _below(name, place)), key=len, default="")
        first = name.removeprefix(own).lstrip("/").partition("/")[0]
        if first not in seen and any(places[root] == own for root in below):
            seen.add(first)
            yield first


def _below(name: str, place: str) -> bool:
    return not place or name.startswith(f"{place}/")


def _repository(top: Path, holds: tuple[str, ...]) -> tuple[Repository, bytes]:
    until = time.monotonic() + git.LIMIT

    def left() -> float:
        return until - time.monotonic()

    commit = git.text(top, "rev-parse", "--verify", "-q", "HEAD", seconds=left())
    status = git.ask(top, "status", "--porcelain=v1", "-z", "--untracked-files=normal", seconds=left())
    if status is None:
        note = (
            "git did not answer: it is missing, too slow here, or does not trust or understand this work tree"
        )
        return Repository(holds=holds, commit=commit, note=note), b""
    entries = _entries(status)
    untracked = [entry[3:] for entry in entries if entry.startswith("??")]
    remote = git.text(top, "config", "--get", "remote.origin.url", seconds=left())
    repository = Repository(
        holds=holds,
        commit=commit,
        branch=git.text(top, "symbolic-ref", "--short", "-q", "HEAD", seconds=left()),
        remote=printable(git.without_credentials(remote)),
        dirty=bool(entries),
        untracked=tuple(map(printable, untracked[:_UNTRACKED])),
    )
    if not commit or len(entries) == len(untracked):
        return repository, b""
    shown = ("--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
    text = git.ask(top, "diff", "HEAD", *shown, seconds=left(), most=_READ_BYTES)
    if text is None:
        return _noted(repository, "git gave no diff within its time"), b""
    kept, dropped = without_secrets(text)
    if len(kept) > DIFF_BYTES or len(text) == _READ_BYTES:
        kept = kept[:DIFF_BYTES].rpartition(b"\n")[0] + b"\n# the rest was left out: more than 1 MiB\n"
    note = f"lines of its diff that look like keys or tokens were left out: {dropped}" if dropped else ""
    return _noted(repository, note, dropped), kept


def _noted(repository: Repository, note: str, dropped: int = 0) -> Repository:
    return msgspec.structs.replace(repository, note=note, dropped=dropped)


def _entries(status: bytes) -> list[str]:
    """Return the entries of ``status -z``; the old name of a renamed file is none."""
    found = []
    fields = iter(os.fsdecode(status).split("\0"))
    for entry in fields:
        if entry:
            found.append(entry)
            if entry[0] in "RC":
                next(fields, None)
    return found


def without_secrets(diff: bytes) -> tuple[bytes, int]:
    """Return *diff* without what may be a key, and how many lines that were; files called so go whole."""
    kept: list[bytes] = []
    dropped, hidden, in_key = 0, False, False
    for line in diff.splitlines(keepends=True):
        if line.startswith(b"diff --git "):
            match = _SECTION.match(line)
            name = os.fsdecode(match[1]).rpartition("/")[2] if match is not None else ""
            hidden, in_key = ignoring.secret(name), False
            kept.append(line)
            if hidden:
                kept.append(b"# left out: its name says that it holds a secret\n")
            continue
        in_key = in_key or _KEY_BEGINS.search(line) is not None
        if hidden:
            continue
        if in_key or len(line) > _LINE_BYTES or _SECRET_LINE.search(line):
            dropped += 1
        else:
            kept.append(line)
        in_key = in_key and _KEY_ENDS.search(line) is None
    return b"".join(kept), dropped
