"""What a refit left to be tested: its trials and their states, with digests; only reads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from hpc_search.checkpoint import file as checkpoint_file
from hpc_search.checkpoint.slots import parse_slot
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.ledger.gates import Gates
from hpc_search.planning.refitting import refit_blocks
from hpc_search.records import journal as lines
from hpc_search.records.plan import Block, Plan
from hpc_search.records.splits import SplitsIndex
from hpc_search.records.vault import Unit
from hpc_search.search.runs import Run
from hpc_search.steering import choosing

_CHUNK: Final = 1 << 20


def tested_trials(plan: Plan) -> list[int]:
    """Return the trials whose states are tested: those of the refits that left the test side out."""
    blocks = [plan.blocks[place] for place in refit_blocks(plan) if plan.blocks[place].refit != "everything"]
    return [number for block in blocks for number in range(block.first, block.first + block.trials)]


def units_of(
    run: Run, results: Mapping[int, history.Result], splits: SplitsIndex | None
) -> tuple[list[Unit], list[str]]:
    """Return the states that are tested, and in words what is wrong with them.

    All trials of `tested_trials` are done.
    """
    units: list[Unit] = []
    wrong: list[str] = []
    gates = Gates(run.layout, run.plan)
    for number in tested_trials(run.plan):
        end = results[number].end
        if words := damage(run, end):
            wrong.append(words)
            continue
        block = run.plan.block_at(number)
        opened = gates.opened(run.plan.blocks.index(block))
        units.append(
            Unit(
                trial=number,
                point=end.point,
                fold=end.fold,
                seed=end.seed,
                params=end.params,
                files=digests(run.layout, number),
                part=block.part,
                outer=block.outer,
                on=block.refit,
                chose=_chose(run.plan, block, splits),
                searched=opened.point if opened is not None else None,
            )
        )
    return units, wrong


def _chose(plan: Plan, block: Block, splits: SplitsIndex | None) -> tuple[int, ...]:
    folds = choosing.folds_of(block, splits)
    every = {fold for one in choosing.sources(plan, block) for fold in one.folds}
    return tuple(sorted(every if folds is None else every & folds))


def damage(run: Run, end: lines.End) -> str:
    """Return in words why the last state of a trial cannot be used, "" where it can.

    A slot that does not verify would be passed over by a restore, and an older state be tested.
    """
    directory = run.layout.checkpoint_dir(end.trial)
    if not any(_files(directory)):
        return (
            f"trial {end.trial} kept no state in {directory}: call trial.save as it trains, "
            "or write to trial.directory"
        )
    steps = []
    for path in _files(directory):
        if parse_slot(path.name) is None or path.parent != directory:
            continue
        try:
            steps.append(checkpoint_file.verify(path).step)
        except (DamagedError, OSError) as error:
            return f"{path} is not as it was saved ({str(error).partition(': ')[2] or error})"
    if steps and max(steps) != end.step:
        return f"{directory} has the state at step {max(steps)}, the trial ended at step {end.step}"
    if not steps and end.step and run.plan.part_of(end.trial).trial.callable:
        return f"{directory} has no state: that of step {end.step} is gone"
    return ""


def digests(layout: Layout, number: int) -> dict[str, str]:
    """Return blake2b-128 of every file that trial *number* keeps, by its path in RUN."""
    found = {}
    for path in _files(layout.checkpoint_dir(number)):
        digest = hashlib.blake2b(digest_size=16)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        found[path.relative_to(layout.root).as_posix()] = digest.hexdigest()
    return found


def _files(directory: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(directory):
        folders.sort()
        yield from (Path(place, name) for name in sorted(names) if Path(place, name).is_file())


def changed(layout: Layout, units: tuple[Unit, ...]) -> list[str]:
    """Return which files of *units* are not those that the test side was opened for."""
    found = []
    for unit in units:
        now = digests(layout, unit.trial)
        for name in sorted({*now, *unit.files}):
            if now.get(name) != unit.files.get(name):
                words = (
                    "is missing" if name not in now else "is new" if name not in unit.files else "was changed"
                )
                found.append(f"{layout.root / name} {words}")
    return found
