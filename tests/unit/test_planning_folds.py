"""The folds of a plan: every kind, its files, what stops it, and data that changed since."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc_search import planning
from hpc_search.errors import UsageError
from hpc_search.fsck import repair_run
from hpc_search.layout import Layout
from hpc_search.planning import data_difference, load_plan
from hpc_search.planning.changes import resized
from hpc_search.planning.describe import counts, describe
from hpc_search.planning.digests import damaged_splits
from hpc_search.records.splits import SplitsIndex

HEAD = "name: x\ntrial: train.py:train\nmetric: {name: acc, goal: max}\nspace: {lr: [1, 2]}\nstrategy: grid\n"
DATA = "data: {index: data.csv, id: s, label: y, group: p, time: t, columns: [tissue]}\n"
FILES = DATA.replace("columns: [tissue]", "path: file, root: spectra, columns: [tissue]")


@pytest.fixture(autouse=True)
def _fresh_modules() -> Iterator[None]:
    """Let each test import its own modules of the user."""
    yield
    for name in ("own", "tables", "bad"):
        sys.modules.pop(name, None)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return a directory with 24 samples of 12 patients."""
    (tmp_path / "train.py").write_text("def train(trial): pass\ndef evaluate(trial): pass\n")
    (tmp_path / "spectra").mkdir()
    rows = ["s,y,p,t,tissue,file"]
    for one in range(24):
        rows.append(f"s{one},{one % 2},p{one // 2},{one},t{one % 3},{one}.npy")
        (tmp_path / "spectra" / f"{one}.npy").write_bytes(b"x" * one)
    (tmp_path / "data.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def draft(base: Path, text: str) -> planning.Draft:
    (base / "search.yaml").write_text(HEAD + text)
    return planning.draft(base / "search.yaml")


def plan(base: Path, text: str) -> Layout:
    layout = Layout(base / "run")
    planning.build(draft(base, text), layout)
    return layout


def record(base: Path, text: str) -> SplitsIndex:
    found = draft(base, text).splits.record
    assert found is not None
    return found


def refused(base: Path, text: str) -> str:
    with pytest.raises(UsageError) as error:
        draft(base, text)
    return f"{error.value}\n{error.value.hint}"


def words(made: planning.Draft) -> str:
    return describe(made.plan, "run", fresh=True, splits=made.splits.record)


# -- every kind
@pytest.mark.parametrize(
    ("folds", "numbers", "trials"),
    [
        ("{kfold: 3}", 3, 6),
        ("{stratified_grouped: 2, repeats: 3}", 6, 12),
        ("{leave_one_group_out: true}", 12, 24),
        ("{time: 3}", 3, 6),
        ("{hash: [0.6, 0.2, 0.2]}", 1, 2),
        ("{shuffle: [0.6, 0.2, 0.2]}", 1, 2),
        ("{nested: {outer: 3, inner: {grouped: 2}}}", 6, 12),
        ("{splitter: 'own.py:FOLDS'}", 3, 6),
        ("{splitter: 'own.py:halves'}", 1, 2),
    ],
)
def test_folds_of_every_kind_are_planned(base: Path, folds: str, numbers: int, trials: int) -> None:
    (base / "own.py").write_text(
        "from sklearn.model_selection import GroupKFold\nFOLDS = GroupKFold(3)\n"
        "def halves(table): return [(range(12), range(12, 20), range(20, 24))]\n"
    )
    made = draft(base, f"{DATA}folds: {folds}\n")
    assert made.splits.record is not None
    assert [fold.number for fold in made.splits.folds] == list(range(numbers))
    assert made.plan.trials == trials
    assert damaged_splits(plan(base, f"{DATA}folds: {folds}\n")) == ""


def write_folds(base: Path, *, more: str = "") -> None:
    every = [f"p{one}" for one in range(12)]
    folds = {"1": {"train": every[:6], "val": every[6:9], "test": every[9:]}}
    folds["2"] = {"train": every[6:], "val": every[3:6], "test": every[:3]}
    (base / "folds.json").write_text(json.dumps({"folds": folds}) + more)


def test_folds_of_a_file_keep_its_numbers_and_the_file_is_kept(base: Path) -> None:
    write_folds(base)
    text = f"{DATA}folds: {{file: folds.json}}\n"
    layout = plan(base, text)
    assert load_plan(layout).blocks[0].folds == (1, 2)
    assert layout.splits_file.read_bytes() == (base / "folds.json").read_bytes()
    assert layout.split_manifest(2, "test").exists()

    write_folds(base, more="\n")
    with pytest.raises(UsageError, match="the file of the folds is another one"):
        plan(base, text)
    layout.split_manifest(1, "val").write_text("id\n")
    assert "val.csv" in damaged_splits(layout)
    repair_run(layout)
    assert damaged_splits(layout) == ""


def test_a_missing_fold_file_and_a_splitter_that_fails_are_named(base: Path) -> None:
    assert "folds.file:" in refused(base, f"{DATA}folds: {{file: nowhere.json}}\n")
    (base / "bad.py").write_text("FOLDS = 1 / 0\n")
    assert "folds.splitter: bad.py:FOLDS failed: ZeroDivisionError" in refused(
        base, f"{DATA}folds: {{splitter: 'bad.py:FOLDS'}}\n"
    )


def test_rows_that_no_fold_has_are_kept_apart(base: Path) -> None:
    (base / "own.py").write_text("def few(table): return [(range(6), range(6, 12))]\n")
    made = draft(base, f"{DATA}folds: {{splitter: 'own.py:few'}}\n")
    assert made.splits.files["splits/rest.csv"].decode().count("\n") == 13
    assert "left out   12 rows are in no fold" in words(made)


# -- what the plan says
def test_the_plan_says_sizes_test_side_and_what_overlaps(base: Path) -> None:
    made = draft(
        base, f"{FILES}folds: {{grouped: 3, test_share: 0.25}}\nseeds: [0, 1]\nrefit: {{seeds: 3}}\n"
    )
    text = words(made)
    assert counts(made.plan.blocks) == "2 points x 3 folds x 2 seeds = 12 trials (+ 3 of the refit)"
    assert "sides      train 12, val 6, test 6 of 24 rows" in text
    assert "test side  all folds have the same; only `test` looks at it, once" in text
    assert "files      24 of 276 bytes" in text
    assert "overlap    tissue: 3 values on both train and val, in 3 of 3 folds, such as 't0'" in text
    assert "refit   1 point, 3 trials: the chosen point again, on train+val; seeds 0, 1, 2" in text


def test_before_the_test_side_is_open_names_and_sizes_are_seen_and_nothing_is_read(
    base: Path,
) -> None:
    layout = plan(base, f"{FILES}folds: {{kfold: 3, test_share: 0.25}}\n")
    (base / "data.csv").unlink()
    os.mkfifo(base / "data.csv")
    spectrum = base / "spectra/7.npy"
    spectrum.chmod(0)
    assert resized(layout, base) == []
    assert resized(layout, base / "nowhere") == []
    spectrum.unlink()
    spectrum.write_bytes(b"1234")
    (base / "spectra/5.npy").unlink()
    missing, other = resized(layout, base)
    assert "5.npy" in missing
    assert other == "1 file of another size: 7.npy (7 -> 4 bytes)"


def test_an_overlap_that_the_folds_promise_not_to_have_stops_the_plan(base: Path) -> None:
    text = refused(base, f"{DATA}folds: {{kfold: 3, apart: [tissue]}}\n")
    assert "fold 0: train and val share 3 of tissue" in text
    assert not (base / "run").exists()


def test_an_overlap_of_a_column_that_nothing_was_promised_of_is_recorded(base: Path) -> None:
    found = record(base, f"{DATA}folds: {{grouped: 3}}\n").overlaps
    assert {(one.column, one.promised) for one in found} == {("tissue", False)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("folds: {grouped: 13}\n", "there are 12"),
        ("folds: {leave_one_group_out: true}\nmax_trials: 20\n", "24 trials, more than 20"),
        ("folds: {leave_one_group_out: true}\nracing: {folds: 12}\n", "racing: every point has 12 of the 12"),
        ("folds: {splitter: 'own.py:shared'}\nrefit: {on: everything}\n", "all folds share one test side"),
        ("folds: {splitter: 'own.py:none'}\ntest: train.py:evaluate\n", "test: no fold has a test side"),
        ("folds: {kfold: 3, test_share: 0.2}\ntest: train.py:evalute\n", "did you mean 'evaluate'"),
        (
            "folds: {kfold: 3, test_share: 0.2}\ntest_command: [no_such_program]\n",
            "test_command: the program",
        ),
    ],
)
def test_what_only_the_data_tell_stops_the_plan(base: Path, text: str, expected: str) -> None:
    (base / "own.py").write_text(
        "def shared(table):\n"
        "    return [(range(8), range(8, 16), range(16, 24)), (range(8, 16), range(8), range(16, 24))]\n"
        "def none(table): return [(range(12), range(12, 24)), (range(12, 24), range(12))]\n"
    )
    assert expected in refused(base, DATA + text)


