"""What a trial's process is told, and the number that its generators are seeded with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

from hpc_search.strategies.pruning.schedule import Schedule

#: Bytes of entropy a generator is seeded with.
_SEED_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Everything a trial's process has to know; plain values, so that it can be sent to it."""

    root: str
    run_id: str
    search_id: str
    worker: str
    number: int
    point: int
    fold: int | None
    seed: int
    params: dict[str, Any]
    attempt: int
    metric: str
    #: Names of the objectives after the first one, ``metric``.
    others: tuple[str, ...] = ()
    callable: str = ""
    #: Names with more than one value in the search: each must be read.
    sampled: tuple[str, ...] = ()
    #: Name of a derived or conditional parameter -> those that count as read with it.
    implied: dict[str, tuple[str, ...]] = field(default_factory=dict)
    accumulation: int = 1
    #: How often the batch was halved: a checkpoint of another rung is none of this attempt's.
    rung: int = 0
    device: str = "cpu"
    threads: int = 1
    save_interval: float = 300.0
    save_in_background: bool = False
    keep_checkpoints: bool = False
    #: Directories that the trial's code is imported from first.
    code: tuple[str, ...] = ()
    directory: str = ""
    #: What it trains on where it trains the chosen point again (`Block.refit`), "" in the search.
    refit: str = ""
    #: Whether it is the one look at the test side: only then `trial.split.test` answers.
    testing: bool = False
    #: After which reports the trial waits for a verdict.
    schedule: Schedule = Schedule()  # noqa: RUF009 - it cannot change


def trial_seed(search_id: str, number: int, seed: int) -> int:
    """Return the 64-bit number that the trial's generators are seeded with.

    It depends on the search, the trial's number and its seed, so that two runs of one search give the
    same numbers.
    """
    text = f"{search_id}/{number}/{seed}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=_SEED_BYTES).digest(), "little")
