"""When a save is due, and saves that are written beside the training."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpc_search.checkpoint import Saves, Slots, Superseded, file, state_of
from hpc_search.checkpoint.due import why_due
from hpc_search.errors import DamagedError, UsageError
from hpc_search.layout import Layout
from hpc_search.trial import Stopped
from tests.unit.test_trial import Line, make, root
from tests.waiting import wait_until

__all__ = ["root"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"elapsed": 59.9}, None),
        ({"elapsed": 60.0}, "time"),
        ({"elapsed": 0.0, "interval": 0.0}, "time"),
        ({"elapsed": 0.0, "stop": "signal SIGTERM"}, "stop"),
        # What failed is tried again soon, then less and less often, never later than it would be due.
        ({"elapsed": 9.9, "failures": 1}, None),
        ({"elapsed": 10.0, "failures": 1}, "time"),
        ({"elapsed": 19.9, "failures": 2}, None),
        ({"elapsed": 20.0, "failures": 2}, "time"),
        ({"elapsed": 60.0, "failures": 500}, "time"),
        ({"elapsed": 0.0, "interval": 0.0, "failures": 3}, "time"),
    ],
)
def test_a_save_is_due_by_stop_or_time(more: dict[str, Any], why: str | None) -> None:
    assert why_due(**{"interval": 60.0, **more}) == why


class Disk:
    """Slots in a directory whose writes wait until they are let go."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slots = Slots(Layout(path), "run", 0, 1, "0" * 16)
        self.slots.prepare()
        self.go, self.entered = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self.threads: list[threading.Thread] = []
        real: Callable[..., int] = file.write_encoded

        def write(*arguments: Any) -> int:
            self.threads.append(threading.current_thread())
            self.entered.set()
            assert self.go.wait(30)
            if self.error is not None:
                raise self.error
            return real(*arguments)

        monkeypatch.setattr(file, "write_encoded", write)

    def state(self) -> Any:
        loaded = self.slots.newest()
        return None if loaded is None else (loaded.step, loaded.state)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(tmp_path, monkeypatch)
    yield disk
    disk.go.set()
    for thread in disk.threads:
        if thread is not threading.main_thread():
            thread.join(30)


def written() -> None:
    """Wait until no save is in flight."""
    wait_until(lambda: all(thread.name != "checkpoint" for thread in threading.enumerate()))


def saves(disk: Disk, line: Line, interval: float = 0.0) -> Saves:
    return Saves(disk.slots, line.send, line.clock, interval, background=True)


def test_what_changes_while_a_save_runs_is_not_what_is_saved(disk: Disk) -> None:
    torch = pytest.importorskip("torch")
    line = Line()
    objects: dict[str, Any] = {
        "weights": torch.zeros(1000),
        "transposed": torch.zeros(30, 40).t(),
        "half": torch.zeros(5, dtype=torch.bfloat16),
        "array": np.zeros(1000),
        "strided": np.zeros(100)[::3],
        "list": [1, {"a": 2}],
        "blob": b"x" * 5000,
    }
    one = saves(disk, line)
    one.save_if_due(1, "", lambda: (state_of(objects), [[0, {"acc": 0.5}]]))
    assert disk.entered.wait(30)
    assert disk.threads != [threading.current_thread()]
    for name in ("weights", "transposed", "half"):
        objects[name].fill_(7)
    objects["array"][:] = objects["strided"][:] = 7
    objects["list"][1]["a"] = 7
    disk.go.set()
    one.collect()

    step, state = disk.state()
    assert step == 1
    for name in ("weights", "transposed", "half"):
        assert not state[name][1].any()
        assert state[name][1].shape == objects[name].shape
    assert not state["array"][1].any()
    assert not state["strided"][1].any()
    assert (state["list"][1], state["blob"][1]) == ([1, {"a": 2}], b"x" * 5000)


def test_a_state_that_changes_all_the_time_is_saved_as_it_was_at_each_call(tmp_path: Path) -> None:
    slots = Slots(Layout(tmp_path), "run", 0, 1, "0" * 16)
    slots.prepare()
    line, values = Line(), np.zeros(400_000)

    def content() -> tuple[dict[str, Any], object]:
        return {"values": values}, []

    one = Saves(slots, line.send, line.clock, 0.0, background=True)
    for step in range(1, 100_000):
        values += 1
        one.save_if_due(step, "", content)
        if step > 400 and len(line.sent) > 1:
            break
    one.collect()

    loaded = slots.newest()
    assert loaded is not None
    np.testing.assert_array_equal(np.full(400_000, float(loaded.step)), loaded.state["values"])
    assert len(line.sent) > 1
    assert [kind for kind, _ in line.sent] == ["saved"] * len(line.sent)


