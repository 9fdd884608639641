"""What `collect` made: against its own digests, and against the accepted end records."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from typing import Final

from hpc_search.collect import DIGESTS, Written
from hpc_search.errors import DamagedError
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.index import named
from hpc_search.fsck.journals import Facts
from hpc_search.layout import Layout
from hpc_search.planning import digest
from hpc_search.records import checked

_AGAIN: Final = "`hpc-search collect` makes it again"


def check_results(layout: Layout, facts: Facts, sealed: Mapping[int, tuple[str, str]]) -> Iterator[Case]:
    """Yield what in RUN/results and audit.log is not as the last collect wrote it, or is not true."""
    if not layout.results.is_dir():
        if sealed:
            finding = Finding(path="results", what="it is missing: a collect was here", next=_AGAIN)
            yield Case(finding, "collect")
        return
    written = read_written(layout)
    name = f"results/{DIGESTS}"
    if written is None:
        there = layout.result(DIGESTS).exists()
        what = "it does not verify" if there else "it is missing, or a collect was interrupted"
        yield Case(Finding(path=name, what=what, held="the digests of the results", next=_AGAIN), "collect")
    else:
        yield from _against_digests(layout, written)
        table = layout.result("results.csv")
        if table.is_file() and digest(table.read_bytes()) == written.files.get(table.name):
            # One that was damaged is named already.
            yield from _against_journals(layout, facts, sealed)


def read_written(layout: Layout) -> Written | None:
    """Return what the last collect says it wrote, None where that cannot be read."""
    try:
        data = layout.result(DIGESTS).read_bytes()
        return checked.decode(data, Written, DIGESTS)
    except (OSError, DamagedError):
        return None


def _against_digests(layout: Layout, written: Written) -> Iterator[Case]:
    files = {f"results/{name}": wanted for name, wanted in written.files.items()}
    if written.audit:
        files["audit.log"] = written.audit
    for name, wanted in files.items():
        path = layout.root / name
        data = path.read_bytes() if path.is_file() else None
        if data is None or digest(data) != wanted:
            what = "it is missing" if data is None else "it is not what the last collect wrote"
            yield Case(
                Finding(path=name, what=what, held="nothing that cannot be made again", next=_AGAIN),
                "collect",
            )


def _against_journals(layout: Layout, facts: Facts, sealed: Mapping[int, tuple[str, str]]) -> Iterator[Case]:
    """Yield the rows of results.csv that differ from the published end records."""
    try:
        text = layout.result("results.csv").read_text()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, UnicodeDecodeError, csv.Error):
        return
    wrong = []
    for row in rows:
        trial = int(row["trial"]) if (row.get("trial") or "").isdecimal() else -1
        checksum = sealed.get(trial, ("", ""))[0]
        end = facts.finals(trial).get(checksum)
        if end is not None and not _equal(row, end[0].state, end[0].value):
            wrong.append(trial)
    if wrong:
        what = f"{named(wrong)} have other values than their end records"
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
