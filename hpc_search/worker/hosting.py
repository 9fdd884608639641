"""The one process that starts trials, of the search whose trials run now."""

from __future__ import annotations

from collections.abc import Callable

from hpc_search.records.plan import Plan
from hpc_search.records.search import TrialSpec
from hpc_search.worker.events import Events
from hpc_search.worker.host import Host
from hpc_search.worker.opening import Opened, Opener


class Hosting:
    """Keeps a host open as long as trials come that it can start: searches with another code get another."""

    def __init__(self, plan: Plan, opener: Opener, events: Events) -> None:
        """Have none yet."""
        self._plan = plan
        self._opener = opener
        self._events = events
        self._home: object = None
        self.host: Host | None = None

    def ready(self, number: int) -> bool:
        """Return whether the host can start trial *number*; one that cannot is closed."""
        if self.host is not None and self._home != _home(self._plan.part_of(number).trial):
            self.close()
        return self.host is not None

    def open(self, number: int, tick: Callable[[], float], stopping: Callable[[], str]) -> Opened:
        """Open a host for trial *number*."""
        trial = self._plan.part_of(number).trial
        opened = self._opener.open(trial, self._events, tick, stopping)
        self.host, self._home = opened.host, _home(trial)
        return opened

    def close(self) -> None:
        """Close the host where there is one."""
        if self.host is not None:
            # Its number is free for the next one's socket.
            self._events.forget(self.host.socket)
            self.host.close()
            self.host = None


def _home(trial: TrialSpec) -> object:
    """Return what trials share that one host can start: the module of their function, or the command."""
    return trial.callable.rpartition(":")[0] or trial
