"""The state of the objects of a trial, by name, and putting it back into new ones."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hpc_search.checkpoint import buffers, numpy_random, tree
from hpc_search.checkpoint.placing import Places, devices
from hpc_search.errors import UsageError

_VALUES: Final = (bool, int, float, complex, str, bytes, tuple, frozenset, type(None))


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one kind of object gives its state, and takes it back in place."""

    name: str
    take: Callable[[Any], Any]
    put: Callable[[str, Any, Any], None]


def state_of(objects: Mapping[str, object]) -> dict[str, Any]:
    """Return the state of each of *objects*, as plain values, arrays and tensors that share their memory.

    Taken are: anything with ``state_dict`` and ``load_state_dict`` (modules with their buffers, optimizers,
    schedulers, gradient scalers, averaged models), ``torch.Generator``, numpy's ``Generator``,
    ``BitGenerator``, ``SeedSequence`` and ``RandomState``, ``random.Random``, dicts, lists, sets, arrays,
    tensors, and plain values. Not in a ``state_dict``, and so not taken: gradients (`Gradients` takes them),
    buffers that are not persistent, attributes.

    Raises:
        UsageError: An object is none of these, or holds something that cannot be saved; with its path.
    """
    return {name: _taken(name, value) for name, value in objects.items()}


def put_back(objects: Mapping[str, object], state: Mapping[str, Any]) -> dict[str, Any]:
    """Put *state*, of `state_of`, into *objects* in place; return what cannot change in place, by name.

    Those are numbers, text, bytes, tuples, frozensets and None: the caller takes them from the result.
    Names and kinds are compared before anything is changed. What a module, optimizer or scheduler holds
    afterwards is bit-identical to what was saved. Tensors in containers come back on their device; the ones
    that were a module's own, and leaves that require grad, stay the objects they are. *state* is used up.

    Raises:
        UsageError: The names, kinds, shapes or dtypes are not those that were saved.
    """
    _check_names(objects, state)
    kinds = {name: _kind(name, value) for name, value in objects.items()}
    for name, kind in kinds.items():
        if kind.name != state[name][0]:
            raise UsageError(
                f"{name}: the checkpoint holds a {state[name][0]}, the trial gives a {kind.name}"
            )
    places = _put_stateful(objects, state, kinds)
    values: dict[str, Any] = {}
    for name, kind in kinds.items():
        if kind is not _STATE_DICT:
            content = places.placed(objects[name], state[name][1], iter(_devices_of(state[name])))
            kind.put(name, objects[name], content)
            if kind is _VALUE:
                values[name] = content
    return values


def _put_stateful(objects: Mapping[str, Any], state: Mapping[str, Any], kinds: Mapping[str, _Kind]) -> Places:
    """Load everything that loads itself, before the containers that may hold tensors of it."""
    places = Places()
    torch = sys.modules.get("torch")
    for name in (name for name, kind in kinds.items() if kind is _STATE_DICT):
        _put_state_dict(name, objects[name], state[name][1])
        if torch is not None and isinstance(objects[name], torch.nn.Module):
            places.claim(objects[name], state[name][1])
    return places


def _taken(name: str, value: object) -> list[Any]:
    kind = _kind(name, value)
    state = kind.take(value)
    tree.check(state, name)
    where = devices(state) if kind in (_DICT, _LIST, _VALUE) else []
    return [kind.name, state, where] if where else [kind.name, state]


def _devices_of(row: list[Any]) -> list[str]:
    return row[2] if len(row) > 2 else []


def _check_names(objects: Mapping[str, object], state: Mapping[str, Any]) -> None:
    if objects.keys() != state.keys():
        raise UsageError(
            "the names given to restore are not those given to save\n"
            f"    saved:    {', '.join(sorted(state)) or '(none)'}\n"
            f"    restored: {', '.join(sorted(objects)) or '(none)'}",
            hint="give save and restore the same names",
        )


def _kind(name: str, value: Any) -> _Kind:
    if isinstance(value, type):
        raise UsageError(
            f"{name}: a class cannot be saved, only an object", hint=f"give save an instance of {value!r}"
        )
    if callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None)):
        return _STATE_DICT
    kind = _generator_kind(value) or _container_kind(value)
    if kind is None:
        raise UsageError(
            f"{name}: objects of type {type(value).__module__}.{type(value).__qualname__} cannot be saved",
            hint="give save something with state_dict() and load_state_dict(), or plain values",
        )
    return kind


