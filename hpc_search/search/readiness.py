"""What a test would look at, and all that has to be so before; nothing of the test side is read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from hpc_search.collect import final
from hpc_search.errors import DamagedError, UsageError
from hpc_search.ledger import history, read_state, snapshots, vault
from hpc_search.ledger.vault import Look
from hpc_search.planning import archive, load_instance
from hpc_search.planning.changes import resized
from hpc_search.planning.digests import damaged_splits
from hpc_search.planning.reading import load_splits
from hpc_search.planning.refitting import refit_blocks
from hpc_search.records import index as codec
from hpc_search.records.search import RefitSpec
from hpc_search.records.splits import SplitsIndex
from hpc_search.records.stages import point_words
from hpc_search.records.vault import Unit
from hpc_search.search import states
from hpc_search.search.refitting import refuse_fruitless, refuse_unended
from hpc_search.search.runs import Run

#: Lines of a list that are shown.
_SHOWN: Final = 5


class Ready(NamedTuple):
    """What a test would look at; ``look`` is the opening that it goes on with, None for a new one."""

    run: Run
    units: tuple[Unit, ...]
    splits: SplitsIndex | None
    reason: str
    look: Look | None

    def text(self) -> str:
        """Return in words what is opened."""
        rows = _rows_of(self.splits, self.units)
        head = (
            f"this opens the test side of {self.run.typed}: {rows}" if rows else "this tests on your own data"
        )
        if self.look is not None:
            by = vault.by_words(self.look.opening.by)
            what = "refused" if self.look.refusal is not None else "interrupted"
            head = f"opening {self.look.number} was {what} ({by}): it goes on"
        lines = [*_of_units(self.run, self.units), *filter(None, [copy_words(self.run)])]
        return "\n".join([head, *(f"  {words}" for words in lines)])

    @property
    def name(self) -> str:
        """What a person types to confirm it."""
        return self.run.path.resolve().name


def ready_to_test(run: Run, reason: str | None = None) -> Ready:
    """Return what `test` would look at; nothing of the test side is read.

    Raises:
        UsageError: It was tested and there is no *reason*, or it cannot be tested: everything is told.
        DamagedError: What was trained, or the folds, are not what they were.
    """
    if reason is not None and not reason.strip():
        raise UsageError(
            "--force needs a reason", hint='it stays in the record: --force "a bug in the metric"'
        )
    looks = vault.looks(run.layout)
    if words := vault.unrecorded(run.layout, looks):
        raise DamagedError(words, hint=f"`hpc-search fsck {run.typed}` says what is missing; put it back")
    if reason is None and (words := vault.unreported(run.layout, looks)):
        hint = f'put it back, or `hpc-search test {run.typed} --force "REASON"` opens the test side again'
        raise DamagedError(words, hint=hint)
    if looks and reason is None and looks[-1].result is not None:
        raise _tested(run, looks)
    if not looks and run.layout.result(final.NAME).exists():
        message = f"results/{final.NAME} says that the test side was opened, and the records of it are gone"
        hint = f"`hpc-search fsck {run.typed}` says what is missing; put vault/ back"
        raise DamagedError(message, hint=hint)
    index = load_splits(run.layout) if run.plan.search.folds is not None else None
    _refuse(run, index)
    if words := damaged_splits(run.layout):
        raise DamagedError(words)
    _refuse_other_data(run, looks)
    look = looks[-1] if looks and reason is None else None
    if look is not None:
        _refuse_changed(run, look, index)
        return Ready(run, look.opening.units, index, "", look)
    units, wrong = states.units_of(run, history.results(run.layout), index)
    if wrong:
        message = "what was refitted is not as it was:" + "".join(f"\n  {one}" for one in wrong[:_SHOWN])
        hint = "put the files back; nothing was opened. `hpc-search fsck RUN` looks at everything"
        raise DamagedError(message, hint=hint)
    why = " ".join((reason or "").split()) if looks else ""
    return Ready(run, tuple(units), index, why, None)


def _refuse_other_data(run: Run, looks: Sequence[Look]) -> None:
    """Refuse data that can be seen to be others by names and sizes: that reads none of them."""
    if words := resized(run.layout, Path(load_instance(run.layout).origin)):
        message = f"the data are not those of the plan: {'; '.join(words)}"
        done = "the opening that there is goes on then" if looks else "nothing was opened"
        raise DamagedError(message, hint=f"put them back; {done}")


def _tested(run: Run, looks: Sequence[Look]) -> UsageError:
    look = looks[-1]
    value = vault.value_words(look.result) if look.result is not None else ""
    times = "" if len(looks) == 1 else f" (opening {look.number})"
    what = "; ".join(_of_units(run, look.opening.units))
    return UsageError(
        f"the test side was opened{times} {vault.by_words(look.opening.by)}: {value} ({what}). "
        "Whoever chooses after another look chooses by the test side",
        hint=f"`hpc-search collect {run.typed}` shows it again; "
        f'`hpc-search test {run.typed} --force "REASON"` opens it again, and the reason stays in the record',
    )


# -- what has to be so before
def _refuse(run: Run, index: SplitsIndex | None) -> None:
    """Raise UsageError with everything that is missing for a test."""
    problems = [*_unplanned(run), *_no_side(run, index), *_no_code(run)]
    if refit_blocks(run.plan):
        problems += _unfinished(run)
    else:
        refuse_unended(run)
        refuse_fruitless(run, RefitSpec())
        problems.append(f"nothing was refitted: `hpc-search refit {run.typed}` trains the chosen point")
    if problems:
        raise UsageError("the test cannot be done yet:" + "".join(f"\n  {one}" for one in problems))


def _unplanned(run: Run) -> Iterator[str]:
    for part in run.plan.search.parts:
        if part.test is None:
            key = f"searches.{part.name}." if part.name else ""
            what = "test_command: [python, evaluate.py]" if part.trial.command else "test: train.py:evaluate"
            yield (
                f"the search file does not say what tests: write `{what}` ({key}test) into it, then "
                f"`hpc-search plan CONFIG --run {run.typed} --amend`"
            )


def _no_side(run: Run, index: SplitsIndex | None) -> Iterator[str]:
    blocks = [run.plan.blocks[place] for place in refit_blocks(run.plan)]
    if blocks and all(block.refit == "everything" for block in blocks):
        yield "it was refitted on everything: there is no test side that it has not seen"
    if index is None:
        return
    used = {fold for block in blocks for fold in block.folds} or {fold.number for fold in index.folds}
    without = sorted(fold.number for fold in index.folds if fold.number in used and not fold.test)
    if without:
        yield "the plan has no test side: folds with `test_share: 0.2`, or nested or rotating ones, have one"


def _no_code(run: Run) -> Iterator[str]:
    """Yield what tests and is not in the sources that were kept."""
    current = snapshots.current(run.layout, run.plan)
    tests = {part.test.callable for part in run.plan.search.parts if part.test is not None} - {""}
    if not current.digest or not tests:
        return
    from hpc_search.planning import code

    contents = archive.read(current.path, current.digest)
    for test in sorted(tests):
        reference = code.parse_reference(test)
        stem = reference.module.replace(".", "/")
        name = next((one for one in (f"{stem}.py", f"{stem}/__init__.py") if one in contents), "")
        if not name and test.rpartition(":")[0].endswith(".py"):
            yield f"{test} is not in the sources that were kept: {_RESNAPSHOT.format(run=run.typed)}"
        elif name:
            with tempfile.TemporaryDirectory() as place:
                path = Path(place) / os.path.basename(name)
                path.write_bytes(contents[name])
                try:
                    code.check_function(reference, path)
                except UsageError as error:
                    words = error.message.replace(str(path), f"{name} as it was kept")
                    yield f"{words}: {_RESNAPSHOT.format(run=run.typed)}"


_RESNAPSHOT: Final = "`hpc-search submit {run} --resnapshot` takes them again"


def _unfinished(run: Run) -> Iterator[str]:
    numbers = states.tested_trials(run.plan)
    entries = read_state(run.layout, run.plan.trials)[1]
    left = [number for number in numbers if not entries[number].final]
    bad = [number for number in numbers if entries[number].final and entries[number].state != codec.DONE]
    if left:
        refuse_unended(run)
        refuse_fruitless(run, RefitSpec())
        some = ", ".join(map(str, left[:_SHOWN]))
        yield (
            f"{len(left)} of {len(numbers)} trials of the refit have not ended ({some}): "
            f"`hpc-search refit {run.typed}` goes on"
        )
    if bad:
        some = ", ".join(map(str, bad[:_SHOWN]))
        yield (
            f"{len(bad)} of {len(numbers)} trials of the refit failed ({some}): "
            f"`hpc-search retry {run.typed} --submit` lets them run again"
        )


def _refuse_changed(run: Run, look: Look, index: SplitsIndex | None) -> None:
    """Refuse to go on with an opening for other states, or for other rows."""
    wrong = states.changed(run.layout, look.opening.units)
    if manifests(index, look.opening.units) != look.opening.manifests:
        wrong.append("the test sides are others")
    if wrong:
        raise DamagedError(
            f"opening {look.number} of the test side was for other states:"
            + "".join(f"\n  {one}" for one in wrong[:_SHOWN]),
            hint=f'put the files back, or `hpc-search test {run.typed} --force "REASON"` opens it again',
        )


def manifests(index: SplitsIndex | None, units: Sequence[Unit]) -> dict[str, str]:
    """Return the digests of the test sides' manifests of *units* as planned, by path."""
    if index is None:
        return {}
    used = {unit.fold for unit in units}
    paths = [fold.sides["test"] for fold in index.folds if fold.number in used and "test" in fold.sides]
    return {path: index.files[path].digest for path in paths}


