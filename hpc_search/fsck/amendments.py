"""What `plan --amend` made: every later plan, the search of it to read, and the digests with its copy."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from hpc_search.errors import DamagedError
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.mend import mend
from hpc_search.fsck.planned import Planned, is_plan
from hpc_search.planning import Digests
from hpc_search.planning.amending import later_files
from hpc_search.records import checked
from hpc_search.records.plan import Plan, parse_plan

_NAME: Final = re.compile(r"(?:plan|digests)\.(\d{3,})\.json")
_HELD: Final = {
    "plan": "what the numbers of the trials that it added mean",
    "search": "the search, to read",
    "digests": "the digests of the amended plan, and its copy",
}
_BACK: Final = "put it back from a copy of the run; its trials cannot be run or collected without it"


def check_amendments(disk: Disk, found: Planned) -> None:
    """Check every later plan, and make the newest one that can be read the plan."""
    names = (_NAME.fullmatch(path.name) for path in disk.listed(disk.layout.root))
    for number in sorted({int(match[1]) for match in names if match is not None}):
        plan = _plan(disk, found, number)
        if plan is None:
            continue
        found.plan = plan
        for path, right in later_files(plan, disk.layout).items():
            found.known.add(path.name)
            if disk.read(path) != right:
                what = "it is not what was planned" if disk.exists(path) else "it is missing"
                held = _HELD[path.name.partition(".")[0]]
                found.cases.append(Case(Finding(path=path.name, what=what, held=held), "write", right))


def _plan(disk: Disk, found: Planned, number: int) -> Plan | None:
    path = disk.layout.later_plan(number)
    found.known.add(path.name)
    data = disk.read(path)
    plan = _parsed(data, path.name)
    if plan is not None:
        return plan
    right = _copy(disk, number) or (mend(data, is_plan) if data else None)
    what = "it is missing" if data is None else "it does not verify"
    finding = Finding(path=path.name, what=what, held=_HELD["plan"], next="" if right else _BACK)
    found.cases.append(Case(finding, "write", right) if right else Case(finding))
    return _parsed(right, path.name)


def _copy(disk: Disk, number: int) -> bytes | None:
    try:
        data = disk.read(disk.layout.later_digests(number)) or b""
        text = checked.decode(data, Digests, disk.layout.later_digests(number).name).plan.encode()
    except DamagedError:
        return None
    return text if _parsed(text, "") is not None else None


def _parsed(data: bytes | None, where: str) -> Plan | None:
    try:
        return parse_plan(data or b"", where)
    except (DamagedError, msgspec.DecodeError):
        return None
