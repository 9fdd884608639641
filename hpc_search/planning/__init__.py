"""From a search file to a run directory, and from a trial's number to what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc_search.planning.digests import Digests, digest, encode_digests, read_digests
from hpc_search.planning.numbers import Numbering
from hpc_search.planning.reading import (
    Instance,
    amended,
    encode_instance,
    load_instance,
    load_numbered,
    load_plan,
)

if TYPE_CHECKING:
    from hpc_search.planning.amending import Amendment, amend, amendment
    from hpc_search.planning.changes import data_difference
    from hpc_search.planning.drafts import (
        Draft,
        build,
        draft,
        draft_again,
        refuse_changed,
        settled,
    )

__all__ = [
    "Amendment",
    "Digests",
    "Draft",
    "Instance",
    "Numbering",
    "amend",
    "amended",
    "amendment",
    "build",
    "data_difference",
    "digest",
    "draft",
    "draft_again",
    "encode_digests",
    "encode_instance",
    "load_instance",
    "load_numbered",
    "load_plan",
    "read_digests",
    "refuse_changed",
    "settled",
]


def __getattr__(name: str) -> Any:
    # Workers and reading verbs never plan: without the configuration they start in four fifths of the time.
    modules = {"Amendment": "amending", "amend": "amending", "amendment": "amending"}
    modules |= dict.fromkeys(
        ("Draft", "build", "draft", "draft_again", "refuse_changed", "settled"), "drafts"
    )
    modules["data_difference"] = "changes"
    if name in modules:
        from importlib import import_module

        return getattr(import_module(f"hpc_search.planning.{modules[name]}"), name)
    raise AttributeError(name)
