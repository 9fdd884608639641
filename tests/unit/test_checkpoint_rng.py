from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from hpc_search.checkpoint import capture, restore


def test_global_generators_go_on_where_they_stopped() -> None:
    torch = pytest.importorskip("torch")

    def draw() -> Any:
        legacy = np.random.normal()  # noqa: NPY002
        return random.gauss(0, 1), random.random(), legacy, torch.randn(3).tolist(), torch.rand(1).item()

    draw()
    state = capture()
    expected = draw()
    random.seed(9)
    np.random.seed(9)  # noqa: NPY002
    torch.manual_seed(9)
    restore(state)

    assert expected == draw()
    assert "cuda" not in state or torch.cuda.is_initialized()


def test_nothing_is_imported_to_capture_and_restore() -> None:
    code = (
        "import sys, random\n"
        "from hpc_search.checkpoint import capture, restore\n"
        "state = capture(); first = random.random(); restore(state)\n"
        "print(first == random.random(), sorted(state), {'torch', 'numpy'} & set(sys.modules))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "True ['python'] set()"


class _Cuda:
    """A torch.cuda with two devices of which only the first is still visible."""

    def __init__(self, initialized: bool) -> None:
        self.initialized = initialized
        self.put: list[tuple[int, Any]] = []

    def is_initialized(self) -> bool:
        return self.initialized

    def get_rng_state_all(self) -> list[str]:
        assert self.initialized
        return ["state 0", "state 1"]

    def device_count(self) -> int:
        return 1

    def set_rng_state(self, state: Any, device: int) -> None:
        self.put.append((device, state))


@pytest.mark.parametrize("initialized", [False, True])
def test_cuda_generators_are_kept_only_where_cuda_is_in_use(
    monkeypatch: pytest.MonkeyPatch, initialized: bool
) -> None:
    torch = pytest.importorskip("torch")
    cuda = _Cuda(initialized)
    monkeypatch.setattr(torch, "cuda", cuda)

    state = capture()
    restore(state)

    assert ("cuda" in state) is initialized
    assert cuda.put == ([(0, "state 0")] if initialized else [])