def test_one_save_at_a_time_and_the_next_one_due_is_skipped_meanwhile(disk: Disk) -> None:
    line, made = Line(), []

    def content(step: int) -> tuple[dict[str, Any], object]:
        made.append(step)
        return {"step": step}, []

    one = saves(disk, line)
    for step in (1, 2, 3):
        one.save_if_due(step, "", lambda step=step: content(step))  # type: ignore[misc]
    assert (made, line.sent, one.step) == ([1], [], -1)
    disk.go.set()
    written()
    one.save_if_due(4, "", lambda: content(4))
    one.collect()

    assert made == [1, 4]
    assert [content["step"] for _, content in line.sent] == [1, 4]
    assert one.step == 4
    assert disk.state() == (4, {"step": 4})


def test_a_stop_waits_for_the_save_in_flight_and_then_saves_itself(disk: Disk) -> None:
    line = Line()
    one = saves(disk, line)
    one.save_if_due(1, "", lambda: ({"step": 1}, []))
    threading.Timer(0.05, disk.go.set).start()
    one.save_if_due(2, "signal SIGTERM", lambda: ({"step": 2}, []))

    assert [(kind, content["step"]) for kind, content in line.sent] == [("saved", 1), ("saved", 2)]
    assert disk.threads[1] is threading.current_thread()
    assert disk.state() == (2, {"step": 2})


def test_a_failed_save_beside_is_told_and_tried_again_and_the_older_slot_is_intact(disk: Disk) -> None:
    line = Line()
    one = saves(disk, line, interval=60.0)
    disk.go.set()
    line.now += 60
    one.save_if_due(1, "", lambda: ({"step": 1}, []))
    one.collect()
    disk.error = OSError(28, "No space left on device")
    line.now += 60
    one.save_if_due(2, "", lambda: ({"step": 2}, []))
    one.collect()
    disk.error = None
    line.now += 9
    one.save_if_due(3, "", lambda: ({"step": 3}, []))
    assert line.sent[1:] == [("unsaved", {"step": 2, "detail": "No space left on device"})]
    assert disk.state() == (1, {"step": 1})
    line.now += 1
    one.save_if_due(4, "", lambda: ({"step": 4}, []))
    one.collect()
    assert disk.state() == (4, {"step": 4})


def test_a_save_beside_that_finds_the_trial_taken_over_ends_the_training(disk: Disk) -> None:
    line = Line()
    disk.error = Superseded("gone")
    disk.go.set()
    for later in ("save", "collect", "finish"):
        one = saves(disk, line)
        one.save_if_due(1, "", lambda: ({"step": 1}, []))
        written()
        with pytest.raises(Superseded):
            one.save_if_due(2, "", lambda: ({"step": 2}, [])) if later == "save" else getattr(one, later)()
    one = saves(disk, line)
    one.save_if_due(1, "", lambda: ({"step": 1}, []))
    one.settle()
    assert line.sent[-1][0] == "unsaved"


@pytest.mark.parametrize("beside", [False, True])
def test_a_save_that_reads_back_different_is_told_and_tried_again(disk: Disk, beside: bool) -> None:
    line = Line()
    disk.go.set()
    one = Saves(disk.slots, line.send, line.clock, 0.0, background=beside)
    one.save_if_due(1, "", lambda: ({"step": 1}, []))
    one.collect()
    disk.error = DamagedError("it reads back different")
    one.save_if_due(2, "", lambda: ({"step": 2}, []))
    one.collect()
    assert line.sent[1:] == [("unsaved", {"step": 2, "detail": "it reads back different"})]
    assert disk.state() == (1, {"step": 1})
    disk.error = None
    line.now += 10
    one.save_if_due(3, "", lambda: ({"step": 3}, []))
    one.collect()
    assert disk.state() == (3, {"step": 3})


