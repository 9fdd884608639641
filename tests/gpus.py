"""Fake GPUs for real processes: the NVML of tests/nvml, driven by a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

NVML: Final = Path(__file__).parent / "nvml"
GIB: Final = 1 << 30


def h200(index: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a whole H200."""
    return {"uuid": f"GPU-{index:08d}", "name": "NVIDIA H200", "memory": 140 * GIB, **changes}


def instance(index: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a MIG instance 1g.10gb."""
    name = "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    return {"uuid": f"MIG-{index:08d}", "name": name, "memory": 10 * GIB, "sms": 16, **changes}


def fake_nvml(path: Path, *gpus: dict[str, Any], **more: Any) -> dict[str, str]:
    """Write *path*, and return the variables by which a process finds it."""
    state = {"driver": "580.65.06", "cuda": 13000, "gpus": list(gpus), **more}
    path.write_text(json.dumps(state))
    found = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {"FAKE_NVML": str(path), "PYTHONPATH": os.pathsep.join([str(NVML), *filter(None, found)])}


CONTROL: Final = """#!/bin/sh
# The MPS control daemon, as far as a leader sees it.
if [ "$1" = -f ]; then
    echo $$ >"$CUDA_MPS_PIPE_DIRECTORY/control"
    while [ ! -e "$CUDA_MPS_PIPE_DIRECTORY/quit" ]; do sleep 0.05; done
elif read -r word && [ "$word" = quit ]; then
    : >"$CUDA_MPS_PIPE_DIRECTORY/quit"
fi
"""


def fake_control(root: Path) -> str:
    """Put a stand-in for the MPS control daemon below *root*; return the PATH that finds it."""
    program = root / "bin" / "nvidia-cuda-mps-control"
    program.parent.mkdir(exist_ok=True)
    program.write_text(CONTROL)
    program.chmod(0o755)
    return f"{program.parent}{os.pathsep}{os.environ['PATH']}"
