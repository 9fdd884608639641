"""The trial object: what counts as reading, reporting, saving and stopping."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpc_search.errors import DamagedError, UsageError
from hpc_search.layout import Layout
from hpc_search.splits import FoldsSpec, Table, make_split, manifest_csv
from hpc_search.strategies.pruning import Schedule
from hpc_search.trial import NonFiniteError, Pruned, Spec, Stopped, Trial
from hpc_search.trial.params import Params
from hpc_search.trial.split import read_split

WORKER = "0123456789abcdef"


class Line:
    """A channel that remembers, and a clock that stands."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.stop = ""
        self.verdicts: list[str] = []
        self.now = 1000.0

    def send(self, kind: str, **content: Any) -> None:
        self.sent.append((kind, content))

    def stop_requested(self) -> str:
        return self.stop

    def verdict(self) -> str:
        return self.verdicts.pop(0)

    def clock(self) -> float:
        return self.now

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.sent]


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "checkpoints" / "000003").mkdir(parents=True)
    return tmp_path


def make(root: Path, line: Line, **more: Any) -> Trial:
    fields: dict[str, Any] = {
        "root": str(root),
        "run_id": "r",
        "search_id": "s",
        "worker": WORKER,
        "number": 3,
        "point": 1,
        "fold": None,
        "seed": 0,
        "params": {"lr": 0.1, "width": 4},
        "attempt": 1,
        "metric": "acc",
        "sampled": ("lr", "width"),
        "save_interval": 60.0,
    }
    return Trial(Spec(**fields | more), line, line.clock)


# -- parameters
def test_reading_by_name_counts_and_iterating_does_not() -> None:
    params = Params({"a": 1, "b": 2, "c": 3})
    assert dict(**params) == dict(params.items()) == {"a": 1, "b": 2, "c": 3}
    assert "a" in params
    assert list(params.values()) == [1, 2, 3]
    assert params.read == set()
    assert (params["a"], params.get("b"), params.get("x", 9), params.get("y")) == (1, 2, 9, None)
    assert params.read == {"a", "b"}


def test_a_group_gives_its_parameters_and_reads_count_for_each() -> None:
    values = {
        "head.layers": 2,
        "head.width": 64,
        "head.norm.kind": "rms",
        "model": "cnn",
        "model.cnn.kernel": 3,
    }
    params = Params(values)
    head = params["head"]
    assert head == {"layers": 2, "width": 64, "norm": {"kind": "rms"}}
    assert dict(**head) == head
    assert params.read == set()
    assert (head["layers"], head["norm"]["kind"]) == (2, "rms")
    assert (params["model"], params["model.cnn"]["kernel"]) == ("cnn", 3)
    assert params.read == {"head.layers", "head.norm.kind", "model", "model.cnn.kernel"}
    assert "head" in params
    assert "tail" not in params
    assert params.get("head")["width"] == 64
    with pytest.raises(KeyError, match="no hyperparameter 'depth'; the search has: layers, width, norm"):
        head["depth"]


def test_who_asks_for_an_absent_parameter_has_read_it(root: Path, line: Line) -> None:
    more = {"params": {"optimizer": "adamw", "width": 4, "ffn": 16}, "sampled": ("optimizer", "width")}
    trial = make(root, line, **more, implied={"momentum": ("optimizer",), "ffn": ("width",)})
    with pytest.raises(KeyError, match="this point has no 'momentum': its condition"):
        trial.params["momentum"]
    assert trial.params.get("momentum", 0) == 0
    assert trial.unread == ["width"]
    assert trial.params["ffn"] == 16
    assert trial.unread == []


def test_an_unknown_parameter_is_named_with_the_ones_there_are() -> None:
    with pytest.raises(KeyError, match="no hyperparameter 'learning_rat'; the search has: learning_rate"):
        Params({"learning_rate": 1})["learning_rat"]


def test_what_the_search_varies_and_the_trial_never_reads_is_unread(root: Path, line: Line) -> None:
    trial = make(root, line)
    assert trial.unread == ["lr", "width"]
    trial.params["lr"]
    assert trial.unread == ["width"]
    trial.used("width")
    assert trial.unread == []


def test_only_names_that_exist_can_be_said_to_be_used(root: Path, line: Line) -> None:
    with pytest.raises(UsageError, match="no hyperparameter 'widht'"):
        make(root, line).used("widht", "lr")


