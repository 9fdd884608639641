"""What a check of a run found, and what can be done about it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from hpc_search.errors import EXIT_DAMAGED, EXIT_DONE

Level = Literal["damaged", "repaired", "lost", "unproven", "note"]
#: How a finding is put right.
#:
#: ``write``: *content* is put at the path, the damaged bytes go to the quarantine first.
#: ``quarantine``: the file is moved there; a name of ledger/open with *content* is made again with it.
#: ``remove``: it holds nothing. ``folder``: a directory is made.
#: ``rebuild``: the index is made anew from the journals. ``collect``: the results are made anew.
#: ``accept``: the bytes stay where they are, and what they held is written down as lost.
#: ``none``: it is for people.
Remedy = Literal["write", "quarantine", "remove", "folder", "rebuild", "collect", "accept", "none"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is not as it should be, at ``path`` (relative to RUN).

    ``held`` is what the damaged part was, ``lost`` what is gone for good ("" for nothing), ``trials`` whose
    it was, ``next`` what was done about it or the next command.
    """

    path: str
    what: str
    level: Level = "damaged"
    held: str = ""
    lost: str = ""
    trials: tuple[int, ...] = ()
    next: str = ""

    def text(self) -> str:
        """Return the finding on one line."""
        held = f"; it held {self.held}" if self.held else ""
        lost = f"; lost: {self.lost}" if self.lost else ""
        more = f"; {self.next}" if self.next else ""
        return f"{self.level:<9}{self.path or 'RUN'}: {self.what}{held}{lost}{more}"


class Case(NamedTuple):
    """A finding, its remedy, and what tells it from every other one: ``evidence`` of the damaged bytes."""

    finding: Finding
    remedy: Remedy = "none"
    content: bytes = b""
    evidence: str = ""
    #: Other paths at which *content* is put.
    more: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What a loss that was written down is known by."""
        text = f"{self.evidence or self.finding.path}\0{self.finding.what}"
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def note(path: str, what: str) -> Case:
    """Return a case that is no damage."""
    return Case(Finding(path=path, what=what, level="note"))


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a check: what was read, and every finding."""

    run: str
    files: int
    bytes: int
    findings: tuple[Finding, ...]
    repaired: bool = False

    @property
    def exit_code(self) -> int:
        """0 where nothing is damaged or lost, else 4."""
        bad = any(finding.level in ("damaged", "lost") for finding in self.findings)
        return EXIT_DAMAGED if bad else EXIT_DONE

    def count(self, level: Level) -> int:
        """Return how many findings have *level*."""
        return Counter(finding.level for finding in self.findings)[level]

    def text(self) -> str:
        """Return one line a finding and one with the counts."""
        return "\n".join([*(finding.text() for finding in _ordered(self.findings)), self._summary()])

    def json(self) -> str:
        """Return the same as JSON."""
        fields = {**msgspec.structs.asdict(self), "exit_code": self.exit_code}
        return msgspec.json.format(msgspec.json.encode(fields), indent=1).decode()

    def _summary(self) -> str:
        head = f"{self.run}: {self.files} files, {self.bytes:,} bytes read"
        levels: tuple[Level, ...] = ("damaged", "repaired", "lost", "unproven")
        counts = [f"{self.count(level)} {level}" for level in levels if self.count(level)]
        if not counts:
            return f"{head}: all of it verifies"
        hint = "" if self.repaired or not self.count("damaged") else f"; next: {repair_command(self.run)}"
        return f"{head}: {', '.join(counts)}{hint}"


def repair_command(run: str) -> str:
    """Return the command that repairs the run at *run*."""
    return f"hpc-search fsck {run} --repair"


def _ordered(findings: Iterable[Finding]) -> list[Finding]:
    order = {"lost": 0, "damaged": 1, "repaired": 2, "unproven": 3, "note": 4}
    return sorted(findings, key=lambda finding: (order[finding.level], finding.path))
