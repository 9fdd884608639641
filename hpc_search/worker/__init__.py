"""The worker: a supervisor that claims trials and never imports the user's code."""

from __future__ import annotations

from hpc_search.worker.options import WorkerOptions
from hpc_search.worker.supervisor import Supervisor

__all__ = ["Supervisor", "WorkerOptions"]
