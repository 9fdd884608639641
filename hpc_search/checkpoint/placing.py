"""Where loaded tensors belong: on the device they came from, and in the place of the live ones they are.

A module takes its values in place. Containers get new tensors, with two exceptions, both needed for the
training to go on as it would have: what was the same memory as a module's tensor becomes that tensor, and a
leaf that requires grad is filled in place, because an optimizer holds it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from hpc_search.checkpoint import buffers


def devices(state: object) -> list[str]:
    """Return the device of each tensor in *state*, in order; nothing where all of them are on the CPU."""
    found = [str(tensor.device) for tensor in _tensors(state)]
    return found if any(device != "cpu" for device in found) else []


def _tensors(state: object) -> Iterator[Any]:
    if buffers.is_tensor(state):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from _tensors(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _tensors(value)


class Places:
    """Knows which live tensor stands for each loaded one."""

    def __init__(self) -> None:
        self._live: dict[int, Any] = {}

    def claim(self, module: Any, state: dict[str, Any]) -> None:
        """Remember which tensors *module* has loaded from *state*."""
        for name, live in module.state_dict().items():
            if buffers.is_tensor(live) and name in state:
                self._live[id(state[name])] = live

    def placed(self, live: object, state: Any, devices: Iterator[str]) -> Any:
        """Return *state* for a container that now holds *live* at its place.

        Dicts and lists of *state* are changed, tuples and tensors returned anew.
        """
        if buffers.is_tensor(state):
            return self._tensor(live, state, next(devices, "cpu"))
        if isinstance(state, dict):
            known = live if isinstance(live, dict) else {}
            for key, value in state.items():
                state[key] = self.placed(known.get(key), value, devices)
        elif isinstance(state, list | tuple):
            known_items = live if isinstance(live, list | tuple) else ()
            items = [
                self.placed(known_items[i] if i < len(known_items) else None, value, devices)
                for i, value in enumerate(state)
            ]
            if isinstance(state, tuple):
                return tuple(items)
            state[:] = items
        return state

    def _tensor(self, live: Any, state: Any, device: str) -> Any:
        if id(state) not in self._live:
            self._live[id(state)] = _filled(live, state) if _is_leaf(live, state) else moved(state, device)
        placed = self._live[id(state)]
        same = buffers.is_tensor(live) and buffers.identity(live) == buffers.identity(placed) is not None
        return live if same else placed


def _is_leaf(live: Any, state: Any) -> bool:
    if not buffers.is_tensor(live) or not (live.requires_grad and live.is_leaf):
        return False
    return (live.shape, live.dtype) == (state.shape, state.dtype)


def _filled(live: Any, state: Any) -> Any:
    import torch

    with torch.no_grad():
        live.copy_(state)
    return live


def moved(state: Any, device: str) -> Any:
    """Return tensor *state* on *device*, or on the first of its kind where that one is not visible now."""
    if device == "cpu":
        return state
    torch = sys.modules["torch"]
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return state.to(device)
    if not torch.cuda.is_available():
        return state
    return state.to(device if int(index or 0) < torch.cuda.device_count() else "cuda:0")
