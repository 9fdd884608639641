"""Samples, logs, checkpoints, heartbeats, leftovers, and what is no file of a run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.checkpoint import file as checkpoint_file
from hpc_search.errors import DamagedError
from hpc_search.fsck.findings import Case, Finding, note
from hpc_search.fsck.journals import Facts
from hpc_search.fsck.mend import QUICK, mend
from hpc_search.layout import WORKER_ID, Layout, parse_slot
from hpc_search.ledger import liveness
from hpc_search.ledger.journal import RESERVE_BYTES
from hpc_search.records import journal as codec
from hpc_search.records.samples import sample_checksum

#: Seconds by the file server's clock after which nobody finishes a temporary file any more.
_OLD: Final = 3600.0
#: Directories whose content is for people, made again, or the trial's own.
_FOREIGN: Final = re.compile(
    r"((submitit|cache)(?!/\.t-)|reruns|refit|quarantine)(/|$)|checkpoints/\d+/files(/|$)"
)
_KNOWN: Final = re.compile(
    r"plan\.json|search\.yaml|instance\.json|digests\.json|code\.zip|profile\.yaml|doctor\.json"
    r"|audit\.log|report\.html|results/[^/]+"
    r"|splits/splits\.json|splits/fold_\d+/(train|val)\.csv|vault/test\.csv"
    r"|ledger/(claims\.bin|[a-z]+\.lock|stop|mode\.exclusive)"
    r"|ledger/seals/\d+\.jsonl|ledger/submits/\d+\.(intent|jobs)\.json|ledger/archive/\d+|ledger/stages/\d+\.json"
    r"|ledger/open/(sealed\.\d{8}-\d{8}|\d{6}/(size|c\d+\.\d+|d\d+))"
    r"|workers/[0-9a-f]{16}/(journal\.\d+\.jsonl|heartbeat|log\.txt|reserve|report\.jsonl)"
    r"|samples/[0-9a-f]{16}\.\d+\.bin|checkpoints/\d{6,}/a\d+-[0-9a-f]{16}\.[01]\.h5"
)


def walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (RUN-relative path, stat) of everything below *root* that is no directory, links not followed."""
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    if entry.name.startswith(durable.TEMPORARY):
                        yield os.path.relpath(entry.path, root), entry.stat(follow_symlinks=False)
                    else:
                        pending.append(Path(entry.path))
                else:
                    yield os.path.relpath(entry.path, root), entry.stat(follow_symlinks=False)


def foreign(path: str) -> bool:
    """Return whether *path* is below a directory that fsck does not judge."""
    return _FOREIGN.match(path) is not None


def check_names(found: Mapping[str, os.stat_result], now: float) -> Iterator[Case]:
    """Yield leftovers of interrupted writes, and names that no run has; *now* is the server's time."""
    for path, status in found.items():
        if foreign(path):
            continue
        if durable.TEMPORARY in path:
            age = now - status.st_mtime
            what = f"a write that was interrupted left it {age / 3600:.1f} h ago"
            if age > _OLD:
                yield Case(Finding(path=path, what=what), "remove")
            else:
                yield note(path, f"{what}: it may still be at work")
        elif _KNOWN.fullmatch(path) is None:
            yield note(path, "is no file of a run; it is left alone")


def check_samples(layout: Layout, facts: Facts, archived: Mapping[tuple[str, str], bytes]) -> Iterator[Case]:
    """Yield the per-sample scores that end records point to and that do not verify."""
    files: dict[tuple[str, int], bytes | None] = {}
    for ends in facts.ends.values():
        for end, worker, _ in ends:
            if end.samples is not None:
                segment, offset, size, checksum = end.samples
                key = worker, segment
                if key not in files:
                    files[key] = _samples_of(layout, worker, segment, archived)
                yield from _sample(layout, end, worker, files[key], (segment, offset, size, checksum))


def _samples_of(
    layout: Layout, worker: str, segment: int, archived: Mapping[tuple[str, str], bytes]
) -> bytes | None:
    path = layout.samples(worker, segment)
    return path.read_bytes() if path.is_file() else archived.get((worker, f"samples.{segment}.bin"))


def _sample(
    layout: Layout, end: codec.End, worker: str, data: bytes | None, place: tuple[int, int, int, str]
) -> Iterator[Case]:
    segment, offset, size, checksum = place
    path = layout.samples(worker, segment).relative_to(layout.root).as_posix()
    piece = b"" if data is None else data[offset : offset + size]
    if sample_checksum(piece) == checksum:
        return
    held = f"per-sample scores of trial {end.trial}"
    mended = mend(piece, lambda new: sample_checksum(new) == checksum, QUICK) if len(piece) == size else None
    if data is not None and mended is not None and (layout.root / path).is_file():
        whole = data[:offset] + mended + data[offset + size :]
        what = f"bytes {offset}-{offset + size} have one wrong byte, which their checksum gives back"
        yield Case(Finding(path=path, what=what, held=held, trials=(end.trial,)), "write", whole)
        return
    found = "it is missing" if data is None else f"bytes {offset}-{offset + size} do not verify"
    finding = Finding(path=path, what=found, held=held, lost=held, trials=(end.trial,))
    yield Case(finding, "accept", b"", f"{path}/{offset}/{checksum}")