def test_a_group_is_used_with_all_it_has_and_a_parameter_that_the_point_does_not_have_may_be_named(
    root: Path, line: Line
) -> None:
    values = {"head.layers": 2, "head.width": 64, "optimizer": "adamw", "model": "cnn", "model.cnn.kernel": 3}
    trial = make(root, line, params=values, sampled=tuple(values), implied={"momentum": ("optimizer",)})
    trial.used("head")
    assert trial.unread == ["optimizer", "model", "model.cnn.kernel"]
    trial.used("momentum")
    # It is a parameter and not a group: what belongs to its sub-space has to be named too.
    trial.used("model")
    assert trial.unread == ["model.cnn.kernel"]


def test_the_accumulation_is_noticed_when_it_is_read(root: Path, line: Line) -> None:
    trial = make(root, line, accumulation=4)
    assert not trial.accumulates
    assert trial.accumulation == 4
    assert trial.accumulates


# -- reports
def test_reports_are_sent_and_kept_once_a_step(root: Path, line: Line) -> None:
    trial = make(root, line)
    trial.report(0, acc=0.1)
    trial.report(1, acc=0.2, loss=3)
    trial.report(1, acc=0.3)
    assert trial.history == [(0, {"acc": 0.1}), (1, {"acc": 0.3})]
    assert line.sent[-1] == ("report", {"step": 1, "metrics": {"acc": 0.3}})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_selection_metric_that_is_not_finite_ends_the_trial(root: Path, line: Line, value: float) -> None:
    with pytest.raises(NonFiniteError, match="at step 5"):
        make(root, line).report(5, acc=value)
    assert line.sent == []


def test_other_metrics_that_are_not_finite_are_left_out(root: Path, line: Line) -> None:
    make(root, line).report(0, acc=0.5, loss=math.nan)
    assert line.sent == [("report", {"step": 0, "metrics": {"acc": 0.5}})]


@pytest.mark.parametrize("step", [1.5, "1", None, -1, 2**32])
@pytest.mark.parametrize("call", ["report", "save"])
def test_a_step_is_a_whole_number_from_zero(root: Path, line: Line, call: str, step: object) -> None:
    with pytest.raises(UsageError, match=f"trial.{call}: the step is"):
        getattr(make(root, line), call)(step)


def test_numbers_of_numpy_are_taken(root: Path, line: Line) -> None:
    trial = make(root, line)
    trial.report(np.int64(2), acc=np.float32(0.5))  # type: ignore[arg-type]
    assert line.sent == [("report", {"step": 2, "metrics": {"acc": 0.5}})]
    assert type(line.sent[0][1]["step"]) is int


def test_a_metric_that_is_no_number_is_named(root: Path, line: Line) -> None:
    with pytest.raises(UsageError, match="loss is 'high', not a number"):
        make(root, line).report(0, loss="high")  # type: ignore[arg-type]


# -- saves
def test_a_save_writes_when_it_is_due_by_time(root: Path, line: Line) -> None:
    trial = make(root, line)
    state = {"n": 1}
    trial.save(1, state=state)
    line.now += 59
    trial.save(2, state=state)
    assert line.kinds() == []
    line.now += 1
    trial.save(3, state=state)
    trial.save(4, state=state)
    assert [(kind, content["step"]) for kind, content in line.sent] == [("saved", 3)]


def test_a_save_interval_of_zero_writes_at_every_save(root: Path, line: Line) -> None:
    trial = make(root, line, save_interval=0.0)
    for step in range(3):
        trial.save(step, state={"n": step})
    assert line.kinds() == ["saved"] * 3


def test_a_stop_saves_at_once_and_stops(root: Path, line: Line) -> None:
    trial = make(root, line)
    line.stop = "signal SIGTERM"
    with pytest.raises(Stopped):
        trial.save(7, state={"n": 7})
    assert [(kind, content.get("step")) for kind, content in line.sent] == [("saved", 7), ("stopping", None)]


def test_what_was_saved_is_restored_with_history_and_generators(root: Path, line: Line) -> None:
    import random

    first = make(root, line, save_interval=0.0)
    state: dict[str, Any] = {"numbers": [1, 2]}
    first.report(0, acc=0.25)
    first.save(1, state=state)
    expected = random.random()
    second = make(root, line, attempt=2)
    restored: dict[str, Any] = {"numbers": []}
    assert second.restore(state=restored) == 1
    assert (restored, second.history) == (state, [(0, {"acc": 0.25})])
    assert random.random() == expected
    assert line.sent[-2:] == [
        ("restored", {"step": 1, "skipped": [], "differs": []}),
        # It may be in no journal: the worker that it was told may have died at once.
        ("report", {"step": 0, "metrics": {"acc": 0.25}}),
    ]


def test_what_was_read_before_the_save_counts_for_the_attempt_that_resumes(root: Path, line: Line) -> None:
    first = make(root, line, sampled=("lr", "width"), save_interval=0.0)
    first.params["lr"]
    first.used("width")
    first.save(1, state={"n": 1})

    second = make(root, line, sampled=("lr", "width"), attempt=2)
    assert second.unread == ["lr", "width"]
    assert second.restore(state={}) == 1
    assert second.unread == []


