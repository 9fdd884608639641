"""Making a copied or moved run one that can be run where it is."""

from __future__ import annotations

import os
import secrets

from hpc_search import durable
from hpc_search.errors import UsageError
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.live import Absent, live_workers
from hpc_search.fsck.planned import instance_of
from hpc_search.layout import Layout
from hpc_search.planning import Instance, encode_instance, load_plan


def adopt(layout: Layout, absent: Absent = lambda _: False) -> str:
    """Write instance.json for the place where the run is now; return what was done and what to know.

    Raises:
        UsageError: It is no run, or the run that it was copied from is still at work.
        DamagedError: plan.json does not verify.
    """
    plan = load_plan(layout)
    here = layout.root.resolve()
    old = instance_of(layout)
    if old is not None and old.path == str(here):
        return f"{here} is where its instance.json says; nothing to adopt"
    original = _original(old, layout)
    if original is not None:
        live = live_workers(Disk(original), plan.search.lease, absent)
        if live:
            worker, where = min(live.items())
            message = f"{original.root}, from which this was copied, is at work: worker {worker} on {where}"
            raise UsageError(message, hint="adopt the copy when the original has ended")
    origin = old.origin if old is not None else os.getcwd()
    sources = old.sources if old is not None else ()
    # A copy has the run id of its original: its jobs need names of their own.
    mark = secrets.token_hex(4) if original is not None else old.mark if old is not None else ""
    content = encode_instance(Instance(secrets.token_hex(8), str(here), origin, mark, sources))
    durable.replace(layout.instance, content)
    return _words(here, old, original, origin)


def _original(old: Instance | None, layout: Layout) -> Layout | None:
    """Return the run that this is a copy of, None where it was moved."""
    if old is None:
        return None
    original = Layout(type(layout.root)(old.path))
    there = instance_of(original)
    return original if there is not None and there.nonce == old.nonce else None


def _words(here: object, old: Instance | None, original: Layout | None, origin: str) -> str:
    head = f"{here} can be run now"
    if old is None:
        return f"{head}; trials start in {origin}: the old instance.json could not be read"
    if original is None:
        return f"{head}; it was moved from {old.path}"
    return (
        f"{head}; it was copied from {old.path}, which is still there. Its jobs have names of their own, and "
        "`cancel` ends no job of the original"
    )
