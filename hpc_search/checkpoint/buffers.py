"""Tensors and arrays as plain bytes and back, without a copy where memory allows it."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

from hpc_search.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import torch

Kind = Literal["tensor", "array", "bytes"]
#: Names of numpy dtypes that hold plain values: no objects, no structures.
_ARRAY_DTYPE: Final = re.compile(r"\|b1|[<>|][iufcSUMm]\d{1,9}(\[[0-9A-Za-z/]{1,24}\])?")
#: Beginnings of the names of torch dtypes whose bytes are no values of their own.
_NO_VALUES: Final = ("q", "bits")
_MOST_DIMENSIONS: Final = 64
#: Bytes from which memory is asked for in huge pages.
_HUGE: Final = 4 << 20
#: MADV_POPULATE_WRITE of Linux 5.14; the module mmap does not name it.
_POPULATE_WRITE: Final = 23
#: A file system that compresses may hold this many times what it says that it holds.
_MOST_SPARSE: Final = 64
_LONGEST_DIMENSION: Final = 1 << 47


@dataclass(frozen=True, slots=True)
class Spec:
    """What a buffer holds: kind, name of the dtype, shape; row-major without gaps."""

    kind: Kind
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size in bytes.

        Raises:
            ValueError: The dtype is not one that can be saved.
        """
        return math.prod(self.shape) * _itemsize(self)


@dataclass(frozen=True, slots=True)
class Source:
    """A buffer to write: its spec and the object whose memory holds it."""

    spec: Spec
    value: Any

    def view(self) -> memoryview:
        """Return the bytes; only what is not contiguous or not in host memory is copied."""
        if self.spec.nbytes == 0:
            return memoryview(b"")
        if isinstance(self.value, bytes | memoryview):
            return memoryview(self.value)
        if self.spec.kind == "tensor":
            return tensor_memory(self.value.cpu().resolve_conj().resolve_neg().contiguous())
        return array_memory(self.value)

    @property
    def copied(self) -> bool:
        """Whether its `view` is memory that nobody else can change: of bytes, or brought from a device."""
        return isinstance(self.value, bytes) or (
            self.spec.kind == "tensor" and self.value.device.type != "cpu"
        )


def private(sources: Sequence[Source]) -> tuple[Source, ...]:
    """Return *sources* with the same bytes in memory that nobody else can change."""
    room = _room(sum(source.spec.nbytes for source in sources if not source.copied))
    made, start = [], 0
    for source in sources:
        view, size = source.view(), source.spec.nbytes
        if not source.copied:
            room[start : start + size] = view
            view, start = room[start : start + size], start + size
        made.append(Source(source.spec, view))
    return tuple(made)


def _room(size: int) -> memoryview:
    if size < _HUGE:
        return memoryview(bytearray(size))
    # New memory costs more than the copy, unless it comes in huge pages.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError, AttributeError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


def tensor_memory(tensor: torch.Tensor) -> memoryview:
    """Return the memory of a contiguous host tensor of at least one element."""
    import torch

    array: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(array)


def array_memory(array: np.ndarray[Any, Any]) -> memoryview:
    """Return the memory of *array*, of a copy where it is not contiguous."""
    import numpy as np

    flat: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return memoryview(flat)


def is_tensor(value: object) -> bool:
    """Return whether *value* is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_array(value: object) -> bool:
    """Return whether *value* is a numpy array, without importing numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def from_tensor(tensor: torch.Tensor, path: str) -> tuple[Source, tuple[int, ...] | None]:
    """Return the source of *tensor* and the order of its dimensions in memory, None for row-major.

    Raises:
        UsageError: It is sparse, quantized, on the meta device, of a subclass, or has no values yet.
    """
    import torch

    if torch.nn.parameter.is_lazy(tensor):
        raise UsageError(
            f"{path}: a lazy parameter that no batch has given its shape cannot be saved",
            hint="run one batch through the module before the first save",
        )
    tensor = tensor.detach()
    plain = type(tensor) is torch.Tensor and tensor.layout == torch.strided and not tensor.is_nested
    name = str(tensor.dtype).removeprefix("torch.")
    if not plain or tensor.is_quantized or tensor.is_meta or name.startswith(_NO_VALUES):
        raise UsageError(
            f"{path}: only plain dense tensors can be saved, found {type(tensor).__name__}"
            f" ({tensor.layout}, {tensor.dtype}, {tensor.device})",
            hint="save tensor.to_dense(), dequantize() or its parts instead",
        )
    order = None
    if not tensor.is_contiguous():
        order = _memory_order(tensor.stride())
        permuted = tensor.permute(order)
        order, tensor = (order, permuted) if permuted.is_contiguous() else (None, tensor)
    return Source(Spec("tensor", name, tuple(tensor.shape)), tensor), order


def from_array(array: np.ndarray[Any, Any], path: str) -> tuple[Source, tuple[int, ...] | None]:
    """Return the source of *array* and the order of its dimensions in memory, None for row-major.

    Raises:
        UsageError: Its dtype is structured or object, or it is of a subclass of ndarray.
    """
    import numpy as np

    name = array.dtype.str
    if type(array) is not np.ndarray or not _ARRAY_DTYPE.fullmatch(name):
        raise UsageError(
            f"{path}: only plain arrays of plain values can be saved, found"
            f" {type(array).__name__} of dtype {array.dtype}",
            hint="save its columns as arrays of their own",
        )
    order = None
    if not array.flags.c_contiguous:
        order = _memory_order(array.strides)
        permuted = array.transpose(order)
        order, array = (order, permuted) if permuted.flags.c_contiguous else (None, array)
    return Source(Spec("array", name, tuple(array.shape)), array), order


