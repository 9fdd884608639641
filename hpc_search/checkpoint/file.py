"""One checkpoint file: written aside, read back, and only then given its name; verified wholly when read."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import xxhash

from hpc_search import durable
from hpc_search.checkpoint import buffers, hdf5, seal, tree
from hpc_search.checkpoint.hdf5 import Span
from hpc_search.checkpoint.seal import Seal
from hpc_search.checkpoint.tree import Encoded
from hpc_search.errors import DamagedError

#: Bytes that are hashed and written, or read and hashed, at a time: they stay in the cache in between.
_CHUNK: Final = 2 << 20
#: Bytes written after which the disk is set to work on them.
_EARLY: Final = 32 << 20
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
#: Bytes that a file ever has beside its data: what describes them, and HDF5's own.
_MOST_REST: Final = tree.MOST_TEXT + (128 << 20)
#: Bytes that say whose checkpoint it is.
_MOST_META: Final = 1 << 20
#: Libraries whose versions decide whether a resumed trial is bit-identical.
_LIBRARIES: Final[tuple[str, ...]] = ("h5py", "numpy", "torch")


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """Whose checkpoint it is, of which step, and what wrote it; ``serial`` counts the saves of an attempt."""

    run_id: str
    trial: int
    attempt: int
    worker: str
    step: int
    serial: int = 0
    versions: dict[str, str] = {}
    byteorder: Literal["little", "big"] = sys.byteorder
    format: Literal["hpc_search.checkpoint"] = "hpc_search.checkpoint"
    version: Literal[1] = 1


@dataclass(frozen=True, slots=True)
class _Row:
    """One buffer of a file: where it is, and xxh3 of its bytes."""

    span: Span
    checksum: int


@dataclass(frozen=True, slots=True)
class _Image:
    """All of a file but the bytes of its buffers, verified."""

    meta: Meta
    text: bytes
    rows: tuple[_Row, ...]


def versions() -> dict[str, str]:
    """Return the versions of Python and of those libraries that are already imported."""
    found: dict[str, str] = {
        name: str(sys.modules[name].__version__) for name in _LIBRARIES if name in sys.modules
    }
    return {"python": sys.version.split()[0], **found}


def write(path: Path, meta: Meta, state: object) -> int:
    """Put *state* at *path*, durable and read back, over what is there; return its size in bytes.

    Whatever happens, *path* holds what it held before or all of *state*.

    Raises:
        UsageError: Something in *state* cannot be saved.
        DamagedError: What was written reads back different.
        OSError: It could not be written.
    """
    return write_encoded(path, meta, tree.encode(state))


def write_encoded(path: Path, meta: Meta, encoded: Encoded) -> int:
    """Do what `write` does, of a state that is encoded already.

    Raises:
        DamagedError: What was written reads back different.
        OSError: It could not be written.
    """
    temporary = durable.temporary_name(path)
    fd = os.open(temporary, _NEW, 0o600)
    try:
        try:
            size = _fill(fd, temporary, meta, encoded)
        finally:
            os.close(fd)
        durable.replace_file(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()
    return size


def read(path: Path) -> tuple[Meta, Any]:
    """Return what *path* holds, every byte verified; tensors are on the CPU.

    Raises:
        DamagedError: It is not a whole checkpoint.
        OSError: It cannot be read.
    """
    with _opened(path) as fd:
        image = _read_image(fd)
        structure = tree.parse(image.text)
        _check_specs(structure.specs, image.rows)
        buffers.check_memory(sum(row.span.length for row in image.rows))
        return image.meta, tree.decode(structure, _load_all(fd, structure, image))


def read_meta(path: Path) -> Meta:
    """Return whose checkpoint *path* is; everything but its buffers is verified.

    Raises:
        DamagedError: It is not a checkpoint.
        OSError: It cannot be read.
    """
    with _opened(path) as fd:
        return _read_image(fd).meta


def verify(path: Path) -> Meta:
    """Read all of *path* and return whose checkpoint it is, without building its state.

    Raises:
        DamagedError: It is not a whole checkpoint.
        OSError: It cannot be read.
    """
    with _opened(path) as fd:
        image = _read_image(fd)
        _check_specs(tree.parse(image.text).specs, image.rows)
        buffers.check_blocks(os.fstat(fd).st_blocks * 512, sum(row.span.length for row in image.rows))
        _check_buffers(fd, image.rows)
        return image.meta


# ------------------------------------------------------------------------------------------- writing


def _fill(fd: int, path: Path, meta: Meta, encoded: Encoded) -> int:
    sizes = [source.spec.nbytes for source in encoded.sources]
    head = msgspec.json.encode(meta)
    spans = hdf5.create(
        path,
        {
            "meta": len(head),
            "structure": len(encoded.text),
            "table": 8 * (1 + 3 * len(sizes)),
            "data": sum(sizes),
        },
    )
    if os.fstat(fd).st_nlink == 0:
        # The claimer of another attempt has cleaned up, and the name is that of another file now.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
    with ThreadPoolExecutor(1) as pool:
        rows = _write_buffers(fd, spans["data"].offset, encoded, pool)
    _pwrite(fd, memoryview(head), spans["meta"].offset)
    _pwrite(fd, memoryview(encoded.text), spans["structure"].offset)
    _pwrite(fd, memoryview(_encode_table(rows, spans["data"].offset)), spans["table"].offset)
    size = os.fstat(fd).st_size
    data = spans["data"]
    rest = _checksum_of_rest(fd, size, data)
    _pwrite(fd, memoryview(seal.encode(Seal(size, data.offset, data.length, rest))), 0)
    _sync_and_read_back(fd, path, _Image(meta, encoded.text, rows))
    return size


def _write_buffers(fd: int, offset: int, encoded: Encoded, pool: Executor) -> tuple[_Row, ...]:
    rows: list[_Row] = []
    syncing: Future[None] | None = None
    unsynced = 0
    for source in encoded.sources:
        row = _write_buffer(fd, offset, source.view())
        rows.append(row)
        offset = row.span.end
        unsynced += row.span.length
        if unsynced >= _EARLY and (syncing is None or syncing.done()):
            _raise_of(syncing)
            syncing, unsynced = _beside(pool, os.fdatasync, fd), 0
    _raise_of(syncing)
    return tuple(rows)


def _beside(pool: Executor, sync: Callable[[int], None], fd: int) -> Future[None]:
    try:
        return pool.submit(sync, fd)
    except RuntimeError:
        # No further thread may be started here.
        done: Future[None] = Future()
        sync(fd)
        done.set_result(None)
        return done


def _raise_of(syncing: Future[None] | None) -> None:
    # An early sync that fails must not be forgotten: a later one can succeed without the lost pages.
    if syncing is not None:
        syncing.result()


def _write_buffer(fd: int, offset: int, view: memoryview) -> _Row:
    digest = xxhash.xxh3_64()
    for start in range(0, len(view), _CHUNK):
        chunk = view[start : start + _CHUNK]
        digest.update(chunk)
        _pwrite(fd, chunk, offset + start)
    return _Row(Span(offset, len(view)), digest.intdigest())


def _encode_table(rows: Sequence[_Row], base: int) -> bytes:
    numbers = [len(rows)]
    for row in rows:
        numbers += [row.span.offset - base, row.span.length, row.checksum]
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def _sync_and_read_back(fd: int, path: Path, written: _Image) -> None:
    # The read-back is served from the page cache, so it costs little while the fsync waits for the disk.
    with ThreadPoolExecutor(1) as pool:
        synced = _beside(pool, os.fsync, fd)  # noqa: TID251
        with _named(path):
            found = _read_image(fd)
            if found != written:
                raise ValueError("what was written reads back different")
            _check_buffers(fd, found.rows)
        synced.result()


def _pwrite(fd: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(fd, view, offset)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view, offset = view[written:], offset + written


# ------------------------------------------------------------------------------------------- reading


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        fd = os.open(path, _READ)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DamagedError(f"{path}: it is a symbolic link, which is never followed") from None
        raise
    try:
        with _named(path):
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ValueError("it is not a regular file")
            yield fd
    finally:
        os.close(fd)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file a ValueError of the parsers is about."""
    try:
        yield
    except (ValueError, msgspec.DecodeError) as error:
        raise DamagedError(f"{path}: {error}") from error


