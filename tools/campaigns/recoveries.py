"""What puts a run right after a fault, and what looks at it then."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from hpc_search import cli
from hpc_search.checkpoint import Slots
from hpc_search.errors import HpcSearchError
from hpc_search.layout import Layout
from hpc_search.ledger import history, read_state, this_process
from hpc_search.ledger.fold import fold
from hpc_search.planning import load_plan
from hpc_search.records import index
from hpc_search.records import journal as lines
from tools.campaigns.operations import Action, finished, is_state_of, joined, say, slots_of


def op_settle(run: Path) -> Action:
    """Do what people and schedulers do after a fault, until all is done, by the real commands."""
    return lambda: _settle(run, lambda: cli.main(["work", str(run)]))


def op_settle_quickly(run: Path) -> Action:
    """Do the same with a worker that starts no programs: what a supervisor asks of the ledger."""
    return lambda: _settle(run, lambda: _work_quickly(run))


def _settle(run: Path, work: Action) -> None:
    layout = Layout(run)
    _tell_before(layout)
    codes = [work(), cli.main(["collect", str(run)])]
    fold(layout, this_process(), many=1)
    codes.append(cli.main(["collect", str(run)]))
    say(codes=codes)
    _look(run)


def _tell_before(layout: Layout) -> None:
    """Say what the fault left: a result that is there now must be the final one."""
    ends = {number: result.checksum for number, result in history.results(layout).items()}
    say(ends=ends, newest=_newest(layout))


def _work_quickly(run: Path) -> int:
    ledger = joined(run)
    ledger.beat()
    ledger.reconcile()
    ledger.recover()
    while found := ledger.claim(2) or ledger.recover():
        for one in found if isinstance(found, list) else ():
            slots_of(ledger, one).prepare()
            ledger.start(one, os.getpid(), 0)
            finished(ledger, one)
            Slots.remove(ledger.layout, one.trial.number)
    ledger.flush()
    if not ledger.anything_open():
        ledger.reconcile()
    ledger.exit("no work left")
    return 0


def op_look(run: Path) -> Action:
    """Say what stands in the run."""
    return lambda: _look(run)


def _look(run: Path) -> None:
    layout = Layout(run)
    found = history.results(layout)
    say(
        results={
            number: [result.end.state, result.end.value, result.end.params, result.checksum]
            for number, result in sorted(found.items())
        },
        trials=load_plan(layout).trials,
        claims=_claims(layout),
        index=_index(layout),
    )


def _claims(layout: Layout) -> list[list[Any]]:
    """Return (trial, attempt, worker) of every claim record."""
    records = ((line, lines.parse_line(line.data)) for line in history.lines(layout, frozenset({b"claim"})))
    return [
        [record.trial, record.attempt, line.worker]
        for line, record in records
        if isinstance(record, lines.Claim)
    ]


def _index(layout: Layout) -> dict[str, Any]:
    try:
        header, entries = read_state(layout, load_plan(layout).trials)
    except HpcSearchError as error:
        return {"damaged": str(error)}
    return {"finals": header.finals, "states": [index.STATES[entry.state] for entry in entries]}


def _newest(layout: Layout) -> dict[str, Any]:
    """Return the newest checkpoint of trial 0, and what was not believed."""
    slots = Slots(layout, load_plan(layout).run_id, 0, 99, "f" * 16)
    loaded = slots.newest()
    same = loaded is None or is_state_of(loaded.state, loaded.step)
    return {"step": loaded.step if loaded else 0, "skipped": list(slots.skipped), "same": same}


OPERATIONS: Final[dict[str, Callable[[Path], Action]]] = {
    "settle": op_settle,
    "settle-quickly": op_settle_quickly,
    "look": op_look,
}
