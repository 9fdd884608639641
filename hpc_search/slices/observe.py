"""Looking at what this process got, without ever hanging with it."""

from __future__ import annotations

import json
import os
import platform
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from hpc_search.slices.look import NO_TORCH, visible
from hpc_search.slices.observed import Device, Observed

#: Seconds for all looks together: a wedged GPU never answers.
TIMEOUT: Final = 60.0
#: Seconds in which a process that was killed is waited for; one that hangs in a driver is left.
_KILLED: Final = 1.0
_SHARES: Final = ("SLURM_SHARDS_ON_NODE", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")


def observe(
    checks: Sequence[str], environ: Mapping[str, str] | None = None, timeout: float = TIMEOUT
) -> Observed:
    """Return what is seen by the ways of looking *checks*, of `config.slices.CHECKS`."""
    environ = os.environ if environ is None else environ
    shards, percent = (environ.get(name, "") for name in _SHARES)
    seen = Observed(
        cpu=processor(),
        visible=visible(environ.get("CUDA_VISIBLE_DEVICES")),
        given=environ.get("SLURM_STEP_GPUS") or environ.get("SLURM_JOB_GPUS") or "",
        shards=shards,
        threads_percent=percent,
        looked=("environment",),
    )
    looks = [name for name in ("nvml", "torch", "canary") if name in checks]
    for answer in _ask(looks, environ, timeout) if looks else ():
        seen = _with(seen, answer)
    return msgspec.structs.replace(seen, kind=_kind(seen))


def processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """Return the model name of the processor: bit-identity depends on it."""
    with suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                return value.strip()
    return platform.processor() or platform.machine()


def _kind(seen: Observed) -> str:
    if not seen.devices and not seen.visible:
        return "cpu"
    if seen.shards:
        return "shard"
    if seen.threads_percent:
        return "mps"
    return "mig" if any(device.mig for device in seen.devices) else "whole"


def _ask(looks: Sequence[str], environ: Mapping[str, str], timeout: float) -> list[dict[str, Any]]:
    """Return the answers of the looking process; what it does not say in time has hung."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "hpc_search.slices.look", *looks],
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        answers, late = _lines(process, time.monotonic() + timeout, len(looks))
    finally:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_KILLED)
    if len(answers) < len(looks):
        # The process died, or hangs, in the first look that has no answer.
        words = f"did not answer in {timeout:g} s" if late else "ended its process by a crash"
        answers.append({"look": looks[len(answers)], "failed": words})
    return answers


def _lines(process: subprocess.Popen[bytes], until: float, count: int) -> tuple[list[dict[str, Any]], bool]:
    assert process.stdout is not None
    data = b""
    late = False
    with process.stdout as pipe:
        while data.count(b"\n") < count:
            ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
            late = not ready
            piece = os.read(pipe.fileno(), 1 << 16) if ready else b""
            if not piece:
                break
            data += piece
    found = []
    for line in data.split(b"\n")[:-1]:
        # What a library prints is no answer of ours.
        with suppress(ValueError):
            answer = json.loads(line)
            if isinstance(answer, dict) and "look" in answer:
                found.append(answer)
    return found, late


def _with(seen: Observed, answer: dict[str, Any]) -> Observed:
    look = answer["look"]
    replace = msgspec.structs.replace
    if answer.get("torch"):
        seen = replace(seen, torch=answer["torch"])
    if "unseen" in answer or "failed" in answer:
        return replace(seen, unseen={**seen.unseen, look: answer.get("failed") or answer["unseen"]})
    seen = replace(seen, looked=(*seen.looked, look))
    if answer.get("wrong"):
        return replace(seen, wrong=answer["wrong"])
    if look == "nvml":
        devices = tuple(msgspec.convert(answer["devices"], tuple[Device, ...]))
        changes = {name: answer[name] for name in ("driver", "cuda", "compute_mode")}
        return replace(seen, devices=devices, **changes)
    if look == "torch":
        return _with_torch(seen, [msgspec.convert(one, Device) for one in answer["torch_devices"]])
    return seen


def _with_torch(seen: Observed, found: Sequence[Device]) -> Observed:
    """Return *seen* with what only torch knows; NVML's names, UUIDs and memory stay."""
    devices = seen.devices
    if not devices:
        devices = tuple(found)
    elif len(devices) == len(found):
        pairs = zip(devices, found, strict=True)
        devices = tuple(msgspec.structs.replace(one, sms=its.sms or one.sms) for one, its in pairs)
    return msgspec.structs.replace(seen, devices=devices, torch_devices=len(found))


def excused(words: str) -> bool:
    """Return whether a look that was not possible says nothing of the GPU."""
    return words == NO_TORCH
