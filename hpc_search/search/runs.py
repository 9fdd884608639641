"""Finding and planning runs."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hpc_search.errors import UsageError
from hpc_search.layout import Layout
from hpc_search.planning import load_instance, load_plan
from hpc_search.records.plan import Plan
from hpc_search.records.splits import SplitsIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpc_search.planning import Draft


@dataclass(frozen=True, slots=True)
class Run:
    """A run that exists: its paths and its plan."""

    layout: Layout
    plan: Plan

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.layout.root

    @property
    def typed(self) -> str:
        """The run directory as a shell takes it."""
        return str(self.layout)


def runs_root() -> Path:
    """Return where runs live: HPC_SEARCH_ROOT, else ``runs`` in the working directory."""
    return Path(os.environ.get("HPC_SEARCH_ROOT") or "runs")


def locate(text: str) -> Layout:
    """Return the layout of RUN: a path, or a name under ``runs/`` (HPC_SEARCH_ROOT)."""
    path = Path(text)
    if not path.exists() and not path.is_absolute() and (runs_root() / text).exists():
        path = runs_root() / text
    return Layout(path)


def open_run(text: str) -> Run:
    """Return the run at RUN.

    Raises:
        UsageError: There is none; similar names are shown.
    """
    layout = locate(text)
    if not layout.root.exists():
        raise UsageError(
            f"there is no run {text!r}{_known_runs(Path(text).name)}", hint="`plan CONFIG` makes a run"
        )
    return Run(layout, load_plan(layout))


def folds_of(run: Run, asked: Sequence[int]) -> tuple[int, ...]:
    """Return the folds *asked* for, each once, in order.

    Raises:
        UsageError: The run does not have all of them.
    """
    there = sorted({number for block in run.plan.blocks for number in block.folds})
    missing = sorted(set(asked) - set(there))
    if missing and not there:
        message = f"--folds {' '.join(map(str, missing))}: the run has no folds"
        raise UsageError(message, hint="leave out --folds, or plan a search with `data` and `folds`")
    if missing:
        found = f"no fold {', '.join(map(str, missing))}; the run has {' '.join(map(str, there))}"
        raise UsageError(f"--folds: {found}", hint="name folds of the run, or leave out --folds for all")
    return tuple(sorted(set(asked)))


def _known_runs(wanted: str) -> str:
    import difflib

    try:
        names = sorted(path.parent.name for path in runs_root().glob("*/plan.json"))
    except OSError:
        names = []
    near = difflib.get_close_matches(wanted, names, n=3)
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"; under {runs_root()}/ there are: {', '.join(names[:10])}{more}" if names else ""


def writable(run: Run) -> Run:
    """Return *run* where it may be changed.

    Raises:
        UsageError: It was copied or moved: such a run is only read.
    """
    instance = load_instance(run.layout)
    here = str(run.path.resolve())
    if instance.path == here:
        return run
    message = f"{here} is a copy of, or was moved from, {instance.path}: it can be read, not run"
    original = Path(instance.path).exists()
    hint = (
        "work in the original"
        if original
        else f"move it back: mv {shlex.quote(str(here))} {shlex.quote(instance.path)}"
    )
    raise UsageError(message, hint=f"{hint}, or `hpc-search fsck {run.typed} --adopt` to run it here")


class Planned(NamedTuple):
    """What `plan` did."""

    run: Run
    fresh: bool
    warnings: list[str]
    #: What was kept of the sources; "" where the run was planned before.
    code: str = ""
    #: What an amendment added.
    news: tuple[str, ...] = ()
    #: How the data are split, None where they are not.
    splits: SplitsIndex | None = None


class Choice(NamedTuple):
    """What `plan` takes of a file: experiments of its catalog, all but some stages, some of its searches."""

    mode: str = ""
    experiments: tuple[str, ...] = ()
    skip_stages: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


_ALL: Final = Choice()


def plan_search(config_path: Path, run: str = "", *, dry_run: bool = False, choice: Choice = _ALL) -> Planned:
    """Plan the search file, or the *choice* of it, into a run directory; the same again changes nothing.

    Raises:
        UsageError: The file is wrong (ConfigError: every problem), or the directory holds something else.
    """
    from hpc_search import planning
    from hpc_search.planning.describe import kept, warnings

    made, notes = _draft(config_path, choice)
    layout = Layout(Path(run)) if run else _usual(made)
    if dry_run:
        told = [*notes, *warnings(made, made.plan)]
        return Planned(
            Run(layout, made.plan), fresh=True, warnings=told, code=kept(made), splits=made.splits.record
        )
    fresh = planning.build(made, layout)
    plan = load_plan(layout)
    told = [*notes, *warnings(made, plan)]
    code = kept(made) if fresh else ""
    return Planned(Run(layout, plan), fresh, told, code, splits=made.splits.record)


def _draft(config_path: Path, choice: Choice) -> tuple[Draft, Sequence[str]]:
    """Return the plan of the file, and what is to be said of points from elsewhere."""
    from hpc_search import planning
    from hpc_search.config import Asked, Chosen, Elsewhere
    from hpc_search.search.warm import ranked

    elsewhere = Elsewhere(ranked)
    chosen = Chosen(choice.mode, choice.experiments)
    asked = Asked(chosen, elsewhere, skip_stages=choice.skip_stages, only=choice.only)
    return planning.draft(config_path, asked), elsewhere.notes


def _usual(made: Draft) -> Layout:
    from hpc_search.launchers.base import slug

    return Layout(runs_root() / slug(made.plan.search.name))


def amend_search(
    config_path: Path, run: str = "", *, dry_run: bool = False, choice: Choice = _ALL
) -> Planned:
    """Add what the changed search file adds to the run *run*; the same file again changes nothing.

    Raises:
        UsageError: There is no such run, or the file is wrong or does more than add: all of it is told.
    """
    from hpc_search import planning
    from hpc_search.ledger import used_up
    from hpc_search.ledger.index import extend
    from hpc_search.planning.describe import warnings
    from hpc_search.planning.same import refitted
    from hpc_search.status.budget import Meter

    made, notes = _draft(config_path, choice)
    found = writable(open_run(run or str(_usual(made).root)))
    made = planning.settled(made, found.layout)
    planning.refuse_changed(found.plan, made, found.layout)
    if dry_run:
        seen = planning.amendment(found.plan, made.plan, refitted=refitted(found.plan, found.layout))
        plan = seen.plan if seen is not None else found.plan
        news = seen.news if seen is not None else ()
        told = [*notes, *warnings(made, plan)]
        return Planned(Run(found.layout, plan), seen is not None, told, news=news, splits=made.splits.record)
    done = planning.amend(made.plan, found.layout)
    plan = load_plan(found.layout)
    if plan.claiming == "lock":
        extend(found.layout, plan.trials)
    if used_up(found.layout) and not Meter(found.layout, plan).look().over:
        # The mark was of the smaller budget.
        found.layout.stop.unlink(missing_ok=True)
    news = done.news if done is not None else ()
    told = [*notes, *warnings(made, plan)]
    return Planned(Run(found.layout, plan), done is not None, told, news=news, splits=made.splits.record)
