"""The plan in words: what is searched, how many trials, what it costs in files and bytes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hpc_search.config.selection import SEEDS
from hpc_search.planning.drafts import Draft
from hpc_search.planning.sides import folds_lines
from hpc_search.planning.spaces import Lines, space_lines
from hpc_search.records import index
from hpc_search.records.plan import Block, Plan
from hpc_search.records.search import Metric, Part, PruningSpec, StrategySpec
from hpc_search.records.splits import SplitsIndex
from hpc_search.space import word

#: Bytes of journal a trial (claim, start, a save, end, accepted), and a report with two metrics (measured).
_TRIAL_BYTES: Final = 1200
_REPORT_BYTES: Final = 160
_SHOWN: Final = 8


def describe(
    plan: Plan,
    run: str,
    *,
    fresh: bool,
    dry: bool = False,
    code: str = "",
    lines: Mapping[str, Lines] | None = None,
    splits: SplitsIndex | None = None,
) -> str:
    """Return the plan as the user shall check it.

    *code* says what was kept of the sources, *lines* where the rules of each search stand in its file,
    *splits* how the data are split.
    """
    search = plan.search
    now = "planned now" if plan.number == 1 else f"amended now: plan {plan.number}"
    words = now if fresh else "already planned"
    made = "not made: dry run" if dry else f"{words}; run id {plan.run_id}"
    rows = [
        f"{search.name}: {counts(plan.blocks)}",
        f"  run        {run} ({made})",
        *([f"  code       {code}"] if code else []),
        *(row for part in search.parts for row in _part(plan, part, (lines or {}).get(part.name, {}))),
        *(folds_lines(splits) if splits is not None else ["  folds      none"]),
        f"  disk       {_disk(plan)}",
    ]
    return "\n".join(rows)


def _part(plan: Plan, part: Part, lines: Lines) -> list[str]:
    """Return the rows of one search; of several each has a heading."""
    blocks = [block for block in plan.blocks if block.part == part.name]
    staged = any(stage.name for stage in part.stages)
    objectives = ", ".join(map(_metric, part.objectives or (part.metric,)))
    rows = [
        f"  trial      {part.trial.callable or ' '.join(part.trial.command)}",
        f"  metric     {objectives}",
        *(_stages(plan, blocks) if staged else [f"  strategy   {_strategy(part.strategy)}"]),
        *([f"  pruning    {_pruning(part.pruning)}"] if part.pruning and not staged else []),
        *_choice(part),
        *([f"  points     {len(part.given):,} given ones come first"] if part.given else []),
        *space_lines(part.space, lines),
    ]
    if not part.name:
        return rows
    return [f"  search     {part.name}: {counts(blocks)}", *(f"  {row}" for row in rows)]


def _metric(metric: Metric) -> str:
    reduced = "" if metric.reduction == "mean" else ", no mean over samples"
    return f"{metric.name} ({metric.goal}, on the validation side{reduced})"


def _choice(part: Part) -> list[str]:
    """Return the rows on which folds are left out, which point is chosen, and what tests it."""
    rows = []
    if part.racing is not None:
        error, folds = part.racing.error, part.racing.folds
        rows.append(
            f"  racing     folds of points that lose clearly are left out, after {folds} folds at least; "
            f"the best point is lost in at most {error:.3g} of searches"
        )
    if part.choose.rule != "best":
        names = ", ".join(part.choose.simpler)
        rows.append(f"  choose     the simplest point within one standard error of the best: by {names}")
    if part.test is not None:
        rows.append(f"  test       {part.test.callable or ' '.join(part.test.command)}")
    return rows


def _stages(plan: Plan, blocks: Sequence[Block]) -> list[str]:
    """Return a row a stage: its counts, its strategy, and what will be derived."""
    names = [block.stage_name or "search" for block in blocks]
    width = max(map(len, names))
    rows = (f"    {name:<{width}}  {_stage(plan, one)}" for name, one in zip(names, blocks, strict=True))
    return ["  stages", *rows]


def _stage(plan: Plan, block: Block) -> str:
    parts = [f"{_sum(block)}: {_strategy(block.strategy)}"]
    if block.refit:
        outer = "" if block.outer is None else f" of outer fold {block.outer}"
        parts = [f"{_sum(block)}: the chosen point{outer} again, on {block.refit}"]
    if block.narrow is not None:
        parts.append(f"bounds from the best {block.narrow.top:.6g} of stage {block.narrow.stage}")
    parent = plan.part(block).space.fixed
    changed = {name: value for name, value in block.space.fixed.items() if parent.get(name, ...) != value}
    parts += [f"{name} {word(value)}" for name, value in changed.items()]
    if len(block.seeds) > 1:
        parts.append(f"seeds {', '.join(map(str, block.seeds))}")
    # A training that looks at its validation side at each epoch fails there.
    parts += ["its split.val is empty"] * (block.refit not in ("", "train"))
    if block.pruning is not None:
        parts.append(f"pruning {_pruning(block.pruning)}")
    return "; ".join(parts)


def _pruning(rule: PruningSpec) -> str:
    # Loaded where it is used, as most plans have none.
    from hpc_search.strategies.pruning import rule_in_words

    return rule_in_words(rule)


def _strategy(spec: StrategySpec) -> str:
    if spec.kind == "top":
        best = "best point" if spec.options["points"] == 1 else f"best {spec.options['points']} points"
        of = f" of stage {name}" if (name := spec.options["stage"]) else ""
        return f"the {best}{of} again"
    return f"{spec.kind}{_options(spec.options)}"


def _sum(block: Block) -> str:
    return f"{_plural(block.points, 'point')}, {_plural(block.trials, 'trial')}"


def record_bytes(trials: int, reports: int) -> int:
    """Return about how many bytes the records of *trials* with so many *reports* of all take."""
    return trials * _TRIAL_BYTES + reports * _REPORT_BYTES + index.index_bytes(trials)


def _disk(plan: Plan) -> str:
    """Return about how much the records take: with reports where the rules of pruning tell their number."""
    steps = [_steps(block.pruning) for block in plan.blocks]
    reports = [count * block.trials for count, block in zip(steps, plan.blocks, strict=True) if count]
    about = f"about {size(record_bytes(plan.trials, sum(reports)))} of records"
    if len(reports) < len(steps):
        return f"{about}, without reports ({_REPORT_BYTES} B each) and checkpoints"
    return (
        f"{about}, up to {max(map(int, filter(None, steps))):,} reports a trial included, without checkpoints"
    )


def _steps(pruning: PruningSpec | None) -> int | None:
    """Return how many steps a whole training has, None where nothing says that."""
    rule = pruning and (pruning.inner or pruning)
    return rule.options.get("max_steps") if rule else None


def counts(blocks: Sequence[Block]) -> str:
    """Return "18 points x 5 folds x 1 seed = 90 trials (+ 3 of the refit)" of all, or of one search's."""
    more = [block for block in blocks if block.stage_name == SEEDS and block.strategy.kind == "top"]
    again = [block for block in blocks if block.refit]
    own = [block for block in blocks if block not in (*more, *again)]
    added = {"more seeds": sum(one.trials for one in more), "the refit": sum(one.trials for one in again)}
    extra = ", ".join(f"+ {count:,} of {what}" for what, count in added.items() if count)
    points = sum({block.first_point: block.points for block in own}.values())
    parts, trials = [_plural(points, "point")], _plural(sum(block.trials for block in own), "trial")
    if len(own) > 1:
        return f"{parts[0]}, {trials}{f' ({extra})' if extra else ''}"
    if own[0].folds:
        parts.append(_plural(len(own[0].folds), "fold"))
    parts.append(_plural(len(own[0].seeds), "seed"))
    return f"{' x '.join(parts)} = {trials}{f' ({extra})' if extra else ''}"


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def _options(options: dict[str, Any]) -> str:
    return "".join(f", {name} {value}" for name, value in options.items())


