"""The worker: a supervisor that claims trials and never imports the user's code."""

from __future__ import annotations

from hpc_search.worker.supervisor import Supervisor, WorkerOptions

__all__ = ["Supervisor", "WorkerOptions"]
