"""Losses that a repair wrote down: they are told again, and are no new damage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case
from hpc_search.layout import Layout
from hpc_search.records import checked
from hpc_search.records.journal import checksum

#: In RUN/quarantine.
_NAME: Final = "known.jsonl"
#: What is said of a loss that is known.
SAID: Final = "known since an earlier repair"


class Known(msgspec.Struct, frozen=True):
    """One loss: what it is known by, and the words that were said."""

    key: str
    path: str
    what: str
    lost: str = ""


def read(layout: Layout) -> dict[str, Known]:
    """Return key -> loss; a damaged line is passed over, so that its loss is told anew."""
    data = Disk(layout).read(layout.quarantine / _NAME) or b""
    lines = (line for line in data.split(b"\n") if checksum(line) is not None)
    return {loss.key: loss for loss in (msgspec.json.decode(line, type=Known) for line in lines)}


def without(layout: Layout, cases: Iterable[Case]) -> list[Case]:
    """Return *cases*, those that are known already as notes."""
    losses = read(layout)
    shown = []
    for case in cases:
        if case.remedy in ("accept", "rebuild") and case.evidence and case.key in losses:
            finding = msgspec.structs.replace(case.finding, level="note", next=SAID)
            case = Case(finding)  # noqa: PLW2901
        shown.append(case)
    return shown


def add(layout: Layout, cases: Iterable[Case]) -> None:
    """Write *cases* down as known."""
    cases = list(cases)
    if not cases:
        return
    losses = read(layout)
    for case in cases:
        finding = case.finding
        losses[case.key] = Known(case.key, finding.path, finding.what, finding.lost)
    content = b"".join(checked.encode(loss) for _, loss in sorted(losses.items()))
    layout.quarantine.mkdir(mode=0o700, exist_ok=True)
    durable.replace(layout.quarantine / _NAME, content)
