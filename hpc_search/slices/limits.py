"""What a worker's trials are held to: variables that are read before CUDA starts, and torch's own fraction.

Source: NVIDIA MPS, appendix "Tools and Interface Reference" (per-client variables); JAX, "GPU memory
allocation"; torch.cuda.set_per_process_memory_fraction, which 2.4 to 2.13 have. torch 2.13's allocator also
reads ``per_process_memory_fraction`` from PYTORCH_CUDA_ALLOC_CONF; older ones refuse that name at import.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    # Every process that trials are forked from has this module, and none the configuration.
    from hpc_search.config.slices import Slice
    from hpc_search.slices.observed import Observed

#: The share of each visible device's memory that a trial may use; trials and programs see it.
FRACTION: Final = "HPC_SEARCH_MEMORY_FRACTION"
#: Share of the memory that workers that are packed divide: the CUDA contexts need the rest.
_DIVIDED: Final = 0.9
_MIB: Final = 1 << 20


def fraction(wanted: Slice) -> float:
    """Return the share of the memory that each worker may use; 0 where nothing limits it."""
    if wanted.limits.memory_fraction or wanted.pack.workers == 1 or wanted.kind == "cpu":
        return wanted.limits.memory_fraction
    return round(_DIVIDED / wanted.pack.workers, 3)


def variables(wanted: Slice, seen: Observed, *, own_daemon: bool) -> dict[str, str]:
    """Return what a worker's environment gets; with an *own_daemon* of MPS, its limits too."""
    share = fraction(wanted)
    found: dict[str, str] = {}
    if share:
        found |= {FRACTION: f"{share:g}", "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{share:g}"}
    if own_daemon and share and all(device.memory for device in seen.devices):
        megabytes = [int(device.memory * share) // _MIB for device in seen.devices]
        limits = ",".join(f"{index}={most}M" for index, most in enumerate(megabytes))
        found |= {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": limits} if limits else {}
    if own_daemon and wanted.limits.threads_percent:
        found["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(wanted.limits.threads_percent)
    return found


def hold_torch(device: str, environ: MutableMapping[str, str] = os.environ) -> None:
    """Hold torch, where it is loaded and will use CUDA, to its share of every visible device.

    It starts CUDA: only a trial's own process does that.
    """
    torch: Any = sys.modules.get("torch")
    share = float(environ.get(FRACTION) or 0)
    if torch is None or device != "cuda" or not share:
        return
    with suppress(RuntimeError, AssertionError):
        # Without a GPU that works the trial itself says so.
        for index in range(torch.cuda.device_count()):
            torch.cuda.set_per_process_memory_fraction(share, index)
