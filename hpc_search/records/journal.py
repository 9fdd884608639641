"""The lines of a worker's journal: one JSON object a line, each with a sequence number and a checksum.

A line is ``{"k":KIND,"n":SEQUENCE,"t":SECONDS,...,"c":"CHECKSUM"}``. The checksum is xxh3-64, in 16
hexadecimal digits, of everything before ``,"c":"``. Records of the kinds ``end`` and ``exit`` also
carry ``chain``: blake2b-128 of all bytes of the segment before the record itself, so that a removed or
changed line is found even where its checksum was made to fit.
"""

from __future__ import annotations

from typing import Any, Final, Literal, dataclass_transform

import msgspec
import xxhash

#: Version of the lines, in every segment's first one.
VERSION: Final = 1
#: States of an ``end`` record that are final for the trial.
FINAL: Final = ("done", "failed", "pruned")
Cause = Literal["", "error", "oom", "timeout", "nonfinite", "noop", "lost", "preempted"]
EndState = Literal["done", "failed", "pruned", "pending", "paused"]
_TAIL: Final = len(b',"c":"0123456789abcdef"}')


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="k"):
    """What every line has: sequence number ``n`` (from 1) and wall-clock time ``t`` (for people only)."""

    n: int = 0
    t: float = 0.0


class Open(Record, tag="open", kw_only=True):
    """First line of every segment: who writes it and where."""

    worker: str
    run_id: str
    segment: int
    host: str
    boot_id: str
    pid: int
    start_time: int
    #: Version of the lines of this segment; always written.
    version: int = 0
    #: Token of the submission, "" for a worker started by hand.
    token: str = ""
    #: ``slurm:TASK:PROCESS`` under SLURM, ``local:INDEX`` under the local launcher.
    seat: str = ""
    restart: int = 0
    cluster: str = ""
    job_id: str = ""
    device: str = ""
    #: Digest of the machine's own id.
    machine: str = ""
    versions: dict[str, str] = {}
    #: How many of the lines after this one repeat a segment that failed; their ``chain`` is that segment's.
    repeats: int = 0


class Claim(Record, tag="claim", kw_only=True):
    """The worker owns ``trial``; ``params`` are the full hyperparameters."""

    trial: int
    attempt: int
    params: dict[str, Any]
    point: int = 0
    fold: int | None = None
    seed: int = 0
    block: str = ""
    #: Whether the trial was paused, and is only owned to be ended.
    ending: bool = False


class Propose(Record, tag="propose", kw_only=True):
    """An adaptive strategy chose ``params`` for ``point`` from the history with this digest. Fsynced.

    ``seen`` says which points the history held and what had become of them (`strategies.history`);
    ``entry`` is its place in ledger/proposals.
    """

    point: int
    params: dict[str, Any]
    history: str = ""
    seen: str = ""
    entry: int = 0


class Start(Record, tag="start", kw_only=True):
    """A process of ``trial`` was started; ``log`` is its first byte in the worker's log."""

    trial: int
    attempt: int
    pid: int = 0
    log: int = 0


class Report(Record, tag="report", kw_only=True):
    """Metrics of ``trial`` at ``step``; idempotent by step."""

    trial: int
    attempt: int
    step: int
    metrics: dict[str, float]


