"""From a search file to a run directory, and from a trial's number to what it is."""

from __future__ import annotations

from hpc_search.planning.build import (
    Draft,
    Instance,
    build,
    draft,
    draft_again,
    encode_instance,
    load_instance,
    load_plan,
)
from hpc_search.planning.digests import Digests, digest, encode_digests, read_digests
from hpc_search.planning.numbers import Numbering

__all__ = [
    "Digests",
    "Draft",
    "Instance",
    "Numbering",
    "build",
    "digest",
    "draft",
    "draft_again",
    "encode_digests",
    "encode_instance",
    "load_instance",
    "load_plan",
    "read_digests",
]
