"""`refit`: the chosen point again, on more data and with several seeds, on whatever runs the search."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from hpc_search.errors import UsageError
from hpc_search.ledger import history, read_state
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.index import extend
from hpc_search.ledger.sealing import seal_results
from hpc_search.ledger.vault import looks
from hpc_search.planning.reading import load_splits
from hpc_search.planning.refitting import publish_refit, refit_blocks, with_refit
from hpc_search.records import index as codec
from hpc_search.records.plan import Block, Plan
from hpc_search.records.search import RefitSpec
from hpc_search.records.stages import Opened
from hpc_search.search import launch
from hpc_search.search.runs import Run
from hpc_search.steering import choosing, stages

if TYPE_CHECKING:
    from typing import Literal

    from hpc_search.search.launch import Sent, Wish

    On = Literal["train+val", "train", "everything"]

#: Trials that a message names.
_NAMED: Final = 5


class Refit(NamedTuple):
    """What is to be trained again: on what and with which seeds (None: as planned), and which point."""

    on: On | None = None
    seeds: tuple[int, ...] | None = None
    point: int | None = None


class Refitted(NamedTuple):
    """The run as it is planned now, what to say, and what was started: None where all is done."""

    run: Run
    text: str
    sent: Sent | None = None


def refit(run: Run, again: Refit, wish: Wish) -> Refitted:
    """Train the chosen point again: plan that where it is not, and start workers; the same again goes on.

    Raises:
        UsageError: The search has not ended, or this cannot be done beside what was refitted.
        TemporaryError: Others change the run, or the scheduler does not answer.
    """
    refuse_unended(run)
    spec = _wanted(run, again)
    _refuse_everything(run, spec)
    _refuse_other_point(run, again.point)
    refuse_fruitless(run, spec)
    plan = publish_refit(run.layout, spec)
    if plan.claiming == "lock":
        extend(run.layout, plan.trials)
    run = Run(run.layout, plan)
    if again.point is not None:
        _open_with(run, spec, again.point)
    if done := _done(run, spec):
        return Refitted(run, done)
    sent = launch.submit(run, wish)
    return Refitted(run, "\n".join([*_chosen(run, spec), sent.outcome.text]), sent)


# -- what is asked for
def _wanted(run: Run, again: Refit) -> RefitSpec:
    """Return the refit that is meant: what is planned, where it is not said.

    Raises:
        UsageError: Another one is planned.
    """
    planned = next(
        (stage.refit for part in run.plan.search.parts for stage in part.stages if stage.refit is not None),
        None,
    )
    on = again.on or (planned.on if planned is not None else "train+val")
    if planned is not None and on not in (planned.on, "everything"):
        message = f"the run has a refit on {planned.on}, not on {on}"
        hint = f"`hpc-search refit {run.typed}` goes on with it; another refit is another run"
        raise UsageError(message, hint=hint)
    seeds = again.seeds or (planned.seeds if planned is not None else RefitSpec().seeds)
    return RefitSpec(seeds=seeds, on=on)


def refuse_unended(run: Run) -> None:
    """Raise UsageError where trials of the search itself have not ended: they choose the point."""
    entries = read_state(run.layout, run.plan.trials)[1]
    searched = [
        number
        for block in run.plan.blocks
        if not block.refit
        for number in range(block.first, block.first + block.trials)
    ]
    left = [number for number in searched if not entries[number].final]
    if not left:
        return
    named = ", ".join(map(str, left[:_NAMED])) + (", ..." if len(left) > _NAMED else "")
    planned = "; the refit then begins by itself" if refit_blocks(run.plan) else ""
    raise UsageError(
        f"the search has not ended: {len(left):,} of {len(searched):,} trials are left ({named}), "
        "and the point is chosen when all have ended",
        hint=f"`hpc-search submit {run.typed}` goes on{planned}",
    )


def _refuse_everything(run: Run, spec: RefitSpec) -> None:
    """Refuse training on a test side that nobody has looked at: there would be nothing left to look at."""
    if spec.on != "everything" or run.plan.search.folds is None:
        return
    tests = {fold.test for fold in load_splits(run.layout).folds}
    if len(tests) > 1 or "" in tests or any(one.result is not None for one in looks(run.layout)):
        return
    raise UsageError(
        "all folds share one test side, and a refit on everything would train on it before it was tested",
        hint=f"`hpc-search refit {run.typed}`, then `hpc-search test {run.typed}`; then on everything",
    )


def _refuse_other_point(run: Run, point: int | None) -> None:
    if point is None:
        return
    choosable = {
        number
        for block in run.plan.blocks
        if not block.refit
        for number in range(block.first_point, block.first_point + block.points)
    }
    if point not in choosable:
        raise UsageError(f"the search has no point {point}", hint="`collect RUN` shows the points")
    for place in refit_blocks(run.plan):
        opened = Gates(run.layout, run.plan).opened(place)
        if opened is not None and not _is_of(opened, run.plan, point):
            words = opened.why.partition(",")[0]
            message = f"point {point} cannot be refitted: {words} was"
            raise UsageError(message, hint="a run has one refit, so that nobody chooses by the test side")


def _is_of(opened: Opened, plan: Plan, point: int) -> bool:
    """Return whether *opened* has *point*; that of another search than its own has nothing to say."""
    block = plan.blocks[opened.block]
    owners = {one.part for one in plan.blocks if one.first_point <= point < one.first_point + one.points}
    return block.part not in owners or opened.point == point


def refuse_fruitless(run: Run, spec: RefitSpec) -> None:
    """Raise UsageError where no point can be chosen for a refit that has not begun, planned or not."""
    results = history.results(run.layout)
    splits = load_splits(run.layout) if run.plan.search.folds is not None else None
    plan = with_refit(run.plan, spec, splits.folds if splits is not None else ())
    gates = Gates(run.layout, plan)
    for place in refit_blocks(plan):
        block = plan.blocks[place]
        if gates.opened(place) is not None:
            continue
        scores = choosing.ranked(plan, block, results, choosing.folds_of(block, splits))
        if not any(score.complete for score in scores):
            name = f"search {block.part}" if block.part else "the search"
            outer = f" in outer fold {block.outer}" if block.outer is not None else ""
            numbers = (number for one in choosing.sources(plan, block) for number in _numbers(one))
            states = Counter(results[number].end.state for number in numbers if number in results)
            found = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
            raise UsageError(
                f"{name} has no complete point{outer} (trials: {found}), so none can be chosen",
                hint=f"`hpc-search status {run.typed}` says why they failed, "
                f"`hpc-search retry {run.typed}` lets them run again",
            )


def _numbers(block: Block) -> range:
    return range(block.first, block.first + block.trials)


# -- what is done
def _open_with(run: Run, spec: RefitSpec, point: int) -> None:
    """Open the refit with *point* instead of the best one.

    Raises:
        UsageError: The point is not complete, or another one was opened first.
    """
    gates, plan = Gates(run.layout, run.plan), run.plan
    results = seal_results(run.layout)
    splits = load_splits(run.layout) if plan.search.folds is not None else None
    for place in refit_blocks(plan, spec.on):
        if plan.blocks[place].outer is not None:
            message = "each outer fold chooses its own point: that is what nested folds are for"
            raise UsageError(message, hint=f"`hpc-search refit {run.typed}` without --point")
        if gates.opened(place) is not None or not _owns(plan, place, point):
            continue
        opened = stages.refitted(plan, gates, place) or choosing.chosen(plan, place, results, splits, point)
        if opened is None:
            message = f"point {point} is not complete, or not of the last stage: it has no value to stand by"
            raise UsageError(message, hint="`collect RUN` lists the points that are complete")
        gates.publish(opened)
    _refuse_other_point(run, point)


def _owns(plan: Plan, place: int, point: int) -> bool:
    part = plan.blocks[place].part
    blocks = (one for one in plan.blocks if one.part == part)
    return any(one.first_point <= point < one.first_point + one.points for one in blocks)


def _chosen(run: Run, spec: RefitSpec) -> list[str]:
    """Return which points are trained again, and why."""
    gates = Gates(run.layout, run.plan)
    rows = []
    for place in refit_blocks(run.plan, spec.on):
        opened, block = gates.opened(place), run.plan.blocks[place]
        if opened is not None:
            part = f"search {block.part}: " if block.part else ""
            rows.append(f"{part}{opened.why}: again on {block.refit}, {_words('seed', block.seeds)}")
    return rows


def _done(run: Run, spec: RefitSpec) -> str:
    """Return what was refitted, and where the states are; "" where some of it is left."""
    entries = read_state(run.layout, run.plan.trials)[1]
    blocks = [run.plan.blocks[place] for place in refit_blocks(run.plan, spec.on)]
    numbers = [number for block in blocks for number in _numbers(block)]
    if not all(entries[number].state == codec.DONE for number in numbers):
        return ""
    states = ", ".join(str(run.layout.checkpoint_dir(number)) for number in numbers[:_NAMED])
    more = ", ..." if len(numbers) > _NAMED else ""
    return "\n".join([*_chosen(run, spec), f"already refitted; the states are in {states}{more}"])


def _words(name: str, numbers: tuple[int, ...]) -> str:
    return f"{name}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
