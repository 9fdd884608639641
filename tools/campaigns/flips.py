"""A byte flipped, the file cut short, the file removed: every file of a finished and a half-finished run.

Each damage is made on a fresh copy. It must be found by `fsck`; `status`, `collect` and `work` on it must
give what the undisturbed run gives, or say what is wrong; and `fsck --repair` and `work` must bring back
every result but the ones that the repair declared lost.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from hpc_search import fsck
from hpc_search.collect import collect
from hpc_search.errors import HpcSearchError, UsageError
from hpc_search.layout import Layout
from hpc_search.search import open_run, status
from tools.campaigns.common import Tally
from tools.campaigns.damages import KINDS, Damage, Desk, Results, class_of, damages, published_rows, results

#: Seconds, a little more than the lease of the run, and how often they are waited for.
_LEASE: Final = 2.2
_WAITS: Final = 2
HELP = (
    "flip a byte of, truncate and remove every file of a run; fsck must find it, nothing may be used silently"
)
#: Files that hold no truth and that nothing can check: output of programs, a sign of life, words for people,
#: scripts and logs of jobs, a mark whose presence is all that it says, locks of commands, made on demand.
UNCHECKED: Final = re.compile(
    r"workers/W/(log\.txt|heartbeat|report\.jsonl)|submitit/.*|cache/.*|ledger/(stop|[a-z]+\.lock|mode\.exclusive)"
)
#: Files that a run may lack: nobody can tell that they were there.
OPTIONAL: Final = re.compile(r"doctor\.json|workers/W/reserve")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--places", type=int, default=3, help="flipped bytes and cuts a file")
    parser.add_argument("--run", choices=("finished", "half", "both"), default="both", dest="which")
    parser.add_argument("--files", default="", help="only files whose name matches this regular expression")
    parser.add_argument(
        "--most", type=int, default=0, help="at most this many damages a run, drawn by the seed"
    )
    parser.add_argument(
        "--claiming", choices=("lock", "exclusive"), default="", help="how trials are claimed"
    )
    parser.add_argument("--trace", action="store_true", help="print every damage before it is made")


@dataclass(slots=True)
class _Score:
    """What became of the damages of one class of files."""

    made: int = 0
    found: int = 0
    unchecked: int = 0
    repaired: int = 0
    lost: int = 0


@dataclass(slots=True)
class _Campaign:
    """One run under damage."""

    desk: Desk
    reference: Results
    tally: Tally
    trace: bool = False
    scores: dict[tuple[str, str], _Score] = field(default_factory=lambda: defaultdict(_Score))

    def one(self, damage: Damage) -> None:
        """Make one damage, twice: to be used as it is, and to be repaired."""
        score = self.scores[class_of(damage.path), damage.kind]
        score.made += 1
        with self._watched(damage, "fsck"):
            self.desk.fresh(damage)
            self._find(damage, score)
        with self._watched(damage, "use"):
            self._use(damage)
        with self._watched(damage, "repair"):
            self.desk.fresh(damage)
            self._repair(damage, score)

    @contextlib.contextmanager
    def _watched(self, damage: Damage, step: str) -> Iterator[None]:
        """Take anything but an error with words for a problem."""
        try:
            yield
        except HpcSearchError as error:
            self._problem(damage, f"{step}: {type(error).__name__}: {error.message}")
        except Exception:  # noqa: BLE001 - a campaign tells of whatever comes
            self._problem(damage, f"{step}: {traceback.format_exc()}")

    def _problem(self, damage: Damage, words: str) -> None:
        self.tally.problems.append(f"{damage}: {words}")
        if self.trace:
            print(f"    PROBLEM {words}", flush=True)

    def _find(self, damage: Damage, score: _Score) -> None:
        report = fsck.check_run(self.desk.layout)
        name = class_of(damage.path)
        seen = [one for one in report.findings if one.level != "note"]
        if seen:
            score.found += 1
        elif UNCHECKED.fullmatch(name) or (damage.kind == "removed" and OPTIONAL.fullmatch(name)):
            score.unchecked += 1
        else:
            self._problem(damage, "fsck does not find it")

    # -- as it is
    def _use(self, damage: Damage) -> None:
        with contextlib.suppress(HpcSearchError):
            self._look(damage)
        with contextlib.suppress(HpcSearchError):
            self._collected(damage)
        code, said = self.desk.work()
        if "Traceback" in said:
            self._problem(damage, f"work prints a traceback: {said[-1500:]}")
        self._compare(damage, results(self.desk.layout), words=said, where="work")
        with contextlib.suppress(HpcSearchError):
            self._collected(damage)
        if code not in (0, 1, 2, 4, 75):
            self._problem(damage, f"work ends with status {code}: {said[-500:]}")

    def _look(self, damage: Damage) -> None:
        seen = status(open_run(str(self.desk.run)))
        wanted = self.desk.status
        fields = ("trials", "done", "failed", "pruned", "best", "best_point")
        differ = [name for name in fields if getattr(seen, name) != getattr(wanted, name)]
        new = set(seen.notes) - set(wanted.notes)
        if differ and not new:
            self._problem(damage, f"status differs in {', '.join(differ)} and says nothing")

    def _collected(self, damage: Damage) -> None:
        found = collect(self.desk.layout)
        rows = published_rows(self.desk.layout)
        words = " ".join(note for note in found.notes if note.startswith("warning"))
        expected = self.desk.ended | (self.reference if len(rows) > len(self.desk.ended) else {})
        self._compare(damage, rows, words=words, where="collect", expected=expected)

    def _compare(
        self, damage: Damage, found: Results, *, words: str, where: str, expected: Results | None = None
    ) -> None:
        for trial, (state, value, detail) in found.items():
            wanted = self.reference.get(trial)
            if wanted is not None and (state, value) == wanted[:2]:
                continue
            if state == "failed" and "Damaged" in detail:
                continue
            if state == "failed" and where == "collect":
                # Its words stand in the journal, which was looked at after `work`.
                continue
            self._problem(
                damage, f"{where}: trial {trial} is {state} {value!r}, expected {wanted}: {detail[-300:]}"
            )
        missing = sorted((self.reference if expected is None else expected).keys() - found.keys())
        if missing and where == "collect" and not words.strip():
            self._problem(damage, f"{where}: trials {missing} have no result, and nothing is said")

    # -- repaired
    def _repaired(self) -> fsck.Report:
        """Repair; wait, as the refusal says, where a worker cannot be known to be dead before its lease."""
        for _ in range(_WAITS):
            with contextlib.suppress(UsageError):
                return fsck.repair_run(self.desk.layout)
            time.sleep(_LEASE)
        return fsck.repair_run(self.desk.layout)

    def _repair(self, damage: Damage, score: _Score) -> None:
        report = self._repaired()
        if any(
            one.path == self.desk.layout.instance.name for one in report.findings if one.level == "damaged"
        ):
            # The next command that it names.
            with contextlib.chdir(self.desk.root):
                fsck.adopt(self.desk.layout)
            report = fsck.repair_run(self.desk.layout)
        lost = {trial for one in report.findings if one.level == "lost" for trial in one.trials}
        score.lost += any(one.level == "lost" for one in report.findings)
        score.repaired += report.exit_code == 0
        left = [one.text() for one in report.findings if one.level == "damaged"]
        if left:
            self._problem(damage, f"not repaired: {left}")
        code, said = self.desk.work()
        found = results(self.desk.layout)
        for trial, wanted in self.reference.items():
            have = found.get(trial)
            if have is None and trial not in lost:
                self._problem(damage, f"repaired: trial {trial} has no result, and was not declared lost")
            elif have is not None and have[:2] != wanted[:2]:
                self._problem(damage, f"repaired: trial {trial} is {have}, expected {wanted}")
        if code != 0 and not lost:
            self._problem(damage, f"repaired: work ends with status {code}: {said[-500:]}")
        again = fsck.check_run(self.desk.layout)
        bad = [one.text() for one in again.findings if one.level in ("damaged", "lost")]
        # After more work the tables of the last collect are older than the journals, and still what it wrote.
        if bad:
            self._problem(damage, f"not clean after the repair: {bad}")


def run(args: argparse.Namespace) -> Tally:
    """Damage every file of the runs that were asked for."""
    tally = Tally()
    names = ("finished", "half") if args.which == "both" else (args.which,)
    for name in names:
        desk = Desk(args.directory / name, finished=name == "finished", claiming=args.claiming)
        campaign = _Campaign(desk, desk.reference, tally, args.trace)
        _undisturbed(campaign)
        chosen = list(damages(desk.pristine, random.Random(f"{args.seed}/{name}"), args.places))
        chosen = [damage for damage in chosen if re.search(args.files, damage.path)]
        if args.most:
            chosen = random.Random(args.seed).sample(chosen, min(args.most, len(chosen)))
        for damage in chosen:
            if args.trace:
                print(f"  {name}: {damage}", flush=True)
            campaign.one(damage)
        _count(tally, name, campaign)
    return tally


def _undisturbed(campaign: _Campaign) -> None:
    """Check that nothing is found where nothing was damaged: else the campaign would prove nothing."""
    campaign.desk.fresh(None)
    report = fsck.check_run(Layout(campaign.desk.run))
    if any(one.level != "note" for one in report.findings):
        campaign.tally.problems.append(f"the undisturbed run is not clean: {report.text()}")


def _count(tally: Tally, name: str, campaign: _Campaign) -> None:
    print(f"{name}: {'file':<44}{'damage':<10}{'made':>6}{'found':>7}{'free':>6}{'mended':>8}{'lost':>6}")
    order = {kind: number for number, kind in enumerate(KINDS)}
    for (path, kind), score in sorted(
        campaign.scores.items(), key=lambda item: (item[0][0], order[item[0][1]])
    ):
        row = (score.made, score.found, score.unchecked, score.repaired, score.lost)
        print("{}  {:<44}{:<10}{:>6}{:>7}{:>6}{:>8}{:>6}".format(" " * len(name), path, kind, *row))
        tally.counts[f"{name} run: damages ({kind})"] += score.made
        tally.counts[f"{name} run: found by fsck"] += score.found
        tally.counts[f"{name} run: in files that hold no truth"] += score.unchecked
        tally.counts[f"{name} run: repaired without a loss"] += score.repaired
        tally.counts[f"{name} run: something declared lost"] += score.lost