def check_logs(layout: Layout, facts: Facts, archived: Mapping[tuple[str, str], bytes]) -> Iterator[Case]:
    """Yield the logs that are shorter than the byte ranges of end records; their bytes have no checksum."""
    needed: dict[str, tuple[int, int]] = {}
    for ends in facts.ends.values():
        for end, worker, _ in ends:
            if end.log[1] > end.log[0]:
                needed[worker] = max(needed.get(worker, (0, 0)), (end.log[1], end.trial))
    for worker, (size, trial) in sorted(needed.items()):
        path = layout.log(worker)
        name = path.relative_to(layout.root).as_posix()
        there = path.stat().st_size if path.is_file() else len(archived.get((worker, "log.txt"), b""))
        if there < size:
            what = f"it has {there} bytes, end records name {size}"
            lost = f"{size - there} bytes of output, of trial {trial} and before"
            yield Case(Finding(path=name, what=what, lost=lost), "accept", b"", f"{name}/{there}/{size}")


def check_checkpoints(layout: Layout, facts: Facts, run_id: str, *, keep: bool) -> Iterator[Case]:
    """Yield the checkpoints that do not verify, and those that a journal names and that are gone."""
    present: dict[int, set[tuple[int, str, int]]] = {}
    for path in sorted(layout.checkpoints.glob("*/*.h5")):
        slot = parse_slot(path.name)
        if slot is None or not path.parent.name.isdecimal():
            continue
        number = int(path.parent.name)
        present.setdefault(number, set()).add(slot)
        why = _unusable(path, (run_id, number, slot[0], slot[1]))
        if why:
            name = path.relative_to(layout.root).as_posix()
            held = f"a checkpoint of trial {number}"
            finding = Finding(
                path=name, what=why, held=held, lost="that save; the other slot is used", trials=(number,)
            )
            yield Case(finding, "quarantine")
    for number, saves in sorted(facts.saves.items()):
        if keep or not facts.finals(number):
            yield from _missing(layout, number, saves, present.get(number, set()))


def _unusable(path: Path, expected: tuple[str, int, int, str]) -> str:
    try:
        meta = checkpoint_file.verify(path)
    except FileNotFoundError:
        return ""
    except DamagedError as error:
        return error.message.removeprefix(f"{path}: ")
    except OSError as error:
        return error.strerror or str(error)
    found = meta.run_id, meta.trial, meta.attempt, meta.worker
    return "" if found == expected else f"it is of run {found[0]}, trial {found[1]}, attempt {found[2]}"


def _missing(
    layout: Layout, number: int, saves: Mapping[tuple[int, str, int], int], present: set[tuple[int, str, int]]
) -> Iterator[Case]:
    """Yield the slots of the last attempt that saved, and that are not there."""
    last = max(attempt for attempt, _, _ in saves)
    higher = any(attempt > last for attempt, _, _ in present)
    for (attempt, worker, slot), step in sorted(saves.items()):
        if attempt == last and not higher and (attempt, worker, slot) not in present:
            path = layout.checkpoint_slot(number, attempt, worker, slot).relative_to(layout.root).as_posix()
            lost = f"the checkpoint of trial {number} at step {step}"
            finding = Finding(path=path, what="it is missing", lost=lost, trials=(number,))
            yield Case(finding, "accept", b"", f"{path}/{step}")


def check_workers(layout: Layout, *, live: set[str]) -> Iterator[Case]:
    """Yield what is wrong with heartbeats and reserves; no truth is in them."""
    for directory in sorted(layout.workers.iterdir()) if layout.workers.is_dir() else ():
        worker = directory.name
        if WORKER_ID.fullmatch(worker) is None or worker in live:
            continue
        beat, reserve = layout.heartbeat(worker), layout.reserve(worker)
        if beat.is_file() and liveness.read_beat(layout, worker) is None:
            name = beat.relative_to(layout.root).as_posix()
            what = "it is no heartbeat; it only says that a worker lives"
            yield Case(Finding(path=name, what=what), "quarantine")
        if reserve.is_file() and reserve.read_bytes() != bytes(RESERVE_BYTES):
            name = reserve.relative_to(layout.root).as_posix()
            what = "it is not the space that a worker keeps for a full disk; it holds nothing"
            yield Case(Finding(path=name, what=what), "remove")


def check_reports(layout: Layout) -> Iterator[Case]:
    """Yield the report files of commands that hold something else than JSON lines."""
    for path in sorted(layout.workers.glob("*/report.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                msgspec.json.decode(line)
            except msgspec.DecodeError:
                name = path.relative_to(layout.root).as_posix()
                yield note(name, "a line is no JSON: what a command wrote when it was stopped")
                break
