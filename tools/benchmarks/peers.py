"""Optuna doing what the ledger does: 9 parameters suggested, 10 reports, one result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tools.benchmarks.synthetic import REPORTS
from tools.benchmarks.windows import Opener, Sample

PARAMETERS: Final = 9


def opener(kind: str, place: Path) -> Opener:
    """Return what opens Optuna's storage *kind* ("journal" or "sqlite") below *place* in a process."""
    place.mkdir(parents=True)
    study(kind, place)

    def opened(sample: Sample) -> tuple[Callable[[], bool], Callable[[], None]]:
        del sample
        mine = study(kind, place)

        def one() -> bool:
            one_trial(mine)
            return True

        return one, lambda: None

    return opened


def one_trial(asked: Any, reports: int = REPORTS) -> None:
    """Ask, suggest, report and tell one trial."""
    trial = asked.ask()
    for number in range(PARAMETERS):
        trial.suggest_float(f"parameter_{number}", 0.0, 1.0)
    for step in range(reports):
        trial.report(0.1 * step, step)
    asked.tell(trial, 0.5)


def study(kind: str, place: Path) -> Any:
    """Return the study in Optuna's storage *kind* below *place*, made where there is none."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        study_name="bench",
        storage=storage(kind, place),
        sampler=optuna.samplers.RandomSampler(),
        load_if_exists=True,
    )


def storage(kind: str, place: Path) -> Any:
    """Return Optuna's storage *kind* below *place*."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if kind == "journal":
        return optuna.storages.JournalStorage(JournalFileBackend(str(place / "journal.log")))
    return optuna.storages.RDBStorage(
        f"sqlite:///{place / 'study.db'}", engine_kwargs={"connect_args": {"timeout": 100}}
    )
