"""Sealed files with other content, or more than can be read: skipped by name for the older slot."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hpc_search.checkpoint import file, hdf5, seal, tree
from hpc_search.checkpoint.hdf5 import Span
from hpc_search.checkpoint.seal import Seal
from hpc_search.errors import DamagedError, UsageError
from hpc_search.trial import Stopped, Trial
from tests.unit.test_trial import Line, make, root

__all__ = ["root"]

OTHER = "fedcba9876543210"
GOOD: dict[str, Any] = {
    "objects": {"o": ["dict", {"new": 1}]},
    "rng": {"python": random.getstate()},
    "settings": {},
    "read": [],
    "samples": None,
    "rung": 0,
}
MT = np.random.RandomState(0).get_state(legacy=False)


def slot(root: Path, worker: str = OTHER) -> Path:
    return root / "checkpoints" / "000003" / f"a1-{worker}.0.h5"


def restored(root: Path) -> tuple[int, dict[str, Any], list[str]]:
    """Return step, content and what was skipped, of a trial that resumes beside a good older save."""
    before = make(root, line := Line())
    line.stop = "x"
    with pytest.raises(Stopped):
        before.save(4, o={"old": 1})
    found: dict[str, Any] = {}
    trial: Trial = make(root, line := Line(), attempt=2)
    step = trial.restore(o=found)
    return step, found, dict(line.sent)["restored"]["skipped"]


def write(root: Path, state: object, history: object = (), **more: Any) -> None:
    meta: dict[str, Any] = {"run_id": "r", "trial": 3, "attempt": 1, "worker": OTHER, "step": 9, "serial": 5}
    file.write(slot(root), file.Meta(**(meta | more)), {"state": state, "history": history})


def test_what_a_trial_saves_is_restored(root: Path) -> None:
    write(root, GOOD, [[3, {"acc": 0.5}]])
    assert restored(root) == (9, {"new": 1}, [])


@pytest.mark.parametrize("step", [-5, 2**32, 2**63 - 1])
def test_a_save_of_an_impossible_step_is_skipped(root: Path, step: int) -> None:
    write(root, GOOD, step=step)
    found = restored(root)
    assert found[:2] == (4, {"old": 1})
    assert f"it is of step {step}, steps are from 0 to" in found[2][0]


WRONG: dict[str, list[Any]] = {
    "objects": [7, None, {"o": []}, {"o": ["dict", 5]}, {"o": ["what", {}]}, {"o": ["dict", {}, 5]}, {1: 2}],
    "rng": [7, {}, {"python": (3, (1,), None)}, {**GOOD["rng"], "numpy": {"bit_generator": "X"}},
            {**GOOD["rng"], "numpy": {**MT, "state": {**MT["state"], "pos": 10**6}}},
            {**GOOD["rng"], "torch": np.zeros(3)}, {**GOOD["rng"], "cuda": 7}],
    "settings": [7, {"default_dtype": 3}, {"deterministic": "x"}, {"cudnn_tf32": None}],
    "read": [7, [7], {"a"}],
    "samples": [7, {"ids": [1]}, {"ids": [1], "scores": []}, {"ids": [1], "scores": ["x"]}],
    "rung": ["x", -1, True],
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "value"), [(part, value) for part, values in WRONG.items() for value in values]
)
def test_a_part_of_another_type_is_named_and_the_older_slot_used(
    root: Path, part: str, value: object
) -> None:
    write(root, GOOD | {part: value})
    step, found, skipped = restored(root)
    assert (step, found) == (4, {"old": 1})
    assert len(skipped) == 1
    assert skipped[0].startswith(f"a1-{OTHER}.0.h5: '{part}' of its state is not what a trial saves")


@pytest.mark.parametrize("part", ["objects", "rng", "read"])
def test_a_missing_part_is_named_and_the_older_slot_used(root: Path, part: str) -> None:
    write(root, {name: value for name, value in GOOD.items() if name != part})
    found = restored(root)
    assert found == (4, {"old": 1}, [f"a1-{OTHER}.0.h5: its state has no '{part}'"])


@pytest.mark.parametrize("history", [7, [1], [["a", {}]], [[1, {"x": "y"}]], [[1, {"x": 1.0}, 2]]])
def test_a_history_of_something_else_is_named_and_the_older_slot_used(root: Path, history: object) -> None:
    write(root, GOOD, history)
    step, _, skipped = restored(root)
    assert step == 4
    assert "its history is not a list of steps" in skipped[0]


@pytest.mark.parametrize(
    "content", [7, [], {"state": GOOD}, {"state": 7, "history": []}, {"state": {1: 2}, "history": []}]
)
def test_content_that_is_no_state_with_a_history_is_skipped(root: Path, content: object) -> None:
    file.write(slot(root), file.Meta(run_id="r", trial=3, attempt=1, worker=OTHER, step=9), content)
    step, _, skipped = restored(root)
    assert step == 4
    assert "does not hold a state and a history" in skipped[0]


# -- sizes
def linked(path: Path, name: str, length: int) -> None:
    """Make a sealed file in which *name* is a second name of sparse data of *length* bytes."""
    sizes = {"meta": 10, "structure": 10, "table": 8, "data": length}
    with h5py.File(path, "w", locking=False, libver=("v108", "v108"), userblock_size=hdf5.USERBLOCK) as f:
        spans = {one: hdf5._create_dataset(f, one, size) for one, size in sizes.items() if one != name}
        f[name] = f["data"]
    sealed(path, spans["data"])


def sealed(path: Path, data: Span) -> None:
    os.truncate(path, data.end)
    with path.open("r+b") as f:
        rest = file._checksum_of_rest(f.fileno(), data.end, data)
        f.write(seal.encode(Seal(data.end, data.offset, data.length, rest)))


@pytest.mark.parametrize("name", ["meta", "structure"])
@pytest.mark.parametrize("length", [3 << 30, 1 << 40])
def test_a_second_name_of_the_data_is_refused_and_nothing_of_that_size_is_read(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str, length: int
) -> None:
    linked(slot(root), name, length)
    read: Callable[..., bytes] = file._pread

    def small(fd: int, span: Span) -> bytes:
        assert span.length < 1 << 20
        return read(fd, span)

    monkeypatch.setattr(file, "_pread", small)
    for call in (file.read, file.verify, file.read_meta):
        with pytest.raises(DamagedError, match=r"overlap"):
            call(slot(root))
    step, _, skipped = restored(root)
    assert step == 4
    assert "overlap" in skipped[0]


def test_verifying_terabytes_that_are_not_there_is_refused_at_once(root: Path) -> None:
    length = 1 << 42
    text = b'{"buffers":[["bytes","uint8",[%d]]],"tree":null}' % length
    head = b'{"run_id":"r","trial":3,"attempt":1,"worker":"%s","step":9}' % OTHER.encode()
    path = slot(root)
    with h5py.File(path, "w", locking=False, libver=("v108", "v108"), userblock_size=hdf5.USERBLOCK) as f:
        spans = {
            "meta": hdf5._create_dataset(f, "meta", len(head)),
            "structure": hdf5._create_dataset(f, "structure", len(text)),
            "table": hdf5._create_dataset(f, "table", 32),
            "data": hdf5._create_dataset(f, "data", length),
        }
    with path.open("r+b") as f:
        table = b"".join(n.to_bytes(8, "little") for n in (1, 0, length, 0))
        for name, data in (("meta", head), ("structure", text), ("table", table)):
            os.pwrite(f.fileno(), data, spans[name].offset)
    sealed(path, spans["data"])
    for call in (file.verify, file.read):
        with pytest.raises(DamagedError, match="of memory"):
            call(path)


def test_a_slot_that_does_not_fit_into_memory_is_skipped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, GOOD)
    read = file.read

    def short(path: Path) -> Any:
        if path == slot(root):
            raise MemoryError
        return read(path)

    monkeypatch.setattr(file, "read", short)
    step, _, skipped = restored(root)
    assert step == 4
    assert "not enough memory" in skipped[0]


def test_more_containers_than_are_ever_parsed_are_refused_on_both_sides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = b'{"buffers":[],"tree":[' + b",".join([b"[]"] * (tree.MOST_NODES + 1)) + b"]}"
    with pytest.raises(ValueError, match=f"at most {tree.MOST_NODES} are parsed"):
        tree.parse(text)
    monkeypatch.setattr(tree, "MOST_NODES", 1000)
    with pytest.raises(UsageError, match="at most 1000 can be saved"):
        tree.encode([[]] * 1000)


# -- links
@pytest.mark.parametrize("which", ["checkpoints", "trial"])
def test_a_directory_that_is_a_link_is_named_and_nothing_behind_it_changes(
    tmp_path: Path, which: str
) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    behind = outside if which == "trial" else outside / "000003"
    behind.mkdir(parents=True)
    (behind / "precious").touch()
    (behind / ".t-0123456789abcdef").touch()
    link = root / "checkpoints" if which == "checkpoints" else root / "checkpoints" / "000003"
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    trial = make(root, line := Line())
    for call in (trial._slots.prepare, lambda: trial._slots.save(1, {}), trial._slots.newest):
        with pytest.raises(DamagedError, match=f"{link}: it is a symbolic link") as caught:
            call()
        assert caught.value.hint
    if which == "checkpoints":
        with pytest.raises(DamagedError, match="symbolic link"):
            trial._slots.remove(trial._layout, 3)
    else:
        trial._slots.remove(trial._layout, 3)
        assert os.listdir(root / "checkpoints") == []
    assert sorted(os.listdir(behind)) == [".t-0123456789abcdef", "precious"]
    assert line.sent == []


def test_a_trials_own_directory_is_never_behind_a_link(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trial = make(root, Line())
    assert trial.directory.is_dir()
    trial.directory.rmdir()
    outside = tmp_path_factory.mktemp("outside")
    (root / "checkpoints" / "000003" / "files").symlink_to(outside)
    with pytest.raises(DamagedError, match=r"000003/files: it is a symbolic link"):
        trial.directory  # noqa: B018
