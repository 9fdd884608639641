"""The order of writes, fsyncs and names in a trace: what a power cut could show, without one.

A file's bytes are synced before it gets its name, and the name before anything relies on it or the
operation ends; an end record is synced before its mark in the index and before it is acknowledged; an
archive or a checkpoint has its durable name before what it replaces is removed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

#: Complete or absent, but not durable: a beat that is lost harms nobody, a script is for people.
_NOT_DURABLE: Final = frozenset({"heartbeat", "submitit", "cache"})
#: Made again from the journals where it is torn.
_CACHE: Final = "claims.bin"
#: Unpacked sources on a node: every start compares all of them.
_OF_NODE: Final = re.compile(r"/hpc_search-\d+/")
_CALL: Final = re.compile(r"^(\d* *)([a-z0-9_]+)\((.*)$")
_RESUMED: Final = re.compile(r"^(\d* *)<\.\.\. (fsync|fdatasync) resumed>.*= 0$")
_FD: Final = re.compile(r"^\d+<([^>]*)>")
_NAMES: Final = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"([^"]*)"')
_WRITES: Final = frozenset({"write", "pwrite64", "writev", "pwritev", "ftruncate"})
_END: Final = r'"{\"k\":\"end\"'


def violations(trace: str, *, ended: bool = True) -> Iterator[str]:
    """Yield what stands in *trace*, written by ``strace -y``, in the wrong order.

    With *ended* the operation came to its end, and all that it made must be durable.
    """
    watch = _Watch()
    for line in trace.splitlines():
        resumed = _RESUMED.match(line)
        if resumed:
            watch.synced(watch.syncing.pop(resumed[1], ""))
            continue
        match = _CALL.match(line)
        if match and not _OF_NODE.search(line):
            yield from watch.call(*match.groups())
    if ended:
        yield from (f"{name} has no durable name at the end" for name in watch.unsynced_names())


@dataclass(slots=True)
class _Watch:
    """What is not durable after the calls so far."""

    #: Files with bytes that are not synced.
    dirty: set[str] = field(default_factory=set)
    #: Journals with an end record that is not synced.
    ends: set[str] = field(default_factory=set)
    #: Directory -> names that were given in it since it was synced.
    names: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: Directory -> names that were made in it, not renamed into it, since it was synced.
    made: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: Names that were made and are durable.
    known: set[str] = field(default_factory=set)
    #: Thread -> what it is syncing.
    syncing: dict[str, str] = field(default_factory=dict)

    def unsynced_names(self) -> list[str]:
        """Return the names of truth that a power cut may take away."""
        made = {name for names in self.made.values() for name in names if _is_truth(name)}
        return sorted(made.union(*self.names.values()))

    def synced(self, path: str) -> None:
        self.dirty.discard(path)
        if PurePath(path).name.startswith("journal."):
            # A segment repeats what its predecessors could not sync.
            self.ends = {name for name in self.ends if PurePath(name).parent != PurePath(path).parent}
        self.names.pop(path, None)
        self.known |= self.made.pop(path, set())

    def call(self, thread: str, name: str, text: str) -> Iterator[str]:
        path = _FD.match(text)
        if name in ("fsync", "fdatasync") and path:
            if text.endswith("<unfinished ...>"):
                self.syncing[thread] = path[1]
            elif text.endswith("= 0"):
                self.synced(path[1])
        elif name in _WRITES and path:
            yield from self._written(path[1], text)
        elif name == "mkdir" or (name == "openat" and "O_CREAT" in text):
            self._made(text)
        elif name in ("rename", "renameat", "renameat2", "link", "linkat"):
            yield from self._named(name, text)
        elif name in ("unlink", "unlinkat", "rmdir"):
            yield from self._removed(text)

    def _written(self, path: str, text: str) -> Iterator[str]:
        file = PurePath(path).name
        if text.startswith("1<") and (r"{\"finished\"" in text or r"{\"saved\"" in text):
            yield from (f"an end in {journal} was acknowledged before its fsync" for journal in self.ends)
            yield from (f"{name} was acknowledged without a durable name" for name in self.unsynced_names())
        elif file == _CACHE:
            yield from (
                f"the index was written before the end in {journal} was synced" for journal in self.ends
            )
        elif path.startswith("/"):
            self.dirty.add(path)
            if file.startswith("journal.") and _END in text:
                self.ends.add(path)

    def _made(self, text: str) -> None:
        found = _NAMES.search(text)
        path = PurePath(found[1] or "/", found[2]) if found else PurePath()
        if " = -1 " not in text and str(path) not in self.known:
            self.made[str(path.parent)].add(str(path))

    def _named(self, call: str, text: str) -> Iterator[str]:
        source, target = _two_names(text)
        if "= 0" not in text or _NOT_DURABLE.intersection(PurePath(target).parts[-2:]):
            self.dirty.discard(source)
            return
        if PurePath(target).name.startswith(".t-"):
            yield from self._removed(text)
            return
        below = [name for name in self.dirty if (name == source or name.startswith(f"{source}/"))]
        for name in below:
            if PurePath(name).name != _CACHE:
                yield f"{name} was given the name {target} by {call} before its fsync"
        self.dirty.difference_update(below)
        for directory in [name for name in self.made if name == source or name.startswith(f"{source}/")]:
            yield f"{directory} has names that were not synced when it became a part of {target}"
            del self.made[directory]
        self.made[str(PurePath(source).parent)].discard(source)
        self.names[str(PurePath(target).parent)].add(target)

    def _removed(self, text: str) -> Iterator[str]:
        found = _NAMES.search(text)
        path = str(PurePath(found[1] or "/", found[2])) if found else ""
        self.dirty = {name for name in self.dirty if name != path and not name.startswith(f"{path}/")}
        self.made[str(PurePath(path).parent)].discard(path)
        if PurePath(path).name.startswith(".t-"):
            return
        for names in self.names.values():
            for name in names:
                if name != path and _replaces(name, path):
                    yield f"{path} was removed before {name} had a durable name"


def _two_names(text: str) -> tuple[str, str]:
    found = [str(PurePath(match[1] or "/", match[2])) for match in _NAMES.finditer(text)]
    return (found[0], found[1]) if len(found) > 1 else ("", "")


def _replaces(new: str, old: str) -> bool:
    """Return whether what stands in *old* may stand in *new* alone from now on."""
    place = PurePath(new).parent
    if place.name == "archive":
        return PurePath(old).parent in (place, place.parents[1] / "workers")
    return new.endswith(".h5") and old.endswith(".h5") and PurePath(old).parent == place


def _is_truth(name: str) -> bool:
    """Return whether results are lost with a name that was made in place: of a worker, journal, scores."""
    path = PurePath(name)
    return path.name.startswith("journal.") or path.parent.name in ("workers", "samples")
