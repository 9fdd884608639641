"""Tensors and arrays that show parts of one memory: saved once, with what each of them shows.

A training that changes one of them goes on changing the others only where they share memory again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from hpc_search.checkpoint import buffers
from hpc_search.checkpoint.buffers import Source, Spec


class Extent(NamedTuple):
    """Where the bytes of a tensor or array begin and end: comparable within one device."""

    device: str
    start: int
    end: int


class Shown(NamedTuple):
    """What a view shows of a buffer, in elements of it."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def extent(value: Any) -> Extent | None:
    """Return where *value* is in memory, None where it has no elements there."""
    return None if buffers.identity(value) is None else extent_of(value)


def extent_of(value: Any) -> Extent:
    """Return where *value*, which has elements, is in memory."""
    if buffers.is_tensor(value):
        device, start = str(value.device), value.data_ptr()
        if value.is_contiguous():
            return Extent(device, start, start + value.nbytes)
    else:
        device, start = "cpu", value.__array_interface__["data"][0]
    low, high = _reach(value.shape, _strides(value))
    size = _itemsize(value)
    return Extent(device, start + low * size, start + (high + 1) * size)


def base(values: Sequence[Any], whole: Extent) -> Source:
    """Return one source for the memory *whole* that *values* show.

    Raises:
        ValueError: They are of different dtypes, or show it in a way that cannot be saved.
    """
    first = values[0]
    tensor, size = buffers.is_tensor(first), _itemsize(first)
    for value in values:
        if buffers.is_tensor(value) != tensor or value.dtype != first.dtype:
            raise ValueError("they show it as different types")
        if tensor and (value.is_conj() or value.is_neg()):
            raise ValueError("one of them shows conjugate or negative values of it")
        if (_pointer(value) - whole.start) % size or not _whole_strides(value):
            raise ValueError("one of them begins inside an element of another")
        if math.prod(value.shape) > (whole.end - whole.start) // size:
            raise ValueError("one of them is expanded, and shows elements of it repeatedly")
    count = (whole.end - whole.start) // size
    flat = _flat_tensor(values, whole, count) if tensor else _flat_array(values, whole, count)
    name = str(first.dtype).removeprefix("torch.") if tensor else first.dtype.str
    return Source(Spec("tensor" if tensor else "array", name, (count,)), flat)


def _flat_tensor(values: Sequence[Any], whole: Extent, count: int) -> Any:
    for value in values:
        storage = value.untyped_storage()
        if storage.data_ptr() <= whole.start and storage.data_ptr() + storage.nbytes() >= whole.end:
            offset = (whole.start - storage.data_ptr()) // value.element_size()
            return value.detach().as_strided((count,), (1,), offset)
    raise ValueError("they belong to different storages")


def _flat_array(values: Sequence[Any], whole: Extent, count: int) -> Any:
    import numpy as np

    for value in values:
        found = extent(value)
        if found is not None and found.start == whole.start:
            up = value[tuple(slice(None, None, -1 if step < 0 else 1) for step in value.strides)]
            return np.lib.stride_tricks.as_strided(up, (count,), (value.itemsize,), writeable=False)
    raise ValueError("they belong to different arrays")


def shown(value: Any, whole: Extent) -> Shown:
    """Return what *value* shows of the memory *whole*."""
    return Shown((_pointer(value) - whole.start) // _itemsize(value), tuple(value.shape), _strides(value))


def seen(value: Any, what: Shown) -> Any:
    """Return *what* of the memory from the first element of *value* on.

    Raises:
        ValueError: It would be outside the memory that *value* belongs to.
    """
    counts = math.prod(what.shape)
    low, high = _reach(what.shape, what.strides)
    first, last = _room(value)
    if counts < 1 or what.offset + low < first or what.offset + high > last or counts > last - first + 1:
        raise ValueError(f"{what} is outside its memory")
    if buffers.is_tensor(value):
        if any(stride < 0 for stride in what.strides):
            raise ValueError("a tensor has no negative strides")
        return value.detach().as_strided(what.shape, what.strides, value.storage_offset() + what.offset)
    return _array_seen(value, what)


def _array_seen(value: Any, what: Shown) -> Any:
    import numpy as np

    root = owner(value)
    offset = _pointer(value) + what.offset * value.itemsize - root.__array_interface__["data"][0]
    strides = tuple(stride * value.itemsize for stride in what.strides)
    # numpy checks the bounds once more.
    return np.ndarray(what.shape, value.dtype, root.reshape(-1, order="A"), offset, strides)


def owner(value: Any) -> Any:
    """Return the array that holds the memory of array *value*."""
    import numpy as np

    while type(value.base) is np.ndarray:
        value = value.base
    return value


def memory(value: Any) -> int | None:
    """Return what names the memory that *value* is a part of; None where it has none."""
    if buffers.is_tensor(value):
        # One without elements, on the meta device or of another layout has none.
        plain = str(value.layout) == "torch.strided" and value.numel() and not value.is_meta
        return value.untyped_storage().data_ptr() if plain else None
    return None if value.size == 0 else int(owner(value).__array_interface__["data"][0])


def _room(value: Any) -> tuple[int, int]:
    """Return the first and the last element of its memory, counted from that of *value*."""
    size = _itemsize(value)
    if buffers.is_tensor(value):
        storage = value.untyped_storage()
        start, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
    else:
        found = extent(owner(value))
        start, end = (0, 0) if found is None else found[1:]
    return -((_pointer(value) - start) // size), (end - _pointer(value)) // size - 1


def _reach(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    steps = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
    return sum(step for step in steps if step < 0), sum(step for step in steps if step > 0)


def _strides(value: Any) -> tuple[int, ...]:
    if buffers.is_tensor(value):
        return tuple(value.stride())
    return tuple(stride // value.itemsize for stride in value.strides)


def _whole_strides(value: Any) -> bool:
    return buffers.is_tensor(value) or not any(stride % value.itemsize for stride in value.strides)


def _pointer(value: Any) -> int:
    if buffers.is_tensor(value):
        return int(value.data_ptr())
    return int(value.__array_interface__["data"][0])


def _itemsize(value: Any) -> int:
    return int(value.element_size() if buffers.is_tensor(value) else value.itemsize)


def distance(value: Any, other: Any) -> int:
    """Return how many elements after that of *other* the first one of *value* is."""
    return (_pointer(value) - _pointer(other)) // _itemsize(value)


def same_steps(value: Any, other: Any) -> bool:
    """Return whether both have their elements at the same distances."""
    return (value.dtype, value.shape, _strides(value)) == (other.dtype, other.shape, _strides(other))


def part(value: Any) -> Shown:
    """Return what *value* shows, from its own first element on."""
    return Shown(0, tuple(value.shape), _strides(value))
