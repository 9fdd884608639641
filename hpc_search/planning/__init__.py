"""From a search file to a run directory, and from a trial's number to what it is."""

from __future__ import annotations

from hpc_search.planning.build import Draft, Instance, build, draft, load_instance, load_plan
from hpc_search.planning.numbers import Numbering

__all__ = ["Draft", "Instance", "Numbering", "build", "draft", "load_instance", "load_plan"]
