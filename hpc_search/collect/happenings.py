"""What happened and stands in no journal: plans, splits, submissions, stages, looks at the test side.

Each of them is a file of its own, published once; what such a file cannot tell, because it does not verify,
is left out here and said by `fsck`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

from hpc_search.collect.columns import json_text
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.ledger import vault
from hpc_search.ledger.submits import Answer, Intent
from hpc_search.records import checked
from hpc_search.records.plan import Plan, parse_plan
from hpc_search.records.provenance import SnapshotRecord
from hpc_search.records.splits import SplitsIndex
from hpc_search.records.stages import Opened
from hpc_search.records.vault import Again, Opening, Person, Refused, Result

_T = TypeVar("_T", bound=msgspec.Struct)
_PLAN: Final = re.compile(r"plan\.(\d{3,})\.json")
_SUBMIT: Final = re.compile(r"(\d{4,})\.(intent|jobs)\.json")
_NUMBERED: Final = re.compile(r"(\d{3,})\.json")


class Happening(NamedTuple):
    """One event: when, of which record (RUN-relative) and which line of it, by whom, in words.

    ``folds`` are those that it concerns, None for the whole run.
    """

    time: float
    source: str
    number: int
    event: str
    about: str
    by: str
    text: str
    folds: frozenset[int] | None = None


class Files(NamedTuple):
    """How the files of a run are read: nothing where a file is gone, or is none."""

    layout: Layout
    content: Callable[[Path], bytes | None]
    names: Callable[[Path], list[str]]

    def record(self, path: Path, kind: type[_T]) -> _T | None:
        """Return the record in the file *path*, None where it does not verify."""
        try:
            return checked.decode(self.content(path) or b"", kind, str(path))
        except DamagedError:
            return None

    def name(self, path: Path) -> str:
        """Return *path* relative to RUN."""
        return path.relative_to(self.layout.root).as_posix()


def happenings(
    files: Files, plan: Plan, ends: Mapping[str, float], folds_of: Callable[[int], frozenset[int]]
) -> Iterator[Happening]:
    """Yield what happened.

    Args:
        files: The files of the run.
        plan: Its newest plan.
        ends: The time of every end record by its checksum.
        folds_of: What gives the fold that a trial is of.
    """
    yield from _plans(files)
    yield from _splits(files, plan)
    yield from _submissions(files)
    yield from _snapshots(files)
    yield from _stages(files, plan, ends, folds_of)
    yield from _vault(files)


def _plans(files: Files) -> Iterator[Happening]:
    layout = files.layout
    numbers = sorted(int(match[1]) for match in map(_PLAN.fullmatch, files.names(layout.root)) if match)
    before = 0
    for path in (layout.plan, *map(layout.later_plan, numbers)):
        try:
            plan = parse_plan(files.content(path) or b"", str(path))
        except (DamagedError, msgspec.DecodeError):
            continue
        refits = [block for block in plan.blocks if block.refit and block.first >= before]
        event = "planned" if path == layout.plan else "refit planned" if refits else "amended"
        text = (
            f"search={plan.search_id} run={plan.run_id} points={plan.points} trials={plan.trials}"
            f" code={plan.code_digest[:8] or '-'} splits={plan.splits_digest[:8] or '-'}"
        )
        yield Happening(plan.created, files.name(path), 1, event, _trials(before, plan.trials), "plan", text)
        before = plan.trials


def _trials(first: int, end: int) -> str:
    return f"trials {first} to {end - 1}" if end - first > 1 else f"trial {first}" if end > first else "-"


def _splits(files: Files, plan: Plan) -> Iterator[Happening]:
    path = files.layout.splits_index
    try:
        index = msgspec.json.decode(files.content(path) or b"", type=SplitsIndex)
    except msgspec.DecodeError:
        return
    # All folds are of one file: the first plan's, and made with it.
    with suppress(DamagedError, msgspec.DecodeError):
        plan = parse_plan(files.content(files.layout.plan) or b"", str(files.layout.plan))
    for number, fold in enumerate(index.folds, 1):
        sides = [(side, name, index.files[name]) for side, name in fold.sides.items() if name in index.files]
        rows = " ".join(f"{side}={one.rows}" for side, _, one in sides)
        digests = " ".join(f"{name}={one.digest[:8]}" for _, name, one in sides)
        outer = "" if fold.outer is None else f" outer={fold.outer}"
        text = f"{rows}{outer} {digests}"
        about = f"fold {fold.number}"
        folds = frozenset({fold.number})
        yield Happening(plan.created, files.name(path), number, "split made", about, "plan", text, folds)


def _submissions(files: Files) -> Iterator[Happening]:
    directory = files.layout.submits
    found: dict[int, Intent] = {}
    for match in filter(None, map(_SUBMIT.fullmatch, sorted(files.names(directory)))):
        # "intent" sorts before "jobs", so an answer takes the place of its intent.
        one = files.record(directory / match[0], Intent if match[2] == "intent" else Answer)
        if one is not None:
            found[int(match[1])] = one
    for number, one in sorted(found.items()):
        folds = frozenset(one.folds) or None
        only = f" folds={','.join(map(str, one.folds))}" if one.folds else ""
        text = f"token={one.token} tasks={one.tasks} profile={one.profile.name or '-'}{only}"
        about, by = f"submission {number}", f"submit on {one.host or '-'}"
        source = files.name(files.layout.submit_intent(number))
        yield Happening(one.created, source, 1, f"submitting by {one.launcher}", about, by, text, folds)
        if isinstance(one, Answer):
            jobs = ",".join(job.id for job in one.jobs)
            text = f"jobs={jobs or '-'}" + (f" words={json_text(one.words)}" if one.words else "")
            source = files.name(files.layout.submit_record(number))
            event = "submitted" if one.outcome == "sent" else f"submission {one.outcome}"
            yield Happening(one.created, source, 1, event, about, by, text, folds)


def _snapshots(files: Files) -> Iterator[Happening]:
    for path, number in _numbered(files, files.layout.snapshots):
        record = files.record(path, SnapshotRecord)
        if record is not None:
            text = f"code={record.digest[:8]} packages={record.packages}"
            yield Happening(
                record.created,
                files.name(path),
                1,
                "sources taken again",
                f"snapshot {number}",
                "submit",
                text,
            )


def _numbered(files: Files, directory: Path) -> list[tuple[Path, int]]:
    names = filter(None, map(_NUMBERED.fullmatch, sorted(files.names(directory))))
    return [(directory / match[0], int(match[1])) for match in names]


def _stages(
    files: Files, plan: Plan, ends: Mapping[str, float], folds_of: Callable[[int], frozenset[int]]
) -> Iterator[Happening]:
    for path, number in _numbered(files, files.layout.stages):
        opened = files.record(path, Opened)
        if opened is None or number >= len(plan.blocks):
            continue
        block = plan.blocks[number]
        # The record has no time: that of the last result it was made from is the same whoever made it.
        when = max((ends[end] for end in opened.of.values() if end in ends), default=plan.created)
        name = " ".join(filter(None, (block.part, block.stage_name or block.refit))) or f"block {number}"
        text = f"trials={block.first}-{block.first + block.trials - 1} from={len(opened.of)} results"
        text += f" why={json_text(opened.why)}" if opened.why else ""
        folds = frozenset(block.folds).union(*map(folds_of, opened.of)) or None
        yield Happening(when, files.name(path), 1, "stage advanced", f"stage {name}", "ledger", text, folds)


def _vault(files: Files) -> Iterator[Happening]:
    directory = files.layout.vault
    folds: dict[int, frozenset[int] | None] = {}
    for name in sorted(files.names(directory), key=lambda name: (not name.startswith("opening"), name)):
        path = directory / name
        kind = name.partition(".")[0]
        if kind == "opening" and (opening := files.record(path, Opening)) is not None:
            tested = {unit.fold for unit in opening.units if unit.fold is not None}
            chose = [frozenset(unit.chose) for unit in opening.units]
            folds[opening.number] = frozenset(tested).union(*chose) or None
            text = f"trials={','.join(str(unit.trial) for unit in opening.units)}"
            text += f" reason={json_text(opening.reason)}" if opening.reason else ""
            yield _look(files, path, "test opened", opening.number, opening.by, text, folds)
        elif kind == "again" and (again := files.record(path, Again)) is not None:
            yield _look(files, path, "test gone on with", again.opening, again.by, "", folds)
        elif kind == "refused" and (refused := files.record(path, Refused)) is not None:
            text = vault.refused_words(refused)
            yield _look(files, path, "test refused", refused.opening, refused.by, text, folds)
        elif kind == "result" and (result := files.record(path, Result)) is not None:
            text = vault.value_words(result)
            yield _look(files, path, "tested", result.opening, result.by, text, folds)


def _look(
    files: Files,
    path: Path,
    event: str,
    opening: int,
    by: Person,
    text: str,
    folds: Mapping[int, frozenset[int] | None],
) -> Happening:
    who = f"{by.user} on {by.host}"
    return Happening(by.when, files.name(path), 1, event, f"opening {opening}", who, text, folds.get(opening))
