"""results/verdicts.csv: what was decided at the rungs and between folds, and from what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from hpc_search.collect.columns import Column, json_text
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records import journal as codec
from hpc_search.strategies.history import ranges
from hpc_search.strategies.pruning import count

_KINDS: Final = frozenset({b"verdict"})


def read_verdicts(layout: Layout) -> list[codec.Verdict]:
    """Return every decision by trial, rung and attempt."""
    return sorted(_records(layout), key=lambda one: (one.trial, one.rung, one.attempt, one.t, one.n))


def _records(layout: Layout) -> Iterator[codec.Verdict]:
    for line in history.lines(layout, _KINDS):
        record = codec.parse_line(line.data)
        if isinstance(record, codec.Verdict):
            yield record


def verdict_columns(verdicts: Iterable[codec.Verdict]) -> list[Column]:
    """Return one row a decision; ``compared`` is the number of other trials, ``peers`` those that decided.

    Columns from ``against`` on are of races: their point lost to that one over ``folds``. There is no rung.
    """
    rows = list(verdicts)
    races = [row.race for row in rows]
    return [
        Column("trial", [row.trial for row in rows]),
        Column("attempt", [row.attempt for row in rows]),
        Column("rung", [row.rung if row.race is None else None for row in rows]),
        Column("step", [row.step if row.race is None else None for row in rows]),
        Column("value", [row.value for row in rows]),
        Column("decision", [row.decision for row in rows]),
        Column("rule", [row.rule for row in rows]),
        Column("compared", [count(row.seen) for row in rows]),
        Column("seen", [row.seen for row in rows]),
        Column(
            "peers", [json_text({str(number): value for number, value in row.peers.items()}) for row in rows]
        ),
        Column("against", [race and race.against for race in races]),
        Column("folds", [race and ranges(race.folds) for race in races]),
        Column("statistic", [race and race.statistic for race in races]),
        Column("threshold", [race and race.threshold for race in races]),
    ]