def _read_image(fd: int) -> _Image:
    size = os.fstat(fd).st_size
    sealed = seal.parse(_pread(fd, Span(0, min(size, hdf5.USERBLOCK))), size)
    data = Span(sealed.data_offset, sealed.data_length)
    if size - data.length > _MOST_REST:
        raise ValueError(f"it has {size - data.length} bytes beside its data, at most {_MOST_REST} are read")
    if _checksum_of_rest(fd, size, data) != sealed.rest:
        raise ValueError("the checksum of its structure is wrong")
    with os.fdopen(os.dup(fd), "rb") as stream:
        spans = hdf5.inspect(stream, size)
    if spans["data"] != Span(data.offset, max(1, data.length)):
        raise ValueError(f"its data are {spans['data']}, sealed as {data}")
    for name, most in (("meta", _MOST_META), ("structure", tree.MOST_TEXT)):
        if spans[name].length > most:
            raise ValueError(f"its {name} has {spans[name].length} bytes, at most {most} are read")
    meta = msgspec.json.decode(_pread(fd, spans["meta"]), type=Meta)
    if meta.byteorder != sys.byteorder:
        raise ValueError(f"it was written on a {meta.byteorder}-endian machine")
    return _Image(meta, _pread(fd, spans["structure"]), _parse_table(_pread(fd, spans["table"]), data))


