"""Merging what the workers wrote into RUN/results, any time, any number of times, concurrently."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from hpc_search import durable
from hpc_search.collect import audit as audit_log
from hpc_search.collect import documents
from hpc_search.collect.columns import csv_text
from hpc_search.collect.documents import Outcome
from hpc_search.collect.pareto import ParetoPoint
from hpc_search.collect.parquet import parquet_bytes
from hpc_search.collect.sealing import Sealed, last_seal, seal_results
from hpc_search.errors import PASSING, TemporaryError, UsageError
from hpc_search.layout import Layout
from hpc_search.ledger import marks, mode
from hpc_search.ledger.index import read_header
from hpc_search.planning import digest, load_plan
from hpc_search.records import checked
from hpc_search.records.plan import Plan

__all__ = ["AUDIT_LINES", "DIGESTS", "Best", "Collected", "Written", "collect"]

#: Journals with more lines are merged into audit.log only when asked for.
AUDIT_LINES: Final = 50_000
#: Points of the Pareto front that are shown.
_FRONT: Final = 10
#: The file of the results that holds the digests of the others.
DIGESTS: Final = "digests.json"
_FILES: Final = {
    "best_hyperparams.json": "the best hyperparameters, mean, sd and fold values",
    "summary.csv": "one row a point: mean, sd, n, rank",
    "pareto_front.json": "the points that no other one beats in every objective",
    "top_k.json": f"the {documents.TOP_K} best points",
    "results.csv": "one row a finished trial",
    "results.parquet": "the same, typed",
    "search_results.json": "the same, as JSON with every metric",
    "attempts.csv": "who ran what, where, how long",
}


class Best(msgspec.Struct, frozen=True):
    """The best complete point; ``sd`` is None for one value."""

    point: int
    params: dict[str, Any]
    mean: float
    sd: float | None
    n: int


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """results/digests.json: blake2b-128 of what the last collect wrote; of audit.log "" where it did not."""

    format: str = "hpc_search.written"
    version: int = 1
    files: dict[str, str]
    audit: str = ""
    #: Number of the last seal.
    seals: int = 0

    @classmethod
    def of(cls, contents: Mapping[str, bytes], audit: bytes, seals: int) -> Written:
        """Return the digests of the files *contents* and of *audit*, b"" where there is none."""
        files = {name: digest(content) for name, content in sorted(contents.items())}
        return cls(files=files, audit=digest(audit) if audit else "", seals=seals)


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What a collect found and wrote. ``reason`` says why ``best`` is None."""

    name: str
    run_id: str
    metric: str
    goal: str
    trials: int
    finished: int
    done: int
    failed: int
    pruned: int
    causes: dict[str, int]
    points: int
    points_complete: int
    points_incomplete: int
    folds: int
    seeds: int
    best: Best | None
    reason: str
    results: str
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()
    #: The points that no other complete one dominates, where there are several objectives.
    pareto: tuple[ParetoPoint, ...] = ()

    def text(self) -> str:
        """Return the whole in words: counts, the best hyperparameters, which files to look at."""
        parts = [*self._counts(), "", *self._best(), *self._front(), "", *self._where(), *self.notes]
        return "\n".join(parts)

    def json(self) -> str:
        """Return the same as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    def _counts(self) -> list[str]:
        causes = ", ".join(f"{count} {cause}" for cause, count in self.causes.items())
        failed = f"{self.failed} failed" + (f" ({causes})" if causes else "")
        head = f"{self.name}: {self.finished} of {self.trials} trials finished"
        points = f"{self.points_complete} of {self.points} points complete"
        if self.points_incomplete:
            points += f", {self.points_incomplete} begun but incomplete (they cannot be best)"
        return [f"{head}: {self.done} done, {failed}, {self.pruned} pruned", points]

    def _best(self) -> list[str]:
        if self.best is None:
            return [f"no best hyperparameters yet: {self.reason}"]
        best = self.best
        wanted = "highest" if self.goal == "max" else "lowest"
        value = f"{best.mean:.6g}"
        if best.sd is None:
            over = "one value"
        else:
            value += f" +- {best.sd:.6g}"
            over = f"mean and standard deviation over {self._over(best.n)}"
        several = " by the first objective" if self.pareto else ""
        head = f"best{several}: point {best.point}, {self.metric} = {value} ({over}; the {wanted} wins)"
        width = max(map(len, best.params), default=0)
        shown = documents.show_value
        return [head, *(f"  {name:{width}} = {shown(value)}" for name, value in best.params.items())]

    def _front(self) -> list[str]:
        if not self.pareto:
            return []
        count = len(self.pareto)
        shown = "1 point that no" if count == 1 else f"{count} points that no"
        head = f"Pareto front: {shown} other one beats (as good in every objective, better in one)"
        rows = [
            f"  point {one.point}: " + ", ".join(f"{name} = {value:.6g}" for name, value in one.means.items())
            for one in self.pareto[:_FRONT]
        ]
        more = [f"  ... and {count - _FRONT} more (pareto_front.json)"] if count > _FRONT else []
        return ["", head, *rows, *more]

    def _over(self, n: int) -> str:
        if self.folds and self.folds * self.seeds == n:
            folds = f"{self.folds} folds" if self.folds > 1 else "1 fold"
            return folds if self.seeds == 1 else f"{folds} x {self.seeds} seeds"
        return f"{n} values"

    def _where(self) -> list[str]:
        width = max(map(len, self.files), default=0)
        return [f"files in {self.results}:", *(f"  {name:{width}}  {_FILES[name]}" for name in self.files)]


def collect(layout: Layout, plan: Plan | None = None, *, audit: bool | None = None) -> Collected:
    """Merge the journals into RUN/results and seal the results; works while the search runs.

    Args:
        layout: The run.
        plan: Its plan, read where None.
        audit: Whether audit.log is written; None: only below AUDIT_LINES lines.

    Raises:
        UsageError: There is no run, or RUN/results cannot be written.
        TemporaryError: The disk is full, or other collects were faster every time.
    """
    plan = plan or load_plan(layout)
    # Before the journals are read: an end stands in its journal before the index counts it.
    ended = _ended(layout)
    with _collector_paused():
        try:
            sealed = seal_results(layout)
            found = documents.outcome(plan, sealed.attempts)
            contents, notes = _write_results(layout, found, sealed)
            merged = b""
            if audit or (audit is None and audit_log.fewer_lines(layout, AUDIT_LINES)):
                merged = audit_log.audit_text(layout)
                durable.replace(layout.audit, merged)
            written = Written.of(contents, merged, last_seal(layout))
            durable.replace(layout.result(DIGESTS), checked.encode(written))
        except OSError as error:
            raise _unwritable(layout, error) from error
        files = tuple(name for name in _FILES if name in contents)
        notes += [*_warnings(plan, sealed, ended), *_mixed(found)]
        return _collected(layout, found, files, tuple(notes))


def _ended(layout: Layout) -> int:
    """Return how many trials ended by what workers claim by, 0 where that cannot be read."""
    if mode.exclusive(layout):
        return marks.finals(layout)
    header = read_header(layout)
    return header.finals if header is not None else 0


@contextmanager
def _collector_paused() -> Iterator[None]:
    # Everything made here lives until the end: walking it again and again took a third of the time.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _unwritable(layout: Layout, error: OSError) -> UsageError | TemporaryError:
    where = error.filename or layout.results
    message = f"{os.fsdecode(where)}: {error.strerror}; the results could not be written"
    if error.errno in durable.NO_SPACE:
        return TemporaryError(message, hint="free space (or quota), then `collect` again; nothing is lost")
    if error.errno in PASSING:
        return TemporaryError(message, hint="`collect` again later; nothing is lost")
    return UsageError(message, hint="make RUN writable, or copy it and collect in the copy")


def _write_results(layout: Layout, found: Outcome, sealed: Sealed) -> tuple[dict[str, bytes], list[str]]:
    layout.results.mkdir(mode=0o700, exist_ok=True)
    columns = documents.result_columns(found)
    attempts = sealed.attempts
    contents = {
        "results.csv": csv_text(columns),
        "search_results.json": documents.search_results(found),
        "summary.csv": csv_text(documents.summary_columns(found)),
        "attempts.csv": csv_text(documents.attempt_columns(attempts)),
        "top_k.json": documents.top_k(found),
        "best_hyperparams.json": documents.best_hyperparams(found),
    }
    if found.fronts.objectives:
        contents["pareto_front.json"] = documents.pareto_front(found)
    notes = []
    try:
        contents["results.parquet"] = parquet_bytes(columns)
    except ImportError as error:
        notes.append(f"results.parquet was not written: {error}; `pip install pyarrow`")
    for name, content in contents.items():
        durable.replace(layout.result(name), content)
    return contents, notes


def _warnings(plan: Plan, sealed: Sealed, ended: int) -> list[str]:
    gone = max(0, ended - len(sealed.attempts.results))
    foreign = sum(not 0 <= trial < plan.trials for trial in sealed.attempts.results)
    counted = {
        "end records do not verify and were passed over": sealed.attempts.damaged,
        "results that an earlier collect published are no longer in the journals": sealed.lost,
        "trials ended by the ledger, but no journal holds their results (was workers/ deleted?)": gone,
        "results have numbers that the plan does not have and were left out": foreign,
    }
    return [f"warning: {count} {what}" for what, count in counted.items() if count]


def _mixed(found: Outcome) -> list[str]:
    """Return a warning where values of several snapshots of the sources are compared."""
    if not found.mixed:
        return []
    counts = Counter(code[:8] or "none" for code in found.codes)
    shown = ", ".join(f"{count} of code {code}" for code, count in sorted(counts.items()))
    words = f"warning: results of several snapshots of the code are mixed: {shown}"
    return [f"{words} (column `code` of results.csv)"]


def _collected(layout: Layout, found: Outcome, files: tuple[str, ...], notes: tuple[str, ...]) -> Collected:
    plan = found.plan
    states, complete = found.states, found.complete
    return Collected(
        name=plan.search.name,
        run_id=plan.run_id,
        metric=plan.metric.name,
        goal=plan.metric.goal,
        trials=plan.trials,
        finished=len(found.ends),
        done=states["done"],
        failed=states["failed"],
        pruned=states["pruned"],
        causes=dict(sorted(Counter(end.cause for end in found.ends if end.state == "failed").items())),
        points=plan.points,
        points_complete=complete,
        points_incomplete=len(found.scores) - complete,
        folds=max((len(block.folds) for block in plan.blocks), default=0),
        seeds=max((len(block.seeds) for block in plan.blocks), default=1),
        best=_best(found),
        reason=found.reason,
        results=str(_shown(layout.results)),
        files=files,
        notes=notes,
        pareto=tuple(documents.front_points(found)),
    )


def _best(found: Outcome) -> Best | None:
    score = found.best
    if score is None or score.mean is None:
        return None
    return Best(score.point, found.params[found.of_point[score.point]], score.mean, score.sd, score.n)


def _shown(path: Path) -> Path:
    try:
        return path.resolve().relative_to(Path.cwd())
    except (ValueError, OSError):
        return path
