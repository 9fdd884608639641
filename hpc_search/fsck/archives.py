"""The archives: every byte of every section, and what a damaged head or content still gives."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.journals import Place
from hpc_search.fsck.mend import mend, mend_lines
from hpc_search.fsck.segments import Segment, read_segment
from hpc_search.layout import WORKER_ID, parse_journal
from hpc_search.records import archive
from hpc_search.records import journal as codec
from hpc_search.records.archive import Section

_HEAD: Final = b'{"worker":"'
_WHOLE_HEAD: Final = re.compile(rb'\{"worker":[^\n]*?"c":"[0-9a-f]{16}"\}')


@dataclass(slots=True)
class Archive:
    """One archive as it reads: its parts in order, as they should be, and what is wrong.

    ``contents`` is (worker, name) -> bytes; ``content`` the whole file with what could be mended.
    """

    path: str
    contents: dict[tuple[str, str], bytes] = field(default_factory=dict)
    segments: list[tuple[Place, Segment]] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)

    @property
    def content(self) -> bytes:
        """The file as it should be, as far as that is known."""
        return b"".join(self.parts)


def read_archives(disk: Disk) -> Iterator[Archive]:
    """Yield every archive, oldest first.

    One that is gone was merged into a newer one: the list is read again until it holds nothing new.
    """
    known: set[str] = set()
    while new := [path for path in disk.listed(disk.layout.archive) if path.name not in known]:
        known.update(path.name for path in new)
        for path in new:
            data = disk.read(path) if path.name.isdecimal() else None
            if data is not None:
                yield read_archive(disk.name(path), data)


def read_archive(path: str, data: bytes) -> Archive:
    """Return what the archive *data* holds."""
    found = Archive(path)
    at = 0
    while at < len(data):
        section = next(archive.sections(data[at : data.find(b"\n", at) + 1 or len(data)]), None)
        whole = section is not None and section.end >= section.start
        at = _take(found, data, at, section) if section and whole else _headless(found, data, at)
    if found.cases and found.content != data:
        _offer(found)
    return found


def replaced(data: bytes, contents: Mapping[tuple[str, int], bytes | None]) -> bytes:
    """Return the archive *data* with other *contents* of journals, by (worker, segment); None drops one."""
    parts = []
    for section in archive.sections(data):
        number = parse_journal(section.name)
        content: bytes | None = section.content(data)
        if number is not None:
            content = contents.get((section.worker, number), content)
        if content is not None:
            parts.append(archive.encode_section(section.worker, section.name, content))
    return b"".join(parts)


def _offer(found: Archive) -> None:
    """Make the repair of one case, the first that has one, the whole file as it should be."""
    for number, case in enumerate(found.cases):
        if case.remedy == "write":
            found.cases[number] = case._replace(content=found.content)


def _take(found: Archive, data: bytes, at: int, section: Section) -> int:
    """Take in the section whose head verifies at *at*; return where the next one starts."""
    head = data[at : at + section.start]
    start = at + section.start
    end = start + section.end - section.start
    content = data[start:end]
    mended = content if _digest(content) == section.digest else _mended(section, content)
    cut, follows = False, end
    if mended is None:
        follows = _next_head(data, start)
        cut = follows < end
        content = data[start : min(end, follows)]
        _damaged(found, section, content, at)
    elif mended != content:
        _mendable(found, section, at)
    _keep(found, section.worker, section.name, content if mended is None else mended, head)
    if cut or data[end : end + 1] == b"\n":
        return min(end, follows) if cut else end + 1
    if end < len(data) or mended is not None:
        what = f"the newline after {section.name} of worker {section.worker} is missing or changed"
        found.cases.append(Case(Finding(path=found.path, what=what), "write"))
    return end + (end < len(data))


def _mended(section: Section, content: bytes) -> bytes | None:
    if parse_journal(section.name) is not None:
        whole = read_segment(section.worker, 1, content).whole
        return whole if _digest(whole) == section.digest else None
    return mend(content, lambda data: _digest(data) == section.digest)


def _mendable(found: Archive, section: Section, at: int) -> None:
    name = f"{section.name} of worker {section.worker} (at byte {at})"
    what = f"{name} has one wrong byte, which the checksums give back"
    found.cases.append(Case(Finding(path=found.path, what=what), "write"))


def _damaged(found: Archive, section: Section, content: bytes, at: int) -> None:
    """Note a section whose bytes are not the ones that were archived; lines of a journal are judged alone."""
    number = parse_journal(section.name)
    if number is not None and read_segment(section.worker, number, content).damages:
        return
    name = f"{section.name} of worker {section.worker}"
    lost = {"log.txt": "output of its trials"}.get(section.name, "")
    finding = Finding(
        path=found.path, what=f"{name} (at byte {at}) does not match its digest", held=name, lost=lost
    )
    found.cases.append(Case(finding, "accept", b"", f"{section.worker}/{section.name}/{_digest(content)}"))


def _keep(found: Archive, worker: str, name: str, content: bytes, head: bytes) -> None:
    found.parts += [head, content, b"\n"]
    found.contents[worker, name] = content
    number = parse_journal(name)
    if number is not None:
        found.segments.append((Place(found.path, found.path), read_segment(worker, number, content)))


def _headless(found: Archive, data: bytes, at: int) -> int:
    """Take in a section whose head does not verify; return where the next one starts."""
    stop = data.find(b"\n", at) + 1 or len(data)
    mended = _mended_head(data, at, stop)
    section = next(archive.sections(mended), None)
    if section is not None and section.end >= section.start:
        stop = at + len(mended)
        what = f"the head of {section.name} of worker {section.worker} (at byte {at}) has one wrong byte"
        found.cases.append(Case(Finding(path=found.path, what=what), "write"))
        return _take(found, mended + data[stop:], 0, section) + at
    end = _next_head(data, at + 1)
    return _lost_head(found, data, at, stop, end)


def _mended_head(data: bytes, at: int, stop: int) -> bytes:
    """Return the bytes from *at* with a right head, b"" where it cannot be put right."""
    line = data[at:stop]
    whole = _WHOLE_HEAD.match(line)
    if whole is not None and codec.checksum(whole[0]) is not None:
        # Only the newline after it is wrong.
        return whole[0] + b"\n" + line[whole.end() + 1 :]
    # A byte that became a newline splits the head.
    longer = data[at : data.find(b"\n", stop) + 1 or len(data)]
    for piece in (line, longer):
        mended = mend_lines(piece)
        if mended is not None and next(archive.sections(mended), None) is not None:
            return mended
    return b""


def _lost_head(found: Archive, data: bytes, at: int, stop: int, end: int) -> int:
    """Give the journal after a lost head a new one, from its opening line; others are lost."""
    content = data[stop:end].removesuffix(b"\n")
    first = codec.parse_line(content.partition(b"\n")[0])
    if isinstance(first, codec.Open) and WORKER_ID.fullmatch(first.worker):
        content += b"" if content.endswith(b"\n") else b"\n"
        name = f"journal.{first.segment}.jsonl"
        section = archive.encode_section(first.worker, name, content)
        head = section[: len(section) - len(content) - 1]
        _keep(found, first.worker, name, content, head)
        where = f"{name} of worker {first.worker} (at byte {at})"
        what = f"the head of {where} is lost; its lines verify alone"
        found.cases.append(Case(Finding(path=found.path, what=what), "write"))
        return end
    lost = f"{end - at} bytes of a log or of samples"
    finding = Finding(path=found.path, what=f"bytes {at}-{end} belong to no section", lost=lost)
    found.parts.append(data[at:end])
    found.cases.append(Case(finding, "accept", b"", f"{found.path}/{at}/{_digest(data[at:end])}"))
    return end


def _next_head(data: bytes, at: int) -> int:
    """Return where the next section may start, the end of the data where none does."""
    while (at := data.find(b"\n" + _HEAD, at)) >= 0:
        at += 1
        line = data[at : data.find(b"\n", at)]
        if _is_head(line):
            return at
    return len(data)


def _is_head(line: bytes) -> bool:
    try:
        fields = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return False
    return isinstance(fields, dict) and {"worker", "name", "bytes", "digest"} <= fields.keys()


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
