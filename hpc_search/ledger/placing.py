"""Places for the trials that an amendment added, where trials are claimed by exclusively created names."""

from __future__ import annotations

from typing import Final

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import retries, superblocks
from hpc_search.ledger.book import Writer
from hpc_search.records.plan import Plan
from hpc_search.records.retries import Retries, encode_retries

#: The note with number and content of a list in ledger/retries, by which `fsck` makes its file again.
COPY: Final = "retry list"


def place(layout: Layout, plan: Plan, writer: Writer) -> None:
    """Give places to the trials that amendments added, where nobody has."""
    ends = (*plan.added[1:], plan.trials)
    while True:
        # The number is chosen before the lists are read: winning it proves that no other came in between.
        number = max(retries.names(layout), default=0) + 1
        known = retries.read(layout)
        placed = known.placed(plan.first_trials)
        if placed >= plan.trials:
            return
        end = next(end for end in ends if end > placed)
        record = Retries(
            first=known.next_place(plan.first_trials, superblocks.SUPERBLOCK),
            words=f"trials {placed} to {end - 1} were added by an amendment",
            trials=(),
            added=(placed, end - placed),
        )
        content = encode_retries(record)
        if publish(layout, number, content):
            writer.note(COPY, f"{number:04} {content.decode().rstrip()}")


def publish(layout: Layout, number: int, content: bytes) -> bool:
    """Publish list *number*; return whether it was free."""
    layout.retries.mkdir(mode=0o700, exist_ok=True)
    durable.fsync_dir(layout.ledger)
    return durable.publish(layout.retry(number), content)