def test_nothing_saved_restores_to_step_zero(root: Path, line: Line) -> None:
    assert make(root, line).restore(state={}) == 0
    assert line.sent == [("restored", {"step": 0, "skipped": [], "differs": []})]


def test_a_save_that_has_no_room_is_told_and_the_training_goes_on(
    root: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make(root, line, save_interval=0.0)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trial._slots, "write", fail)
    trial.save(1, state={"n": 1})
    assert line.sent == [("unsaved", {"step": 1, "detail": "No space left on device"})]


def test_the_last_state_is_saved_only_where_checkpoints_are_kept(root: Path, line: Line) -> None:
    for keep in (False, True):
        trial = make(root, line, keep_checkpoints=keep)
        trial.save(5, state={"n": 5})
        trial.finish()
        trial.finish()
    assert line.kinds() == ["saved"]


# -- stops
def test_a_stop_waits_for_the_save_that_follows_a_report(root: Path, line: Line) -> None:
    trial = make(root, line)
    trial.save(1, state={"n": 1})
    line.stop = "signal SIGTERM"
    trial.report(1, acc=0.5)
    with pytest.raises(Stopped):
        trial.save(2, state={"n": 2})


def test_a_trial_that_never_saves_stops_at_its_report(root: Path, line: Line) -> None:
    trial = make(root, line)
    line.stop = "signal SIGTERM"
    with pytest.raises(Stopped):
        trial.report(0, acc=0.5)
    assert line.kinds() == ["report", "stopping"]


def test_a_trial_that_saved_once_and_then_only_reports_stops_too(root: Path, line: Line) -> None:
    trial = make(root, line)
    trial.save(1, state={"n": 1})
    line.stop = "signal SIGTERM"
    trial.report(1, acc=0.5)
    with pytest.raises(Stopped):
        trial.report(2, acc=0.5)


def test_alive_stops_only_a_trial_that_never_saves(root: Path, line: Line) -> None:
    trial = make(root, line)
    trial.alive()
    line.stop = "signal SIGTERM"
    with pytest.raises(Stopped):
        trial.alive()
    line.stop = ""
    trial.save(1, state={"n": 1})
    line.stop = "signal SIGTERM"
    trial.alive()


def test_a_stop_passes_through_except_exception() -> None:
    assert not issubclass(Stopped, Exception)


# -- samples
def test_scores_are_sent_as_plain_numbers(root: Path, line: Line) -> None:
    make(root, line).report_samples(np.arange(2), np.array([0.5, 1], dtype="float32"))  # type: ignore[arg-type]
    assert line.sent == [("samples", {"ids": [0, 1], "scores": [0.5, 1.0]})]


