"""Merging what the workers wrote into RUN/results, any time, any number of times, concurrently."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.collect import documents, staged, words
from hpc_search.collect.documents import View
from hpc_search.collect.found import FILES, Best, Collected, RefitFound, SearchFound, StageFound
from hpc_search.collect.outcome import Outcome, outcome
from hpc_search.collect.reading import fewer_lines
from hpc_search.collect.sealing import Sealed, seal_results
from hpc_search.collect.selection import judge
from hpc_search.collect.sides import read_splits
from hpc_search.collect.writing import Logs, write_results
from hpc_search.errors import PASSING, TemporaryError, UsageError
from hpc_search.layout import Layout
from hpc_search.ledger import marks, mode, used_up
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.index import read_header
from hpc_search.ledger.sealing import last_seal
from hpc_search.planning import digest, load_plan
from hpc_search.records import checked
from hpc_search.records.plan import Plan
from hpc_search.records.search import Part
from hpc_search.records.splits import SplitsIndex

__all__ = ["AUDIT_LINES", "DIGESTS", "Best", "Collected", "Written", "collect"]

#: Journals with more lines are merged into audit.log only when asked for.
AUDIT_LINES: Final = 50_000
#: The file of the results that holds the digests of the others.
DIGESTS: Final = "digests.json"


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """results/digests.json: blake2b-128 of what the last collect wrote; of audit.log "" where it did not.

    ``audits`` is the same of the folds' logs, by their paths in RUN. ``merged`` is how far the logs go: the
    last line of each worker's journal, and of other records by their paths, that stands in them.
    """

    format: str = "hpc_search.written"
    version: int = 1
    files: dict[str, str]
    audit: str = ""
    audits: dict[str, str] = {}
    merged: dict[str, int] = {}
    #: Number of the last seal.
    seals: int = 0

    @classmethod
    def of(cls, digests: Mapping[str, str], logs: Logs, seals: int) -> Written:
        """Return the *digests* of the files with those of the *logs*."""
        audits = {name: digest(content) for name, content in logs.contents.items()}
        return cls(
            files=dict(sorted(digests.items())),
            audit=audits.pop("audit.log", ""),
            audits=audits,
            merged=logs.heads,
            seals=seals,
        )


def collect(layout: Layout, plan: Plan | None = None, *, audit: bool | None = None) -> Collected:
    """Merge the journals into RUN/results and seal the results; works while the search runs.

    Args:
        layout: The run.
        plan: Its plan, read where None.
        audit: Whether audit.log and the folds' logs are written; None: only below AUDIT_LINES lines.

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
            splits = read_splits(layout)
            whole = _view(layout, plan, sealed, splits)
            views = [_view(layout, plan, sealed, splits, part) for part in plan.search.searches]
            digests, notes, tested = write_results(layout, sealed.attempts, whole, views, splits)
            wanted = audit or (audit is None and fewer_lines(layout, AUDIT_LINES))
            logs = _logs(layout, plan) if wanted else Logs({}, {})
            written = Written.of(digests, logs, last_seal(layout))
            durable.replace(layout.result(DIGESTS), checked.encode(written))
        except OSError as error:
            raise _unwritable(layout, error) from error
        files = tuple(name for name in FILES if name in digests)
        searches = tuple(_search_found(layout, one) for one in views)
        found = whole.found
        notes += [*_warnings(plan, sealed, ended), *_mixed(found), *_budget(layout, found)]
        collected = _collected(layout, whole, files, tuple(notes))
        return msgspec.structs.replace(collected, searches=searches, tested=tuple(tested))


def _logs(layout: Layout, plan: Plan) -> Logs:
    # It needs the configuration, which takes a third of the start of this command.
    from hpc_search.collect.audit import write_logs

    return write_logs(layout, plan)


def _view(
    layout: Layout, plan: Plan, sealed: Sealed, splits: SplitsIndex | None, part: Part | None = None
) -> View:
    found = outcome(plan, sealed.attempts, part)
    return View(found, judge(layout, found, splits))


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


def _collected(layout: Layout, view: View, files: tuple[str, ...], notes: tuple[str, ...]) -> Collected:
    found = view.found
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
        left_out=sum(end.left_out for end in found.ends),
        causes=dict(sorted(Counter(end.cause for end in found.ends if end.state == "failed").items())),
        points=found.points,
        points_complete=complete,
        points_incomplete=len(found.scores) - complete,
        folds=max((len(block.folds) for block in found.ranked), default=0),
        seeds=max((len(block.seeds) for block in found.ranked), default=1),
        best=_best(view),
        said=tuple(_said(view)),
        below=tuple(words.below(found.scores)),
        reason=found.reason,
        results=str(_shown(layout.results)),
        files=files,
        notes=notes,
        pareto=tuple(documents.front_points(found)),
        stages=tuple(_stages(found)),
        refits=tuple(_refits(layout, found)),
    )


def _stages(found: Outcome) -> Iterator[StageFound]:
    """Yield what was found of each stage, where there are several."""
    for stage in staged.stages(found.plan, found.ranked, found.ends, found.scores):
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


def _refits(layout: Layout, found: Outcome) -> Iterator[RefitFound]:
    """Yield what was found of each block that trains a chosen point again."""
    plan = found.plan
    gates = Gates(layout, plan)
    for place, block in enumerate(plan.blocks):
        if block.refit:
            mine = staged.within([block], found.ends)
            opened = gates.opened(place)
            yield RefitFound(
                search=block.part,
                stage=block.stage_name,
                on=block.refit,
                outer=block.outer,
                trials=block.trials,
                finished=len(mine),
                done=sum(end.state == "done" for end in mine),
                why=opened.why if opened is not None else "",
            )


def _said(view: View) -> list[str]:
    part = view.found.part
    if part is None:
        return []
    return words.said(view.judged, part.metric.name, part.metric.goal, [one.name for one in part.objectives])


def _search_found(layout: Layout, view: View) -> SearchFound:
    found = view.found
    part = found.part or found.plan.search.parts[0]
    return SearchFound(
        name=part.name,
        metric=part.metric.name,
        goal=part.metric.goal,
        best=_best(view),
        said=tuple(_said(view)),
        below=tuple(words.below(found.scores)),
        reason=found.reason,
        results=str(_shown(layout.result(part.name))),
        pareto=tuple(documents.front_points(found)),
    )


def _best(view: View) -> Best | None:
    found = view.found
    score = documents.chosen_score(found, view.judged)
    if score is None or score.mean is None:
        return None
    params = found.params[found.of_point[score.point]]
    stage = staged.block_of(found.ranked, score.point).stage_name
    return Best(score.point, params, score.mean, score.sd, score.n, stage)


def _shown(path: Path) -> Path:
    try:
        return path.resolve().relative_to(Path.cwd())
    except (ValueError, OSError):
        return path
