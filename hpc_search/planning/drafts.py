"""Making a run directory: complete under its final name, or absent."""

from __future__ import annotations

import difflib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import msgspec

from hpc_search import __version__, config, durable, mounts
from hpc_search.errors import PASSING, TemporaryError, UsageError
from hpc_search.layout import Layout
from hpc_search.planning import manifests, sources
from hpc_search.planning.archive import Snapshot
from hpc_search.planning.blocks import blocks_of
from hpc_search.planning.changes import between
from hpc_search.planning.digests import encode_digests
from hpc_search.planning.manifests import Manifests
from hpc_search.planning.programs import check_programs
from hpc_search.planning.reading import Instance, encode_instance, load_plan
from hpc_search.planning.same import same
from hpc_search.planning.sources import Sources
from hpc_search.records import checked
from hpc_search.records import index as index_codec
from hpc_search.records import plan as records
from hpc_search.records.plan import Plan
from hpc_search.records.search import Search, search_id
from hpc_search.records.splits import FoldRecord

#: Directories that a run has from the start.
_DIRECTORIES: Final = (
    "ledger/seals", "ledger/submits", "ledger/stages", "ledger/archive",
    "workers", "checkpoints", "samples", "submitit",
)  # fmt: skip
#: Seconds after which what a killed `plan` left beside its run is removed.
_LEFT: Final = 3600.0
_LIBRARIES: Final = ("torch", "numpy", "pandas", "h5py", "scikit-learn", "submitit", "msgspec")


class Draft(NamedTuple):
    """A plan and the files that belong to it, not yet written anywhere."""

    plan: Plan
    sources: Sources
    splits: Manifests
    base: Path

    @property
    def snapshot(self) -> Snapshot:
        """The kept sources."""
        return self.sources.snapshot


def draft(path: Path, asked: config.Asked = config.NOTHING) -> Draft:
    """Read the search file *path* and everything it names; check it all and make the plan.

    Raises:
        UsageError: The file or something it names is wrong (ConfigError: every problem at once).
    """
    search = config.load_search(path, asked)
    base = path.resolve().parent
    for part in search.parts:
        check_programs(part, base)
    taken = take_sources(search, base)
    try:
        split = manifests.make(search, base)
    except UsageError as error:
        raise config.placed(path, error) from error
    made = Draft(_plan(search, taken.snapshot, split), taken, split, base)
    if wrong := list(_unfit(made.plan, split.folds)):
        raise config.problems_at(path, wrong, "change the folds, or what does not fit them")
    return made


def take_sources(search: Search, base: Path) -> Sources:
    """Return what the search file asks to keep of the sources in and around *base*."""
    trials = list(dict.fromkeys(run for part in search.parts for run in (part.trial, part.test) if run))
    return sources.in_place(trials, base) if search.snapshot == "none" else sources.take(trials, base)


def _unfit(plan: Plan, folds: Sequence[FoldRecord]) -> Iterator[tuple[str, str]]:
    """Yield what does not fit the folds that the data give, each with its key."""
    if plan.trials > plan.search.max_trials:
        text = f"{plan.points:,} points over {len(folds):,} folds make {plan.trials:,} trials"
        yield "max_trials", f"{text}, more than {plan.search.max_trials:,}"
    tests = {fold.test for fold in folds}
    for part in plan.search.parts if folds else ():
        where = f"searches.{part.name}." if part.name else ""
        if part.racing is not None and len(folds) <= part.racing.folds:
            yield f"{where}racing", f"every point has {part.racing.folds} of the {len(folds)} folds at least"
        if part.test is not None and tests == {""}:
            yield f"{where}test", "no fold has a test side"
        on = [stage.refit.on for stage in part.stages if stage.refit is not None]
        if "everything" in on and len(tests) == 1 and tests != {""}:
            yield f"{where}refit", "all folds share one test side, on which it would train"