def _generator_kind(value: Any) -> _Kind | None:
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy.random")
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return _PYTHON
    if torch is not None and isinstance(value, torch.Generator):
        return _TORCH
    if numpy is None:
        return None
    kinds = {
        numpy.Generator: _NUMPY,
        numpy.BitGenerator: _NUMPY_BITS,
        numpy.RandomState: _NUMPY_LEGACY,
        numpy.SeedSequence: _NUMPY_SEEDS,
    }
    return next((kind for of, kind in kinds.items() if isinstance(value, of)), None)


def _container_kind(value: Any) -> _Kind | None:
    if buffers.is_tensor(value):
        return _TENSOR
    if buffers.is_array(value):
        return _ARRAY
    for kind, of in ((_DICT, dict), (_LIST, list), (_SET, set)):
        if isinstance(value, of):
            return kind
    numpy = sys.modules.get("numpy")
    if isinstance(value, _VALUES) or (numpy is not None and isinstance(value, numpy.generic)):
        return _VALUE
    return None


# ---------------------------------------------------------------------------------- putting it back


def _put_state_dict(name: str, value: Any, state: Any) -> None:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.nn.Module | torch.optim.Optimizer):
        value.load_state_dict(state)
        return
    try:
        value.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError) as error:
        raise UsageError(
            f"{name}: what was saved does not fit this {type(value).__name__}: {error}",
            hint="build it from trial.params alone, so that every attempt builds the same",
        ) from error
    if isinstance(value, torch.optim.Optimizer):
        _undo_casts(value, state)


def _undo_casts(optimizer: Any, state: Any) -> None:
    """Give the optimizer what was saved where torch has cast it to the parameter's dtype."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    indices = [i for group in state["param_groups"] for i in group["params"]]
    for parameter, index in zip(parameters, indices, strict=True):
        now = optimizer.state.get(parameter, {})
        for key, saved in state["state"].get(index, {}).items():
            now[key] = _uncast(now[key], saved)


def _uncast(now: Any, saved: Any) -> Any:
    if buffers.is_tensor(saved):
        return now if now.dtype == saved.dtype else saved.to(device=now.device)
    if type(saved) is type(now) is list and len(saved) == len(now):
        return [_uncast(*pair) for pair in zip(now, saved, strict=True)]
    return now


def _put_tensor(name: str, value: Any, state: Any) -> None:
    import torch

    _check_same(name, value, state)
    with torch.no_grad():
        value.copy_(state)


def _put_array(name: str, value: Any, state: Any) -> None:
    _check_same(name, value, state)
    value[...] = state


def _check_same(name: str, value: Any, state: Any) -> None:
    if (tuple(value.shape), value.dtype) != (tuple(state.shape), state.dtype):
        raise UsageError(
            f"{name}: the checkpoint holds {tuple(state.shape)} of {state.dtype},"
            f" the trial gives {tuple(value.shape)} of {value.dtype}",
            hint="build it from trial.params alone, so that every attempt builds the same",
        )


def _put_dict(_name: str, value: Any, state: Any) -> None:
    value.clear()
    value.update(state)


def _put_list(_name: str, value: Any, state: Any) -> None:
    value[:] = state


def _put_nothing(_name: str, _value: Any, _state: Any) -> None:
    """Plain values are returned instead."""


def _same(value: Any) -> Any:
    return value


_STATE_DICT: Final = _Kind("state_dict", lambda value: value.state_dict(), _put_state_dict)
_PYTHON: Final = _Kind(
    "random.Random", lambda value: value.getstate(), lambda _, value, state: value.setstate(state)
)
_TORCH: Final = _Kind(
    "torch.Generator", lambda value: value.get_state(), lambda _, value, state: value.set_state(state)
)
_NUMPY: Final = _Kind(
    "numpy.Generator",
    lambda value: numpy_random.taken(value.bit_generator),
    lambda name, value, state: numpy_random.put(name, value.bit_generator, state),
)
_NUMPY_BITS: Final = _Kind("numpy.BitGenerator", numpy_random.taken, numpy_random.put)
_NUMPY_LEGACY: Final = _Kind(
    "numpy.RandomState", lambda value: value.get_state(legacy=False), numpy_random.put_legacy
)
_NUMPY_SEEDS: Final = _Kind("numpy.SeedSequence", numpy_random.taken_seeds, numpy_random.put_seeds)
_TENSOR: Final = _Kind("tensor", _same, _put_tensor)
_ARRAY: Final = _Kind("array", _same, _put_array)
_DICT: Final = _Kind("dict", dict, _put_dict)
_LIST: Final = _Kind("list", list, _put_list)
_SET: Final = _Kind("set", set, _put_dict)
_VALUE: Final = _Kind("value", _same, _put_nothing)
