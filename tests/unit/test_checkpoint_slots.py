from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hpc_search import durable
from hpc_search.checkpoint import Loaded, Slots, Superseded, file
from hpc_search.errors import DamagedError, HpcSearchError
from hpc_search.layout import Layout

A, B = "a" * 16, "b" * 16


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def slots(layout: Layout, attempt: int = 1, worker: str = A, *, run_id: str = "run") -> Slots:
    made = Slots(layout, run_id, 3, attempt, worker)
    made.prepare()
    return made


def state(step: int) -> dict[str, object]:
    return {"step": step, "weights": np.full(50, float(step))}


def newest(of: Slots) -> Loaded:
    loaded = of.newest()
    assert loaded is not None
    assert loaded.state["step"] == loaded.step
    np.testing.assert_array_equal(np.full(50, float(loaded.step)), loaded.state["weights"])
    return loaded


def files(layout: Layout) -> list[str]:
    return sorted(os.listdir(layout.checkpoint_dir(3)))


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ 0x10]))


def test_nothing_saved_is_none(layout: Layout) -> None:
    assert slots(layout).newest() is None
    assert Slots(layout, "run", 99, 1, A).newest() is None


def test_the_directory_is_private(layout: Layout) -> None:
    slots(layout)

    assert stat.S_IMODE(layout.checkpoint_dir(3).stat().st_mode) == 0o700
    assert stat.S_IMODE(layout.checkpoints.stat().st_mode) == 0o700


def test_saves_alternate_between_two_slots_and_the_newest_is_loaded(layout: Layout) -> None:
    own = slots(layout)
    saved = [own.save(step, state(step), [("val_acc", step)]) for step in (1, 2, 3)]

    assert [one.slot for one in saved] == [0, 1, 0]
    assert saved[1].bytes == layout.checkpoint_slot(3, 1, A, 1).stat().st_size
    assert files(layout) == [f"a1-{A}.0.h5", f"a1-{A}.1.h5"]
    assert newest(own).step == 3
    assert newest(own).history == [("val_acc", 3)]
    assert newest(own).meta.versions["python"] == sys.version.split()[0]


def test_of_two_saves_of_one_step_the_later_one_is_the_newest(layout: Layout) -> None:
    one = slots(layout)
    for value in range(4):
        one.save(7, {"value": value})
        loaded = slots(layout, attempt=2).newest()
        assert loaded is not None
        assert loaded.state == {"value": value}
    again = slots(layout)
    again.save(7, {"value": 4})
    loaded = again.newest()
    assert loaded is not None
    assert (loaded.state, loaded.meta.serial) == ({"value": 4}, 5)


def test_a_flipped_byte_costs_one_slot_which_is_named_and_kept(layout: Layout) -> None:
    own = slots(layout)
    own.save(1, state(1))
    own.save(2, state(2))
    path = layout.checkpoint_slot(3, 1, A, 1)
    size = path.stat().st_size

    for offset in [0, 30, 4095, 4096, 4103, size - 1, *random.Random(0).sample(range(size), 60)]:
        flip(path, offset)
        loaded = newest(own)
        flip(path, offset)

        assert loaded.step == 1, offset
        assert len(loaded.skipped) == 1
        assert loaded.skipped[0].startswith(f"{path.name}: ")
        assert loaded.skipped == own.skipped
    assert newest(own).step == 2
    assert own.skipped == ()


def test_nothing_to_believe_is_none_and_every_damaged_slot_is_named(layout: Layout) -> None:
    own = slots(layout)
    own.save(1, state(1))
    own.save(2, state(2))
    for slot in (0, 1):
        flip(layout.checkpoint_slot(3, 1, A, slot), 5000)

    assert own.newest() is None
    assert len(own.skipped) == 2
    assert len(files(layout)) == 2


def test_a_later_attempt_starts_from_the_newest_of_all_before_it(layout: Layout) -> None:
    slots(layout, 1, A).save(5, state(5))
    slots(layout, 2, B).newest()
    later = slots(layout, 3, B)

    assert newest(later).step == 5
    assert newest(later).meta.attempt == 1


