"""What `plan` made: every file against its digest, and where each can be made again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hpc_search import config
from hpc_search.errors import DamagedError, HpcSearchError
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.mend import mend, mend_lines
from hpc_search.layout import Layout
from hpc_search.planning import (
    Digests,
    Instance,
    archive,
    digest,
    draft_again,
    encode_digests,
)
from hpc_search.records import checked
from hpc_search.records.plan import Plan, encode_plan, parse_plan

_HELD: Final = {
    "search.yaml": "the search, to read",
    "plan.json": "what the numbers of the trials mean",
    "code.zip": "the user's sources",
    "provenance.json": "where the sources come from, and the packages of the plan",
    "code.diff": "what no commit had of the sources",
    "splits/splits.json": "the digests of the folds",
}
#: Directories that a run cannot work without.
_FOLDERS: Final = ("ledger", "ledger/seals", "ledger/archive", "workers", "checkpoints", "samples")


@dataclass(slots=True)
class Planned:
    """The plan (None where none can be read), and what is wrong with what `plan` made."""

    plan: Plan | None = None
    cases: list[Case] = field(default_factory=list)
    #: RUN-relative paths that were checked here.
    known: set[str] = field(default_factory=set)


def check_planned(disk: Disk) -> Planned:
    """Check everything that `plan` made."""
    layout, found = disk.layout, Planned()
    digests = _digests(disk, found)
    text = _plan(disk, found, digests)
    plan = found.plan
    if plan is None:
        return found
    made_again = _Again(layout, plan)
    wanted = _expected(disk, digests, plan)
    for name, expected in sorted(wanted.items()):
        found.known.add(name)
        if name != "plan.json":
            _check(disk, found, name, expected, plan, made_again)
    if digests is None:
        _digests_again(disk, found, plan, text)
    for folder in _FOLDERS:
        if not os.path.isdir(layout.root / folder):
            case = Case(Finding(path=folder, what="the directory is missing"), "folder")
            found.cases.append(case)
    return found


def _digests(disk: Disk, found: Planned) -> Digests | None:
    name = disk.layout.digests.name
    found.known.add(name)
    data = disk.read(disk.layout.digests)
    if data is None:
        return None
    try:
        return checked.decode(data, Digests, name)
    except DamagedError:
        mended = mend_lines(data)
        if mended is None or not checked.verifies(mended):
            return None
        what = "it has one wrong byte, which its checksum gives back"
        found.cases.append(Case(Finding(path=name, what=what), "write", mended))
        return checked.decode(mended, Digests, name)


def _plan(disk: Disk, found: Planned, digests: Digests | None) -> bytes:
    """Set the plan and return the right bytes of plan.json."""
    layout = disk.layout
    name = layout.plan.name
    found.known.add(name)
    data = disk.read(layout.plan)
    if data is not None and (digests is None or data == digests.plan.encode()):
        try:
            found.plan = parse_plan(data, str(layout.plan))
        except DamagedError as error:
            finding = Finding(path=name, what=error.message, held=_HELD[name], next=error.hint)
            found.cases.append(Case(finding))
        if digests is not None or (found.plan is not None and encode_plan(found.plan) == data):
            return data
    what = "it is missing" if data is None else "it is not what was planned"
    finding = Finding(path=name, what=what, held=_HELD[name])
    if digests is not None:
        text = digests.plan.encode()
        found.cases.append(Case(finding, "write", text))
        found.plan = parse_plan(text, str(layout.digests))
        return text
    if data is None:
        found.cases.append(Case(finding))
        return b""
    return _mended_plan(found, finding, data)


def _mended_plan(found: Planned, finding: Finding, data: bytes) -> bytes:
    """Put one wrong byte of plan.json right, where no copy of it is left."""
    if found.plan is not None:
        # Its content verifies; what follows its digest does not belong there.
        found.cases.append(Case(finding, "write", encode_plan(found.plan)))
        return encode_plan(found.plan)
    mended = mend(data, is_plan)
    if mended is not None:
        found.cases[:] = [case for case in found.cases if case.finding.path != finding.path]
        found.cases.append(Case(finding, "write", mended))
        found.plan = parse_plan(mended, finding.path)
        return mended
    return b""


def is_plan(data: bytes) -> bool:
    """Return whether *data* ends in the digest of what stands before it, as a plan does."""
    body, _, wanted = data.removesuffix(b"\n").rpartition(b"\n")
    return digest(body).encode() == wanted


def _expected(disk: Disk, digests: Digests | None, plan: Plan) -> dict[str, str]:
    """Return RUN-relative path -> digest, "" where only its own content can tell."""
    if digests is not None:
        return digests.files
    names = {"search.yaml", "plan.json"}
    names |= {"code.zip"} if plan.code_digest else set()
    origin = (disk.layout.provenance, disk.layout.code_diff)
    names |= {path.name for path in origin if disk.exists(path)}
    names |= {disk.name(path) for path in disk.below(disk.layout.splits)} if plan.splits_digest else set()
    names |= {"splits/splits.json"} if plan.splits_digest else set()
    return dict.fromkeys(names, "")


class _Again:
    """What `plan` would write today from the sources and data of the search; read once, where needed."""

    def __init__(self, layout: Layout, plan: Plan) -> None:
        self._layout, self._plan = layout, plan
        self._files: dict[str, bytes] | None = None
        self.why = ""

    def __call__(self) -> Mapping[str, bytes]:
        if self._files is None:
            try:
                instance = instance_of(self._layout)
                origin = Path(instance.origin) if instance is not None else None
                path = self._layout.splits_file
                kept = path.read_bytes() if path.is_file() else None
                self._files = draft_again(self._plan, origin, kept) if origin is not None else {}
            except (HpcSearchError, OSError) as error:
                self._files = {}
                self.why = str(error).partition("\n")[0]
        return self._files


def _check(
    disk: Disk,
    found: Planned,
    name: str,
    expected: str,
    plan: Plan,
    again: Callable[[], Mapping[str, bytes]],
) -> None:
    data = disk.read(disk.layout.root / name)
    if data is not None and _holds(disk, name, data, expected, plan, again):
        return
    held = _HELD.get(name, "the ids of a fold")
    right = config.dump_search(plan.search).encode() if name == "search.yaml" else again().get(name)
    what = "it is missing" if data is None else "it is not what was planned"
    if right is not None and (digest(right) == expected or not expected):
        found.cases.append(Case(Finding(path=name, what=what, held=held), "write", right))
        return
    if data is not None and expected and (mended := mend(data, lambda new: digest(new) == expected)):
        found.cases.append(Case(Finding(path=name, what=what, held=held), "write", mended))
        return
    if right is not None and name == "search.yaml":
        found.cases.append(Case(Finding(path=name, what=what, held=held), "write", right))
        return
    hint = "its source changed since the plan: put the file back from a copy, or plan anew with --run DIR"
    finding = Finding(path=name, what=what, held=held, next=hint)
    found.cases.append(Case(finding))


def _holds(
    disk: Disk,
    name: str,
    data: bytes,
    expected: str,
    plan: Plan,
    again: Callable[[], Mapping[str, bytes]],
) -> bool:
    if expected:
        return digest(data) == expected
    if name == "search.yaml":
        return data == config.dump_search(plan.search).encode()
    if name == disk.layout.provenance.name:
        return checked.verifies(data)
    if name == disk.layout.code_diff.name:
        # Only its digest could tell.
        return True
    if name == "code.zip":
        return _archive_holds(disk.layout.code, plan.code_digest)
    return _splits_digest(disk) == plan.splits_digest or data == again().get(name)


def _archive_holds(path: Path, digest: str) -> bool:
    try:
        archive.read(path, digest)
    except HpcSearchError:
        return False
    return True


def _splits_digest(disk: Disk) -> str:
    files = {disk.name(path): disk.read(path) or b"" for path in disk.below(disk.layout.splits)}
    return digest(b"".join(name.encode() + b"\0" + files[name] for name in sorted(files)))


def _digests_again(disk: Disk, found: Planned, plan: Plan, text: bytes) -> None:
    """Offer digests.json anew, where everything that it covers verifies or can be made again."""
    files = {"plan.json": text}
    layout = disk.layout
    for name in _expected(disk, None, plan):
        data = disk.read(layout.root / name)
        right = next((case.content for case in found.cases if case.finding.path == name), None)
        if name != "plan.json" and (right or data is not None):
            files[name] = right or data or b""
    exists = disk.is_file(layout.digests)
    what = "it does not verify" if exists else "it is missing"
    finding = Finding(path=layout.digests.name, what=what, held="the digests of what was planned")
    unsure = any(case.remedy == "none" for case in found.cases)
    content = b"" if unsure else encode_digests(files, text)
    found.cases.append(Case(finding, "none" if unsure else "write", content))


def check_instance(disk: Disk) -> list[Case]:
    """Check instance.json: whether it verifies, and whether this is the place that it names."""
    layout = disk.layout
    name = layout.instance.name
    adopt = f"`hpc-search fsck {layout} --adopt` writes it anew"
    data = disk.read(layout.instance) or b""
    try:
        instance = checked.decode(data, Instance, name)
    except DamagedError:
        mended = mend_lines(data) if data else None
        what = "it is missing" if not data else "it does not verify"
        finding = Finding(path=name, what=what, held="where the run is and where its sources are", next=adopt)
        if mended is not None and checked.verifies(mended):
            return [Case(Finding(path=name, what=what), "write", mended)]
        return [Case(finding)]
    here = str(layout.root.resolve())
    if instance.path == here:
        return []
    what = f"this is a copy of, or was moved from, {instance.path}: it can be read, not run"
    return [
        Case(
            Finding(
                path=name,
                what=what,
                level="note",
                next=f"`hpc-search fsck {layout} --adopt` changes that",
            )
        )
    ]


def instance_of(layout: Layout) -> Instance | None:
    """Return instance.json, None where it does not verify."""
    try:
        return checked.decode(Disk(layout).read(layout.instance) or b"", Instance, layout.instance.name)
    except DamagedError:
        return None
