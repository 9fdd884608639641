"""Reading what a run says of itself: its plan, and its place."""

from __future__ import annotations

import os
import re
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.errors import PASSING, DamagedError, TemporaryError, UsageError
from hpc_search.layout import Layout
from hpc_search.records import checked
from hpc_search.records import plan as records
from hpc_search.records.plan import Plan
from hpc_search.records.provenance import Provenance
from hpc_search.records.splits import SplitsIndex

#: What stands beside an amended plan is written after it: where that is there, the plan was.
_LATER: Final = re.compile(r"(?:plan|digests)\.(\d{3,})\.json|search\.(\d{3,})\.yaml")


class Instance(msgspec.Struct, frozen=True):
    """instance.json: which copy of the run this is. The only record with absolute paths."""

    nonce: str
    path: str
    #: Directory of the search file: trials run there where it exists.
    origin: str
    #: In the names of this copy's jobs where it is not the original, whose run id it has.
    mark: str = ""
    #: Directories elsewhere that its sources were imported from.
    sources: tuple[str, ...] = ()
    format: str = "hpc_search.instance"
    version: int = 1


def load_plan(layout: Layout) -> Plan:
    """Return the newest plan of a run.

    Raises:
        UsageError: There is no run.
        DamagedError: The plan does not verify.
    """
    try:
        matches = map(_LATER.fullmatch, os.listdir(layout.root))
        found = [int(match[1] or match[2]) for match in matches if match is not None]
    except OSError:
        # What is wrong is said of plan.json.
        found = []
    return load_numbered(layout, max(found, default=1))


def amended(layout: Layout, plan: Plan) -> bool:
    """Return whether there is a newer plan than *plan*."""
    return layout.later_plan(plan.number + 1).exists()


def load_numbered(layout: Layout, number: int) -> Plan:
    """Return plan *number* of a run, 1 for the first.

    Raises:
        UsageError: There is no run.
        DamagedError: The plan does not verify.
    """
    path = layout.plan if number == 1 else layout.later_plan(number)
    try:
        content = durable.read_bytes(path)
    except FileNotFoundError:
        if number > 1:
            hint = f"`hpc-search fsck {layout} --repair` puts it back"
            raise DamagedError(f"{path} is missing: the run was amended", hint=hint) from None
        message = f"{layout.root} is not a run: it has no plan.json"
        raise UsageError(message, hint="`hpc-search plan CONFIG --run DIR` makes one") from None
    except NotADirectoryError:
        message = f"{layout.root} is not a run: it is a file"
        raise UsageError(message, hint="name the run's directory, such as runs/NAME") from None
    except OSError as error:
        words = f"{path} cannot be read ({error.strerror})"
        if error.errno in PASSING:
            hint = "the same command again when the file system answers"
            raise TemporaryError(words, hint=hint) from error
        raise UsageError(words) from error
    return records.parse_plan(content, str(path))


def load_instance(layout: Layout) -> Instance:
    """Return what the run knows of its own place.

    Raises:
        DamagedError: instance.json is missing or does not hold that.
    """
    hint = f"`hpc-search fsck {layout} --adopt` makes it anew; what is done can be collected without it"
    try:
        content = layout.instance.read_bytes()
    except FileNotFoundError as error:
        message = f"{layout.instance} is missing; without it the run can only be read"
        raise DamagedError(message, hint=hint) from error
    return checked.decode(content, Instance, str(layout.instance), hint)


def load_provenance(layout: Layout) -> Provenance | None:
    """Return where the run's code came from, None where nobody can tell any more."""
    try:
        return checked.decode(layout.provenance.read_bytes(), Provenance, str(layout.provenance))
    except (OSError, DamagedError):
        return None


def load_splits(layout: Layout) -> SplitsIndex:
    """Return splits.json.

    Raises:
        DamagedError: It is not there, or is none.
    """
    path = layout.splits_index
    try:
        return msgspec.json.decode(durable.read_bytes(path), type=SplitsIndex)
    except (OSError, msgspec.DecodeError) as error:
        hint = f"`hpc-search fsck {layout} --repair` makes it again"
        raise DamagedError(f"{path} cannot be read ({error})", hint=hint) from error


def encode_instance(instance: Instance) -> bytes:
    """Return the bytes of instance.json."""
    return checked.encode(instance)
