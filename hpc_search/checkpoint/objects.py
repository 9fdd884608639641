"""The state of the objects of a trial, by name, and putting it back into new ones."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from hpc_search.checkpoint import buffers, modules, numpy_random, tree
from hpc_search.checkpoint.placing import Places, check_same, marks
from hpc_search.errors import UsageError

_VALUES: Final = (bool, int, float, complex, str, bytes, tuple, frozenset, type(None))


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one kind of object gives its state, and takes it back in place."""

    name: str
    take: Callable[[Any], Any]
    put: Callable[[str, Any, Any], None]


def state_of(objects: Mapping[str, object], *, check: bool = True) -> dict[str, Any]:
    """Return the state of each of *objects*, as plain values, arrays and tensors that share their memory.

    Taken are: anything with ``state_dict`` and ``load_state_dict`` (modules with their buffers, optimizers,
    schedulers, gradient scalers, averaged models), ``torch.Generator``, numpy's ``Generator``,
    ``BitGenerator``, ``SeedSequence`` and ``RandomState``, ``random.Random``, dicts, lists, sets, arrays,
    tensors, and plain values. Not in a ``state_dict``, and so not taken: gradients (`Gradients` takes them),
    buffers that are not persistent, attributes.

    Raises:
        UsageError: An object is none of these, or (with *check*; else at `encode_content`) holds something
            that cannot be saved; with its path.
    """
    state = {name: _taken(name, value) for name, value in objects.items()}
    if check:
        for name, row in state.items():
            tree.check(row[1], name)
    return state


def put_back(objects: Mapping[str, object], state: Mapping[str, Any]) -> dict[str, Any]:
    """Put *state*, of `state_of`, into *objects* in place; return what cannot change in place, by name.

    Those are numbers, text, bytes, tuples, frozensets and None: the caller takes them from the result.
    Names and kinds are compared before anything is changed. What a module, optimizer or scheduler holds
    afterwards is bit-identical to what was saved. Tensors in containers come back on their device, as
    parameters where they were; the ones that were a module's own or showed a part of it do so again, and
    leaves that require grad stay the objects they are. *state* is used up.

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
    places = _put_in_place(objects, state, kinds)
    values: dict[str, Any] = {}
    for name, kind in kinds.items():
        if kind in _FIRST:
            continue
        content = places.placed(name, objects[name], state[name][1], iter(_marks_of(state[name])))
        # The container itself may be claimed: what was put at the place of its content is in that.
        kind.put(name, objects[name], state[name][1] if kind in _CONTAINERS else content)
        if kind is _VALUE:
            values[name] = content
    return values


def _put_in_place(objects: Mapping[str, Any], state: Mapping[str, Any], kinds: Mapping[str, _Kind]) -> Places:
    """Put all that takes its values in place, before the containers that may hold parts of it."""
    places = Places()
    for name in (name for name, kind in kinds.items() if kind is _STATE_DICT):
        if modules.is_module(objects[name]):
            modules.load_module(name, objects[name], state[name][1], places)
    for name in (name for name, kind in kinds.items() if kind in (_TENSOR, _ARRAY)):
        kinds[name].put(name, objects[name], state[name][1])
        places.claim(state[name][1], objects[name])
    for name, kind in kinds.items():
        if kind in (_DICT, _LIST, _VALUE):
            places.fill_leaves(name, objects[name], state[name][1])
        if kind in _CONTAINERS and type(objects[name]) in (dict, list, set):
            places.claim(state[name][1], objects[name])
    for name in (name for name, kind in kinds.items() if kind is _STATE_DICT):
        if not modules.is_module(objects[name]):
            modules.load(name, objects[name], state[name][1], places)
    return places


def _taken(name: str, value: object) -> list[Any]:
    kind = _kind(name, value)
    state = kind.take(value)
    how = marks(state) if kind in (_DICT, _LIST, _VALUE) else []
    return [kind.name, state, how] if how else [kind.name, state]


def _marks_of(row: list[Any]) -> list[str]:
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


def _put_python(name: str, value: Any, state: Any) -> None:
    with _named(name):
        value.setstate(state)


def _put_torch(name: str, value: Any, state: Any) -> None:
    with _named(name):
        value.set_state(state)


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, RuntimeError, IndexError, OverflowError) as error:
        raise UsageError(
            f"{name}: the checkpoint holds no state of such a generator: {error}",
            hint="give save and restore the same kind of generator, on the same kind of device",
        ) from error


def _put_tensor(name: str, value: Any, state: Any) -> None:
    import torch

    check_same(name, value, state)
    with torch.no_grad():
        value.copy_(state)


def _put_array(name: str, value: Any, state: Any) -> None:
    check_same(name, value, state)
    value[...] = state


def _put_dict(_name: str, value: Any, state: Any) -> None:
    value.clear()
    value.update(state)


def _put_list(_name: str, value: Any, state: Any) -> None:
    value[:] = state


def _put_nothing(_name: str, _value: Any, _state: Any) -> None:
    """Plain values are returned instead, and objects with a ``state_dict`` have loaded it."""


def _same(value: Any) -> Any:
    return value


def _taken_as(kind: type) -> Callable[[Any], Any]:
    """Return what makes a plain *kind* of a subclass, and leaves *kind* itself as the object it is."""
    return lambda value: value if type(value) is kind else kind(value)


_STATE_DICT: Final = _Kind("state_dict", lambda value: value.state_dict(), _put_nothing)
_PYTHON: Final = _Kind("random.Random", lambda value: value.getstate(), _put_python)
_TORCH: Final = _Kind("torch.Generator", lambda value: value.get_state(), _put_torch)
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
_DICT: Final = _Kind("dict", _taken_as(dict), _put_dict)
_LIST: Final = _Kind("list", _taken_as(list), _put_list)
_SET: Final = _Kind("set", _taken_as(set), _put_dict)
_VALUE: Final = _Kind("value", _same, _put_nothing)
_CONTAINERS: Final = (_DICT, _LIST, _SET)
#: What is put by `_put_in_place`.
_FIRST: Final = (_STATE_DICT, _TENSOR, _ARRAY)
