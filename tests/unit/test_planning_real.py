"""The plan of the real spectra: their folds, their files, and how fast they are looked at."""

from __future__ import annotations

import tarfile
import time
from pathlib import Path

import pytest

from hpc_search import planning
from hpc_search.layout import Layout
from hpc_search.planning import data_difference
from tests.real_data import real_file

SEARCH = """\
name: spectra
trial: train.py:train
metric: {name: sam, goal: min}
space: {lr: [0.1, 0.2]}
strategy: grid
data: {index: data.csv, id: file, path: file, root: spectra/spectra_for_fold, columns: [treatment, sample]}
folds: {file: spectra/folds.json}
"""


@pytest.mark.data
def test_the_real_spectra_are_planned_with_their_folds_and_a_change_of_one_file_is_named(
    tmp_path: Path,
) -> None:
    with tarfile.open(real_file("spectra.tar.gz")) as archive:
        archive.extractall(tmp_path, filter="data")
    root = tmp_path / "spectra/spectra_for_fold"
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("rep_*.npy"))
    rows = [f"{name},{','.join(name.split('/')[:2])}" for name in names]
    (tmp_path / "data.csv").write_text("\n".join(["file,treatment,sample", *rows]) + "\n")
    (tmp_path / "train.py").write_text("def train(trial): pass\n")
    (tmp_path / "search.yaml").write_text(SEARCH)

    made = planning.draft(tmp_path / "search.yaml")

    record = made.splits.record
    assert record is not None
    assert (record.data.files, record.data.bytes) == (9000, 22_788_000)
    sizes = {
        tuple(record.files[fold.sides[side]].rows for side in ("train", "val", "test"))
        for fold in record.folds
    }
    assert sizes == {(4500, 1500, 1500)}
    assert [fold.number for fold in record.folds] == [1, 2, 3, 4, 5]
    assert record.files["splits/rest.csv"].rows == 1500

    layout = Layout(tmp_path / "run")
    planning.build(made, layout)
    start = time.perf_counter()
    assert data_difference(layout, tmp_path) == []
    assert time.perf_counter() - start < 1
    (root / names[7]).write_bytes(b"torn")
    assert data_difference(layout, tmp_path) == [f"1 file of another size: {names[7]} (2,532 -> 4 bytes)"]