def test_without_memory_or_threads_beside_the_training_saves_are_made_in_it(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line()
    disk.go.set()
    disk.error = MemoryError()
    one = saves(disk, line)
    one.save_if_due(1, "", lambda: ({"step": 1}, []))
    one.collect()
    assert line.sent == [("unsaved", {"step": 1, "detail": "MemoryError"})]
    disk.error = None
    one.save_if_due(2, "", lambda: ({"step": 2}, []))
    assert disk.threads[-1] is threading.current_thread()

    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    other = saves(disk, line)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        other.save_if_due(3, "", lambda: ({"step": 3}, []))
    assert disk.state() == (3, {"step": 3})
    assert line.kinds() == ["unsaved", "saved", "saved"]


def test_what_cannot_be_saved_is_known_at_the_first_save_due_or_not(root: Path) -> None:
    trial = make(root, line := Line(), save_interval=1e9)
    with pytest.raises(
        UsageError, match=r"^queue\.waiting: objects of type collections\.deque cannot be saved"
    ):
        trial.save(1, queue={"waiting": deque([1])})
    trial = make(root, line, save_interval=1e9)
    looked: list[int] = []

    class Counted:
        def state_dict(self) -> dict[str, Any]:
            looked.append(1)
            return {}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            pass

    for step in range(1, 5):
        trial.save(step, counted=Counted())
    assert looked == [1]
    assert line.sent == []


@pytest.mark.parametrize("beside", [False, True])
def test_a_search_that_keeps_checkpoints_keeps_the_state_of_the_last_save_as_it_was_then(
    root: Path, beside: bool
) -> None:
    trial = make(root, Line(), keep_checkpoints=True, save_in_background=beside)
    weights, numbers = np.zeros(3), [1]
    random.seed(5)
    for step in (1, 2):
        weights += 1
        trial.save(step, weights=weights, numbers=numbers)
    drawn = random.random()
    weights += 70
    numbers.append(2)
    trial.finish()

    found, again = np.zeros(3), [0]
    assert make(root, Line(), attempt=2).restore(weights=found, numbers=again) == 2
    assert (found.tolist(), again, random.random()) == ([2, 2, 2], [1], drawn)


@pytest.mark.parametrize(
    "error", [DamagedError("different"), OSError(5, "Input/output error"), MemoryError()]
)
@pytest.mark.parametrize("keep", [False, True])
def test_a_result_is_never_failed_by_a_save_that_fails_at_its_end(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, keep: bool
) -> None:
    def fail(*arguments: object) -> int:
        raise error

    line = Line()
    trial = make(
        root, line, keep_checkpoints=keep, save_in_background=True, save_interval=0.0 if not keep else 9.0
    )
    monkeypatch.setattr(file, "write_encoded", fail)
    trial.save(1, numbers=[1])
    trial.finish()
    trial.settle()
    assert set(line.kinds()) == {"unsaved"}


def test_what_cannot_be_saved_is_refused_at_once_also_beside(disk: Disk) -> None:
    one = saves(disk, Line())
    with pytest.raises(UsageError, match=r"state\.thing"):
        one.save_if_due(1, "", lambda: ({"thing": object()}, []))
    assert disk.threads == []


def test_a_failed_save_on_a_stop_is_tried_twice(disk: Disk) -> None:
    line = Line()
    disk.go.set()
    disk.error = OSError(5, "Input/output error")
    saves(disk, line).save_if_due(1, "signal SIGTERM", lambda: ({"step": 1}, []))
    assert len(disk.threads) == 2
    assert line.kinds() == ["unsaved", "unsaved"]


def test_a_full_disk_costs_the_older_slot_never_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = Slots(Layout(tmp_path), "run", 0, 1, "0" * 16)
    slots.prepare()
    for step in (1, 2):
        slots.save(step, {"step": step})
    real, left = file.write_encoded, []

    def full(path: Path, *arguments: Any) -> int:
        left.append(sorted(other.name for other in path.parent.iterdir()))
        if path.exists():
            raise OSError(28, "No space left on device")
        return real(path, *arguments)

    monkeypatch.setattr(file, "write_encoded", full)
    slots.save(3, {"step": 3})

    newest = f"a1-{'0' * 16}.1.h5"
    assert left == [[f"a1-{'0' * 16}.0.h5", newest], [newest]]
    loaded = slots.newest()
    assert loaded is not None
    assert loaded.step == 3


# -- the trial
def test_a_trial_saves_beside_what_is_due_by_time_and_draws_the_same_numbers(root: Path) -> None:
    drawn = []
    for beside in (False, True):
        line = Line()
        trial = make(root, line, save_interval=0.0, save_in_background=beside, number=3, attempt=1 + beside)
        random.seed(1)
        numbers: list[float] = []
        for step in range(1, 30):
            numbers.append(random.random())
            trial.save(step, numbers=numbers)
        trial.finish()
        drawn.append(numbers)
        assert set(line.kinds()) == {"saved"}
        again: list[float] = []
        # A save that was due while another was written has been skipped.
        found = make(root, Line(), attempt=3 + beside).restore(numbers=again)
        assert again == numbers[:found]
        assert [random.random() for _ in numbers[found:]] == numbers[found:]
    assert drawn[0] == drawn[1]


def test_a_stop_that_was_raised_elsewhere_leaves_no_save_half_done(root: Path) -> None:
    line = Line()
    trial = make(root, line, save_interval=0.0, save_in_background=True)
    trial.save(1, numbers=[1])
    line.stop = "signal SIGTERM"
    trial.report(1, acc=0.5)
    with pytest.raises(Stopped):
        trial.report(2, acc=0.5)
    trial.settle()
    assert line.kinds()[-1] == "saved"


def test_a_thread_of_a_save_ends_with_it(root: Path) -> None:
    trial = make(root, Line(), save_interval=0.0, save_in_background=True)
    trial.save(1, numbers=[1])
    trial.finish()
    written()
