"""Starting the process that starts trials, and why that may be impossible: code, packages, splits, data."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from hpc_search.errors import DamagedError, TemporaryError, UsageError
from hpc_search.layout import Layout
from hpc_search.ledger import Ledger, snapshots
from hpc_search.planning import archive, load_instance
from hpc_search.planning.changes import data_difference
from hpc_search.planning.digests import damaged_splits
from hpc_search.planning.reading import load_provenance
from hpc_search.records.plan import Plan
from hpc_search.records.search import TrialSpec
from hpc_search.worker.events import Events
from hpc_search.worker.host import CommandHost, FreshHost, Host, TemplateHost
from hpc_search.worker.log import Log
from hpc_search.worker.unpacked import Code, Unpacked, unpack

#: How often sources that vanish before they are imported are put right.
_MENDED: Final = 5


#: Why no trial can be run on a node.
Fault = Literal["code", "packages", "splits", "data"]


class Opened(NamedTuple):
    """The host, or why no trial can be run here; neither where the worker was told to stop.

    ``fault`` is what is wrong: the trial's code cannot be imported, packages are others than the plan had,
    manifests of the folds are damaged, or the data are not those of the plan.
    """

    host: Host | None = None
    broken: str = ""
    fault: Fault = "code"


class Opener:
    """Opens hosts for one worker."""

    def __init__(
        self, layout: Layout, plan: Plan, ledger: Ledger, log: Log, directory: str, patience: float
    ) -> None:
        """Open hosts for the trials of *plan*, in *directory*; what they print goes to *log*.

        Importing their code may take *patience* seconds, or as long as a trial may say nothing.
        """
        #: Whether installed packages may differ from those of the plan.
        self.any_packages = False
        self._code: Code | None = None
        self._unpacked: Unpacked | None = None
        self._read: Callable[[], Mapping[str, bytes]] = dict
        self._patience = max(patience, plan.search.stall or 0.0)
        self._layout = layout
        self._plan = plan
        self._ledger = ledger
        self._log = log
        self._directory = directory
        #: In what the data differ from those of the plan, None before anybody has looked.
        self._changed: str | None = None

    def open(
        self, trial: TrialSpec, events: Events, tick: Callable[[], float], stopping: Callable[[], str]
    ) -> Opened:
        """Start the host of *trial*: programs, forks of a template, or fresh processes."""
        host: Host
        if damaged := damaged_splits(self._layout):
            # Every trial of that fold would fail for good, by no fault of its own.
            return Opened(broken=damaged, fault="splits")
        if changed := self._changed_data():
            return Opened(broken=changed, fault="data")
        try:
            code = self._code = self._code or self._take_code()
        except DamagedError as error:
            return Opened(broken=error.message)
        if trial.command:
            report = self._layout.report_file(self._ledger.id)
            host = CommandHost(trial.command, report, trial.metric_file, code)
        else:
            opened = self._open_python(
                code, partial(self._template, trial.callable, code, events, tick, stopping), stopping
            )
            if opened.host is None:
                return opened
            host = opened.host
        events.watch_template(host.socket, host.inbox)
        return Opened(host)

    def close(self) -> None:
        """Let go of the sources on this node."""
        if self._unpacked is not None:
            self._unpacked.close()

    def mended(self) -> str:
        """Return in words that the sources on this node were changed, and are put right; "" where not."""
        return self._unpacked.mended(self._read) if self._unpacked is not None else ""

    def _changed_data(self) -> str:
        """Return in what the data differ from those of the plan, "" where nothing is known; looked at once.

        Raises:
            TemporaryError: They cannot be read now.
        """
        if self._changed is None:
            base = Path(self._directory)
            if self._plan.splits_digest and not (self._directory and base.is_dir()):
                self._ledger.note("data not compared", f"{base} is not there on this node")
            try:
                self._changed = "; ".join(data_difference(self._layout, base)) if self._directory else ""
            except (DamagedError, UsageError) as error:
                self._changed = error.message
        return self._changed

    def _take_code(self) -> Code:
        """Return where the sources are: the newest when this worker began, until it ends.

        Raises:
            DamagedError: They are not what was taken.
            TemporaryError: They cannot be read now, or this node has no room for them.
        """
        current = snapshots.current(self._layout, self._plan)
        self.any_packages = self.any_packages or current.any_packages
        if not current.digest:
            in_place = self._plan.search.snapshot == "none"
            elsewhere = load_instance(self._layout).sources if in_place else ()
            return Code((self._directory, *elsewhere) if in_place else ())
        self._read = partial(archive.read, current.path, current.digest)
        self._unpacked = unpack(self._read(), current.digest, self._ledger.me.boot_id)
        self._ledger.note(snapshots.CODE, current.digest)
        return replace(self._unpacked.code, base=self._directory)

    def _open_python(
        self,
        code: Code,
        template: Callable[[], tuple[Host, dict[str, Any] | None]],
        stopping: Callable[[], str],
    ) -> Opened:
        host, answer = template()
        if answer is None and not stopping():
            # One that dies once may have been killed with another step of the job.
            host, answer = template()
        for _ in range(_MENDED):
            # Somebody who cleans up here took sources away before they were imported.
            if answer is None or answer["kind"] != "broken" or not (words := self.mended()):
                break
            self._ledger.note("sources put right", words)
            host.close()
            host, answer = template()
        if answer is None and host.killed and not stopping():
            # The kernel for want of memory, or a person: that says nothing of the code.
            raise TemporaryError("the process that imports the trial's code was killed, and the next one too")
        if answer is None:
            return Opened(broken="" if stopping() else "the process that imports the trial's code died")
        for words in answer.get("told", ()):
            self._ledger.note("packages", words)
            sys.stderr.write(f"hpc_search: {words}" + "\n")
        if answer["kind"] in ("broken", "differs"):
            host.close()
            fault: Fault = "packages" if answer["kind"] == "differs" else "code"
            return Opened(broken=str(answer["detail"]), fault=fault)
        self._ledger.note("environment", json.dumps(answer["versions"]))
        if answer["doubt"]:
            self._ledger.note("fork refused", answer["doubt"])
            sys.stderr.write(f"hpc_search: a fresh process a trial, because {answer['doubt']}" + "\n")
            host.close()
            return Opened(FreshHost(code.roots))
        return Opened(host)

    def _template(
        self,
        reference: str,
        code: Code,
        events: Events,
        tick: Callable[[], float],
        stopping: Callable[[], str],
    ) -> tuple[Host, dict[str, Any] | None]:
        """Start the template; return its answer, None where it died before it could give one."""
        search = self._plan.search
        provenance = load_provenance(self._layout)
        planned = (provenance.packages, provenance.python) if provenance is not None else ({}, "")
        host = TemplateHost(self._log.fd, search.threads, self._directory, code.roots)
        try:
            host.prepare(reference, *planned, any_packages=self.any_packages)
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
