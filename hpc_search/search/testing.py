"""`test`: the test side is opened here and nowhere else, once, and on record before it is read.

An opening is published before the first byte of the test side is read. A test that dies after that goes on
with the same opening, the same states and the same rows; so does one that was refused, as the data are not
those of the plan. Another look needs a reason, which stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hpc_search.collect import Collected, collect, final
from hpc_search.errors import DamagedError, TemporaryError, UsageError
from hpc_search.ledger import snapshots, vault
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.vault import Look
from hpc_search.locks import LockUnavailableError, coarse_lock
from hpc_search.planning import data_difference, load_instance
from hpc_search.planning.digests import damaged_splits
from hpc_search.planning.refitting import refit_blocks
from hpc_search.records.vault import Opening, Person, Result, Tested
from hpc_search.search.estimates import notes_of, values_of
from hpc_search.search.evaluating import Gave, evaluate
from hpc_search.search.orders import command
from hpc_search.search.readiness import Ready, copy_words, manifests
from hpc_search.search.runs import Run

#: Seconds to wait for another `test`.
_PATIENCE: Final = 2.0


def test(ready: Ready) -> Collected:
    """Open the test side, look, and publish what came of it; return all results of the run.

    Raises:
        UsageError: Somebody else opened it first.
        SearchFailedError: What tests failed; the same command goes on with this opening.
        DamagedError: States, or the data, are not those that it was opened for: that nothing was tested is
            on record.
        TemporaryError: Another `test` is at work.
    """
    layout = ready.run.layout
    try:
        with coarse_lock(layout.coarse_lock("test"), timeout=_PATIENCE):
            look = _opened(ready)
            with command(ready.run, "opened") as ledger:
                vault.note_opening(ledger, look.opening)
            if differences := _differences(ready.run):
                vault.publish_refused(layout, look, _me(ready.run), differences)
                raise _refused(differences)
            gave = evaluate(ready.run, look.opening.units, f"test-{look.number:03d}")
            result = _result(ready, look, gave)
            if vault.publish_result(layout, result):
                with command(ready.run, "tested") as ledger:
                    vault.note_result(ledger, result)
    except LockUnavailableError as error:
        words = _at_work(ready.run)
        raise TemporaryError(f"another `test` of this run is at work{words}", hint="wait for it") from error
    return collect(layout, ready.run.plan)


def final_results(run: Run) -> str:
    """Return final_test_results.json of *run*, as `test` and `collect` write it."""
    return run.layout.result(final.NAME).read_text()


def _at_work(run: Run) -> str:
    try:
        looks = vault.looks(run.layout)
    except DamagedError:
        return ""
    return f": opened {vault.by_words((looks[-1].again or [looks[-1].opening])[-1].by)}" if looks else ""


def _opened(ready: Ready) -> Look:
    """Return the opening that is looked at, published, or gone on with on record.

    Raises:
        UsageError: Somebody else was first.
    """
    run = ready.run
    by = _me(run)
    looks = vault.looks(run.layout)
    if ready.look is not None:
        if looks and looks[-1] == ready.look:
            if ready.look.refusal is not None and (words := _differences(run)):
                raise _refused(words)
            if (again := vault.publish_again(run.layout, ready.look, by)) is not None:
                return ready.look._replace(again=(*ready.look.again, again))
    else:
        opening = Opening(
            number=len(looks) + 1,
            run_id=run.plan.run_id,
            search_id=run.plan.search_id,
            by=by,
            units=ready.units,
            manifests=manifests(ready.splits, ready.units),
            table=ready.splits.data.table if ready.splits is not None else "",
            reason=ready.reason,
            chosen=_chosen(run),
        )
        known = looks and not ready.reason
        if not known and vault.publish_opening(run.layout, opening):
            return Look(opening)
    looks = vault.looks(run.layout)
    by_words = vault.by_words(looks[-1].opening.by)
    raise UsageError(
        f"somebody else opened the test side meanwhile: {by_words}",
        hint="the same command says what came of it",
    )


def _me(run: Run) -> Person:
    return vault.person(snapshots.current(run.layout, run.plan).digest)


def _differences(run: Run) -> list[str]:
    """Return in what the data are not those of the plan; the test side is open."""
    base = Path(load_instance(run.layout).origin)
    if words := damaged_splits(run.layout, tested=True):
        found = [words]
    else:
        try:
            found = data_difference(run.layout, base)
        except UsageError as error:
            # The table is none any more.
            found = [error.message]
    # A record holds no path of this machine.
    return [words.replace(f"{base}/", "").replace(f"{run.layout.root}/", "") for words in found]


def _refused(words: Sequence[str]) -> DamagedError:
    return DamagedError(
        f"the data are not those of the plan, so nothing was tested: {'; '.join(words)}",
        hint="put them back, and the same `test` goes on with this opening; that it was refused stays in the "
        "record, and is no result",
    )


def _chosen(run: Run) -> tuple[str, ...]:
    """Return in words how each point that is tested was chosen."""
    gates = Gates(run.layout, run.plan)
    opened = [gates.opened(place) for place in refit_blocks(run.plan)]
    return tuple(dict.fromkeys(one.why for one in opened if one is not None))


def _result(ready: Ready, look: Look, gave: Sequence[Gave]) -> Result:
    run = ready.run
    return Result(
        opening=look.number,
        of=vault.digest_of(look.opening),
        run_id=run.plan.run_id,
        by=_me(run),
        units=tuple(_given(one) for one in gave),
        values=tuple(values_of(run.plan, gave, run.layout, ready.splits)),
        notes=(*notes_of(gave, run.layout, ready.splits), *filter(None, [copy_words(run)])),
    )


def _given(one: Gave) -> Tested:
    if one.samples is None:
        return Tested(trial=one.unit.trial, metrics=one.metrics)
    ids, scores = one.samples.ids, one.samples.scores
    digest = vault.digest_of_scores(ids, scores)
    return Tested(trial=one.unit.trial, metrics=one.metrics, samples=len(scores), digest=digest)
