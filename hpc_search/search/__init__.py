"""What a user can do with a search: the facade that the command line and Python code share."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hpc_search.search.importing import import_file
    from hpc_search.search.launch import (
        Wish,
        after_work,
        cancel,
        pending,
        preview,
        refill,
        status,
        submit,
        wait,
        watch,
    )
    from hpc_search.search.orders import Again, Ordered, retry, skip, submitted
    from hpc_search.search.pausing import closed, pause, resume
    from hpc_search.search.readiness import Ready, ready_to_test
    from hpc_search.search.refitting import Refit, Refitted, refit
    from hpc_search.search.resnapshot import change_code
    from hpc_search.search.runs import (
        Choice,
        Planned,
        Run,
        amend_search,
        folds_of,
        locate,
        open_run,
        plan_search,
        writable,
    )
    from hpc_search.search.testing import final_results, test
    from hpc_search.search.trials import (
        check_one,
        last_log,
        log_tail,
        rerun,
        standalone,
        view_trial,
        which_trial,
    )

__all__ = [
    "Again",
    "Choice",
    "Ordered",
    "Planned",
    "Ready",
    "Refit",
    "Refitted",
    "Run",
    "Wish",
    "after_work",
    "amend_search",
    "cancel",
    "change_code",
    "check_one",
    "closed",
    "final_results",
    "folds_of",
    "import_file",
    "last_log",
    "locate",
    "log_tail",
    "open_run",
    "pause",
    "pending",
    "plan_search",
    "preview",
    "ready_to_test",
    "refill",
    "refit",
    "rerun",
    "resume",
    "retry",
    "skip",
    "standalone",
    "status",
    "submit",
    "submitted",
    "test",
    "view_trial",
    "wait",
    "watch",
    "which_trial",
    "writable",
]

#: Module -> what it gives. A verb imports what it does, not all that can be done.
_MODULES: Final = {
    "importing": "import_file",
    "launch": "Wish after_work cancel pending preview refill status submit wait watch",
    "orders": "Again Ordered retry skip submitted",
    "pausing": "closed pause resume",
    "readiness": "Ready ready_to_test",
    "refitting": "Refit Refitted refit",
    "resnapshot": "change_code",
    "runs": "Choice Planned Run amend_search folds_of locate open_run plan_search writable",
    "testing": "final_results test",
    "trials": "check_one last_log log_tail rerun standalone view_trial which_trial",
}
_MODULE_OF: Final = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
