"""Whether what a worker sees is what its profile asks for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hpc_search.config.slices import Slice, items
from hpc_search.slices.observe import excused
from hpc_search.slices.observed import Device, Observed

_GIB: Final = 1 << 30
_SHARED: Final = ("shard", "mps")


def requested(gres: str) -> dict[str, int]:
    """Return name -> count of what the text *gres* asks for: ``gpu:h200:2`` is two of gpu."""
    found: dict[str, int] = {}
    for item in items(gres):
        found[item.name] = found.get(item.name, 0) + item.number
    return found


def devices_expected(wanted: Slice) -> int:
    """Return how many devices a worker of this slice sees."""
    if wanted.kind == "cpu":
        return 0
    if wanted.expect.count:
        return wanted.expect.count
    # A CUDA process enumerates one MIG instance only, and shares are of one GPU.
    return 1 if wanted.kind in ("mig", *_SHARED) else requested(wanted.request.gres).get("gpu", 1)


def judge(wanted: Slice, seen: Observed) -> str:
    """Return in words what differs between *wanted* and *seen*, "" where nothing does."""
    return "" if wanted.kind == "cpu" else "; ".join(_differences(wanted, seen))


def _differences(wanted: Slice, seen: Observed) -> Iterator[str]:
    checks = wanted.expect.checks
    if "environment" in checks:
        yield from _environment(wanted, seen)
    for look in ("nvml", "torch", "canary"):
        words = seen.unseen.get(look, "") if look in checks else ""
        if words and not excused(words):
            yield f"{_LOOKS[look]}: {words}"
    if "nvml" in seen.looked or seen.devices:
        yield from _devices(wanted, seen)
    if seen.torch_devices is not None and seen.torch_devices != devices_expected(wanted):
        yield f"torch sees {_counted(seen.torch_devices)} instead of {devices_expected(wanted)}"
    if seen.wrong:
        yield seen.wrong


_LOOKS: Final = {
    "nvml": "no NVIDIA driver answers",
    "torch": "torch cannot use the GPU",
    "canary": "the product of two matrices on the GPU",
}


def _environment(wanted: Slice, seen: Observed) -> Iterator[str]:
    count = devices_expected(wanted)
    asked = wanted.request.gres or wanted.kind
    if not seen.visible:
        shown = "is not set" if seen.visible is None else "names no device"
        yield f"no device: CUDA_VISIBLE_DEVICES {shown}, {asked} was asked for"
    elif len(seen.visible) != count:
        names = ",".join(seen.visible)
        found = _counted(len(seen.visible))
        yield f"{found} instead of {count} (CUDA_VISIBLE_DEVICES={names}, asked: {asked})"
    shards = requested(wanted.request.gres).get("shard")
    if wanted.kind == "shard" and seen.shards != str(shards):
        yield f"SLURM_SHARDS_ON_NODE is {seen.shards or 'not set'} instead of {shards}"
    if wanted.kind == "mps":
        yield from _percentage(seen.threads_percent)


def _percentage(text: str) -> Iterator[str]:
    try:
        good = 0 < float(text) <= 100
    except ValueError:
        good = False
    if not good:
        yield f"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE is {text or 'not set'}, expected more than 0 and up to 100"


def _devices(wanted: Slice, seen: Observed) -> Iterator[str]:
    count = devices_expected(wanted)
    if len(seen.devices) != count:
        yield f"the driver shows {_counted(len(seen.devices))} instead of {count}"
    for device in seen.devices:
        yield from _device(wanted, device)


def _device(wanted: Slice, device: Device) -> Iterator[str]:
    expect, name = wanted.expect, device.name or device.uuid or "the device"
    if wanted.kind == "mig" and not device.mig:
        yield f"{name} is a whole GPU instead of a MIG instance"
    if wanted.kind == "whole" and device.mig:
        yield f"{name} is a MIG instance ({device.mig}) instead of a whole GPU"
    if expect.name and expect.name.lower() not in f"{device.name} {device.mig}".lower():
        yield f"{name!r} does not contain {expect.name!r}"
    if expect.memory_gib and device.memory:
        low, high = expect.memory_gib
        if not low <= device.memory / _GIB <= high:
            yield f"{name} has {device.memory / _GIB:.1f} GiB of memory instead of {low:g} to {high:g}"
    if expect.sm_min and device.sms and device.sms < expect.sm_min:
        yield f"{name} has {device.sms} multiprocessors instead of {expect.sm_min} or more"
    if expect.free_gib and device.free is not None and device.free < expect.free_gib * _GIB:
        yield f"{name} has {device.free / _GIB:.1f} GiB of free memory instead of {expect.free_gib:g} or more"


def _counted(devices: int) -> str:
    return "1 device" if devices == 1 else f"{devices} devices"
