"""Modules and optimizers take their state with nothing of it changed: torch would cast what it loads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hpc_search.checkpoint import buffers
from hpc_search.checkpoint.placing import Places
from hpc_search.errors import UsageError

_ALIKE = "build it from trial.params alone, so that every attempt builds the same"


def is_module(value: object) -> bool:
    """Return whether *value* is a module of torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def load_module(name: str, module: Any, state: Any, places: Places) -> None:
    """Load *state* into *module*, and let *places* know its tensors.

    Raises:
        UsageError: Names, shapes or dtypes are not those that were saved.
    """
    with _fitting(name, module):
        _check_dtypes(name, module, state)
        module.load_state_dict(state)
        places.claim_module(module, state)


def load(name: str, value: Any, state: Any, places: Places) -> None:
    """Load *state* into *value*, an optimizer, a scheduler or an object of the user's.

    Raises:
        UsageError: It does not fit an object of torch's; the user's own objects raise what they like.
    """
    torch = sys.modules.get("torch")
    # What was the model's own tensor at the save is so again.
    state = places.placed(name, None, state, None)
    if torch is not None and isinstance(value, torch.optim.Optimizer):
        with _fitting(name, value):
            own = type(value).load_state_dict is not torch.optim.Optimizer.load_state_dict
            value.load_state_dict(state if own else _tensors_only(state))
            _undo_casts(value, state, places)
    elif type(value).__module__.startswith("torch."):
        with _fitting(name, value):
            value.load_state_dict(state)
    else:
        value.load_state_dict(state)


@contextmanager
def _fitting(name: str, value: Any) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UsageError(
            f"{name}: what was saved does not fit this {type(value).__name__}: {error}", hint=_ALIKE
        ) from error


def _check_dtypes(name: str, module: Any, state: Any) -> None:
    import torch

    for key, live in module.state_dict().items():
        saved = state.get(key)
        if not (buffers.is_tensor(live) and buffers.is_tensor(saved)) or torch.nn.parameter.is_lazy(live):
            continue
        if live.dtype != saved.dtype:
            raise UsageError(
                f"{name}.{key}: the checkpoint holds {saved.dtype}, the trial gives {live.dtype}",
                hint=f"{_ALIKE}, and change dtypes before restore",
            )


def _tensors_only(state: Any) -> Any:
    """Return *state* of an optimizer without what torch would take apart, and cannot put together again."""
    shell = {
        index: {key: value if buffers.is_tensor(value) else None for key, value in one.items()}
        if isinstance(one, dict)
        else one
        for index, one in state["state"].items()
    }
    return {**state, "state": shell}


def _undo_casts(optimizer: Any, state: Any, places: Places) -> None:
    """Give *optimizer* what was saved where torch has cast it to the parameter's dtype."""
    for group, kept in zip(optimizer.param_groups, state["param_groups"], strict=True):
        # torch copies these: a learning rate that is a tensor, and that the trial changes by another name.
        group.update({key: value for key, value in kept.items() if buffers.is_tensor(value)})
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    indices = [i for group in state["param_groups"] for i in group["params"]]
    for parameter, index in zip(parameters, indices, strict=True):
        now = optimizer.state.get(parameter, {})
        for key, saved in state["state"].get(index, {}).items():
            if key in now:
                now[key] = _exact(now[key], saved, parameter.device, places)


def _exact(now: Any, saved: Any, device: Any, places: Places) -> Any:
    """Return *saved* on its device: that of what torch made of it, else that of the parameter."""
    if buffers.is_tensor(saved):
        if not buffers.is_tensor(now) or now.dtype != saved.dtype:
            now = saved.to(device=now.device if buffers.is_tensor(now) else device)
        places.claim(saved, now)
        return now
    if isinstance(saved, dict):
        for key, value in saved.items():
            saved[key] = _exact(None, value, device, places)
    elif type(saved) is list:
        saved[:] = [_exact(None, value, device, places) for value in saved]
    elif type(saved) is tuple:
        return tuple(_exact(None, value, device, places) for value in saved)
    return saved
