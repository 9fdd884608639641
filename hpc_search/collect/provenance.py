"""On which devices results were made: a part of every result; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from hpc_search.collect.columns import Column
from hpc_search.slices.observed import Observed


class Provenance(msgspec.Struct, frozen=True):
    """The devices behind a result; memory (bytes) and multiprocessors are those of the smallest."""

    kind: str = ""
    name: str = ""
    count: int = 0
    uuid: str = ""
    memory: int | None = None
    sms: int | None = None
    driver: str = ""


_TEXTS: Final = frozenset({"kind", "name", "uuid", "driver"})


def provenance(seen: Observed) -> Provenance:
    """Return what stands in the results of *seen*; without a GPU the processor's name."""
    devices = seen.devices
    if not devices:
        return Provenance(seen.kind, seen.cpu)
    names = dict.fromkeys(device.name or device.mig for device in devices)
    return Provenance(
        seen.kind,
        " + ".join(names),
        len(devices),
        " ".join(device.uuid for device in devices),
        min(device.memory for device in devices) or None,
        min(device.sms for device in devices) or None,
        seen.driver,
    )


def distinct(slices: Mapping[str, Observed], workers: set[str]) -> tuple[list[Provenance], dict[str, int]]:
    """Return the differing provenances of *workers*, and the place of each worker's among them.

    A worker of an earlier version said nothing.
    """
    of_worker = {worker: provenance(slices[worker]) for worker in workers if worker in slices}
    nothing = Provenance()
    found = sorted({of_worker.get(worker, nothing) for worker in workers}, key=msgspec.json.encode)
    places = {one: place for place, one in enumerate(found)}
    return found, {worker: places[of_worker.get(worker, nothing)] for worker in workers}


def slice_columns(slices: Sequence[Provenance]) -> list[Column]:
    """Return the columns ``slice_...`` of results.csv, a row for each of *slices*."""
    return [
        Column(
            f"slice_{name}",
            [getattr(one, name) for one in slices],
            kind="str" if name in _TEXTS else "int",
        )
        for name in Provenance.__struct_fields__
    ]
