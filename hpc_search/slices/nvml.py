"""Asking NVML; only the looking process does, because a wedged driver never answers.

Source: the NVML API reference; the MIG user guide (a CUDA process sees one instance, the first it may use).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

#: Names of MIG profiles within the name of an instance.
_MIG: Final = re.compile(r"\d+g\.\d+gb(?:\+\S+)?")
#: CUDA cores a multiprocessor by compute capability: NVML counts cores, only torch multiprocessors.
_CORES: Final = {
    **dict.fromkeys([(6, 0), (7, 0), (7, 2), (7, 5), (8, 0)], 64),
    **dict.fromkeys([(6, 1), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0)], 128),
}


class Nvml:
    """The library, loaded and initialised."""

    def __init__(self) -> None:
        """Load it.

        Raises:
            Exception: There is no driver, or it does not work.
        """
        import pynvml  # type: ignore[import-untyped]

        self._nvml: Any = pynvml
        pynvml.nvmlInit()

    def document(self, visible: Sequence[str] | None) -> dict[str, Any]:
        """Return driver, CUDA version, compute mode and the devices that *visible* names (None: all)."""
        nvml = self._nvml
        version = int(nvml.nvmlSystemGetCudaDriverVersion())
        handles = self.all() if visible is None else [self._handle(name, visible) for name in visible]
        return {
            "driver": str(nvml.nvmlSystemGetDriverVersion()),
            "cuda": f"{version // 1000}.{version % 1000 // 10}",
            "compute_mode": self._mode(handles[0]) if handles else "",
            "devices": [self._device(handle) for handle in handles],
        }

    def all(self) -> list[Any]:
        """Return every device that this process may use, a GPU in MIG mode as its instances."""
        found = []
        for index in range(int(self._nvml.nvmlDeviceGetCount())):
            with suppress(self._nvml.NVMLError):
                gpu = self._nvml.nvmlDeviceGetHandleByIndex(index)
                found += self._instances(gpu) or [gpu]
        return found

    def _handle(self, name: str, visible: Sequence[str]) -> Any:
        nvml = self._nvml
        if not name.isdecimal():
            return nvml.nvmlDeviceGetHandleByUUID(name)
        try:
            gpu = nvml.nvmlDeviceGetHandleByIndex(int(name))
        except nvml.NVMLError:
            found = self.all()
            if len(found) != len(visible):
                raise
            # The indexes are the node's, and this process may use these alone.
            return found[list(visible).index(name)]
        instances = self._instances(gpu)
        return instances[0] if instances else gpu

    def _instances(self, gpu: Any) -> list[Any]:
        nvml = self._nvml
        found: list[Any] = []
        with suppress(nvml.NVMLError):
            if not nvml.nvmlDeviceGetMigMode(gpu)[0]:
                return []
            for index in range(int(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu))):
                with suppress(nvml.NVMLError):
                    found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index))
        return found

    def _mode(self, handle: Any) -> str:
        nvml = self._nvml
        with suppress(nvml.NVMLError):
            mode = int(nvml.nvmlDeviceGetComputeMode(handle))
            return "default" if mode == nvml.NVML_COMPUTEMODE_DEFAULT else f"mode {mode}"
        return ""

    def _device(self, handle: Any) -> dict[str, Any]:
        nvml = self._nvml
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        name = str(nvml.nvmlDeviceGetName(handle))
        attributes: Any = None
        with suppress(nvml.NVMLError):
            # Only of a MIG instance.
            attributes = nvml.nvmlDeviceGetAttributes(handle)
        return {
            "name": name,
            "uuid": str(nvml.nvmlDeviceGetUUID(handle)),
            "memory": int(memory.total),
            "free": int(memory.free),
            "mig": _profile(name, attributes),
            "sms": self._cores(handle) if attributes is None else int(attributes.multiprocessorCount),
        }

    def _cores(self, handle: Any) -> int:
        nvml = self._nvml
        with suppress(nvml.NVMLError):
            capability = tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle))
            if capability in _CORES:
                return int(nvml.nvmlDeviceGetNumGpuCores(handle)) // _CORES[capability]
        return 0


def _profile(name: str, attributes: Any) -> str:
    if attributes is None:
        return ""
    found = _MIG.search(name)
    if found:
        return found[0]
    return f"{attributes.gpuInstanceSliceCount}g.{round(attributes.memorySizeMB / 1024)}gb"
