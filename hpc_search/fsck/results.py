"""What `collect` made: against its own digests, and against the accepted end records."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Mapping
from typing import Final

from hpc_search.collect import DIGESTS, Written
from hpc_search.errors import DamagedError
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.index import named
from hpc_search.fsck.journals import Facts
from hpc_search.planning import digest
from hpc_search.records import checked
from hpc_search.records.plan import Plan

_AGAIN: Final = "`hpc-search collect` makes it again"


def check_results(
    disk: Disk, plan: Plan, facts: Facts, sealed: Mapping[int, tuple[str, str]]
) -> Iterator[Case]:
    """Yield what in RUN/results is not as the last collect wrote it, or is not true."""
    layout = disk.layout
    if not os.path.isdir(layout.results):
        # A stage that opens seals results, too.
        if sealed and all(block.needs is None for block in plan.blocks):
            finding = Finding(path="results", what="it is missing: a collect was here", next=_AGAIN)
            yield Case(finding, "collect")
        return
    written = read_written(disk)
    name = f"results/{DIGESTS}"
    if written is None:
        there = disk.is_file(layout.result(DIGESTS))
        what = "it does not verify" if there else "it is missing, or a collect was interrupted"
        yield Case(Finding(path=name, what=what, held="the digests of the results", next=_AGAIN), "collect")
    else:
        yield from _against_digests(disk, written)
        data = disk.read(layout.result("results.csv"))
        if data is not None and digest(data) == written.files.get("results.csv"):
            # One that was damaged is named already.
            yield from _against_journals(data, facts, sealed)


def read_written(disk: Disk) -> Written | None:
    """Return what the last collect says it wrote, None where that cannot be read."""
    try:
        return checked.decode(disk.read(disk.layout.result(DIGESTS)) or b"", Written, DIGESTS)
    except DamagedError:
        return None


def _against_digests(disk: Disk, written: Written) -> Iterator[Case]:
    files = {f"results/{name}": wanted for name, wanted in written.files.items()}
    for name, wanted in files.items():
        data = disk.read(disk.layout.root / name)
        if data is None or digest(data) != wanted:
            what = "it is missing" if data is None else "it is not what the last collect wrote"
            yield Case(
                Finding(path=name, what=what, held="nothing that cannot be made again", next=_AGAIN),
                "collect",
            )


def _against_journals(data: bytes, facts: Facts, sealed: Mapping[int, tuple[str, str]]) -> Iterator[Case]:
    """Yield the rows of results.csv that differ from the published end records."""
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    except (UnicodeDecodeError, csv.Error):
        return
    wrong = []
    for row in rows:
        trial = int(row["trial"]) if (row.get("trial") or "").isdecimal() else -1
        checksum = sealed.get(trial, ("", ""))[0]
        end = facts.finals(trial).get(checksum)
        # A failure that was taken back since: the table is older, and true of its time.
        older = row.get("state") == "failed" and bool(facts.again.entry(trial).again)
        if end is not None and not older and not _equal(row, end[0].state, end[0].value):
            wrong.append(trial)
    if wrong:
        what = f"{named(wrong)}: other values than in the end records"
        finding = Finding(path="results/results.csv", what=what, trials=tuple(wrong), next=_AGAIN)
        yield Case(finding, "collect")


def _equal(row: Mapping[str, str], state: str, value: float | None) -> bool:
    if row.get("state") != state:
        return False
    try:
        shown = float(row["value"]) if row.get("value") else None
    except ValueError:
        return False
    both_nan = shown is not None and value is not None and math.isnan(shown) and math.isnan(value)
    return shown == value or both_nan
