"""collect: journals in, RUN/results out."""

from __future__ import annotations

import csv
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hpc_search.collect import collect
from hpc_search.collect.columns import ABSENT, Column, csv_text
from hpc_search.collect.parquet import parquet_bytes
from hpc_search.errors import UsageError
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records.journal import Note
from hpc_search.records.plan import encode_plan
from hpc_search.records.seal import SealEntry, encode_seal, parse_seal
from hpc_search.records.search import Metric
from hpc_search.slices.observed import Device, Observed, encode
from tests.run_builder import RunBuilder, worker_id


def finished(root: Path, **options: Any) -> RunBuilder:
    """A run of 4 points x 2 folds, all done; point 2 is best."""
    run = RunBuilder(root, **options)
    for trial in range(run.plan.trials):
        run.end(trial, [0.1, 0.2, 0.9, 0.3][trial % 4] + trial // 4 / 100, worker=trial % 3 + 1, reports=2)
    return run


def table(layout: Layout, name: str) -> list[dict[str, str]]:
    with layout.result(name).open(newline="") as file:
        return list(csv.DictReader(file))


def document(layout: Layout, name: str) -> dict[str, Any]:
    found = json.loads(layout.result(name).read_text())
    assert isinstance(found, dict)
    return found


def test_of_several_objectives_the_points_that_no_other_beats_are_the_front(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    several = (Metric(name="val_acc", goal="max"), Metric(name="seconds", goal="min"))
    search = msgspec.structs.replace(run.plan.search, objectives=several)
    run.plan = msgspec.structs.replace(run.plan, search=search)
    run.layout.plan.write_bytes(encode_plan(run.plan))
    for trial in range(run.plan.trials - 1):
        point, fold = trial % 4, trial // 4
        acc, seconds = [(0.9, 5.0), (0.8, 3.0), (0.7, 4.0), (0.99, 0.1)][point]
        run.end(trial, acc, metrics={"val_acc": acc, "seconds": seconds + fold})
    layout = run.write()

    collected = collect(layout)

    front = document(layout, "pareto_front.json")
    # Point 3 beats all of them, and is not complete.
    assert [(one["point"], one["means"]["seconds"], one["n"]) for one in front["points"]] == [
        (0, 5.5, 2),
        (1, 3.5, 2),
    ]
    assert front["objectives"][1] == {"name": "seconds", "goal": "min"}
    rows = {row["point"]: row for row in table(layout, "summary.csv")}
    assert [rows[point]["pareto"] for point in "0123"] == ["0", "0", "1", ""]
    assert (rows["2"]["mean_val_acc"], rows["2"]["mean_seconds"]) == ("0.7", "4.5")
    assert [row["pareto"] for row in table(layout, "results.csv")] == ["0", "0", "1", "", "0", "0", "1"]
    assert "best by the first objective: point 0" in collected.text()
    assert "Pareto front: 2 points that no other one beats" in collected.text()
    assert "point 1: val_acc = 0.8, seconds = 3.5" in collected.text()


def test_of_points_equal_in_the_first_objective_the_best_is_one_that_no_other_beats(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    several = (Metric(name="val_acc", goal="max"), Metric(name="seconds", goal="min"))
    run.plan = msgspec.structs.replace(
        run.plan, search=msgspec.structs.replace(run.plan.search, objectives=several)
    )
    run.layout.plan.write_bytes(encode_plan(run.plan))
    for trial in range(run.plan.trials):
        acc, seconds = [(0.5, 1.0), (0.9, 3.0), (0.9, 2.0), (0.9, 2.5)][trial % 4]
        run.end(trial, acc, metrics={"val_acc": acc, "seconds": seconds})
    layout = run.write()

    collect(layout)

    assert document(layout, "best_hyperparams.json")["point"] == 2
    rows = table(layout, "summary.csv")
    assert [(row["point"], row["rank"], row["pareto"]) for row in rows] == [
        ("2", "1", "0"),
        ("3", "2", "1"),
        ("1", "3", "2"),
        ("0", "4", "0"),
    ]


def test_each_search_of_several_has_its_best_and_its_front_and_there_is_none_of_all(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", points=8, folds=0)
    (block,) = run.plan.blocks
    objectives = (Metric(name="val_acc", goal="max"), Metric(name="seconds", goal="min"))
    one = msgspec.structs.replace(run.plan.search.parts[0], name="one", objectives=objectives)
    parts = (one, msgspec.structs.replace(one, name="two", objectives=()))
    run.plan = msgspec.structs.replace(
        run.plan,
        search=msgspec.structs.replace(run.plan.search, searches=parts),
        blocks=(
            msgspec.structs.replace(block, part="one", points=4),
            msgspec.structs.replace(block, part="two", points=4, first=4, first_point=4),
        ),
    )
    run.layout.plan.write_bytes(encode_plan(run.plan))
    for trial in range(run.plan.trials):
        run.end(trial, trial % 4 / 10, metrics={"val_acc": trial % 4 / 10, "seconds": trial % 4 + 1.0})
    layout = run.write()

    collected = collect(layout)

    assert (collected.best, collected.pareto) == (None, ())
    assert "several searches" in collected.reason
    assert [found.best.point for found in collected.searches if found.best is not None] == [3, 7]
    assert [len(found.pareto) for found in collected.searches] == [4, 0]
    text = collected.text()
    assert "one: best by the first objective: point 3" in text
    assert "one: Pareto front: 4 points that no other one beats" in text
    assert "two: best: point 7" in text


def test_with_one_objective_there_is_no_front(tmp_path: Path) -> None:
    layout = finished(tmp_path / "run").write()

    assert "Pareto" not in collect(layout).text()
    assert not layout.result("pareto_front.json").exists()
    assert "pareto" not in table(layout, "summary.csv")[0]


def test_the_best_hyperparameters_have_mean_and_sd_over_the_folds(tmp_path: Path) -> None:
    layout = finished(tmp_path / "run").write()

    collected = collect(layout)

    best = document(layout, "best_hyperparams.json")
    assert best["params"] == {"width": 2, "epochs": 3}
    assert (best["point"], best["n"], best["metric"]) == (2, 2, {"name": "val_acc", "goal": "max"})
    assert best["mean"] == pytest.approx(0.905)
    assert best["sd"] == pytest.approx(0.0070710678)
    assert [value["fold"] for value in best["values"]] == [0, 1]
    assert "best: point 2" in collected.text()
    assert "over 2 folds" in collected.text()
    assert "best_hyperparams.json" in collected.text()


def test_results_have_one_row_a_finished_trial_by_number(tmp_path: Path) -> None:
    layout = finished(tmp_path / "run").write()

    collect(layout)

    rows = table(layout, "results.csv")
    assert [int(row["trial"]) for row in rows] == list(range(8))
    assert list(rows[0]) == [
        *("trial", "point", "fold", "seed", "state", "cause", "value"),
        *("param_width", "param_epochs", "metric_val_acc"),
        *(
            "slice_kind",
            "slice_name",
            "slice_count",
            "slice_uuid",
            "slice_memory",
            "slice_sms",
            "slice_driver",
        ),
    ]
    assert float(rows[5]["value"]) == 0.2 + 0.01


def test_parquet_holds_the_same_rows_with_types(tmp_path: Path) -> None:
    from pyarrow import parquet

    layout = finished(tmp_path / "run").write()

    collect(layout)

    found = parquet.read_table(layout.result("results.parquet"))
    assert found.column("param_width").to_pylist() == [0, 1, 2, 3] * 2
    assert [float(row["value"]) for row in table(layout, "results.csv")] == found.column("value").to_pylist()
    assert str(found.schema.field("value").type) == "double"
    assert str(found.schema.field("fold").type) == "int64"


def test_a_disturbed_run_gives_the_same_bytes_of_results(tmp_path: Path) -> None:
    calm = finished(tmp_path / "calm").write()
    disturbed = RunBuilder(tmp_path / "disturbed")
    for trial in reversed(range(8)):
        if trial % 2:
            disturbed.end(trial, state="pending", cause="preempted", worker=9, t=5.0)
        value = [0.1, 0.2, 0.9, 0.3][trial % 4] + trial // 4 / 100
        disturbed.end(trial, value, attempt=1 + trial % 2, worker=20 + trial, seconds=77.0, node="other")

    collect(calm)
    collect(disturbed.write())

    for name in ("results.csv", "results.parquet", "summary.csv", "search_results.json", "top_k.json"):
        assert calm.result(name).read_bytes() == disturbed.layout.result(name).read_bytes()


def test_attempts_list_every_attempt_that_ended_with_its_worker(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    run.end(0, state="pending", cause="preempted", worker=1)
    run.end(0, 0.5, attempt=2, worker=2, node="node-b")
    layout = run.write()

    collect(layout)

    rows = table(layout, "attempts.csv")
    assert [(row["attempt"], row["state"], row["result"]) for row in rows] == [
        ("1", "pending", "false"),
        ("2", "done", "true"),
    ]
    assert rows[1]["worker"] == worker_id(2)
    assert (rows[1]["node"], rows[1]["seat"], rows[1]["seconds"]) == ("node-b", "local:2", "2.0")
    assert rows[1]["started"] == "1970-01-01T00:15:00Z"


def test_nothing_finished_is_said_in_words_and_gives_empty_tables(tmp_path: Path) -> None:
    layout = RunBuilder(tmp_path / "run").write()

    collected = collect(layout)

    assert "0 of 8 trials finished" in collected.text()
    assert "nothing is finished yet" in collected.text()
    assert table(layout, "results.csv") == []
    assert document(layout, "best_hyperparams.json")["params"] is None
    assert document(layout, "search_results.json")["results"] == []
    assert list(layout.seals.iterdir()) == []


def test_points_with_failed_folds_are_listed_below_and_never_best(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    for trial in range(8):
        if trial == 6:
            run.end(trial, state="failed", cause="oom", detail="RuntimeError: CUDA out of memory")
        else:
            run.end(trial, 0.9 if trial == 2 else 0.1)
    layout = run.write()

    collected = collect(layout)

    assert collected.best is not None
    assert collected.best.point == 0
    assert (collected.failed, collected.causes, collected.points_incomplete) == (1, {"oom": 1}, 1)
    last = table(layout, "summary.csv")[-1]
    assert (last["point"], last["complete"], last["rank"], last["missing"]) == (
        "2",
        "false",
        "4",
        "1 failed(oom)",
    )
    assert table(layout, "attempts.csv")[6]["detail"] == "RuntimeError: CUDA out of memory"


def test_a_trial_that_was_skipped_before_its_point_was_proposed_hides_no_parameters(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    # Fold 0 of point 1 and all of point 2; fold 1 of point 1 was proposed and run later.
    for trial in (1, 2, 6):
        run.end(trial, state="pruned", params={})
    run.end(5, 0.5)
    layout = run.write()
    collect(layout, run.plan)

    rows = {row["trial"]: row["param_width"] for row in table(layout, "results.csv")}
    assert rows == {"1": "", "2": "", "5": "1", "6": ""}
    points = {row["point"]: row["param_width"] for row in table(layout, "summary.csv")}
    assert points == {"1": "1", "2": ""}


def test_no_complete_point_gives_the_reason_instead_of_a_best(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    run.end(0, 0.5)
    run.end(4, state="failed", cause="error")
    layout = run.write()

    collected = collect(layout)

    best = document(layout, "best_hyperparams.json")
    assert best["params"] is None
    assert "1 failed(error)" in best["reason"]
    assert best["reason"] in collected.text()
    assert document(layout, "top_k.json")["points"] == []


def test_a_torn_line_and_a_damaged_line_cost_only_themselves(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    lines = run.lines[worker_id(1)]
    place = next(i for i, line in enumerate(lines) if line.startswith(b'{"k":"end"'))
    lines[place] = lines[place].replace(b'"value":0.', b'"value":7.')
    layout = run.write(torn={2: b'{"k":"end","n":99,"trial":7'})

    collected = collect(layout)

    assert collected.finished == 7
    assert "7.1" not in layout.result("results.csv").read_text()
    assert "1 end records do not verify" in collected.text()


def test_collect_twice_gives_the_same_bytes_and_one_seal(tmp_path: Path) -> None:
    layout = finished(tmp_path / "run").write()
    collect(layout)
    before = {path.name: path.read_bytes() for path in layout.results.iterdir()}

    collect(layout)

    assert {path.name: path.read_bytes() for path in layout.results.iterdir()} == before
    assert [path.name for path in layout.seals.iterdir()] == ["0001.jsonl"]


def test_a_seal_holds_only_results_that_no_earlier_seal_has(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    run.end(0, 0.5)
    first = run.end(1, 0.6)
    collect(run.write())
    second = run.end(2, 0.7, worker=2)

    collect(run.write())

    seals = [parse_seal(run.layout.seal(number).read_bytes()) for number in (1, 2)]
    assert [[entry.trial for entry in seal] for seal in seals] == [[0, 1], [2]]
    assert seals[0][1].end == first
    assert seals[1] == [SealEntry(trial=2, attempt=1, worker=worker_id(2), end=second)]


def test_a_sealed_result_never_changes_when_a_late_end_appears(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    run.end(0, 0.5, attempt=2, worker=2)
    collect(run.write())
    run.end(0, 0.1, attempt=1, worker=1, accept=False)

    collect(run.write())

    (row,) = table(run.layout, "results.csv")
    assert row["value"] == "0.5"
    assert [line["result"] for line in table(run.layout, "attempts.csv")] == ["false", "true"]


def test_a_sealed_result_that_vanished_is_reported(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    run.end(0, 0.5, worker=1)
    layout = run.write()
    collect(layout)
    layout.journal(worker_id(1), 1).unlink()

    collected = collect(layout)

    assert "1 results that an earlier collect published are no longer in the journals" in collected.text()


def test_concurrent_collects_agree_on_one_gapless_list_of_seals(tmp_path: Path) -> None:
    layout = finished(tmp_path / "run").write()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            collect(layout)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    entries = [
        entry.trial for path in sorted(layout.seals.iterdir()) for entry in parse_seal(path.read_bytes())
    ]
    assert sorted(entries) == list(range(8))
    assert len(table(layout, "results.csv")) == 8
    assert not [path for path in layout.results.iterdir() if path.name.startswith(".t-")]


def test_lines_repeated_in_a_second_segment_are_one_attempt(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    layout = run.write()
    layout.journal(worker_id(1), 2).write_bytes(b"".join(run.lines[worker_id(1)]))

    collect(layout)

    assert len(table(layout, "attempts.csv")) == 8


def test_effective_parameters_have_columns_of_their_own(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    run.end(0, 0.5)
    run.end(1, 0.5, effective={"batch_size": 16}, accumulation=4)
    layout = run.write()

    collect(layout)

    rows = table(layout, "results.csv")
    assert [row["effective_batch_size"] for row in rows] == ["", "16"]
    assert [row["effective_accumulation"] for row in rows] == ["1", "4"]


def test_audit_log_is_the_merge_by_time_worker_and_sequence(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    run.end(1, 0.5, worker=2, t=50.0)
    run.end(0, state="failed", cause="error", detail="first\nlast | line", worker=1, t=60.0)
    layout = run.write()

    collect(layout)

    lines = [line.split(" | ") for line in layout.audit.read_text().splitlines()]
    # And one that says that it was planned.
    assert len(lines) == sum(map(len, run.lines.values())) + 1
    times = [line[0] for line in lines]
    assert times == sorted(times)
    claimed = next(line for line in lines if line[1] == "trial claimed")
    assert claimed[0] == "1970-01-01T00:00:50.000+00:00"
    assert claimed[2:4] == ["trial 1 attempt 1 point 1 fold 0 seed 0", f"worker {worker_id(2)}"]
    assert '"first\\nlast | line"' in layout.audit.read_text()


def test_audit_log_is_written_only_when_wanted(tmp_path: Path) -> None:
    layout = finished(tmp_path / "run").write()

    collect(layout, audit=False)

    assert not layout.audit.exists()


def test_a_directory_that_is_no_run_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run"):
        collect(Layout(tmp_path))


def test_results_that_cannot_be_written_are_an_error_that_names_the_place(tmp_path: Path) -> None:
    layout = finished(tmp_path / "run").write()
    layout.results.write_text("a file where a directory belongs")

    with pytest.raises(UsageError, match="results"):
        collect(layout)


def test_collect_reads_what_the_ledger_calls_the_results(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    run.end(3, 0.999, attempt=2, worker=3, accept=False)
    layout = run.write()

    collect(layout)

    values = {int(row["trial"]): float(row["value"]) for row in table(layout, "results.csv")}
    assert values == {number: result.end.value for number, result in history.results(layout).items()}


def test_csv_protects_spreadsheets_and_quotes_what_needs_it() -> None:
    values = [
        "=1+1",
        "-x",
        "+x",
        "@x",
        'a"b',
        "two\nlines",
        "a\rb",
        "a,b",
        "",
        -1.5,
        True,
        None,
        ABSENT,
        {"b": 1, "a": [2]},
    ]

    text = csv_text([Column("value", values, null="null"), Column("i", list(range(len(values))))])

    found = [row[0] for row in csv.reader(text.decode().splitlines(keepends=True))][1:]
    assert found[:5] == ["'=1+1", "'-x", "'+x", "'@x", 'a"b']
    assert found[5:9] == ["two\nlines", "a\rb", "a,b", ""]
    assert found[9:] == ["-1.5", "true", "null", "", '{"a":[2],"b":1}']


def test_parquet_keeps_mixed_values_as_json_text_and_null_as_null() -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = [
        Column("mixed", [1, "a", None, ABSENT, {"b": 1}]),
        Column("numbers", [1, 0.5, None, ABSENT, 2]),
        Column("flags", [True, None, False, ABSENT, True]),
        Column("texts", ["é", None, "", ABSENT, "x\ny"]),
        Column("picked", [10, None], pick=[1, 0, 0, 1, 0]),
        Column("nothing", [None] * 5),
        Column("large", [2**70, 1, None, None, 0]),
    ]

    found = parquet.read_table(pa.BufferReader(parquet_bytes(columns))).to_pydict()

    assert found["mixed"] == ["1", '"a"', None, None, '{"b":1}']
    assert found["numbers"] == [1.0, 0.5, None, None, 2.0]
    assert found["flags"] == [True, None, False, None, True]
    assert found["texts"] == ["é", None, "", None, "x\ny"]
    assert found["picked"] == [None, 10, 10, None, 10]
    assert found["nothing"] == [None] * 5
    assert found["large"] == [str(2**70), "1", None, None, "0"]


def test_a_damaged_line_of_a_seal_costs_only_itself() -> None:
    entries = [SealEntry(trial=n, attempt=1, worker=worker_id(n), end=f"{n:016x}") for n in range(3)]
    data = encode_seal(reversed(entries))

    assert parse_seal(data) == entries
    assert parse_seal(data.replace(b'"trial":1', b'"trial":8')) == [entries[0], entries[2]]
    assert parse_seal(data[:-30]) == entries[:2]
    assert parse_seal(b"") == []


def test_a_seal_of_an_unknown_version_is_refused() -> None:
    import xxhash

    head = b'{"format":"hpc_search.seal","version":2'
    line = head + b',"c":"' + xxhash.xxh3_64_hexdigest(head).encode() + b'"}\n'

    with pytest.raises(Exception, match="version 2"):
        parse_seal(line)


def test_results_whose_journals_were_deleted_are_missed_aloud(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    for trial in range(3):
        run.end(trial, 0.5)
    run.write()
    shutil.rmtree(run.layout.workers)

    text = collect(run.layout).text()

    assert "warning: 3 trials ended by the ledger, but no journal holds their results" in text


def test_every_result_names_the_slice_of_its_worker_live_or_folded(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    gpu = Device(name="NVIDIA H200", uuid="GPU-1", memory=150 << 30, sms=132)
    for worker, seen in {
        1: Observed(kind="whole", devices=(gpu,), driver="580.65"),
        2: Observed(kind="whole", devices=(gpu, msgspec.structs.replace(gpu, uuid="GPU-2"))),
        3: Observed(cpu="Some CPU"),
    }.items():
        run.append(worker, Note(event="slice", text=encode(seen)))
    for trial in range(run.plan.trials):
        # The fourth is of an earlier version.
        run.end(trial, 0.5, worker=trial % 4 + 1)
    layout = run.write()

    collect(layout)

    rows = table(layout, "results.csv")
    names = (
        "slice_kind",
        "slice_name",
        "slice_count",
        "slice_uuid",
        "slice_memory",
        "slice_sms",
        "slice_driver",
    )
    assert [tuple(row[name] for name in names) for row in rows[:4]] == [
        ("whole", "NVIDIA H200", "1", "GPU-1", str(150 << 30), "132", "580.65"),
        ("whole", "NVIDIA H200", "2", "GPU-1 GPU-2", str(150 << 30), "132", ""),
        ("cpu", "Some CPU", "0", "", "", "", ""),
        ("", "", "0", "", "", "", ""),
    ]
    whole = document(layout, "search_results.json")
    assert [whole["slices"][trial["slice"]]["uuid"] for trial in whole["results"][:3]] == [
        "GPU-1",
        "GPU-1 GPU-2",
        "",
    ]
