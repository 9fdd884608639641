"""The result of an examination, as a record and as a table."""

from __future__ import annotations

import textwrap
from typing import Final, Literal

import msgspec

from hpc_search.doctor.cluster.found import Cluster
from hpc_search.doctor.measured import Measured
from hpc_search.mounts import Claiming

Status = Literal["PASS", "SLOW", "NOTE", "FAIL", "n/a"]
FORMAT: Final = "hpc_search doctor"
VERSION: Final = 1
#: Columns of status and subject.
_STATUS: Final = 4
_SUBJECT: Final = 32
_NARROWEST: Final = 100


class Row(msgspec.Struct, frozen=True):
    """One thing that was looked at: what was found, what it means and what hpc_search does about it."""

    subject: str
    status: Status
    found: str
    meaning: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether runs can live here, how they claim their trials and why, and the shortest safe lease.

    ``lease`` in seconds, for a heartbeat of ``heartbeat`` seconds.
    """

    usable: bool
    claiming: Claiming
    why: str
    problems: tuple[str, ...] = ()
    lease: float
    heartbeat: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `doctor` found; ``time`` is for people.

    The first ``about_files`` rows are of the file system, the rest of the cluster.
    """

    format: str = FORMAT
    version: int = VERSION
    hpc_search: str
    time: str
    host: str
    directory: str
    seconds: float
    verdict: Verdict
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    measured: Measured
    about_files: int = 0
    cluster: Cluster | None = None

    @property
    def good(self) -> bool:
        """Whether runs can live here, and on the cluster where that was examined."""
        return self.verdict.usable and not (self.cluster and self.cluster.problems)

    def text(self, width: int) -> str:
        """Return the table and the verdict, at most *width* columns wide."""
        wide = max(width, _NARROWEST)
        lines = [f"{self.directory} on {self.host}, {self.seconds:.1f} s", ""]
        lines += _line("", "", "found", "what it means, what hpc_search does", wide)
        for row in self._shown():
            lines += _line(row.status, row.subject, row.found, row.meaning, wide)
        return "\n".join([*lines, "", *self._conclusion(wide)])

    def _shown(self) -> tuple[Row, ...]:
        """Return the rows for people: about a cluster, and of the file system what is not simply good."""
        if self.cluster is None:
            return self.rows
        files = tuple(row for row in self.rows[: self.about_files] if row.status not in ("PASS", "n/a"))
        return (*files, *self.rows[self.about_files :])

    def _conclusion(self, width: int) -> list[str]:
        verdict = self.verdict
        if not verdict.usable:
            lines = ["verdict: no run can live here"]
            lines += [f"  {problem}" for problem in verdict.problems]
        else:
            how = {"lock": "file locks", "exclusive": "exclusively created names"}[verdict.claiming]
            lines = textwrap.wrap(f"verdict: trials are claimed by {how}: {verdict.why}", width)
            lines.append(
                f"lease: at least {verdict.lease:.0f} s with a heartbeat of {verdict.heartbeat:.0f} s"
            )
        if self.cluster is not None:
            lines += [f"cluster: {problem}" for problem in self.cluster.problems]
        return [*lines, *(line for note in self.notes for line in textwrap.wrap(note, width))]


def _line(status: str, subject: str, found: str, meaning: str, width: int) -> list[str]:
    rest = width - _STATUS - _SUBJECT - 6
    columns = [
        [status],
        textwrap.wrap(subject, _SUBJECT) or [""],
        textwrap.wrap(found, rest // 2) or [""],
        textwrap.wrap(meaning, rest - rest // 2) or [""],
    ]
    height = max(map(len, columns))
    cells = [column + [""] * (height - len(column)) for column in columns]
    return [
        f"{a:{_STATUS}}  {b:{_SUBJECT}}  {c:{rest // 2}}  {d}".rstrip()
        for a, b, c, d in zip(*cells, strict=True)
    ]