# -- columns
def test_columns_of_a_function_are_read_as_those_of_a_file(base: Path) -> None:
    (base / "tables.py").write_text(
        "import csv, pathlib\n"
        "TEXT = (pathlib.Path(__file__).parent / 'data.csv').read_text()\n"
        "ROWS = list(csv.DictReader(TEXT.splitlines()))\n"
        "def table(): return {name: [row[name] for row in ROWS] for name in ROWS[0]}\n"
    )
    one = record(base, f"{FILES}folds: {{time: 3}}\n")
    other = record(
        base, f"{FILES.replace('index: data.csv', 'function: tables.py:table')}folds: {{time: 3}}\n"
    )
    assert (one.files, one.data.table) == (other.files, other.data.table)
    assert (bool(one.data.index), other.data.index) == (True, "")


def test_a_column_that_is_not_there_is_named(base: Path) -> None:
    text = refused(base, DATA.replace("[tissue]", "[tissue, chromosome]") + "folds: {kfold: 2}\n")
    assert "no column 'chromosome'" in text
    assert "its columns are: s, y, p, t, tissue, file" in text


# -- files
def test_missing_files_are_named_before_anything_is_made(base: Path) -> None:
    for one in range(2, 15):
        (base / "spectra" / f"{one}.npy").unlink()
    text = refused(base, f"{FILES}folds: {{kfold: 2}}\n")
    assert "of 24 files below" in text
    assert "13 are missing: '2.npy', '3.npy'" in text
    assert "... and 3 more" in text
    assert not (base / "run").exists()


