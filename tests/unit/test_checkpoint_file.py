from __future__ import annotations

import errno
import io
import json
import os
import random
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xxhash

from hpc_search.checkpoint import buffers, file, hdf5, seal, tree
from hpc_search.checkpoint.seal import Seal
from hpc_search.errors import DamagedError, UsageError

META = file.Meta(run_id="run", trial=3, attempt=2, worker="0123456789abcdef", step=7)
STATE = {"weights": np.arange(500.0), "names": ["a", ("b", 1)], "empty": np.zeros(0), "blob": b"x" * 3000}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one.h5"


@pytest.fixture
def no_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(spec: object) -> None:
        pytest.fail(f"allocated {spec}")

    monkeypatch.setattr(buffers, "allocate", refuse)


def seal_up(path: Path, *, version: int = seal.VERSION) -> None:
    """Give *path* a seal that fits, as an attacker or a later program would."""
    data = bytearray(path.read_bytes())
    rest = xxhash.xxh3_64_intdigest(bytes(data[hdf5.USERBLOCK :]))
    block = bytearray(seal.encode(Seal(len(data), len(data), 0, rest)))
    block[24:28] = version.to_bytes(4, "little")
    block[-8:] = xxhash.xxh3_64_intdigest(bytes(block[:-8])).to_bytes(8, "little")
    data[: hdf5.USERBLOCK] = block
    path.write_bytes(data)


