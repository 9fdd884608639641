"""The global random generators of a process: Python's, numpy's, torch's, and CUDA's where it is in use."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any


def capture() -> dict[str, Any]:
    """Return the state of every global generator that exists in this process.

    A library that is not imported has none, and CUDA none before it is initialised; neither is done here.
    """
    state: dict[str, Any] = {"python": random.getstate()}
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        state["numpy"] = numpy.get_state(legacy=False)
    torch = sys.modules.get("torch")
    if torch is not None:
        state["torch"] = torch.get_rng_state()
        if torch.cuda.is_initialized():
            state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore(state: Mapping[str, Any]) -> None:
    """Put every generator of *state* back; of the CUDA devices those that are visible now.

    A library is imported where *state* has its generator. CUDA is not initialised: torch applies the state
    when the trial does that.
    """
    random.setstate(state["python"])
    if "numpy" in state:
        import numpy as np

        np.random.set_state(state["numpy"])  # noqa: NPY002 - the legacy global generator is what is restored
    if "torch" in state:
        import torch

        torch.set_rng_state(state["torch"])
        for device, one in enumerate(state.get("cuda", ())[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(one, device)