def _parse_table(table: bytes, data: Span) -> tuple[_Row, ...]:
    numbers = [int.from_bytes(table[i : i + 8], "little") for i in range(0, len(table), 8)]
    if len(numbers) != 1 + 3 * numbers[0]:
        raise ValueError(f"its table has {len(numbers)} numbers for {numbers[0]} buffers")
    rows, offset = [], 0
    for start, length, checksum in zip(numbers[1::3], numbers[2::3], numbers[3::3], strict=True):
        # Without gaps and overlaps, all buffers together are not larger than the file.
        if start != offset:
            raise ValueError(f"a buffer starts at {start}, expected {offset}")
        rows.append(_Row(Span(data.offset + start, length), checksum))
        offset += length
    if offset != data.length:
        raise ValueError(f"its buffers have {offset} bytes, its data {data.length}")
    return tuple(rows)


def _check_specs(specs: Sequence[buffers.Spec], rows: Sequence[_Row]) -> None:
    if len(specs) != len(rows):
        raise ValueError(f"its structure has {len(specs)} buffers, its table {len(rows)}")
    for spec, row in zip(specs, rows, strict=True):
        if spec.nbytes != row.span.length:
            raise ValueError(f"{spec} needs {spec.nbytes} bytes, its table has {row.span.length}")


def _load_all(fd: int, structure: tree.Structure, image: _Image) -> list[Any]:
    # In one thread: a second one doubles the processor time, for new memory is given out under a lock.
    return [_load(fd, spec, row) for spec, row in zip(structure.specs, image.rows, strict=True)]


def _load(fd: int, spec: buffers.Spec, row: _Row) -> Any:
    value, view = buffers.allocate(spec)
    digest = xxhash.xxh3_64()
    for start in range(0, len(view), _CHUNK):
        chunk = view[start : start + _CHUNK]
        buffers.populate(chunk)
        _preadv(fd, chunk, row.span.offset + start)
        digest.update(chunk)
    _compare(row, digest.intdigest())
    return value


def _check_buffers(fd: int, rows: Sequence[_Row]) -> None:
    room = memoryview(bytearray(min(_CHUNK, max((row.span.length for row in rows), default=0))))
    for row in rows:
        _compare(row, _checksum(fd, [row.span], room))


def _compare(row: _Row, found: int) -> None:
    if found != row.checksum:
        raise ValueError(f"the checksum of {row.span.length} bytes at {row.span.offset} is wrong")


def _checksum_of_rest(fd: int, size: int, data: Span) -> int:
    spans = [Span(hdf5.USERBLOCK, data.offset - hdf5.USERBLOCK), Span(data.end, size - data.end)]
    return _checksum(fd, spans, memoryview(bytearray(min(_CHUNK, size))))


def _checksum(fd: int, spans: Sequence[Span], room: memoryview) -> int:
    digest = xxhash.xxh3_64()
    for span in spans:
        for start in range(span.offset, span.end, _CHUNK):
            chunk = room[: min(_CHUNK, span.end - start)]
            _preadv(fd, chunk, start)
            digest.update(chunk)
    return digest.intdigest()


def _pread(fd: int, span: Span) -> bytes:
    data = bytearray(span.length)
    _preadv(fd, memoryview(data), span.offset)
    return bytes(data)


def _preadv(fd: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.preadv(fd, [view], offset)
        if count == 0:
            raise ValueError(f"it ends at {offset}, {len(view)} bytes early")
        view, offset = view[count:], offset + count
