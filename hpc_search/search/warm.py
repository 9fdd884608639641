"""The best points of another run or of an Optuna study, for the `points` of a search file; only reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hpc_search.config.points import Found
from hpc_search.config.problems import near_miss, shown, words
from hpc_search.errors import UsageError
from hpc_search.layout import Layout
from hpc_search.search.runs import open_run
from hpc_search.strategies.catalog import EXPERIMENT

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage

_SQLITE: Final = b"SQLite format 3\0"

Ranked = Iterator[Found]


def ranked(kind: str, place: str, options: Mapping[str, Any], base: Path) -> Ranked:
    """Yield the points of the run or study at *place*, relative to *base*, best first.

    Raises:
        UsageError: There is none, it has no results, or Optuna is not installed.
    """
    return _of_study(place, options.get("study", ""), base) if kind == "optuna" else _of_run(place, base)


def _of_run(place: str, base: Path) -> Ranked:
    from hpc_search.collect.outcome import outcome
    from hpc_search.collect.reading import read_attempts

    beside = base / place
    run = open_run(str(beside) if Layout(beside).plan.is_file() else place)
    found = outcome(run.plan, read_attempts(run.layout))
    if found.best is None:
        message = f"the run {place} has no best points: {found.reason}"
        raise UsageError(message, hint=f"`hpc-search status {run.typed}`")
    fixed = {name for part in run.plan.search.parts for name in part.space.fixed}
    varied = {name for part in run.plan.search.parts for name in part.space.searched}
    constant = (fixed | {EXPERIMENT}) - varied
    for score in found.scores:
        if score.complete:
            params = found.params[found.of_point[score.point]]
            yield f"point {score.point}", params, constant


def _of_study(place: str, name: str, base: Path) -> Ranked:
    study = _study(place, name, base)
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not done:
        raise UsageError(f"the study {shown(study.study_name)} has no trial that is complete")
    sign = -1.0 if study.directions[0] is StudyDirection.MAXIMIZE else 1.0
    front = {trial.number for trial in study.best_trials} if len(study.directions) > 1 else set()
    # Of several objectives first the Pareto front; within it, and without one, by the first objective.
    done.sort(key=lambda trial: (trial.number not in front, sign * trial.values[0], trial.number))
    for trial in done:
        yield f"trial {trial.number}", trial.params, ()


def _study(place: str, name: str, base: Path) -> Study:
    try:
        import optuna
    except ImportError:
        message = "reading an Optuna study needs the Python package optuna, which is not installed here"
        raise UsageError(message, hint="pip install 'hpc_search[optuna]'") from None
    try:
        storage = _storage(place, base)
        names = optuna.get_all_study_names(storage)
    except UsageError:
        raise
    except Exception as error:
        # Optuna, SQLAlchemy and each driver have errors of their own; the first line of any says enough.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(f"{place}: no Optuna storage that can be read ({reason})") from error
    if not names:
        raise UsageError(f"{place}: there is no Optuna study in it")
    if not name and len(names) > 1:
        known = words([shown(one) for one in names[:20]], "or")
        raise UsageError(f"{place}: there are {len(names)} studies in it", hint=f"add study: {known}")
    if name and name not in names:
        near = near_miss(name, names)
        message = f"{place}: there is no study {shown(name)}" + (f"; {near}" if near else "")
        raise UsageError(message, hint=f"its studies: {words([shown(one) for one in names[:20]])}")
    return optuna.load_study(study_name=name or names[0], storage=storage)


def _storage(place: str, base: Path) -> BaseStorage:
    """Return the storage at a URL, in an SQLite file or in a journal file; a file is not written to."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    scheme, _, rest = place.partition(":///")
    if "://" in place and scheme != "sqlite":
        return RDBStorage(place)
    path = base / (rest or place)
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file", hint="a path, or a URL such as sqlite:///study.db")
    with path.open("rb") as file:
        head = file.read(len(_SQLITE))
    if head == _SQLITE:
        return RDBStorage(f"sqlite:///file:{path.resolve()}?mode=ro&uri=true")
    if not head.startswith(b"{"):
        raise UsageError(f"{path}: neither an SQLite database nor a journal of Optuna")
    return JournalStorage(JournalFileBackend(str(path)))
