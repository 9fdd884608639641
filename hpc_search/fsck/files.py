"""Samples, logs, checkpoints, heartbeats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from hpc_search.checkpoint import file as checkpoint_file
from hpc_search.checkpoint.slots import parse_slot
from hpc_search.errors import DamagedError
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding, note
from hpc_search.fsck.journals import Facts
from hpc_search.fsck.mend import QUICK, mend
from hpc_search.layout import WORKER_ID, Layout
from hpc_search.ledger import liveness
from hpc_search.ledger.journal import RESERVE_BYTES
from hpc_search.records import journal as codec
from hpc_search.records.plan import Plan
from hpc_search.records.samples import sample_checksum


def check_samples(disk: Disk, facts: Facts, archived: Mapping[tuple[str, str], bytes]) -> Iterator[Case]:
    """Yield the per-sample scores that end records point to and that do not verify."""
    files: dict[tuple[str, int], bytes | None] = {}
    for ends in facts.ends.values():
        for end, worker, _ in ends:
            if end.samples is not None:
                segment, offset, size, checksum = end.samples
                key = worker, segment
                if key not in files:
                    files[key] = _samples_of(disk, worker, segment, archived)
                yield from _sample(disk, end, worker, files[key], (segment, offset, size, checksum))


def _samples_of(
    disk: Disk, worker: str, segment: int, archived: Mapping[tuple[str, str], bytes]
) -> bytes | None:
    data = disk.read(disk.layout.samples(worker, segment))
    return data if data is not None else archived.get((worker, f"samples.{segment}.bin"))


def _sample(
    disk: Disk, end: codec.End, worker: str, data: bytes | None, place: tuple[int, int, int, str]
) -> Iterator[Case]:
    segment, offset, size, checksum = place
    path = disk.name(disk.layout.samples(worker, segment))
    piece = b"" if data is None else data[offset : offset + size]
    if sample_checksum(piece) == checksum:
        return
    held = f"per-sample scores of trial {end.trial}"
    mended = mend(piece, lambda new: sample_checksum(new) == checksum, QUICK) if len(piece) == size else None
    if data is not None and mended is not None and disk.is_file(disk.layout.root / path):
        whole = data[:offset] + mended + data[offset + size :]
        what = f"bytes {offset}-{offset + size} have one wrong byte, which their checksum gives back"
        yield Case(Finding(path=path, what=what, held=held, trials=(end.trial,)), "write", whole)
        return
    found = "it is missing" if data is None else f"bytes {offset}-{offset + size} do not verify"
    finding = Finding(path=path, what=found, held=held, lost=held, trials=(end.trial,))
    yield Case(finding, "accept", b"", f"{path}/{offset}/{checksum}")


def check_logs(disk: Disk, facts: Facts, archived: Mapping[tuple[str, str], bytes]) -> Iterator[Case]:
    """Yield the logs that are shorter than the byte ranges of end records; their bytes have no checksum."""
    needed: dict[str, tuple[int, int]] = {}
    for ends in facts.ends.values():
        for end, worker, _ in ends:
            if end.log[1] > end.log[0]:
                needed[worker] = max(needed.get(worker, (0, 0)), (end.log[1], end.trial))
    for worker, (size, trial) in sorted(needed.items()):
        path = disk.layout.log(worker)
        name, live = disk.name(path), disk.size(path)
        there = live if live is not None else len(archived.get((worker, "log.txt"), b""))
        if there < size:
            what = f"it has {there} bytes, end records name {size}"
            lost = f"{size - there} bytes of output, of trial {trial} and before"
            yield Case(Finding(path=name, what=what, lost=lost), "accept", b"", f"{name}/{there}/{size}")


def check_checkpoints(disk: Disk, facts: Facts, plan: Plan) -> Iterator[Case]:
    """Yield the checkpoints that do not verify, and those that a journal names and that are gone."""
    present: dict[int, set[tuple[int, str, int]]] = {}
    folders = [path for path in disk.listed(disk.layout.checkpoints) if path.name.isdecimal()]
    for path in (path for folder in folders for path in disk.listed(folder)):
        slot = parse_slot(path.name)
        if slot is None or not disk.is_file(path):
            continue
        number = int(path.parent.name)
        present.setdefault(number, set()).add(slot)
        why = _unusable(disk, path, (plan.run_id, number, slot[0], slot[1]))
        if why:
            name = disk.name(path)
            held = f"a checkpoint of trial {number}"
            finding = Finding(
                path=name, what=why, held=held, lost="that save; the other slot is used", trials=(number,)
            )
            yield Case(finding, "quarantine")
    for number, saves in sorted(facts.saves.items()):
        # Those of failures that were taken back went with the failure, or with `retry --from-scratch`.
        after = facts.again.entry(number).again
        wanted = {slot: step for slot, step in saves.items() if slot[0] > after}
        if wanted and (_kept(facts, plan, number) or not facts.finals(number)):
            yield from _missing(disk.layout, number, wanted, present.get(number, set()))


def _kept(facts: Facts, plan: Plan, number: int) -> bool:
    """Return whether the checkpoints of trial *number*, which is final, stay."""
    if plan.search.keep_checkpoints or number >= plan.trials:
        return plan.search.keep_checkpoints
    trained = bool(plan.block_at(number).refit)
    return trained and any(end.state == "done" for end, _, _ in facts.ends[number])


def _unusable(disk: Disk, path: Path, expected: tuple[str, int, int, str]) -> str:
    try:
        meta = checkpoint_file.verify(path)
    except FileNotFoundError:
        return ""
    except DamagedError as error:
        return error.message.removeprefix(f"{path}: ")
    except OSError as error:
        # It may be whole: the disk, not the file, is at fault.
        disk.failed(path, error)
        return ""
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


def check_workers(disk: Disk, *, live: set[str]) -> Iterator[Case]:
    """Yield what is wrong with heartbeats and reserves; no truth is in them."""
    layout = disk.layout
    for directory in disk.listed(layout.workers):
        worker = directory.name
        if WORKER_ID.fullmatch(worker) is None or worker in live:
            continue
        beat, reserve = layout.heartbeat(worker), layout.reserve(worker)
        if disk.read(beat) is not None and liveness.read_beat(layout, worker) is None:
            name = disk.name(beat)
            what = "it is no heartbeat; it only says that a worker lives"
            yield Case(Finding(path=name, what=what), "quarantine")
        if disk.read(reserve) not in (None, bytes(RESERVE_BYTES)):
            name = disk.name(reserve)
            what = "it is not the space that a worker keeps for a full disk; it holds nothing"
            yield Case(Finding(path=name, what=what), "remove")


def check_reports(disk: Disk) -> Iterator[Case]:
    """Yield the report files of commands that hold something else than JSON lines."""
    paths = (disk.layout.report_file(one.name) for one in disk.listed(disk.layout.workers))
    for path in paths:
        for line in (disk.read(path) or b"").splitlines():
            try:
                msgspec.json.decode(line)
            except msgspec.DecodeError:
                yield note(disk.name(path), "a line is no JSON: what a command wrote when it was stopped")
                break
