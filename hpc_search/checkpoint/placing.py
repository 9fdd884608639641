"""Where loaded tensors belong: on the device they came from, and in the place of the live ones they are.

A module takes its values in place. Containers get new tensors, with exceptions that the training needs to go
on as it would have: what was the same memory as a live tensor that is filled in place (a module's, one that
was given by its own name, a leaf that requires grad and so is held by an optimizer) becomes that tensor, and
what showed a part of it shows that part of the live one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

from hpc_search.checkpoint import buffers, views
from hpc_search.errors import UsageError

_ALIKE: Final = "build it from trial.params alone, so that every attempt builds the same"


def marks(state: object) -> list[str]:
    """Return device and role of each tensor in *state*, in order; nothing where all are plain, on the CPU."""
    found = [f"{tensor.device} {_role(tensor)}".rstrip() for tensor in _tensors(state)]
    return found if any(mark != "cpu" for mark in found) else []


def _role(tensor: Any) -> str:
    if isinstance(tensor, sys.modules["torch"].nn.Parameter):
        return "parameter" if tensor.requires_grad else "frozen"
    return "grad" if tensor.requires_grad and tensor.is_leaf else ""


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
    """Knows which live object stands for each loaded one."""

    def __init__(self) -> None:
        self._live: dict[int, Any] = {}
        self._alive: list[Any] = []
        #: Loaded and live, by the memory that the loaded one is a part of.
        self._parts: dict[int | None, list[tuple[Any, Any]]] = {}
        #: What is filled already, so that nothing else is put into it; those not looked at yet.
        self._taken: set[tuple[object, ...] | None] = set()
        self._filled: list[Any] = []
        self._moved: dict[int, Any] = {}
        self._roles: dict[tuple[int, str], Any] = {}

    def claim(self, saved: Any, live: Any) -> None:
        """Remember that *live*, which has its values already, stands for *saved*."""
        if id(saved) in self._live:
            return
        self._live[id(saved)] = live
        # Or another object could get its id.
        self._alive.append(saved)
        if not (buffers.is_tensor(saved) or buffers.is_array(saved)):
            return
        # What stands for itself shares what it shares already.
        if saved is not live and (memory := views.memory(saved)) is not None:
            self._parts.setdefault(memory, []).append((saved, live))
            self._filled.append(live)

    def claim_module(self, module: Any, state: dict[str, Any]) -> None:
        """Remember which tensors *module* has loaded from *state*."""
        parameters = dict(module.named_parameters(remove_duplicate=False))
        for name, live in module.state_dict().items():
            if buffers.is_tensor(live) and name in state:
                own = parameters.get(name, live)
                self.claim(state[name], own if buffers.identity(own) == buffers.identity(live) else live)

    def fill_leaves(self, path: str, live: Any, state: Any) -> None:
        """Fill the leaves that require grad in *live*, whose place in the container is that in *state*.

        Raises:
            UsageError: One has another shape or dtype than what was saved.
        """
        if buffers.is_tensor(state):
            if id(state) not in self._live and _is_leaf(live) and not self._is_taken(live):
                check_same(path, live, state)
                self.claim(state, _filled(live, state))
        elif isinstance(state, dict) and isinstance(live, dict):
            for key in state.keys() & live.keys():
                self.fill_leaves(f"{path}[{key!r:.40}]", live[key], state[key])
        elif isinstance(state, list | tuple) and isinstance(live, list | tuple):
            for i, (one, other) in enumerate(zip(live, state, strict=False)):
                self.fill_leaves(f"{path}[{i}]", one, other)

    def _is_taken(self, live: Any) -> bool:
        self._taken.update(map(buffers.identity, self._filled))
        self._filled.clear()
        return buffers.identity(live) in self._taken

    def placed(self, path: str, live: object, state: Any, marks: Iterator[str] | None) -> Any:
        """Return *state* for the place of *live* in a container; without *marks* nothing is moved.

        Dicts and lists of *state* are changed, tuples and tensors returned anew.

        Raises:
            UsageError: What shared memory when it was saved could do so no longer.
        """
        if buffers.is_tensor(state):
            return self._tensor(path, live, state, "" if marks is None else next(marks, "cpu"))
        if buffers.is_array(state):
            if id(state) not in self._live:
                self.claim(state, self._part(path, state) if self._anchored(state) else state)
            return self._live[id(state)]
        if not isinstance(state, dict | list | tuple):
            return self._live.get(id(state), state)
        return self._container(path, live, state, marks)

    def _container(self, path: str, live: object, state: Any, marks: Iterator[str] | None) -> Any:
        if isinstance(state, dict):
            known = live if isinstance(live, dict) else {}
            for key, value in state.items():
                state[key] = self.placed(f"{path}[{key!r:.40}]", known.get(key), value, marks)
            return self._live.get(id(state), state)
        known_items = live if isinstance(live, list | tuple) else ()
        items = [
            self.placed(f"{path}[{i}]", known_items[i] if i < len(known_items) else None, value, marks)
            for i, value in enumerate(state)
        ]
        if isinstance(state, tuple):
            return state if all(map(_is, items, state)) else tuple(items)
        state[:] = items
        return self._live.get(id(state), state)

    def _tensor(self, path: str, live: Any, state: Any, mark: str) -> Any:
        if id(state) not in self._live:
            device = mark.partition(" ")[0]
            self.claim(state, self._part(path, state) if self._anchored(state) else self._new(state, device))
        placed = self._live[id(state)]
        same = (
            live is not None
            and buffers.is_tensor(live)
            and buffers.identity(live) == buffers.identity(placed) is not None
        )
        found = live if same else self._in_role(placed, mark.partition(" ")[2])
        # A list that is held twice is walked twice.
        self._live.setdefault(id(found), found)
        return found

    def _in_role(self, placed: Any, role: str) -> Any:
        parameter = sys.modules["torch"].nn.Parameter
        if not role:
            return placed.detach() if placed.requires_grad or isinstance(placed, parameter) else placed
        if isinstance(placed, parameter) == (role != "grad") and placed.requires_grad == (role != "frozen"):
            return placed
        if (id(placed), role) not in self._roles:
            plain = placed.detach()
            self._roles[id(placed), role] = (
                plain.requires_grad_() if role == "grad" else parameter(plain, requires_grad=role != "frozen")
            )
        return self._roles[id(placed), role]

    def _new(self, state: Any, device: str) -> Any:
        if not device:
            return state
        memory = views.memory(state)
        if device == "cpu" or memory is None or state.untyped_storage().nbytes() == state.nbytes:
            return moved(state, device)
        # Parts of one memory are moved as one.
        if memory not in self._moved:
            count = state.untyped_storage().nbytes() // state.element_size()
            whole = state.as_strided((count,), (1,), 0)
            self._moved[memory] = moved(whole, device)
        return self._moved[memory].as_strided(state.shape, state.stride(), state.storage_offset())

    def _anchored(self, state: Any) -> list[tuple[Any, Any]]:
        parts = self._parts.get(views.memory(state))
        own = views.extent(state) if parts else None
        if parts is None or own is None:
            return []
        found = []
        for saved, live in parts:
            other = views.extent(saved)
            if other is not None and other.start < own.end and own.start < other.end:
                found.append((saved, live))
        return found

    def _part(self, path: str, state: Any) -> Any:
        """Return what shows of the live objects what *state* shows of the loaded ones they stand for."""
        anchors = self._anchored(state)
        try:
            made = _seen_through(anchors, state)
        except ValueError as error:
            raise UsageError(
                f"{path}: it showed memory of what was given by another name, which that of this trial cannot"
                f" show: {error}",
                hint=f"{_ALIKE}; or save a copy of it (clone(), copy())",
            ) from None
        return _filled(made, state)


def _seen_through(anchors: list[tuple[Any, Any]], state: Any) -> Any:
    if not all(views.same_steps(*anchor) for anchor in anchors):
        raise ValueError("they are laid out otherwise")
    saved, live = anchors[0]
    made = views.seen(live, views.part(state)._replace(offset=views.distance(state, saved)))
    if any(views.distance(made, own) != views.distance(state, one) for one, own in anchors):
        raise ValueError("they do not share memory")
    return made


def _is(one: Any, other: Any) -> bool:
    return one is other


def _is_leaf(live: Any) -> bool:
    return buffers.is_tensor(live) and live.requires_grad and live.is_leaf


def _filled(live: Any, state: Any) -> Any:
    if not buffers.is_tensor(live):
        live[...] = state
        return live
    import torch

    with torch.no_grad():
        live.copy_(state)
    return live


def check_same(name: str, value: Any, state: Any) -> None:
    """Raise where *state* is not of the shape and dtype of *value*.

    Raises:
        UsageError: With both.
    """
    if (tuple(value.shape), value.dtype) != (tuple(state.shape), state.dtype):
        raise UsageError(
            f"{name}: the checkpoint holds {tuple(state.shape)} of {state.dtype},"
            f" the trial gives {tuple(value.shape)} of {value.dtype}",
            hint=_ALIKE,
        )


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
