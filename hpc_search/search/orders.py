"""Ordering that failed trials run again, or that trials end without being run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from hpc_search.errors import UsageError
from hpc_search.ledger import (
    Ledger,
    history,
    library_versions,
    orders,
    paused,
    read_state,
    this_process,
)
from hpc_search.ledger.gates import Gates
from hpc_search.planning.blocks import source_of
from hpc_search.records import index as codec
from hpc_search.records.index import Entry
from hpc_search.search.launch import Wish, submit
from hpc_search.search.pausing import signature
from hpc_search.search.runs import Run
from hpc_search.status.index import cause_of, failed_trials
from hpc_search.steering import stages
from hpc_search.steering.points import Points

#: Numbers, or mistakes, that are named in a message.
_NAMED: Final = 12


class Ordered(msgspec.Struct, frozen=True, kw_only=True):
    """The ``trials`` that an order changed, and what to say of it."""

    trials: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Which failed trials shall run again: ``trials``, else those of ``cause`` and ``node``, else all.

    ``from_scratch`` drops what is kept of their checkpoints; ``keep_ladder`` leaves a batch halved that
    was halved for want of memory.
    """

    trials: tuple[str, ...] = ()
    cause: str = ""
    node: str = ""
    reason: str = ""
    from_scratch: bool = False
    keep_ladder: bool = False


def retry(run: Run, again: Again) -> Ordered:
    """Make failed trials pending again, with fresh budgets; the same call again changes nothing.

    Raises:
        UsageError: Trials that there are not, or that did not fail: all of them are named.
        TemporaryError: Another retry is at work.
    """
    _, entries = read_state(run.layout, run.plan.trials)
    numbers = _numbers(run, again.trials)
    _refuse(
        run, numbers, entries, lambda entry: entry.final and entry.state != codec.FAILED, "only what failed"
    )
    given = frozenset(numbers)
    on_node = _failed_on(run, again.node) if again.node else None

    def named(number: int) -> bool:
        return (not given or number in given) and (on_node is None or number in on_node)

    def wanted(number: int, entry: Entry) -> bool:
        return named(number) and (not again.cause or codec.CAUSES[entry.cause] == again.cause)

    if again.from_scratch:
        # While they are final nobody uses them.
        failed = (number for number, entry in enumerate(entries) if entry.state == codec.FAILED)
        _drop_checkpoints(run, (number for number in failed if wanted(number, entries[number])))
    with command(run) as ledger:
        words = signature("taken back", again.reason)
        found = orders.retry(ledger, wanted, words, keep_ladder=again.keep_ladder)
    if found:
        stages.let_go_on(run.layout, run.plan, found)
    others = Counter(cause_of(entry) for number, entry in failed_trials(entries).items() if named(number))
    text = _retried(run, found, numbers, entries)
    if not found and others and again.cause not in others:
        there = f"there are {_causes(others)}: nothing was changed"
        text = f"no trial that this names failed by {again.cause}; {there}"
    return Ordered(trials=tuple(found), text=text)


def _causes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} by {cause}" for cause, count in sorted(counts.items()))


def _retried(run: Run, found: list[int], given: Sequence[int], entries: Sequence[Entry]) -> str:
    open_already = [number for number in given if not entries[number].final]
    more = f"; {_named(open_already)} had not ended" if open_already else ""
    if not found and not any(entry.state == codec.FAILED for entry in entries):
        left = sum(not entry.final for entry in entries)
        some = (
            f"; {left:,} of {len(entries):,} have not ended: `hpc-search submit {run.typed}` starts workers"
        )
        return f"no failed trial is left: nothing was changed{some if left else ''}"
    if not found:
        return f"no failed trial is left that this names{more or '; nothing was changed'}"
    return f"{_named(found)} will run again{more}; {_next(run)}{_derived_already(run, found)}"


def _derived_already(run: Run, found: Sequence[int]) -> str:
    """Return which stages were opened by the other results of a stage with a trial of *found*."""
    blocks, gates = run.plan.blocks, Gates(run.layout, run.plan)
    sources = {blocks.index(run.plan.block_at(number)) for number in found}
    names = [
        f"{block.part} {block.stage_name}".lstrip()
        for place, block in enumerate(blocks)
        if source_of(blocks, block) in sources and gates.opened(place) is not None
    ]
    return f"\nwhat was derived without them stays as it is: stage {', '.join(names)}" if names else ""


def _next(run: Run) -> str:
    """Return how what is pending gets to run."""
    if paused(run.layout):
        return f"the run is paused: `hpc-search resume {run.typed}` goes on"
    if run.layout.stop.exists():
        return f"the search is stopped: `hpc-search submit {run.typed}` clears that and starts workers"
    return f"live workers take that up, `hpc-search submit {run.typed}` starts those that are missing"


