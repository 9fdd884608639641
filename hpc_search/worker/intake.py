"""What one attempt says while it runs: reports, saves, its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from hpc_search.ledger import Claimed
from hpc_search.records import journal as lines
from hpc_search.runners import command, messages
from hpc_search.worker.context import AttemptContext

#: Why a trial stops at its first report where only that was asked for; the metrics of it follow.
CHECKED: Final = "checked"


class Intake:
    """Takes an attempt's messages, or its program's report file, into the journal.

    Attributes:
        message: What the trial said last: its end, {} until then.
        samples: Ids and scores of its samples, None where it gave none.
        step: Step of its newest checkpoint; of a program, the last step that it reported.
        accumulates: Whether it asked for its accumulation.
        alive_at: Own monotonic time of its last sign of life.
        verdict: The last one on it that was asked for, None before.
        damaged: Whether its line cannot be read any more.
        leaving: Whether it stopped or ended, so that its process has to end soon.
    """

    def __init__(
        self,
        context: AttemptContext,
        claimed: Claimed,
        stop: Callable[[str], None],
        answer: Callable[[lines.Verdict], None],
    ) -> None:
        """Take what the attempt at *claimed* says; ask it to stop by *stop*, tell it verdicts by *answer*."""
        self._context = context
        self._claimed = claimed
        self._answer = answer
        self._rung = -1
        self.verdict: lines.Verdict | None = None
        self.number, self._attempt = claimed.trial.number, claimed.attempt
        self._stop = stop
        self._inbox = messages.Inbox()
        self._report_lines = self._report_size = 0
        self._told: list[tuple[int, dict[str, float]]] = []
        self.message: dict[str, Any] = {}
        self.samples: tuple[list[Any], list[float]] | None = None
        self.step = 0
        self.accumulates = False
        self.alive_at = time.monotonic()
        self.damaged = self.leaving = False

    def feed(self, data: bytes) -> None:
        """Take what arrived on the trial's line."""
        try:
            for message in self._inbox.feed(data):
                self._take(message)
        except messages.BrokenStreamError:
            text = "the line to the supervisor was damaged: did a process that the trial forked write to it?"
            self.message = self.message or {"state": "failed", "cause": "error", "detail": text}
            self.damaged = True
        self._write()

    def _take(self, message: dict[str, Any]) -> None:
        self.alive_at = time.monotonic()
        if message["kind"] != "report":
            self._write()
        match message["kind"]:
            case "report":
                self._told.append((message["step"], message["metrics"]))
                if message.get("rung", -1) >= 0:
                    self._judge(message["rung"], message["step"])
                if self._context.to_first_report:
                    self._stop(f"{CHECKED}: {', '.join(sorted(message['metrics']))}")
            case "saved":
                self._saved(message)
            case "restored":
                self._restored(message)
            case "unsaved":
                text = f"trial {self.number}, step {message['step']}: {message['detail']}"
                self._context.ledger.note("checkpoint not saved", text)
            case "samples":
                self.samples = (message["ids"], message["scores"])
            case "accumulates":
                self.accumulates = True
            case "stopping":
                self.leaving = True
            case "end":
                self.message = message
                self.leaving = True

    def _write(self) -> None:
        """Write the reports that came together by one call."""
        told, self._told = self._told, []
        if told:
            self._context.ledger.reports(self.number, self._attempt, told)

    def _judge(self, rung: int, step: int) -> None:
        """Have the trial judged, and tell it."""
        self._write()
        referee = self._context.referee
        if referee is not None:
            self.verdict = referee.judge(self._claimed, rung, step)
            self._answer(self.verdict)

    def _saved(self, message: dict[str, Any]) -> None:
        self.step = max(self.step, message["step"])
        record = lines.Checkpoint(
            trial=self.number,
            attempt=self._attempt,
            step=message["step"],
            slot=message["slot"],
            bytes=message["bytes"],
            seconds=round(message["seconds"], 4),
        )
        self._context.ledger.journal.append(record)

    def _restored(self, message: dict[str, Any]) -> None:
        self.step = max(self.step, message["step"])
        if message["step"]:
            self._note("resumed", f"step {message['step']}")
        told = {"checkpoint skipped": message["skipped"], "resumed elsewhere": message["differs"]}
        for event, texts in told.items():
            for text in texts:
                self._note(event, text)

    def _note(self, event: str, text: str) -> None:
        note = lines.Note(event=event, trial=self.number, attempt=self._attempt, text=text)
        self._context.ledger.journal.append(note)

    def read_report(self, path: Path, *, running: bool = True) -> None:
        """Take the new lines of a program's report file; one that is *running* is judged by them."""
        try:
            size = path.stat().st_size
        except OSError:
            size = 0
        if size == self._report_size:
            return
        self._report_size = size
        found, _ = command.read_report(path)
        for line in found[self._report_lines :]:
            self.alive_at = time.monotonic()
            step, metrics = command.reported(line)
            if step is not None and metrics:
                # Nobody sees a program's checkpoints; a step that it had not reached before is progress.
                self.step = max(self.step, step)
                self._told.append((step, metrics))
                rung = self._rung_of(step, metrics) if running else -1
                if rung > self._rung:
                    self._rung = rung
                    self._judge(rung, step)
        self._write()
        self._report_lines = max(self._report_lines, len(found))

    def _rung_of(self, step: int, metrics: dict[str, float]) -> int:
        """Return the rung that a program's line completes, -1 for none."""
        referee, told = self._context.referee, self.verdict
        if referee is None or (told is not None and told.decision in ("pause", "prune")):
            return -1
        return referee.schedule(self.number).rung(step) if referee.metric(self.number) in metrics else -1