def test_the_first_save_of_an_attempt_removes_lower_ones_once_it_is_verified(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = slots(layout, 1, A)
    before.save(1, state(1))
    before.save(2, state(2))
    now = slots(layout, 2, B)

    with monkeypatch.context() as patch, pytest.raises(DamagedError):
        patch.setattr(file, "_check_buffers", _fail)
        now.save(3, state(3))
    kept = files(layout)
    now.save(3, state(3))

    assert kept == [f"a1-{A}.0.h5", f"a1-{A}.1.h5"]
    assert files(layout) == [f"a2-{B}.0.h5"]
    assert newest(now).step == 3


def _fail(*args: object) -> None:
    raise ValueError("injected")


def test_an_attempt_ignores_later_ones_and_is_superseded_by_them(layout: Layout) -> None:
    zombie = slots(layout, 1, A)
    zombie.save(1, state(1))
    slots(layout, 2, B).save(2, state(2))

    assert zombie.newest() is None
    with pytest.raises(Superseded, match="later attempt than 1 at trial 3"):
        zombie.save(3, state(3))
    assert files(layout) == [f"a2-{B}.0.h5"]


def test_a_second_worker_of_the_same_attempt_is_left_alone(layout: Layout) -> None:
    slots(layout, 1, A).save(1, state(1))
    slots(layout, 1, B).save(2, state(2))

    assert files(layout) == [f"a1-{A}.0.h5", f"a1-{B}.0.h5"]
    assert newest(Slots(layout, "run", 3, 1, A)).step == 2


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_new_process_of_the_same_attempt_never_overwrites_the_newest_good_slot(
    layout: Layout, damaged: int
) -> None:
    own = slots(layout)
    own.save(1, state(1))
    own.save(2, state(2))
    flip(layout.checkpoint_slot(3, 1, A, damaged), 5000)

    saved = Slots(layout, "run", 3, 1, A).save(3, state(3))

    assert saved.slot == damaged


def test_a_checkpoint_of_another_run_trial_or_name_is_skipped_and_named(layout: Layout) -> None:
    slots(layout, run_id="other").save(9, state(9))
    own = slots(layout, 2, B)
    assert own.newest() is None
    assert "of run other" in own.skipped[0]

    shutil.copy(layout.checkpoint_slot(3, 1, A, 0), layout.checkpoint_slot(3, 1, B, 0))
    assert Slots(layout, "other", 3, 1, B).newest() is not None
    layout.checkpoint_slot(3, 1, A, 0).unlink()
    assert Slots(layout, "other", 3, 1, B).newest() is None


def test_after_done_everything_is_gone_and_a_zombies_save_says_so(layout: Layout) -> None:
    zombie = slots(layout)
    zombie.save(1, state(1))
    layout.trial_files(3).mkdir()
    (layout.trial_files(3) / "best.txt").write_text("x")

    Slots.remove(layout, 3)
    Slots.remove(layout, 3)

    assert os.listdir(layout.checkpoints) == []
    with pytest.raises(Superseded, match="trial 3 are gone"):
        zombie.save(2, state(2))
    assert zombie.newest() is None
    assert os.listdir(layout.checkpoints) == []


@pytest.mark.parametrize("moment", ["pwrite", "fdatasync", "fsync", "rename"])
def test_a_removal_during_a_save_is_superseded(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    own = slots(layout)
    real = getattr(os, moment)

    def remove_first(*args: object) -> object:
        monkeypatch.setattr(os, moment, real)
        Slots.remove(layout, 3)
        return real(*args)

    monkeypatch.setattr(file, "_EARLY", 1)
    monkeypatch.setattr(os, moment, remove_first)
    with pytest.raises(Superseded):
        own.save(1, state(1))

    assert os.listdir(layout.checkpoints) == []


def test_leftovers_of_killed_saves_are_removed_and_a_save_that_loses_its_file_to_that_is_repeated(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = slots(layout)
    left = durable.temporary_name(layout.checkpoint_slot(3, 1, A, 0))
    left.write_bytes(b"torn")
    real = durable.replace_file

    def clean_up_first(temporary: Path, path: Path) -> None:
        monkeypatch.setattr(durable, "replace_file", real)
        slots(layout, 2, B)
        real(temporary, path)

    monkeypatch.setattr(durable, "replace_file", clean_up_first)
    own.save(1, state(1))

    assert files(layout) == [f"a1-{A}.0.h5"]


def test_superseded_is_an_error_of_this_package() -> None:
    assert issubclass(Superseded, HpcSearchError)


def test_importing_checkpoints_imports_no_h5py_numpy_torch() -> None:
    code = "import sys, hpc_search.checkpoint; print({'h5py', 'numpy', 'torch'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