def submitted(run: Run) -> str:
    """Start the workers that are missing by the launcher of the last submission; return what was done."""
    from hpc_search.ledger.submits import submissions

    known = submissions(run.layout)
    return submit(run, Wish(launcher=known[-1].launcher if known else "")).outcome.text


def skip(run: Run, trials: Sequence[str], point: int | None = None, reason: str = "") -> Ordered:
    """End trials as pruned without running them; those that run are stopped.

    Raises:
        UsageError: Trials or a point that there are not, or trials that ended already: all of them are named.
    """
    numbers = _numbers(run, trials)
    of_point = Points(run.layout, run.plan).of_point(point) if point is not None else []
    _, entries = read_state(run.layout, run.plan.trials)
    _refuse(
        run, numbers, entries, lambda entry: entry.final and not _pruned(entry), "only what has not ended"
    )
    open_or_pruned = (number for number in of_point if not entries[number].final or _pruned(entries[number]))
    numbers = sorted({*numbers, *open_or_pruned})
    if not numbers:
        what = f"all trials of point {point} have ended" if point is not None else "no trial was named"
        hint = f"`hpc-search skip {run.typed} 17`, or --point P for all trials of a point"
        raise UsageError(f"nothing to skip: {what}", hint=hint)
    with command(run) as ledger:
        # The pruned ones, too: the same command may have been killed before others could see them so.
        found = orders.skip(ledger, numbers, signature("skipped", reason))
    if not run.plan.search.keep_checkpoints:
        with suppress(OSError):
            # What is left is removed by the next worker.
            _drop_checkpoints(run, found)
    already = [number for number in numbers if _pruned(entries[number])]
    ended = sorted({*numbers} - {*found, *already})
    parts = [f"{_named(found)} skipped"] if found else []
    parts += [f"{_named(already)} pruned already"] if already else []
    parts += [f"{_named(ended)} had ended meanwhile"] if ended else []
    return Ordered(trials=tuple(found), text="; ".join(parts))


def _pruned(entry: Entry) -> bool:
    return entry.state == codec.PRUNED


def _drop_checkpoints(run: Run, numbers: Iterable[int]) -> None:
    from hpc_search import checkpoint

    for number in numbers:
        checkpoint.Slots.remove(run.layout, number)


@contextmanager
def command(run: Run, reason: str = "ordered") -> Iterator[Ledger]:
    """Join as the worker that carries out one order, and leave with *reason*."""
    ledger = Ledger(run.layout, run.plan, Points(run.layout, run.plan), this_process(), library_versions())
    try:
        ledger.beat()
        yield ledger
        ledger.exit(reason)
    finally:
        ledger.close()


# -- which trials
def _numbers(run: Run, texts: Sequence[str]) -> list[int]:
    """Return the numbers of trials in *texts*, sorted, each once."""
    wrong = [text for text in texts if not (text.isascii() and text.isdecimal())]
    numbers = sorted({int(text) for text in texts if text not in wrong})
    beyond = [number for number in numbers if number >= run.plan.trials]
    problems = [f"{text!r} is not the number of a trial" for text in wrong]
    problems += [f"there is no trial {number}" for number in beyond]
    if problems:
        raise UsageError(_all(problems), hint=f"trials are 0 to {run.plan.trials - 1}")
    return numbers


def _refuse(
    run: Run, numbers: Collection[int], entries: Sequence[Entry], wrong: Callable[[Entry], bool], only: str
) -> None:
    refused = [(number, codec.STATES[entries[number].state]) for number in numbers if wrong(entries[number])]
    if refused:
        problems = [f"trial {number} is {state}" for number, state in refused]
        message = f"{_all(problems)}; {only} can be named here, and nothing was changed"
        raise UsageError(message, hint=f"`hpc-search show {run.typed} {refused[0][0]}` says how it ended")


def _all(problems: Sequence[str]) -> str:
    more = f"\n... and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return "\n".join(problems[:_NAMED]) + more


def _failed_on(run: Run, node: str) -> set[int]:
    """Return the trials whose result is of an attempt on *node*.

    Raises:
        UsageError: No attempt that ended was there; the nodes are named.
    """
    results = history.results(run.layout)
    nodes = sorted({one.end.node for one in results.values() if one.end.node})
    if node not in nodes:
        known = ", ".join(nodes[:_NAMED]) or "none yet"
        raise UsageError(f"no trial ended on node {node!r}", hint=f"nodes with ended trials: {known}")
    return {number for number, one in results.items() if one.end.node == node}


def _named(numbers: Sequence[int]) -> str:
    text = ", ".join(map(str, numbers[:_NAMED]))
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return f"trial {text}" if len(numbers) == 1 else f"{len(numbers)} trials ({text}{more})"
