"""An NVML made of the JSON file FAKE_NVML: put its directory on PYTHONPATH of a real process.

``{"driver": ..., "cuda": 12040, "gpus": [GPU, ...], "nodes": {"node1": {...}}, "errors": {FUNCTION: words},
"hangs": [FUNCTION, ...]}``; a GPU is ``{"uuid", "name", "memory", "free", "cores", "capability", "mode",
"instances": [...]}``. What stands under ``nodes`` replaces the rest on that node.
"""

# ruff: noqa: N802 - the names are NVML's own
from __future__ import annotations

import json
import os
import socket
import time
from types import SimpleNamespace
from typing import Any

NVML_COMPUTEMODE_DEFAULT = 0


class NVMLError(Exception):
    """What the real one raises."""


def _state() -> dict[str, Any]:
    with open(os.environ["FAKE_NVML"]) as file:
        state: dict[str, Any] = json.load(file)
    return {**state, **state.get("nodes", {}).get(socket.gethostname(), {})}


def _called(name: str) -> dict[str, Any]:
    state = _state()
    if name in state.get("hangs", ()):
        time.sleep(3600)
    if name in state.get("errors", {}):
        raise NVMLError(state["errors"][name])
    return state


def nvmlInit() -> None:
    _called("nvmlInit")


def nvmlSystemGetDriverVersion() -> str:
    return str(_called("nvmlSystemGetDriverVersion")["driver"])


def nvmlSystemGetCudaDriverVersion() -> int:
    return int(_called("nvmlSystemGetCudaDriverVersion").get("cuda", 12040))


def nvmlDeviceGetCount() -> int:
    return len(_called("nvmlDeviceGetCount")["gpus"])


def nvmlDeviceGetHandleByIndex(index: int) -> dict[str, Any]:
    gpus = _called("nvmlDeviceGetHandleByIndex")["gpus"]
    if not 0 <= index < len(gpus):
        raise NVMLError("Invalid Argument")
    return dict(gpus[index])


def nvmlDeviceGetHandleByUUID(uuid: str) -> dict[str, Any]:
    for gpu in _called("nvmlDeviceGetHandleByUUID")["gpus"]:
        for one in (gpu, *gpu.get("instances", ())):
            if one["uuid"] == uuid:
                return dict(one)
    raise NVMLError("Not Found")


def nvmlDeviceGetMigMode(gpu: dict[str, Any]) -> list[int]:
    if "instances" not in gpu:
        raise NVMLError("Not Supported")
    return [1, 1]


def nvmlDeviceGetMaxMigDeviceCount(gpu: dict[str, Any]) -> int:
    return 7 if "instances" in gpu else 0


def nvmlDeviceGetMigDeviceHandleByIndex(gpu: dict[str, Any], index: int) -> dict[str, Any]:
    if index >= len(gpu["instances"]):
        raise NVMLError("Not Found")
    return dict(gpu["instances"][index])


def nvmlDeviceGetComputeMode(gpu: dict[str, Any]) -> int:
    return int(gpu.get("mode", NVML_COMPUTEMODE_DEFAULT))


def nvmlDeviceGetMemoryInfo(gpu: dict[str, Any]) -> SimpleNamespace:
    _called("nvmlDeviceGetMemoryInfo")
    return SimpleNamespace(total=gpu["memory"], free=gpu.get("free", gpu["memory"]))


def nvmlDeviceGetName(gpu: dict[str, Any]) -> str:
    return str(gpu["name"])


def nvmlDeviceGetUUID(gpu: dict[str, Any]) -> str:
    return str(gpu["uuid"])


def nvmlDeviceGetAttributes(gpu: dict[str, Any]) -> SimpleNamespace:
    if "sms" not in gpu:
        raise NVMLError("Not Supported")
    return SimpleNamespace(
        multiprocessorCount=gpu["sms"],
        gpuInstanceSliceCount=gpu.get("slices", 1),
        memorySizeMB=gpu["memory"] >> 20,
    )


def nvmlDeviceGetCudaComputeCapability(gpu: dict[str, Any]) -> tuple[int, int]:
    major, minor = gpu.get("capability", (9, 0))
    return int(major), int(minor)


def nvmlDeviceGetNumGpuCores(gpu: dict[str, Any]) -> int:
    return int(gpu.get("cores", 16896))
