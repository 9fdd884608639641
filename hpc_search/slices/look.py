"""``python -m hpc_search.slices.look [nvml] [torch] [canary]``: the process that touches the driver.

A wedged GPU hangs whoever asks for it where no signal reaches: then this process is left behind, and the
worker goes on. It writes one JSON line a look, as soon as it has it.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from typing import Any, Final

#: Side of the matrices whose product is compared with the processor's.
_SQUARE: Final = 512
#: Float32 sums of 512 products of numbers below 1 differ by less than this, with TF32 too.
_TOLERANCE: Final = 1.0
#: Words after which torch is not asked, without a mismatch: the search may not use it.
NO_TORCH: Final = "torch is not installed here"


def visible(value: str | None) -> tuple[str, ...] | None:
    """Return the entries of CUDA_VISIBLE_DEVICES; CUDA ends the list at the first that is none."""
    if value is None:
        return None
    found: list[str] = []
    for name in (part.strip() for part in value.split(",")):
        if name in ("", "-1", "NoDevFiles"):
            break
        found.append(name)
    return tuple(found)


def _nvml() -> dict[str, Any]:
    from hpc_search.slices.nvml import Nvml

    return Nvml().document(visible(os.environ.get("CUDA_VISIBLE_DEVICES")))


def _torch() -> dict[str, Any]:
    if find_spec("torch") is None:
        return {"unseen": NO_TORCH}
    import torch

    if not _built_for_gpus(torch):
        return {"torch": torch.__version__, "unseen": "this torch is built without CUDA"}
    devices = []
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        free, _ = torch.cuda.mem_get_info(index)
        devices.append(
            {"name": found.name, "memory": found.total_memory, "sms": found.multi_processor_count}
            | {"free": free}
        )
    return {"torch": torch.__version__, "torch_devices": devices}


def _canary() -> dict[str, Any]:
    if find_spec("torch") is None:
        return {"unseen": NO_TORCH}
    import torch

    if not _built_for_gpus(torch):
        # Said by the look before.
        return {"unseen": NO_TORCH}
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.rand(_SQUARE, _SQUARE, generator=generator) for _ in range(2))
    wanted = left @ right
    for index in range(torch.cuda.device_count()):
        found = (left.to(f"cuda:{index}") @ right.to(f"cuda:{index}")).cpu()
        if not torch.allclose(found, wanted, rtol=0, atol=_TOLERANCE):
            off = float((found - wanted).abs().max())
            return {"wrong": f"device {index} multiplies matrices wrongly, by {off:g}"}
    return {}


def _built_for_gpus(torch: Any) -> bool:
    return torch.version.cuda is not None or getattr(torch.version, "hip", None) is not None


_LOOKS: Final = {"nvml": _nvml, "torch": _torch, "canary": _canary}


def main(names: list[str]) -> None:
    """Look in each of the ways *names*, and say what was seen."""
    for name in names:
        try:
            found = _LOOKS[name]()
        except BaseException as error:  # noqa: BLE001 - whatever the driver, ctypes or torch raises is the answer
            found = {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        sys.stdout.write(json.dumps({"look": name, **found}) + "\n")
        sys.stdout.flush()
    # A driver in trouble may hang whoever leaves in order.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
