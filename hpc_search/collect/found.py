"""What a collect found, in words and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from hpc_search.collect import documents
from hpc_search.collect.pareto import ParetoPoint
from hpc_search.status.text import pruned_words

#: Points of the Pareto front that are shown.
_FRONT: Final = 10
#: Columns of sentences.
_WIDTH: Final = 100
#: Every file of the results, in the order in which they are named.
FILES: Final = {
    "best_hyperparams.json": "the chosen hyperparameters, mean, sd, interval and fold values",
    "selection.json": "how sure the choice is: intervals, tests, corrected score",
    "summary.csv": "one row a point: mean, sd, n, rank",
    "folds.csv": "one row a fold: its samples, trials, the chosen point's value",
    "pareto_front.json": "the points that no other one beats in every objective",
    "final_test_results.json": "what the test side gave, and how often it was opened",
    "top_k.json": f"the {documents.TOP_K} best points",
    "results.csv": "one row a finished trial",
    "results.parquet": "the same, typed",
    "search_results.json": "the same, as JSON with every metric",
    "attempts.csv": "who ran what, where, how long",
    "verdicts.csv": "what was decided at the rungs and between folds, and from what",
}


class Best(msgspec.Struct, frozen=True):
    """The best complete point, of ``stage`` where the search has stages; ``sd`` is None for one value."""

    point: int
    params: dict[str, Any]
    mean: float
    sd: float | None
    n: int
    stage: str = ""


class StageFound(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of one search; ``point`` and ``mean`` are of the best complete one."""

    search: str
    stage: str
    metric: str
    trials: int
    finished: int
    points: int
    points_complete: int
    point: int | None
    mean: float | None


class RefitFound(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen point trained again ``on`` more data, in the outer fold ``outer``; ``why`` this point."""

    search: str
    stage: str
    on: str
    outer: int | None
    trials: int
    finished: int
    done: int
    why: str


class SearchFound(msgspec.Struct, frozen=True, kw_only=True):
    """What a collect found of one search of several; its files are in ``results``."""

    name: str
    metric: str
    goal: str
    best: Best | None
    reason: str
    results: str
    #: The points that no other complete one dominates, where it has several objectives.
    pareto: tuple[ParetoPoint, ...] = ()
    #: How sure the choice is, in words, and the incomplete points.
    said: tuple[str, ...] = ()
    below: tuple[str, ...] = ()


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
    #: Of the pruned trials those that never began, for their points had lost a race.
    left_out: int
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
    #: The searches of a plan with several, and the stages of every search.
    searches: tuple[SearchFound, ...] = ()
    stages: tuple[StageFound, ...] = ()
    refits: tuple[RefitFound, ...] = ()
    #: How sure the choice is, in words, and the incomplete points.
    said: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    #: What the test side gave, and how often it was opened, in words.
    tested: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the whole in words: counts, the best hyperparameters, which files to look at."""
        best = [row for one in self.searches for row in _best_rows(one)] if self.searches else self._best()
        parts = [
            *self._counts(),
            *map(_stage_row, self.stages),
            *map(_refit_row, self.refits),
            "",
            *best,
            *_front(self.pareto, "", ""),
        ]
        parts += ["", *_bullets(self.tested)] if self.tested else []
        return "\n".join([*parts, "", *self._where(), *self.notes])

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
        pruned = pruned_words(self.pruned, self.left_out) or "0 pruned"
        return [f"{head}: {self.done} done, {failed}, {pruned}", points]

    def _best(self) -> list[str]:
        if self.best is None:
            return [f"no best hyperparameters yet: {self.reason}", *self.below]
        best = self.best
        wanted = "highest" if self.goal == "max" else "lowest"
        value = f"{best.mean:.6g}"
        if best.sd is None:
            over = "one value"
        else:
            value += f" +- {best.sd:.6g}"
            over = f"mean and standard deviation over {self._over(best.n)}"
        several = " by the first objective" if self.pareto else ""
        stage = f" of stage {best.stage}" if best.stage else ""
        head = (
            f"best{several}: point {best.point}{stage}, {self.metric} = {value} ({over}; the {wanted} wins)"
        )
        return [head, *_params(best), *_bullets(self.said), *self.below]

    def _over(self, n: int) -> str:
        if self.folds and self.folds * self.seeds == n:
            folds = f"{self.folds} folds" if self.folds > 1 else "1 fold"
            return folds if self.seeds == 1 else f"{folds} x {self.seeds} seeds"
        return f"{n} values"

    def _where(self) -> list[str]:
        width = max(map(len, self.files), default=0)
        rows = [f"  {name:{width}}  {FILES[name]}" for name in self.files]
        rows += [f"  {'NAME/':{width}}  the same of each search"] if self.searches else []
        return [f"files in {self.results}:", *rows]


def _front(points: tuple[ParetoPoint, ...], search: str, directory: str) -> list[str]:
    if not points:
        return []
    shown = "1 point that no" if len(points) == 1 else f"{len(points)} points that no"
    head = f"{search}Pareto front: {shown} other one beats (as good in every objective, better in one)"
    rows = [
        f"  point {one.point}: " + ", ".join(f"{name} = {value:.6g}" for name, value in one.means.items())
        for one in points[:_FRONT]
    ]
    more = f"  ... and {len(points) - _FRONT} more ({directory}pareto_front.json)"
    return ["", head, *rows, *[more] * (len(points) > _FRONT)]


def _bullets(said: Sequence[str]) -> list[str]:
    """Return sentences on rows that fit a terminal."""
    rows = []
    for one in said:
        rows += textwrap.wrap(one, _WIDTH, initial_indent="- ", subsequent_indent="  ")
    return rows


def _params(best: Best) -> list[str]:
    width = max(map(len, best.params), default=0)
    return [f"  {name:{width}} = {documents.show_value(value)}" for name, value in best.params.items()]


def _best_rows(one: SearchFound) -> list[str]:
    if one.best is None:
        return [f"{one.name}: no best hyperparameters yet: {one.reason}", *one.below]
    best = one.best
    spread = "" if best.sd is None else f" +- {best.sd:.6g}"
    stage = f" of stage {best.stage}" if best.stage else ""
    over = "one value" if best.n == 1 else f"over {best.n} values"
    value = f"{one.metric} = {best.mean:.6g}{spread} ({over}; {one.goal})"
    several = " by the first objective" if one.pareto else ""
    front = _front(one.pareto, f"{one.name}: ", f"{one.name}/")
    head = f"{one.name}: best{several}: point {best.point}{stage}, {value}"
    return [head, *_params(best), *_bullets(one.said), *one.below, *front, *[""] * bool(front)]


def _stage_row(one: StageFound) -> str:
    name = " ".join(filter(None, [one.search, one.stage])) or "search"
    best = "" if one.mean is None else f"; best {one.metric} {one.mean:.6g} (point {one.point})"
    done = f"{one.finished} of {one.trials} trials, {one.points_complete} of {one.points} points complete"
    return f"  {name}: {done}{best}"


def _refit_row(one: RefitFound) -> str:
    name = " ".join(filter(None, [one.search, one.stage]))
    failed = f", {one.finished - one.done} of them without success" if one.done < one.finished else ""
    why = f"; {one.why}" if one.why else ""
    return f"  {name} ({one.on}): {one.finished} of {one.trials} trials finished{failed}{why}"
