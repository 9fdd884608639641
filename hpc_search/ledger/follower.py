"""What the journals say of the trials of a run, read on and on by whoever decides from it."""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

import msgspec

from hpc_search.layout import Layout
from hpc_search.ledger import history, marks, retries
from hpc_search.ledger.history import Result
from hpc_search.ledger.names import listed
from hpc_search.ledger.tail import Fresh, Tail
from hpc_search.records import journal as codec
from hpc_search.records.plan import Plan


class _Claim(msgspec.Struct, frozen=True, gc=False):
    trial: int
    attempt: int


class _Open(NamedTuple):
    """The newest attempt at a trial that gave no result, and its end where it has one."""

    attempt: int
    end: codec.End | None = None
    worker: str = ""


_CLAIM: Final = msgspec.json.Decoder(_Claim)
_END: Final = msgspec.json.Decoder(codec.End)
_REPORT: Final = msgspec.json.Decoder(codec.Report)
_VERDICT: Final = msgspec.json.Decoder(codec.Verdict)
_ACCEPTED: Final = msgspec.json.Decoder(codec.Accepted)
_KINDS: Final = frozenset({b"claim", b"end", b"accepted", b"verdict", b"report"})


class Follower:
    """A view of all journals that `refresh` brings up to date; only reads.

    ``results`` and ``ends`` hold the end record that counts of every trial with a result, ``paused`` the
    newest one of trials that wait at a rung, ``live`` the trials that somebody claimed and nobody ended:
    their owners may be dead. What was taken back by `retry` does not count.
    """

    def __init__(self, layout: Layout, plan: Plan, *, reports: bool = True) -> None:
        """Follow the run at *layout*; without *reports*, none is kept."""
        self._layout = layout
        self._tail = Tail(layout, plan.run_id)
        self._kinds = _KINDS if reports else _KINDS - {b"report"}
        self.results: dict[int, Result] = {}
        self.ends: dict[int, codec.End] = {}
        self.paused: dict[int, codec.End] = {}
        self.live: set[int] = set()
        self._finals: defaultdict[int, list[Result]] = defaultdict(list)
        self._accepted: defaultdict[int, set[str]] = defaultdict(set)
        self._open: dict[int, _Open] = {}
        self._reports: defaultdict[int, dict[int, codec.Report]] = defaultdict(dict)
        self._verdicts: defaultdict[int, list[codec.Verdict]] = defaultdict(list)
        self._published: tuple[list[str], list[int]] = [], []
        self._sealed: dict[int, str] = {}
        self._again = retries.Known()

    def refresh(self) -> set[int]:
        """Take in what is new; return the trials of which something is."""
        touched = {trial for line in self._tail.lines() if (trial := self._take(line)) is not None}
        published = sorted(listed(self._layout.seals)), retries.names(self._layout)
        if published != self._published:
            self._again = retries.read(self._layout)
            self._sealed = history.seals(self._layout)
            self._published = published
            touched.update(self._finals, self._open)
        for trial in touched:
            self._settle(trial)
        return touched

    def reports(self, trial: int) -> list[tuple[int, dict[str, float]]]:
        """Return (step, metrics) of *trial* by step; of two attempts, what the later one reported."""
        return [(step, one.metrics) for step, one in sorted(self._reports.get(trial, {}).items())]

    def verdicts(self, trial: int) -> list[codec.Verdict]:
        """Return the decisions on *trial*, by attempt and rung."""
        return sorted(self._verdicts.get(trial, ()), key=lambda one: (one.attempt, one.rung, one.n))

    # -- lines
    def _take(self, line: Fresh) -> int | None:
        """Take one line in; return the trial that it is about."""
        if line.kind not in self._kinds:
            return None
        try:
            return self._decode(line)
        except msgspec.ValidationError:
            # A shape that this version does not know.
            return None

    def _decode(self, line: Fresh) -> int:
        if line.kind == b"report":
            return self._report(_REPORT.decode(line.data))
        if line.kind == b"claim":
            claim = _CLAIM.decode(line.data)
            known = self._open.get(claim.trial)
            if known is None or claim.attempt > known.attempt:
                self._open[claim.trial] = _Open(claim.attempt)
            return claim.trial
        if line.kind == b"end":
            return self._end(_END.decode(line.data), line)
        if line.kind == b"verdict":
            verdict = _VERDICT.decode(line.data)
            self._verdicts[verdict.trial].append(verdict)
            return verdict.trial
        accepted = _ACCEPTED.decode(line.data)
        self._accepted[accepted.trial].add(accepted.end)
        return accepted.trial

    def _report(self, report: codec.Report) -> int:
        of_trial = self._reports[report.trial]
        known = of_trial.get(report.step)
        if known is None or (report.attempt, report.n) > (known.attempt, known.n):
            of_trial[report.step] = report
        return report.trial

    def _end(self, end: codec.End, line: Fresh) -> int:
        if end.state in codec.FINAL:
            self._finals[end.trial].append(Result(end, line.worker, line.data[-18:-2].decode()))
            return end.trial
        known = self._open.get(end.trial)
        first = known is None or end.attempt > known.attempt
        if known is not None and end.attempt == known.attempt:
            # An attempt ends once: what a worker says later whose trial was taken over is not another one.
            first = known.end is None or (end.t, line.worker) < (known.end.t, known.worker)
        if first:
            self._open[end.trial] = _Open(end.attempt, end, line.worker)
        return end.trial

    # -- what counts
    def _settle(self, trial: int) -> None:
        """Say anew what *trial* is."""
        for view in (self.results, self.ends, self.paused):
            view.pop(trial, None)
        self.live.discard(trial)
        result = self._result(trial)
        known = self._open.get(trial)
        if result is not None:
            self.results[trial], self.ends[trial] = result, result.end
        elif known is not None and known.attempt > self._again.entry(trial).again:
            if known.end is None:
                self.live.add(trial)
            elif known.end.state == "paused":
                self.paused[trial] = known.end

    def _result(self, trial: int) -> Result | None:
        """Return the end record that is the result of *trial*, by the rules of `history.results`."""
        found = [
            one
            for one in self._finals.get(trial, ())
            if not self._again.retired(trial, one.end.attempt, one.end.state)
        ]
        sealed = self._sealed.get(trial)
        if len(found) < 2 or sealed is not None:
            return next((one for one in found if sealed in (None, one.checksum)), None)
        marked = marks.accepted(self._layout, lambda number: number == trial).get(trial)
        return history.choose(found, None, marked.end if marked else None, self._accepted[trial])
