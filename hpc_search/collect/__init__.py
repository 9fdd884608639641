"""Merging what the workers wrote into RUN/results, any time, any number of times, concurrently."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.collect import audit as audit_log
from hpc_search.collect import documents, staged
from hpc_search.collect.columns import Column, csv_text
from hpc_search.collect.documents import Outcome
from hpc_search.collect.found import FILES, Best, Collected, SearchFound, StageFound
from hpc_search.collect.parquet import parquet_bytes
from hpc_search.collect.sealing import Sealed, seal_results
from hpc_search.collect.verdicts import read_verdicts, verdict_columns
from hpc_search.errors import PASSING, TemporaryError, UsageError
from hpc_search.layout import Layout
from hpc_search.ledger import marks, mode, used_up
from hpc_search.ledger.index import read_header
from hpc_search.ledger.sealing import last_seal
from hpc_search.planning import digest, load_plan
from hpc_search.records import checked
from hpc_search.records.plan import Plan

__all__ = ["AUDIT_LINES", "DIGESTS", "Best", "Collected", "Written", "collect"]

#: Journals with more lines are merged into audit.log only when asked for.
AUDIT_LINES: Final = 50_000
#: The file of the results that holds the digests of the others.
DIGESTS: Final = "digests.json"


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
            parts = plan.search.searches
            found_of = [documents.outcome(plan, sealed.attempts, part) for part in parts]
            contents, notes = _write_results(layout, found, sealed, found_of)
            merged = b""
            if audit or (audit is None and audit_log.fewer_lines(layout, AUDIT_LINES)):
                merged = audit_log.audit_text(layout)
                durable.replace(layout.audit, merged)
            written = Written.of(contents, merged, last_seal(layout))
            durable.replace(layout.result(DIGESTS), checked.encode(written))
        except OSError as error:
            raise _unwritable(layout, error) from error
        files = tuple(name for name in FILES if name in contents)
        searches = tuple(_search_found(layout, one) for one in found_of)
        notes += [*_warnings(plan, sealed, ended), *_mixed(found), *_budget(layout, found)]
        collected = _collected(layout, found, files, tuple(notes))
        return msgspec.structs.replace(collected, searches=searches)


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


def _contents(found: Outcome, columns: Sequence[Column]) -> dict[str, bytes]:
    """Return the files of one search."""
    contents = {
        "results.csv": csv_text(columns),
        "search_results.json": documents.search_results(found),
        "summary.csv": csv_text(documents.summary_columns(found)),
        "top_k.json": documents.top_k(found),
        "best_hyperparams.json": documents.best_hyperparams(found),
    }
    if found.fronts.objectives:
        contents["pareto_front.json"] = documents.pareto_front(found)
    return contents


def _write_results(
    layout: Layout, found: Outcome, sealed: Sealed, searches: Sequence[Outcome]
) -> tuple[dict[str, bytes], list[str]]:
    layout.results.mkdir(mode=0o700, exist_ok=True)
    columns = documents.result_columns(found)
    contents = _contents(found, columns)
    contents["attempts.csv"] = csv_text(documents.attempt_columns(sealed.attempts))
    if searches:
        # The best of points that are not measured by the same.
        del contents["top_k.json"]
        contents["best_hyperparams.json"] = documents.best_of_searches(found, searches)
    for one in searches:
        name = one.part.name if one.part is not None else ""
        layout.result(name).mkdir(mode=0o700, exist_ok=True)
        of_search = _contents(one, documents.result_columns(one))
        contents |= {f"{name}/{file}": content for file, content in of_search.items()}
    if any(block.pruning or block.racing for block in found.plan.blocks):
        contents["verdicts.csv"] = csv_text(verdict_columns(read_verdicts(layout)))
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


def _budget(layout: Layout, found: Outcome) -> list[str]:
    """Return why trials are left where nothing is left of the search's budget."""
    words, left = used_up(layout), found.plan.trials - len(found.ends)
    if not words or left <= 0:
        return []
    more = f"{left} of {found.plan.trials} trials have not ended"
    return [f"{words}; {more}; a larger `budget` and `plan CONFIG --run RUN --amend` let it go on"]


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
        stages=tuple(_stages(found)),
    )


def _stages(found: Outcome) -> Iterator[StageFound]:
    """Yield what was found of each stage, where there are several."""
    for stage in staged.stages(found.plan, found.blocks, found.ends, found.scores):
        whole = [score for score in stage.scores if score.complete]
        yield StageFound(
            search=stage.part.name,
            stage=stage.name,
            metric=stage.part.metric.name,
            trials=stage.trials,
            finished=stage.finished,
            points=stage.points,
            points_complete=len(whole),
            point=whole[0].point if whole else None,
            mean=whole[0].mean if whole else None,
        )


def _search_found(layout: Layout, found: Outcome) -> SearchFound:
    part = found.part or found.plan.search.parts[0]
    return SearchFound(
        name=part.name,
        metric=part.metric.name,
        goal=part.metric.goal,
        best=_best(found),
        reason=found.reason,
        results=str(_shown(layout.result(part.name))),
        pareto=tuple(documents.front_points(found)),
    )


def _best(found: Outcome) -> Best | None:
    score = found.best
    if score is None or score.mean is None:
        return None
    params = found.params[found.of_point[score.point]]
    stage = staged.block_of(found.blocks, score.point).stage_name
    return Best(score.point, params, score.mean, score.sd, score.n, stage)


def _shown(path: Path) -> Path:
    try:
        return path.resolve().relative_to(Path.cwd())
    except (ValueError, OSError):
        return path