class Race(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a point lost by before all of its folds were done (`strategies.racing`).

    It lost to the point ``against`` over ``folds`` of ``all_folds``, in which both have the values ``own``
    and ``other`` (means over the seeds). ``spread`` is the residual variance of all points there, with so
    many degrees of ``freedom``. ``points`` took part; ``error``, ``least`` and ``keep`` are the rule's;
    ``margin`` is what a point may lose by and stay. It is out where ``statistic`` exceeds ``threshold``.
    """

    against: int
    folds: tuple[int, ...]
    own: tuple[float, ...]
    other: tuple[float, ...]
    spread: float
    freedom: int
    all_folds: int
    points: int
    error: float
    statistic: float
    threshold: float
    least: int = 2
    keep: int = 1
    margin: float = 0.0


class Verdict(Record, tag="verdict", kw_only=True):
    """The decision at a rung, with what it was made from. Fsynced; replayed, never recomputed.

    ``value`` is the trial's own one at ``step``; ``seen`` names the trials that it was compared with
    (``0-41,43``), ``peers`` is trial -> value of those of them that decide: the last place that goes on, or
    the two around a percentile. ``rule`` is the rule by name; ``patience`` the best own value before the
    reports that ``patient`` waits for, and of them. "promote" lets a paused trial go on beyond ``rung``.
    ``race`` is there where the trial never began, for its point lost before: the rule is "race" then, rung
    and step are -1, ``value`` is the point's own mean and ``peers`` are the trials of the better one.
    """

    trial: int
    attempt: int
    rung: int
    step: int
    decision: Literal["continue", "pause", "prune", "promote"]
    peers: dict[int, float] = {}
    value: float | None = None
    rule: str = ""
    seen: str = ""
    patience: tuple[float, float] | None = None
    race: Race | None = None


class Checkpoint(Record, tag="checkpoint", kw_only=True):
    """A verified save: the slot's file holds ``step``."""

    trial: int
    attempt: int
    step: int
    slot: int
    bytes: int = 0
    seconds: float = 0.0


class End(Record, tag="end", kw_only=True):
    """An attempt ended. With a final state and nothing accepted before, it is the trial's result.

    ``state`` "pending" gives the trial back (``cause`` says why), "paused" keeps it at ``rung``, from 1.
    ``metrics`` holds what the trial returned; ``value`` is the selection metric. ``effective`` holds
    parameters that differ from ``params`` (an out-of-memory ladder). ``log`` is the byte range in the
    worker's log; ``samples`` is (segment, offset, bytes, checksum) of its per-sample scores.
    """

    trial: int
    attempt: int
    state: EndState
    params: dict[str, Any]
    chain: str = ""
    point: int = 0
    fold: int | None = None
    seed: int = 0
    cause: Cause = ""
    #: Whether the kernel killed the attempt because memory of the host ran out (cause "oom").
    host_memory: bool = False
    #: Whether the run was paused (cause "preempted"): that says nothing of the trial's progress.
    paused: bool = False
    #: Whether its point had lost a race (state "pruned"): it never began.
    left_out: bool = False
    detail: str = ""
    value: float | None = None
    metrics: dict[str, Any] = {}
    effective: dict[str, Any] = {}
    accumulation: int = 1
    step: int = 0
    rung: int = 0
    seconds: float = 0.0
    #: Wall-clock time at which the attempt started.
    started: float = 0.0
    node: str = ""
    device: str = ""
    log: tuple[int, int] = (0, 0)
    samples: tuple[int, int, int, str] | None = None
    block: str = ""


class Accepted(Record, tag="accepted", kw_only=True):
    """``trial``'s result is the end record of ``attempt`` by ``worker`` whose checksum is ``end``."""

    trial: int
    attempt: int
    end: str
    worker: str = ""


class Note(Record, tag="note", kw_only=True):
    """Something that happened and belongs in the audit log: superseded, take-over, watch, warning."""

    event: str
    trial: int | None = None
    attempt: int | None = None
    text: str = ""


class Exit(Record, tag="exit", kw_only=True):
    """Last line: the worker is gone for good and owns nothing."""

    reason: str
    chain: str = ""


AnyRecord = Open | Claim | Propose | Start | Report | Verdict | Checkpoint | End | Accepted | Note | Exit
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(AnyRecord)


def encode_line(record: Record) -> bytes:
    """Return the line of *record*, newline included."""
    body = _ENCODER.encode(record)[:-1]
    return body + b',"c":"' + xxhash.xxh3_64_hexdigest(body).encode() + b'"}\n'


def checksum(line: bytes) -> str | None:
    """Return the checksum of *line* (without newline) if it verifies, else None."""
    body = line[:-_TAIL]
    claimed = line[-_TAIL:]
    if claimed[:6] != b',"c":"' or claimed[-2:] != b'"}':
        return None
    digest = xxhash.xxh3_64_hexdigest(body)
    return digest if digest.encode() == claimed[6:-2] else None


def parse_line(line: bytes) -> AnyRecord | None:
    """Return the record of *line* (without newline); None where the checksum fails.

    A kind that this version does not know, or a shape, was written by a newer one: None as well.
    """
    if checksum(line) is None:
        return None
    try:
        record: AnyRecord = _DECODER.decode(line)
    except msgspec.ValidationError:
        return None
    return record


def kind(line: bytes) -> bytes:
    """Return the kind of *line* without parsing it, b"" where it cannot be one."""
    return line[6 : line.find(b'"', 6)] if line.startswith(b'{"k":"') else b""


def headline(detail: str) -> str:
    """Return the line of an end record's detail that says what went wrong.

    In a traceback that is the first unindented line after the last frame (a message may go on over more
    lines), else the first line.
    """
    found = [line for line in detail.splitlines() if line.strip()]
    frames = [number for number, line in enumerate(found) if line.startswith('  File "')]
    after = found[frames[-1] + 1 :] if frames else found
    return next((line.strip() for line in after if not line.startswith(" ")), "")