def identity(value: Any) -> tuple[object, ...] | None:
    """Return what two tensors or arrays share when they are the same memory seen the same way."""
    if is_tensor(value):
        if value.layout is not sys.modules["torch"].strided or value.numel() == 0 or value.is_meta:
            return None
        seen = (value.device, value.dtype, value.shape, value.stride(), value.is_conj(), value.is_neg())
        return ("tensor", value.data_ptr(), *seen)
    if value.size == 0:
        return None
    return ("array", value.__array_interface__["data"][0], value.dtype.str, value.shape, value.strides)


def parse_spec(row: object) -> Spec:
    """Return the spec that JSON *row* holds.

    Raises:
        ValueError: It is not one.
    """
    if type(row) is not list or len(row) != 3 or type(row[2]) is not list:
        raise ValueError(f"buffer {row!r:.80} is not [kind, dtype, shape]")
    kind, dtype, shape = row
    if kind not in ("tensor", "array", "bytes") or type(dtype) is not str:
        raise ValueError(f"buffer kind {kind!r:.40} of dtype {dtype!r:.40} is unknown")
    if len(shape) > _MOST_DIMENSIONS or not all(
        type(n) is int and 0 <= n < _LONGEST_DIMENSION for n in shape
    ):
        raise ValueError(f"shape {shape!r:.80} is impossible")
    spec = Spec(kind, dtype, tuple(shape))
    _itemsize(spec)
    return spec


def check_memory(size: int) -> None:
    """Raise where *size* bytes are more than this machine has.

    Raises:
        ValueError: A sparse file of terabytes costs its maker nothing.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise ValueError(f"its data are {size} bytes, this machine has {memory} of memory")


def check_blocks(blocks: int, size: int) -> None:
    """Raise where a file that holds *blocks* bytes says it has *size*: nearly all holes, and beyond memory.

    Raises:
        ValueError: It does. (Whole checkpoints of larger machines may be read here, too, without loading.)
    """
    if blocks < size // _MOST_SPARSE:
        check_memory(size)


def allocate(spec: Spec) -> tuple[Any, memoryview]:
    """Return a new object of *spec* and its memory, to be filled. The caller has checked the size.

    Raises:
        ValueError: No object of that shape can exist.
    """
    if spec.kind == "bytes":
        data = bytearray(spec.nbytes)
        return data, memoryview(data)
    if spec.kind == "array":
        import numpy as np

        array = np.empty(spec.shape, np.dtype(spec.dtype))
        return array, array_memory(array) if spec.nbytes else memoryview(b"")
    tensor = _empty_tensor(spec)
    return tensor, tensor_memory(tensor) if spec.nbytes else memoryview(b"")


def populate(view: memoryview) -> None:
    """Let the kernel give out the pages of *view*, which is about to be filled, at once.

    One by one, as they are touched, takes longer than reading and verifying what comes into them. (Huge
    pages are faster still where the machine has them at hand, and three times slower where its
    hypervisor has to find them.) A kernel that cannot says so, and nothing is different.
    """
    start = ctypes.addressof(ctypes.c_char.from_buffer(view))
    first = start // mmap.PAGESIZE * mmap.PAGESIZE
    _libc().madvise(ctypes.c_void_p(first), ctypes.c_size_t(start + len(view) - first), _POPULATE_WRITE)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def in_order(value: Any, order: tuple[int, ...]) -> Any:
    """Undo the permutation *order* of the dimensions of *value*, without a copy.

    Raises:
        ValueError: *order* is no permutation of its dimensions.
    """
    if sorted(order) != list(range(value.ndim)):
        raise ValueError(f"{order!r:.80} is no order of {value.ndim} dimensions")
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return value.permute(inverse) if is_tensor(value) else value.transpose(inverse)


def _empty_tensor(spec: Spec) -> torch.Tensor:
    import torch

    try:
        return torch.empty(spec.shape, dtype=torch_dtypes()[spec.dtype])
    except RuntimeError as error:
        raise ValueError(f"no tensor has shape {spec.shape!r:.80}: {error}") from error


@cache
def torch_dtypes() -> dict[str, torch.dtype]:
    """Return the dtypes of this torch by name."""
    import torch

    found = (value for value in vars(torch).values() if isinstance(value, torch.dtype))
    return {str(value).removeprefix("torch."): value for value in found}


def array_dtype(name: str) -> np.dtype[Any]:
    """Return the numpy dtype *name*; only dtypes of plain values are looked up at all.

    Raises:
        ValueError: It is not one that can be saved.
    """
    import numpy as np

    if not _ARRAY_DTYPE.fullmatch(name):
        raise ValueError(f"dtype {name!r:.40} is not a plain one")
    try:
        dtype = np.dtype(name)
    except TypeError as error:
        raise ValueError(f"dtype {name!r:.40} does not exist") from error
    if dtype.kind not in "biufcSUMm" or dtype.str != name:
        raise ValueError(f"dtype {name!r:.40} is not a plain one")
    return dtype


def _itemsize(spec: Spec) -> int:
    if spec.kind == "array":
        return array_dtype(spec.dtype).itemsize
    if spec.kind == "bytes":
        if spec.dtype != "uint8" or len(spec.shape) != 1:
            raise ValueError("bytes are one dimension of uint8")
        return 1
    dtypes = torch_dtypes()
    if spec.dtype not in dtypes or spec.dtype.startswith(_NO_VALUES):
        raise ValueError(f"torch dtype {spec.dtype!r:.40} is not known to this torch")
    return dtypes[spec.dtype].itemsize


def _memory_order(strides: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(strides)), key=lambda i: -strides[i]))