# -- in words
def copy_words(run: Run) -> str:
    """Return that others may have seen the test side of *run*, as it is a copy; "" where it is none."""
    words = "whether the same test side was opened there, or in other copies, is not known here"
    return f"this run is a copy of run {run.plan.run_id}: {words}" if load_instance(run.layout).mark else ""


def _rows_of(index: SplitsIndex | None, units: Sequence[Unit]) -> str:
    if index is None:
        return ""
    paths = manifests(index, units)
    distinct = {index.files[path].digest: index.files[path].rows for path in paths}
    sides = f" on {len(distinct)} sides" if len(distinct) > 1 else ""
    return f"{sum(distinct.values()):,} rows{sides}"


def _of_units(run: Run, units: Sequence[Unit]) -> Iterator[str]:
    """Yield one line a search: the point, its folds and seeds."""
    for part in run.plan.search.parts:
        mine = [unit for unit in units if unit.part == part.name]
        points = list(dict.fromkeys(point_words(unit.point, unit.searched) for unit in mine))
        folds = [f"fold {unit.fold}" for unit in mine if unit.fold is not None]
        seeds = list(dict.fromkeys(unit.seed for unit in mine))
        name = f"search {part.name}: " if part.name else ""
        where = f", {', '.join(dict.fromkeys(folds))}" if len({*folds}) > 1 else ""
        yield (
            f"{name}{', '.join(points)}{where}, "
            f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        )
