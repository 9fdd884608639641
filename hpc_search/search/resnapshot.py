"""Taking the sources of a run again, and letting its workers have other packages: explicit, and recorded."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hpc_search import durable
from hpc_search.errors import TemporaryError, UsageError
from hpc_search.ledger import snapshots
from hpc_search.planning import archive, load_instance
from hpc_search.records.provenance import Repository, SnapshotRecord
from hpc_search.search.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpc_search.planning.sources import Sources

#: Others that publish a record at the same time.
_TRIES: Final = 20


def change_code(run: Run, *, again: bool, any_packages: bool) -> list[str]:
    """Do what `submit` was asked for with the code of *run*; return what to say.

    Raises:
        UsageError: The sources are not there any more, or the run keeps none.
        TemporaryError: Others publish records all the time.
    """
    said = [_take_again(run)] if again else []
    return [*said, _allow(run)] if any_packages else said


def _take_again(run: Run) -> str:
    if run.plan.search.snapshot == "none":
        message = "the search file says `snapshot: none`: tasks run what is there when they start"
        raise UsageError(message, hint="submit without --resnapshot")
    instance = load_instance(run.layout)
    base = Path(instance.origin)
    if not base.is_dir():
        raise UsageError(f"{base}, where the sources were, is not there", hint="submit without --resnapshot")
    with _importable(instance.sources):
        taken = _sources(run, base)
    snapshot = taken.snapshot
    now = snapshots.current(run.layout, run.plan)
    if snapshot.digest == now.digest:
        return f"nothing changed in the sources since they were taken (code {snapshot.digest[:8]})"
    path = run.layout.later_code(snapshot.digest)
    if snapshot.digest == run.plan.code_digest:
        path = run.layout.code
    elif not durable.publish(path, snapshot.data):
        # The same sources were there before; or a name of 8 digits means others.
        archive.read(path, snapshot.digest)
    repositories, diff = _origin(taken)
    diff_path = run.layout.later_diff(snapshot.digest)
    if diff:
        durable.publish(diff_path, diff)
    number = _publish(
        run,
        digest=snapshot.digest,
        code=path.name,
        repositories=repositories,
        diff=diff_path.name if diff else "",
    )
    told = "".join(f"\nnot kept: {ascii(text)[1:-1]}" for text in snapshot.left_out)
    return (
        f"snapshot {number}: code {snapshot.digest[:8]} instead of {now.digest[:8] or 'none'}, "
        f"{len(snapshot.files)} files from {base}; workers that start from now on run it, "
        f"those at work keep theirs{told}"
    )


def _sources(run: Run, base: Path) -> Sources:
    from hpc_search.planning.drafts import take_sources
    from hpc_search.planning.programs import check_programs

    for part in run.plan.search.parts:
        # What cannot be parsed would stop the search at its next worker.
        check_programs(part, base)
    return take_sources(run.plan.search, base)


def _origin(taken: Sources) -> tuple[tuple[Repository, ...], bytes]:
    from hpc_search.planning.provenance import repositories

    return repositories(taken.snapshot, taken.roots)


@contextmanager
def _importable(places: Sequence[str]) -> Iterator[None]:
    """Find modules where they were found when planned, whatever PYTHONPATH says now."""
    before = list(sys.path)
    sys.path[:0] = [place for place in places if os.path.isdir(place)]
    try:
        yield
    finally:
        sys.path[:] = before


def _allow(run: Run) -> str:
    now = snapshots.current(run.layout, run.plan)
    if now.any_packages:
        return "other versions of installed packages are allowed already"
    number = _publish(run, digest=now.digest, code=now.path.name, any_packages=True)
    return f"record {number}: workers that start from now on may have other packages than the plan"


def _publish(
    run: Run,
    *,
    digest: str,
    code: str,
    any_packages: bool = False,
    repositories: tuple[Repository, ...] = (),
    diff: str = "",
) -> int:
    """Publish the next record; what was allowed before stays allowed."""
    for _ in range(_TRIES):
        now = snapshots.current(run.layout, run.plan)
        record = SnapshotRecord(
            number=now.number + 1,
            digest=digest,
            code=code,
            created=round(time.time(), 3),
            packages="any" if any_packages or now.any_packages else "same",
            repositories=repositories,
            diff=diff,
        )
        if snapshots.publish(run.layout, record):
            return record.number
    raise TemporaryError("others change the code of this run at the same moment", hint="submit again")
