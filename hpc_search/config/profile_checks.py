"""What fields of a profile say together: everything that contradicts, told at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from hpc_search.config.profile_fields import GRES
from hpc_search.config.slices import Item, Slice, items

if TYPE_CHECKING:
    from hpc_search.config.profile import Profile

#: Options of sbatch by which a GPU comes without a gres.
_OTHER_GPUS = ("gpus", "gpus-per-task", "gpus-per-node", "gpus-per-socket", "exclusive")


class Conflict(NamedTuple):
    """Fields that contradict; the first of ``paths`` is where it is told."""

    paths: tuple[str, ...]
    message: str
    found: str
    expected: str
    hint: str = ""


def conflicts(profile: Profile, *, kind_said: bool = True) -> Iterator[Conflict]:
    """Yield what contradicts in *profile*; without *kind_said* its kind was derived from the gres."""
    yield from _times(profile)
    yield from _environments(profile)
    for option in ("mem-per-cpu", "mem-per-gpu"):
        if profile.mem and option in profile.extra:
            message, expected = f"is given beside extra.{option}", "one of the two"
            yield Conflict(("mem", "extra"), message, profile.mem, expected, 'write mem: ""')
    yield from _kind(profile, kind_said=kind_said)
    yield from _shares(profile.slice)
    yield from _expected(profile.slice)


def _times(profile: Profile) -> Iterator[Conflict]:
    if profile.time > 0 and profile.time_min > profile.time:
        found = f"{profile.time_min} and {profile.time} minutes"
        yield Conflict(("time_min", "time"), "is longer than time", found, "time_min of time or less")


def _environments(profile: Profile) -> Iterator[Conflict]:
    both = [key for key in ("container", "conda", "venv") if getattr(profile, key)]
    if len(both) > 1:
        message, expected = f"is given beside {both[0]}", "one environment"
        hint = f"what stands inside of {both[0]} is named by `python`, with its path there"
        yield Conflict((both[1], both[0]), message, str(getattr(profile, both[1])), expected, hint)


def _kind(profile: Profile, *, kind_said: bool) -> Iterator[Conflict]:
    """Yield where the kind of the slice is not what its request asks for."""
    block, entries = profile.slice, items(profile.gres)
    found = f"kind {block.kind} and gres {profile.gres or 'none'}"
    paths = ("slice.kind", GRES, "slice.pack.workers")
    if not kind_said and (several := _several(entries)):
        message = "asks for several kinds of GPU"
        hint = f"a worker gets one: write {several[0]} or {several[1]} alone, or say which by slice.kind"
        yield Conflict((GRES,), message, profile.gres, "one kind", hint)
        return
    if wrong := _mismatch(block, entries, profile):
        expected, hint = wrong
        yield Conflict(paths, "does not fit the request", found, expected, hint)
    elif block.kind == "packed" and block.pack.workers == 1:
        hint = "write slice.pack.workers: 4, or kind: whole"
        yield Conflict(paths[2:], "is one, so nothing shares the GPU", found, "2 or more with packed", hint)
    elif block.kind in ("whole", "mig") and block.pack.workers > 1:
        message, expected = "gives each worker all of it, and several share it", "kind packed"
        hint = "write kind: packed, or pack.workers: 1"
        yield Conflict((paths[0], *paths[2:]), message, f"{block.pack.workers} workers", expected, hint)


def _several(entries: tuple[Item, ...]) -> tuple[str, ...]:
    """Return the GPUs in *entries* where they are of more than one kind."""
    kinds = dict.fromkeys(
        f"{item.name}:{item.type}" if item.type else item.name
        for item in entries
        if item.name in ("gpu", "shard", "mps")
    )
    return tuple(kinds) if len(kinds) > 1 else ()


def _mismatch(block: Slice, entries: tuple[Item, ...], profile: Profile) -> tuple[str, str] | None:
    """Return what is expected and a hint where *entries* are not what the kind of *block* asks for."""
    names = {item.name for item in entries}
    shared = names & {"shard", "mps"}
    if block.kind == "cpu":
        return ("no GPU with cpu", "write another kind, or no gres") if names & {"gpu", *shared} else None
    if block.kind in ("shard", "mps"):
        expected = f"gres {block.kind}:1 or more"
        return None if block.kind in names else (expected, f"write gres: {block.kind}:1, or another kind")
    if not entries:
        asked = any(option in profile.extra for option in _OTHER_GPUS)
        return None if asked else ("a request for a GPU", "write slice.request.gres: gpu:1, or kind: cpu")
    if shared and "gpu" not in names:
        return (f"gres gpu:... with {block.kind}", f"write kind: {min(shared)}, or gres: gpu:1")
    if block.kind == "whole" and any(item.is_mig for item in entries):
        return ("a type that is no MIG profile", "write kind: mig")
    return None


def _shares(block: Slice) -> Iterator[Conflict]:
    """Yield limits that the workers of one GPU cannot be held to."""
    pack, limits = block.pack, block.limits
    if pack.workers * limits.memory_fraction > 1:
        found = f"{pack.workers} workers of {limits.memory_fraction:g} each"
        hint = f"write memory_fraction: {int(1000 / pack.workers) / 1000:g} or less"
        both = ("slice.limits.memory_fraction", "slice.pack.workers")
        yield Conflict(both, "is more than the GPU has", found, "workers x fraction of 1 or less", hint)
    if limits.threads_percent and (block.kind not in ("mps", "packed") or pack.mps == "never"):
        paths = ("slice.limits.threads_percent", "slice.kind", "slice.pack.mps")
        found = f"{limits.threads_percent} with kind {block.kind}, pack.mps {pack.mps}"
        yield Conflict(paths, "needs MPS", found, "kind mps, or packed with pack.mps auto or always")


def _expected(block: Slice) -> Iterator[Conflict]:
    """Yield where a worker would expect what was not requested."""
    expect = block.expect
    paths = ("slice.expect.count", GRES, "slice.kind")
    if block.kind == "cpu":
        asked = [key for key in ("count", "memory_gib", "name", "sm_min", "free_gib") if getattr(expect, key)]
        if asked:
            hint = "write slice.request.gres: gpu:1, or remove it"
            message = "expects a GPU, and none is requested"
            yield Conflict((f"slice.expect.{asked[0]}", GRES, "slice.kind"), message, "kind cpu", "", hint)
        return
    requested = sum(item.number for item in items(block.request.gres) if item.name == "gpu")
    if expect.count and requested and block.kind in ("whole", "mig", "packed") and expect.count != requested:
        found = f"{expect.count}, and {requested} in gres {block.request.gres}"
        yield Conflict(paths, "is not what is requested", found, "0 (as requested), or the same number")
