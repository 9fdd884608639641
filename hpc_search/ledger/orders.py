"""What a user orders about trials: failed ones run again, others end without being run.

Both are done by a short-lived worker, may be killed anywhere, and are repeated without harm.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from hpc_search import durable
from hpc_search.errors import TemporaryError
from hpc_search.layout import Layout
from hpc_search.ledger import history, placing, retries, superblocks
from hpc_search.ledger.book import end_line
from hpc_search.ledger.claims import Ledger
from hpc_search.ledger.state import read_state
from hpc_search.records import index as codec
from hpc_search.records import journal as lines
from hpc_search.records.index import Entry
from hpc_search.records.retries import Retried, Retries, encode_retries

#: Other retries that may be published while this one reads.
_TRIES: Final = 20
#: Trials of one note in the journal.
_NOTED: Final = 1000


def retry(
    ledger: Ledger, wanted: Callable[[int, Entry], bool], words: str, *, keep_ladder: bool = False
) -> list[int]:
    """Take the failures of the *wanted* trials back; return the trials, which are pending then.

    The file of the retry is the truth. Its number is chosen before anything is read: winning that number
    proves that no other retry came in between, so that of one failure only one is taken.

    Args:
        ledger: The worker that does it.
        wanted: Says of a failed trial and its entry whether it shall run again.
        words: Who orders it, when and why.
        keep_ladder: Whether memory that ran out before still counts: a batch that was halved stays small.

    Raises:
        TemporaryError: Other retries won the number every time.
    """
    layout = ledger.layout
    for _ in range(_TRIES):
        number = max(retries.names(layout), default=0) + 1
        # Whatever was published, or ended, and does not show yet.
        ledger.reconcile()
        taken = _failures(ledger, wanted, keep_ladder=keep_ladder)
        if not taken:
            return []
        first = retries.read(layout).next_place(ledger.plan.first_trials, superblocks.SUPERBLOCK)
        content = encode_retries(Retries(first=first, words=words, trials=tuple(taken)))
        if placing.publish(layout, number, content):
            break
    else:
        message = f"{layout.retries}: other retries were published first, {_TRIES} times in a row"
        raise TemporaryError(message, hint="the same command again")
    found = [one.trial for one in taken]
    _note(ledger, "retry", found, words)
    ledger.note(placing.COPY, f"{number:04} {content.decode().rstrip()}")
    ledger.reconcile()
    return found


def _failures(ledger: Ledger, wanted: Callable[[int, Entry], bool], *, keep_ladder: bool) -> list[Retried]:
    _, entries = read_state(ledger.layout, ledger.plan.trials)
    failed = {
        number: entry
        for number, entry in enumerate(entries)
        if entry.state == codec.FAILED and wanted(number, entry)
    }
    sealed = history.seals(ledger.layout) if failed else {}
    claimed = _highest_claims(ledger.layout, failed) if failed else {}
    return [
        Retried(
            trial=number,
            attempt=max(entry.attempt, claimed.get(number, 0)),
            end=f"{entry.end:016x}",
            worker=f"{entry.owner:016x}",
            seconds=entry.seconds,
            ooms=entry.ooms if keep_ladder else 0,
            kills=entry.kills if keep_ladder else 0,
        )
        for number, entry in failed.items()
        # What was published as another result is not taken back.
        if sealed.get(number) in (None, f"{entry.end:016x}")
    ]


def _highest_claims(layout: Layout, trials: Collection[int]) -> dict[int, int]:
    """Return the highest attempt that anybody claimed, by trial: a loser may still run it."""
    highest: dict[int, int] = {}
    for line in history.lines(layout, frozenset({b"claim"})):
        record = lines.parse_line(line.data)
        if isinstance(record, lines.Claim) and record.trial in trials:
            highest[record.trial] = max(record.attempt, highest.get(record.trial, 0))
    return highest


def skip(ledger: Ledger, numbers: Collection[int], words: str) -> list[int]:
    """End the trials *numbers* as pruned without running them; return those that this ended.

    A worker that runs one of them sees that it has a result at its next beat or save, and stops.
    """
    durable.publish(ledger.layout.skipped, b"skipped\n")
    ledger.reconcile()
    claimed = ledger.take_away(sorted(numbers))
    node = ledger.me.host
    ends = [end_line(trial, attempt, "pruned", detail=words, node=node) for trial, attempt, _ in claimed]
    ledger.finish_all(ends)
    _flush(ledger)
    results = history.results(ledger.layout)
    found = [end.trial for end in ends if end.trial in results and results[end.trial].worker == ledger.id]
    _note(ledger, "skip", found, words)
    return found


def _flush(ledger: Ledger) -> None:
    ledger.flush()


def _note(ledger: Ledger, event: str, trials: Iterable[int], words: str) -> None:
    text = [*map(str, trials)]
    for at in range(0, len(text), _NOTED):
        ledger.note(event, f"trials {', '.join(text[at : at + _NOTED])}: {words}")