def _plan(search: Search, snapshot: Snapshot, split: Manifests) -> Plan:
    blocks = blocks_of(search, split.folds)
    identity = search_id(search)
    return Plan(
        search_id=identity,
        run_id=f"{identity}-{secrets.token_hex(4)}",
        created=round(time.time(), 3),
        search=search,
        blocks=blocks,
        points=sum(block.points for block in blocks),
        trials=sum(block.trials for block in blocks),
        code_digest=snapshot.digest,
        splits_digest=split.digest,
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    # 20 ms that only `plan` needs.
    from importlib import metadata

    versions = {"hpc_search": __version__, "python": sys.version.split()[0]}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def build(made: Draft, layout: Layout) -> bool:
    """Write the run of *made* at *layout*; return False where the same search is planned there already.

    Raises:
        UsageError: The place holds another search (the difference is shown) or something else.
        TemporaryError: The disk is full.
    """
    if _already(made, layout):
        return False
    # A link to an empty directory stays: what it points to is replaced.
    root = layout.root.resolve()
    if root == Path.cwd():
        message = f"{root} is the working directory: it cannot be replaced by a run"
        raise UsageError(message, hint="name a directory below it with --run DIR")
    temporary = root.with_name(f"{durable.TEMPORARY}plan-{secrets.token_hex(6)}")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(mode=0o700)
        durable.remove_left(temporary, "plan", _LEFT)
        plan = msgspec.structs.replace(made.plan, claiming=mounts.claiming(root.parent))
        _fill(made._replace(plan=plan), Layout(temporary), root)
        won = durable.publish_dir(temporary, root)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _explained(error, layout.root) from error
    if not won:
        shutil.rmtree(temporary, ignore_errors=True)
        if not _already(made, layout):
            message = f"{root} cannot be replaced by a run"
            raise UsageError(message, hint="choose another directory with --run DIR")
    return won


def _explained(error: OSError, root: Path) -> UsageError | TemporaryError:
    blocking = next((path for path in root.parents if path.is_file()), None)
    reason = error.strerror if blocking is None else f"{blocking} is a file"
    words = f"the run {root} cannot be made ({reason})"
    if error.errno in durable.NO_SPACE:
        return TemporaryError(words, hint="free space or inodes (or raise the quota), then plan again")
    if error.errno in PASSING:
        return TemporaryError(words, hint="plan again when the file system answers")
    return UsageError(words, hint="choose a directory you may write to with --run DIR")


def _fill(made: Draft, layout: Layout, final: Path) -> None:
    plan = made.plan
    for name in _DIRECTORIES:
        (layout.root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in made.splits.files.items():
        path = layout.root / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.write_file(path, content)
    fixed = planned_files(plan, made.snapshot, made.splits.files) | _origin_of(made, layout)
    for path in (layout.search_yaml, layout.plan, layout.code, layout.provenance, layout.code_diff):
        if path.name in fixed:
            durable.write_file(path, fixed[path.name])
    durable.write_file(layout.digests, encode_digests(fixed, fixed[layout.plan.name]))
    outside = tuple(str(root) for root in made.sources.roots[1:])
    instance = Instance(secrets.token_hex(8), str(final), str(made.base), sources=outside)
    durable.write_file(layout.instance, encode_instance(instance))
    if plan.claiming == "lock":
        durable.write_file(layout.claims, index_codec.encode_header(index_codec.Header(plan.trials)))
        os.truncate(layout.claims, index_codec.index_bytes(plan.trials))
        durable.write_file(layout.claims_lock, b"")
    else:
        layout.open.mkdir(mode=0o700)
        durable.write_file(layout.mode_exclusive, f"{_why_exclusive(final)}\n".encode())
    for directory, _, _ in os.walk(layout.root, onerror=_raise):
        # Parents that mkdir made along have the mode of the umask.
        os.chmod(directory, 0o700)
        durable.fsync_dir(Path(directory))


def _origin_of(made: Draft, layout: Layout) -> dict[str, bytes]:
    """Return provenance.json and, where there is one, code.diff."""
    # git and importlib.metadata: only a run that is made needs them.
    from hpc_search.planning.provenance import gather

    snapshot, roots, imported = made.sources
    kept = made.plan.search.snapshot != "none"
    found = gather(snapshot, roots, imported, diff=kept, name=layout.code_diff.name)
    files = {layout.provenance.name: checked.encode(found.provenance)}
    return files | ({layout.code_diff.name: found.diff} if found.diff else {})


def planned_files(plan: Plan, snapshot: Snapshot, split: dict[str, bytes]) -> dict[str, bytes]:
    """Return RUN-relative path -> content of the files that `plan` makes and nobody changes."""
    layout = Layout(Path())
    files = {
        layout.search_yaml.name: config.dump_search(plan.search).encode(),
        layout.plan.name: records.encode_plan(plan),
        **split,
    }
    return files | ({layout.code.name: snapshot.data} if snapshot.data else {})


def draft_again(plan: Plan, base: Path, kept: bytes | None = None) -> dict[str, bytes]:
    """Return `planned_files` of *plan* made again from the sources and data in *base*; they may have changed.

    *kept* is the folds.json of the run, None where it has none.

    Raises:
        UsageError: Something that the search names is not there any more.
    """
    files = manifests.make(plan.search, base, kept).files
    return planned_files(plan, take_sources(plan.search, base).snapshot, files)


def _raise(error: OSError) -> NoReturn:
    raise error


def _why_exclusive(final: Path) -> str:
    mount = mounts.mount_of(final)
    return f"planned so: {final} is on {mount.fstype or 'a mount of unknown kind'} (`doctor` says more)"


def _already(made: Draft, layout: Layout) -> bool:
    root = layout.root
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    if not layout.plan.exists():
        message = f"{root} exists and is not a run"
        raise UsageError(message, hint="choose another directory with --run DIR")
    planned = load_plan(layout)
    made = settled(made, layout)
    if same(planned, made.plan):
        return True
    refuse_changed(planned, made, layout)
    raise UsageError(
        f"{root} holds another search:\n{_difference(planned, made.plan)}",
        hint=f"`plan CONFIG --run {layout} --amend` takes what only adds to it (more points, values of a "
        "grid, seeds, stages or searches, a larger budget); or plan into another directory with --run DIR",
    )


def settled(made: Draft, layout: Layout) -> Draft:
    """Return *made* with the splits of the run at *layout*, where the data say the same as then."""
    found = manifests.settled(made.splits, manifests.read(layout))
    plan = msgspec.structs.replace(made.plan, splits_digest=found.digest)
    return made._replace(splits=found, plan=plan)


def refuse_changed(planned: Plan, made: Draft, layout: Layout) -> None:
    """Refuse *made* where its data are not those of the run at *layout*, which is *planned* from them.

    Raises:
        UsageError: They differ; it is said in what.
    """
    old, new = planned.search, made.plan.search
    if (old.data, old.folds) != (new.data, new.folds) or planned.splits_digest == made.plan.splits_digest:
        return
    found = between(manifests.read(layout).files, made.splits.files, made.splits.order)
    lines = "".join(f"\n  {text}" for text in found)
    raise UsageError(
        f"the data changed since {layout.root} was planned:{lines}",
        hint="put the data back as they were, or plan into another directory with --run DIR",
    )


def _difference(planned: Plan, wanted: Plan) -> str:
    old, new = (config.dump_search(plan.search).splitlines() for plan in (planned, wanted))
    lines = difflib.unified_diff(old, new, "planned", "this file", lineterm="", n=0)
    return "\n".join(f"  {line}" for line in lines if not line.startswith("@@"))