def make_hdf5(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Make a sealed file that differs from a checkpoint by *change*."""
    with h5py.File(path, "w", userblock_size=hdf5.USERBLOCK, locking=False) as f:
        for name in ("meta", "structure", "data"):
            f.create_dataset(name, data=np.zeros(8, "u1"))
        f.create_dataset("table", data=np.zeros(1, "u8"))
        change(f)
    seal_up(path)


def test_what_is_written_is_read_and_is_an_hdf5_file(path: Path) -> None:
    size = file.write(path, META, STATE)
    meta, state = file.read(path)

    assert size == path.stat().st_size
    assert meta == file.read_meta(path) == file.verify(path) == META
    assert state["names"] == STATE["names"]
    assert state["blob"] == STATE["blob"]
    np.testing.assert_array_equal(state["weights"], np.arange(500.0))
    with h5py.File(path, "r", locking=False) as f:
        assert json.loads(f["meta"][()].tobytes())["step"] == 7
        np.testing.assert_array_equal(f["data"][:4000].view("f8"), np.arange(500.0))


def test_a_file_is_private_and_leaves_nothing_beside_it(path: Path) -> None:
    file.write(path, META, STATE)
    file.write(path, META, None)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]
    assert file.read(path)[1] is None


def test_the_same_state_is_the_same_file(path: Path) -> None:
    file.write(path, META, STATE)
    first = path.read_bytes()
    file.write(path, META, STATE)

    assert first == path.read_bytes()


def test_a_state_that_cannot_be_saved_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    file.write(path, META, STATE)
    with pytest.raises(UsageError):
        file.write(path, META, {"bad": object()})

    assert file.read_meta(path) == META
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("call", ["pwrite", "fsync", "rename"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    file.write(path, META, STATE)

    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, call, fail)
        file.write(path, META, {"new": np.ones(10)})

    assert os.listdir(path.parent) == [path.name]
    assert file.read(path)[1]["names"] == STATE["names"]


def test_an_early_sync_that_fails_is_not_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(file, "_EARLY", 100)
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="Input/output"):
        file.write(path, META, STATE)

    assert os.listdir(path.parent) == []


def test_a_process_that_may_start_no_thread_saves_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(file, "_EARLY", 100)
    monkeypatch.setattr(threading.Thread, "start", full)
    file.write(path, META, STATE)
    assert file.verify(path) == META


def test_a_write_that_reads_back_different_is_never_published(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite

    def flip(fd: int, view: Any, offset: int) -> int:
        data = bytearray(view)
        if len(data) == 4000:
            data[5] ^= 1
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", flip)
    with pytest.raises(DamagedError, match="checksum"):
        file.write(path, META, STATE)

    assert os.listdir(path.parent) == []


def test_a_flipped_byte_anywhere_is_found(path: Path) -> None:
    file.write(path, META, {"weights": np.arange(20.0), "blob": b"x" * 1100})
    whole = path.read_bytes()
    survived = []
    with path.open("r+b", buffering=0) as f:
        for offset, byte in enumerate(whole):
            os.pwrite(f.fileno(), bytes([byte ^ (1 << offset % 8)]), offset)
            with suppress(DamagedError):
                file.verify(path)
                survived.append(offset)
            os.pwrite(f.fileno(), bytes([byte]), offset)

    assert survived == []
    assert file.verify(path) == META


@pytest.mark.usefixtures("no_allocation")
def test_a_truncated_or_longer_file_is_found_before_allocation(path: Path) -> None:
    file.write(path, META, STATE)
    whole = path.read_bytes()

    for size in (0, 1, 100, hdf5.USERBLOCK, hdf5.USERBLOCK + 8, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedError, match=r"one\.h5"):
            file.read(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DamagedError, match="were written"):
        file.read(path)


@pytest.mark.usefixtures("no_allocation")
def test_a_format_version_of_the_future_is_refused(path: Path) -> None:
    file.write(path, META, STATE)
    seal_up(path, version=2)

    with pytest.raises(DamagedError, match="format version is 2, this program reads 1"):
        file.read(path)


def _replaced(name: str, make: Callable[[h5py.File], object]) -> Callable[[h5py.File], None]:
    def change(f: h5py.File) -> None:
        del f[name]
        make(f)

    return change


def _contiguous(f: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    h5py.h5d.create(f.id, name.encode(), h5py.h5t.STD_U8LE, h5py.h5s.create_simple(shape), plist)


def _virtual(f: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(8,), dtype="u1")
    layout[:] = h5py.VirtualSource("other.h5", "data", shape=(8,))
    f.create_virtual_dataset("data", layout)


HOSTILE: dict[str, Callable[[h5py.File], None]] = {
    "external link": _replaced(
        "data", lambda f: f.__setitem__("data", h5py.ExternalLink("/etc/hostname", "/x"))
    ),
    "soft link": _replaced("data", lambda f: f.__setitem__("data", h5py.SoftLink("/meta"))),
    "external storage": _replaced(
        "data", lambda f: f.create_dataset("data", (8,), "u1", external=[("/etc/hostname", 0, 8)])
    ),
    "virtual dataset": _replaced("data", _virtual),
    "terabytes": _replaced("data", lambda f: _contiguous(f, "data", (8 << 40,))),
    "terabytes in chunks": _replaced(
        "data", lambda f: f.create_dataset("data", (8 << 40,), "u1", chunks=(1024,))
    ),
    "two dimensions": _replaced("meta", lambda f: f.create_dataset("meta", data=np.zeros((2, 2), "u1"))),
    "filter": _replaced(
        "data", lambda f: f.create_dataset("data", data=np.zeros(8, "u1"), compression="gzip", chunks=(8,))
    ),
    "variable length": _replaced(
        "meta", lambda f: f.create_dataset("meta", data=["a"], dtype=h5py.string_dtype())
    ),
    "compound": _replaced("table", lambda f: f.create_dataset("table", data=np.zeros(1, [("a", "u8")]))),
    "reference": _replaced(
        "table", lambda f: f.create_dataset("table", data=[f["meta"].ref], dtype=h5py.ref_dtype)
    ),
    "big-endian": _replaced("table", lambda f: f.create_dataset("table", data=np.zeros(1, ">u8"))),
    "scalar": _replaced("meta", lambda f: f.create_dataset("meta", data=np.uint8(1))),
    "group": _replaced("meta", lambda f: f.create_group("meta")),
    "named type": _replaced("meta", lambda f: f.__setitem__("meta", np.dtype("u1"))),
    "missing name": _replaced("meta", lambda f: None),
    "unexpected name": lambda f: f.create_group("extra"),
    "attribute": lambda f: f.attrs.__setitem__("a", 1),
    "attribute of a dataset": lambda f: f["meta"].attrs.__setitem__("a", 1),
    "no checkpoint at all": lambda f: None,
}


@pytest.mark.usefixtures("no_allocation")
@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_hdf5_file_with_anything_unexpected_is_refused_before_allocation(
    path: Path, change: Callable[[h5py.File], None]
) -> None:
    make_hdf5(path, change)

    with pytest.raises(DamagedError, match=r"one\.h5: ") as caught:
        file.read(path)

    assert caught.value.exit_code == 4


HUGE = [
    '[["array","|u1",[8796093022208]]]',
    '[["tensor","float32",[2199023255552]]]',
    '[["array","<f8",[]]]',
    '[["array","<U999999999",[1]]]',
    "[]",
    '[["array","<f8",[2]],["array","<f8",[2]]]',
]


@pytest.mark.usefixtures("no_allocation")
@pytest.mark.parametrize("declared", HUGE)
def test_a_structure_that_declares_other_sizes_than_the_table_is_refused_before_allocation(
    path: Path, monkeypatch: pytest.MonkeyPatch, declared: str
) -> None:
    if "tensor" in declared:
        pytest.importorskip("torch")
    honest = tree.encode(np.zeros(2))
    text = f'{{"buffers":{declared},"tree":null}}'.encode()
    monkeypatch.setattr(tree, "encode", lambda state: tree.Encoded(text, honest.sources))
    file.write(path, META, None)

    with pytest.raises(DamagedError, match=r"one\.h5: "):
        file.read(path)


TABLES = [[2, 0, 16, 0], [1, 8, 8, 0], [1, 0, 2**63, 0], [2, 0, 16, 0, 0, 16, 0], [0], [2**62, 0, 16, 0]]


@pytest.mark.usefixtures("no_allocation")
@pytest.mark.parametrize("numbers", TABLES)
def test_a_table_with_gaps_overlaps_or_wrong_counts_is_refused_before_allocation(
    path: Path, monkeypatch: pytest.MonkeyPatch, numbers: list[int]
) -> None:
    create = hdf5.create
    table = b"".join(number.to_bytes(8, "little") for number in numbers)
    monkeypatch.setattr(hdf5, "create", lambda p, sizes: create(p, {**sizes, "table": len(table)}))
    monkeypatch.setattr(file, "_encode_table", lambda rows, base: table)
    monkeypatch.setattr(file, "_sync_and_read_back", lambda *args: None)
    file.write(path, META, np.zeros(2))

    with pytest.raises(DamagedError, match=r"one\.h5: "):
        file.read(path)


def test_any_change_of_the_structure_under_a_valid_seal_is_read_or_refused(path: Path) -> None:
    file.write(path, META, STATE)
    good = path.read_bytes()
    sealed = seal.parse(good[: hdf5.USERBLOCK], len(good))
    used = [i for i in range(hdf5.USERBLOCK, sealed.data_offset) if good[i]]
    draw = random.Random(20270301)
    refused = 0
    for _ in range(300):
        data = bytearray(good)
        for _ in range(draw.choice([1, 1, 3])):
            data[draw.choice(used)] = draw.choice([0, 255, draw.randrange(256)])
        rest = xxhash.xxh3_64_intdigest(bytes(data[hdf5.USERBLOCK : sealed.data_offset]))
        data[: hdf5.USERBLOCK] = seal.encode(Seal(len(data), sealed.data_offset, sealed.data_length, rest))
        path.write_bytes(data)
        try:
            file.read(path)
        except DamagedError:
            refused += 1
    assert refused > 200


@pytest.mark.usefixtures("no_allocation")
def test_a_sparse_file_of_terabytes_is_refused_before_allocation(path: Path) -> None:
    # Its maker pays nothing for zeros that are not there: as data, and beside the data.
    size = 1 << 42
    for data_length in (size - (1 << 20), 0):
        with path.open("wb") as file_:
            file_.truncate(size)
            file_.write(seal.encode(Seal(size, 1 << 20, data_length, _ZEROS)))
        with pytest.raises(DamagedError, match=r"one\.h5: "):
            file.read(path)


_ZEROS = xxhash.xxh3_64_intdigest(bytes((1 << 20) - hdf5.USERBLOCK))


@pytest.mark.usefixtures("no_allocation")
def test_data_beyond_the_memory_of_the_machine_are_refused_before_allocation(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write(path, META, STATE)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1}[name])
    with pytest.raises(DamagedError, match="its data are 7000 bytes, this machine has 4096 of memory"):
        file.read(path)


def test_a_symbolic_link_and_a_pipe_are_refused(path: Path) -> None:
    file.write(path, META, STATE)
    (path.parent / "link.h5").symlink_to(path)
    os.mkfifo(path.parent / "pipe.h5")

    with pytest.raises(DamagedError, match="symbolic link"):
        file.read(path.parent / "link.h5")
    with pytest.raises(DamagedError, match="regular file"):
        file.read(path.parent / "pipe.h5")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EMFILE])
def test_a_system_call_that_fails_inside_of_hdf5_is_an_oserror_and_no_damage(
    tmp_path: Path, number: int
) -> None:
    """h5py tells failures while it lays a file out as RuntimeError, with the errno in the words."""
    words = f"Can't decrement id ref count (unable to extend file properly, errno = {number}, error ...)"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5, "_create", lambda *_: (_ for _ in ()).throw(RuntimeError(words)))
        with pytest.raises(OSError, match=os.strerror(number)) as found:
            hdf5.create(tmp_path / "x", {})
        assert found.value.errno == number

    path = tmp_path / "whole.h5"
    file.write(path, META, {"x": 1})

    class Failing(io.FileIO):
        def seek(self, *_: Any) -> int:
            raise OSError(number, os.strerror(number))

    with Failing(path, "rb") as stream, pytest.raises(OSError, match=os.strerror(number)):
        hdf5.inspect(stream, path.stat().st_size)
