"""Starting the process that starts trials, and why that may be impossible."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from hpc_search.errors import TemporaryError
from hpc_search.layout import Layout
from hpc_search.ledger import Ledger
from hpc_search.planning.code import problem as code_problem
from hpc_search.planning.digests import damaged_splits
from hpc_search.records.plan import Plan
from hpc_search.worker.events import Events
from hpc_search.worker.host import CommandHost, FreshHost, Host, TemplateHost
from hpc_search.worker.log import Log


class Opened(NamedTuple):
    """The host, or why the trial's code cannot be imported; neither where the worker was told to stop."""

    host: Host | None = None
    broken: str = ""


class Opener:
    """Opens hosts for one worker."""

    def __init__(
        self, layout: Layout, plan: Plan, ledger: Ledger, log: Log, directory: str, patience: float
    ) -> None:
        """Open hosts for the trials of *plan*, in *directory*; what they print goes to *log*.

        Importing their code may take *patience* seconds.
        """
        self._patience = patience
        self._layout = layout
        self._plan = plan
        self._ledger = ledger
        self._log = log
        self._directory = directory

    def open(self, events: Events, tick: Callable[[], float], stopping: Callable[[], str]) -> Opened:
        """Start the host of this search: programs, forks of a template, or fresh processes."""
        search = self._plan.search
        host: Host
        if damaged := damaged_splits(self._layout):
            # Every trial of that fold would fail for good, by no fault of its own.
            return Opened(broken=damaged)
        if search.trial.command:
            report = self._layout.report_file(self._ledger.id)
            host = CommandHost(search.trial.command, report, search.trial.metric_file)
        else:
            opened = self._open_python(events, tick, stopping)
            if opened.host is None:
                return opened
            host = opened.host
        events.watch_template(host.socket, host.inbox)
        return Opened(host)

    def _open_python(self, events: Events, tick: Callable[[], float], stopping: Callable[[], str]) -> Opened:
        damaged = self._plan.code_digest and code_problem(self._layout.code, self._plan.code_digest)
        if damaged:
            return Opened(broken=damaged)
        host, answer = self._template(events, tick, stopping)
        if answer is None and not stopping():
            # One that dies once may have been killed with another step of the job.
            host, answer = self._template(events, tick, stopping)
        if answer is None and host.killed and not stopping():
            # The kernel for want of memory, or a person: that says nothing of the code.
            raise TemporaryError("the process that imports the trial's code was killed, and the next one too")
        if answer is None:
            return Opened(broken="" if stopping() else "the process that imports the trial's code died")
        if answer["kind"] == "broken":
            host.close()
            return Opened(broken=str(answer["detail"]))
        self._ledger.note("environment", json.dumps(answer["versions"]))
        if answer["doubt"]:
            self._ledger.note("fork refused", answer["doubt"])
            sys.stderr.write(f"hpc_search: a fresh process a trial, because {answer['doubt']}" + "\n")
            host.close()
            return Opened(FreshHost())
        return Opened(host)

    def _template(
        self, events: Events, tick: Callable[[], float], stopping: Callable[[], str]
    ) -> tuple[Host, dict[str, Any] | None]:
        """Start the template; return its answer, None where it died before it could give one."""
        search = self._plan.search
        code = str(self._layout.code) if self._plan.code_digest else ""
        host = TemplateHost(self._log.fd, search.threads, self._directory)
        try:
            host.prepare(search.trial.callable, code)
            answer = events.first_message(host.socket, host.inbox, tick, stopping, self._patience)
        except TimeoutError:
            words = f"importing the trial's code did not end in {self._patience:g} s"
            answer = {"kind": "broken", "detail": words}
        except BaseException:
            host.close()
            raise
        if answer is None:
            host.close()
        return host, answer