def test_nine_thousand_files_are_listed_within_a_second(tmp_path: Path) -> None:
    from hpc_search.planning.listing import list_files, listing_csv, parse_listing
    from hpc_search.splits import Table

    names = [f"{one}.npy" for one in range(9000)]
    for name in names:
        (tmp_path / name).touch()
    table = Table.of(names, columns={"file": names})
    start = time.perf_counter()
    sizes = list_files(table, "file", tmp_path)
    assert time.perf_counter() - start < 1
    assert parse_listing(listing_csv(sizes)) == sizes == dict.fromkeys(names, 0)


# -- data that changed
TEXT = f"{FILES}folds: {{grouped: 3}}\n"


def change(base: Path, old: str, new: str) -> None:
    path = base / "data.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_data_that_are_as_they_were_differ_in_nothing(base: Path) -> None:
    layout = plan(base, TEXT)
    assert data_difference(layout, base) == []
    assert data_difference(layout, base / "nowhere") == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("s3,1,p1,", "s3,0,p1,", "1 label changed: s3 (1 -> 0)"),
        ("s3,1,p1,", "s3,1,p7,", "1 group changed: s3 (p1 -> p7)"),
        ("s3,1,p1,3,t0", "s3,1,p1,3,t9", "changed: s3 (t0 -> t9)"),
        ("s3,1,p1,3,t0,3.npy\n", "", "1 row removed: s3"),
        ("s3,1,p1,3,t0,3.npy\n", "s3,1,p1,3,t0,3.npy\ns99,1,p1,9,t0,3.npy\n", "1 row added: s99"),
        ("s3,1,p1,3,", "s77,1,p1,3,", "1 row removed: s3"),
    ],
)
def test_rows_that_changed_are_named(base: Path, old: str, new: str, expected: str) -> None:
    layout = plan(base, TEXT)
    change(base, old, new)
    found = data_difference(layout, base)
    assert any(expected in text and "data.csv" in text for text in found), found
    with pytest.raises(UsageError, match="the data changed since") as error:
        plan(base, TEXT)
    assert expected in str(error.value)
    with pytest.raises(UsageError, match="the data changed since"):
        planning.refuse_changed(load_plan(layout), planning.settled(draft(base, TEXT), layout), layout)


