"""vault/: who opened the test side, when, why and with which states, and what came of it.

``opening.NNN.json`` is published before the first byte of the test side is read, ``again.NNN.NN.json``
before a test that was interrupted or refused goes on, ``refused.NNN.NN.json`` where the data are not those of
the plan, so that nothing was tested, ``result.NNN.json`` when it ended. None of them is ever changed.
"""

from __future__ import annotations

from typing import Any

from hpc_search.records.search import Struct


class Person(Struct, kw_only=True):
    """Who did it, from which process, when (seconds since the epoch), with which sources (their digest)."""

    user: str
    host: str
    pid: int
    start_time: int
    boot_id: str
    when: float
    code: str


class Unit(Struct, kw_only=True):
    """One state that is tested: the trial that made it, and the digests of its files, RUN-relative.

    ``point`` is the trial's, as everywhere, ``searched`` the point of the search that it is again; where
    that is None, of older records, ``point`` is that. ``chose``: the folds by whose validation sides it was
    chosen, empty without folds.
    """

    trial: int
    point: int
    fold: int | None
    seed: int
    params: dict[str, Any]
    files: dict[str, str]
    part: str = ""
    outer: int | None = None
    on: str = ""
    chose: tuple[int, ...] = ()
    searched: int | None = None


class Opening(Struct, kw_only=True):
    """vault/opening.NNN.json; ``number`` is from 1, ``reason`` why it was opened again.

    ``manifests``: digest of each test side's manifest, RUN-relative; ``table``: that of the data as planned.
    """

    format: str = "hpc_search.opening"
    version: int = 1
    number: int
    run_id: str
    search_id: str
    by: Person
    units: tuple[Unit, ...]
    manifests: dict[str, str]
    table: str = ""
    reason: str = ""
    #: In words how each point was chosen.
    chosen: tuple[str, ...] = ()


class Again(Struct, kw_only=True):
    """vault/again.NNN.NN.json: opening ``opening`` was interrupted or refused, and went on."""

    format: str = "hpc_search.again"
    version: int = 1
    opening: int
    number: int
    by: Person


class Refused(Struct, kw_only=True):
    """vault/refused.NNN.NN.json: nothing was tested with opening ``opening``, as the data were others.

    ``after``: how often somebody had gone on with it, from 0; ``why``: in what they differed, in words.
    """

    format: str = "hpc_search.refused"
    version: int = 1
    opening: int
    after: int
    by: Person
    why: tuple[str, ...]


class Tested(Struct, kw_only=True):
    """What one unit gave; ``samples``: how many scores it reported, ``digest`` of them."""

    trial: int
    metrics: dict[str, float]
    samples: int = 0
    digest: str = ""


class Interval(Struct, kw_only=True):
    """A 95 % interval: how it was made (``method``), and of what (``over``)."""

    low: float
    high: float
    method: str
    over: str


class Value(Struct, kw_only=True):
    """One metric of one search over its units: mean, and sd over folds, or over seeds where there is one."""

    part: str
    metric: str
    mean: float
    sd: float | None
    n: int
    interval: Interval | None = None
    #: Honest words about what the interval does not say.
    note: str = ""


class Result(Struct, kw_only=True):
    """vault/result.NNN.json: what came of opening ``opening``, whose record has the checksum ``of``."""

    format: str = "hpc_search.vault_result"
    version: int = 1
    opening: int
    of: str
    run_id: str
    by: Person
    units: tuple[Tested, ...]
    values: tuple[Value, ...]
    notes: tuple[str, ...] = ()