def size(count: float) -> str:
    """Return *count* bytes in words."""
    if count < 1024:
        return f"{count:.0f} B"
    power = min(4, int(math.log(count, 1024)))
    return f"{count / 1024**power:.1f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def kept(made: Draft) -> str:
    """Return one line on the sources that tasks will run."""
    snapshot = made.snapshot
    if made.plan.search.snapshot == "none":
        return "not kept (snapshot: none): tasks run what is there when they start"
    if not snapshot.files:
        if any(part.trial.command for part in made.plan.search.parts):
            return (
                "nothing kept: the command names no file beside the search file; it runs what is there then"
            )
        return "nothing to keep: all of it is installed"
    names = list(dict.fromkeys(_top(name, snapshot.manifest.roots) for name in snapshot.files))
    more = f", ... ({len(names)})" if len(names) > _SHOWN else ""
    shown = ", ".join(names[:_SHOWN]) + more
    total = size(sum(snapshot.files.values()))
    runs = ", ".join(snapshot.manifest.programs)
    programs = f"; the command runs the kept {runs}" if runs else ""
    return f"{_plural(len(snapshot.files), 'file')} kept, {total}: {shown}{programs}"


def _top(name: str, roots: Sequence[str]) -> str:
    """Return the first name below the root of a file: a module, or a package with a slash."""
    own = max((root for root in roots if not root or name.startswith(f"{root}/")), key=len, default="")
    first, slash, _ = name.removeprefix(own).lstrip("/").partition("/")
    return ascii(first)[1:-1] + slash


def warnings(made: Draft, plan: Plan) -> list[str]:
    """Return what was not kept, and what differs from the plan that exists already."""
    left = made.snapshot.left_out
    told = [f"not kept: {ascii(text)[1:-1]}" for text in left[:_SHOWN]]
    told += [f"not kept: {len(left) - _SHOWN} more, named in provenance.json"] if len(left) > _SHOWN else []
    if made.plan.code_digest == plan.code_digest:
        return told
    words = "the sources changed since the run was planned; the run keeps the code of then (code.zip)"
    again = "`submit --resnapshot` takes them again; or plan into another directory to run the new code"
    return [*told, f"{words}. {again}."]