def test_many_changes_are_counted_with_examples(base: Path) -> None:
    layout = plan(base, TEXT)
    (base / "data.csv").write_text((base / "data.csv").read_text().replace(",1,p", ",0,p"))
    found = data_difference(layout, base)
    assert any("12 labels changed: s1 (1 -> 0)" in text and "and 9 more" in text for text in found), found


def test_files_that_are_gone_or_have_another_size_are_named(base: Path) -> None:
    layout = plan(base, TEXT)
    (base / "spectra" / "5.npy").unlink()
    (base / "spectra" / "6.npy").write_bytes(b"other")
    missing, other = data_difference(layout, base)
    assert "of 24 files below" in missing
    assert "1 is missing: '5.npy'" in missing
    assert other == "1 file of another size: 6.npy (6 -> 5 bytes)"


def test_a_table_that_is_gone_is_named(base: Path) -> None:
    layout = plan(base, TEXT)
    (base / "data.csv").unlink()
    assert "No such file" in data_difference(layout, base)[0]


def test_another_line_end_or_a_column_that_nobody_uses_changes_nothing(base: Path) -> None:
    layout = plan(base, TEXT)
    lines = (base / "data.csv").read_text().splitlines()
    (base / "data.csv").write_text("\r\n".join(f"{line},{place}" for place, line in enumerate(lines)))
    assert data_difference(layout, base) == []
    assert not planning.build(draft(base, TEXT), layout)


def test_rows_in_another_order_are_another_plan_and_no_matter_for_a_trial(base: Path) -> None:
    layout = plan(base, TEXT)
    head, *rows = (base / "data.csv").read_text().splitlines()
    (base / "data.csv").write_text("\n".join([head, *rows[::-1]]) + "\n")
    assert data_difference(layout, base) == []
    with pytest.raises(UsageError, match="another order"):
        plan(base, TEXT)


# -- splits that changed
@pytest.mark.parametrize(
    "name", ["fold_00/train.csv", "fold_01/test.csv", "splits.json", "files.csv", "rest.csv"]
)
@pytest.mark.parametrize("how", ["edited", "removed"])
def test_a_split_that_was_changed_by_hand_is_found_and_named(base: Path, name: str, how: str) -> None:
    (base / "own.py").write_text(
        "def folds(table):\n"
        "    return [(range(6), range(6, 12), range(12, 16)), (range(6, 12), range(6), range(16, 20))]\n"
    )
    layout = plan(base, f"{FILES}folds: {{splitter: 'own.py:folds'}}\n")
    assert damaged_splits(layout, tested=True) == ""
    path = layout.splits / name
    if how == "removed":
        path.unlink()
    else:
        path.write_text(path.read_text().replace("1", "2", 1))
    found = damaged_splits(layout, tested=True)
    assert str(path) in found
    assert ("is missing" if how == "removed" else "is not what was planned") in found
    repair_run(layout)
    assert damaged_splits(layout, tested=True) == ""


def test_a_copy_of_the_data_elsewhere_is_the_same_data(base: Path, tmp_path: Path) -> None:
    layout = plan(base, TEXT)
    other = tmp_path / "other"
    shutil.copytree(base / "spectra", other / "spectra")
    shutil.copy(base / "data.csv", other)
    assert data_difference(layout, other) == []