@pytest.mark.parametrize(
    ("ids", "scores", "words"),
    [
        ([1], [0.5, 0.6], "1 ids and 2 scores"),
        ([1], [math.nan], "not finite"),
        ([1.5], [0.5], "neither a text nor a whole number"),
        ([None], [0.5], "neither a text"),
    ],
)
def test_scores_that_do_not_fit_are_refused(
    root: Path, line: Line, ids: list[Any], scores: list[float], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        make(root, line).report_samples(ids, scores)


# -- places and splits
def test_the_directory_is_made_when_asked_for_and_persists(root: Path, line: Line) -> None:
    path = make(root, line).directory
    (path / "x").touch()
    assert (make(root, line, attempt=2).directory / "x").exists()
    assert path == Layout(root).trial_files(3)


def test_a_search_without_folds_has_no_split(root: Path, line: Line) -> None:
    with pytest.raises(UsageError, match="no folds"):
        _ = make(root, line).split


def with_splits(root: Path, ids: tuple[str | int, ...]) -> Layout:
    import hashlib

    import msgspec

    layout = Layout(root)
    table = Table(ids=ids)
    split = make_split(table, FoldsSpec(kind="kfold", n=2))
    files = {}
    for number, fold in enumerate(split.folds):
        for part, rows in (("train", fold.train), ("val", fold.val)):
            path = layout.split_manifest(number, part)
            path.parent.mkdir(parents=True, exist_ok=True)
            content = manifest_csv(table, rows).encode()
            path.write_bytes(content)
            digest = hashlib.blake2b(content, digest_size=16).hexdigest()
            files[path.relative_to(root).as_posix()] = {"digest": digest, "rows": len(rows)}
    kind = "int" if isinstance(ids[0], int) else "str"
    index = {
        "ids": kind,
        "spec": {"kind": "kfold", "n": 2},
        "data": {"spec": {}, "rows": len(ids), "table": ""},
        "folds": [
            {"number": n, "sides": {part: f"splits/fold_{n:02d}/{part}.csv" for part in ("train", "val")}}
            for n in range(2)
        ],
        "files": files,
    }
    layout.splits_index.write_bytes(msgspec.json.encode(index))
    return layout


@pytest.mark.parametrize("ids", [(1, 2, 3, 4), ("a", 'b"', "c,d", "e\nf")])
def test_the_split_holds_the_ids_of_the_plan(root: Path, line: Line, ids: tuple[str | int, ...]) -> None:
    with_splits(root, ids)
    split = make(root, line, fold=1).split
    assert sorted([*split.train, *split.val], key=str) == sorted(ids, key=str)
    assert not set(split.train) & set(split.val)


def test_a_changed_or_missing_manifest_is_refused(root: Path) -> None:
    layout = with_splits(root, (1, 2, 3, 4))
    path = layout.split_manifest(0, "val")
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    path.write_bytes(path.read_bytes() + b"9\n")
    with pytest.raises(DamagedError, match="changed after the plan"):
        read_split(layout, 0)
    path.unlink()
    with pytest.raises(DamagedError, match="cannot be read"):
        read_split(layout, 0)


# -- verdicts
RUNGS = Schedule(rungs=(1, 3))


def test_a_report_that_completes_a_rung_waits_for_its_verdict(root: Path, line: Line) -> None:
    trial = make(root, line, schedule=RUNGS)
    line.verdicts = ["continue", "continue"]
    for step in range(5):
        trial.report(step, acc=0.5)
    asked = {content["step"]: content["rung"] for _, content in line.sent if "rung" in content}
    assert asked == {0: 0, 2: 1}
    assert line.verdicts == []


def test_a_pruned_trial_ends_at_its_report(root: Path, line: Line) -> None:
    line.verdicts = ["prune"]
    with pytest.raises(Pruned):
        make(root, line, schedule=RUNGS).report(0, acc=0.5)


def test_a_paused_trial_saves_whatever_its_interval_and_stops(root: Path, line: Line) -> None:
    trial = make(root, line, schedule=RUNGS)
    line.verdicts = ["pause"]
    trial.report(0, acc=0.5)
    with pytest.raises(Stopped):
        trial.save(1, state={"a": 1})
    assert trial.paused
    assert line.kinds()[-2:] == ["saved", "stopping"]


def test_a_paused_trial_that_does_not_save_stops_at_its_next_report(root: Path, line: Line) -> None:
    trial = make(root, line, schedule=RUNGS)
    line.verdicts = ["pause"]
    trial.report(0, acc=0.5)
    with pytest.raises(Stopped):
        trial.report(1, acc=0.6)
    assert line.kinds() == ["report", "stopping"]


def test_a_report_at_a_rung_must_have_the_metric(root: Path, line: Line) -> None:
    trial = make(root, line, schedule=RUNGS)
    with pytest.raises(UsageError, match="compares trials at step 0, and this report has no acc"):
        trial.report(0, loss=0.5)
    trial = make(root, line, schedule=Schedule(interval=1))
    trial.report(0, loss=0.5)
    line.verdicts = ["continue"]
    trial.report(1, acc=0.5)


def test_a_restored_trial_hears_what_was_decided_at_its_last_rung(root: Path, line: Line) -> None:
    trial = make(root, line, schedule=RUNGS, save_interval=0.0)
    line.verdicts = ["continue"]
    trial.report(0, acc=0.5)
    # The next rung is after three steps: this one is not judged, and has no metric.
    trial.report(1, loss=0.5)
    trial.save(2, state={"a": 1})
    for decision in ("continue", "pause", "prune"):
        line.sent.clear()
        line.verdicts = [decision]
        again = make(root, line, schedule=RUNGS, attempt=2)
        if decision == "continue":
            assert again.restore(state={"a": 0}) == 2
            again.report(1, loss=0.5)
        else:
            with pytest.raises(Stopped if decision == "pause" else Pruned):
                again.restore(state={"a": 0})
        judged = [(content["step"], content["rung"]) for _, content in line.sent if "rung" in content]
        assert judged == [(0, 0)]
        assert again.paused == (decision == "pause")


def test_what_a_trial_was_told_to_end_by_holds_though_it_catches_it(root: Path, line: Line) -> None:
    for decision, told in (("pause", Stopped), ("prune", Pruned)):
        trial = make(root, line, schedule=RUNGS)
        trial.obey()
        line.verdicts = [decision]
        with suppress(Stopped, Pruned):
            trial.report(0, acc=0.5)
            trial.save(1, state={"a": 1})
        with pytest.raises(told):
            trial.obey()
